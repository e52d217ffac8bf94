"""Matrix products of features, in canonical chunks of channels, added up in float64.

The only place that calls BLAS. The shapes of the products depend on the data and on fixed numbers
of channels alone, never on the plan, so that their last bits do not either.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.cells import add_upper
from bigcorr.pairs.measure import Selection

CHANNEL_CHUNK = 256
"""Channels in one matrix product. Fixed: a plan that could change it would change last bits."""

Indices = NDArray[np.int64]


def chunks(channels: Indices) -> list[slice]:
    """Runs of `channels` (ascending) that lie in the same chunk of 256 channel numbers."""
    cuts = [0, *(np.flatnonzero(np.diff(channels // CHANNEL_CHUNK)) + 1).tolist(), len(channels)]
    return [slice(a, b) for a, b in itertools.pairwise(cuts) if b > a]


def add_gram(
    total: NDArray[np.float64],
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    active: Indices,
    selection: Selection,
) -> None:
    """Add ``a_i . b_j`` to ``total[i, j]`` for the active channels.

    Parameters
    ----------
    total : (rows, channel) float64
        Of a symmetric selection with ``a is b`` only the upper triangle is filled.
    a, b : (len(active), k) float32
    active : (n,) ascending channel numbers
    selection : Selection
    """
    if selection.symmetric:
        parts = chunks(active)
        for i, rows in enumerate(parts):
            for columns in parts[i:] if a is b else parts:
                product = np.matmul(a[rows], b[columns].T)
                diagonal = a is b and rows == columns
                add_upper(total, product, active[rows], active[columns], diagonal)
        return
    positions = np.searchsorted(active, selection.rows)
    positions[positions == len(active)] = 0
    targets = np.flatnonzero(active[positions] == selection.rows) if len(active) else positions[:0]
    if len(targets):
        left = a[positions[targets]]
        for columns in chunks(active):
            add_upper(total, np.matmul(left, b[columns].T), targets, active[columns], False)


def mirror(upper: NDArray[np.float64], rows: slice) -> NDArray[np.float64]:
    """Some rows of the symmetric matrix whose upper triangle is `upper`."""
    start, stop, _ = rows.indices(len(upper))
    block = upper[start:stop].copy()
    for i in range(start, stop):
        block[i - start, :i] = upper[:i, i]
    return block
