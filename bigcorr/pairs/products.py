"""Matrix products of features, in canonical chunks of channels, added up in float64.

The only place that calls BLAS on pixels. The shapes of the products depend on the data and on fixed
numbers of channels alone, never on the plan, so that their last bits do not either.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.cells import add_upper
from bigcorr.pairs.selection import CHANNEL_CHUNK, Indices, Selection


def chunks(numbers: Indices) -> list[slice]:
    """Runs of ascending channel numbers that lie in the same chunk of 256."""
    cuts = [0, *(np.flatnonzero(np.diff(numbers // CHANNEL_CHUNK)) + 1).tolist(), len(numbers)]
    return [slice(a, b) for a, b in itertools.pairwise(cuts) if b > a]


def add_gram(
    total: NDArray[np.float64],
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    active: Indices,
    selection: Selection,
) -> None:
    """Add ``a_i . b_j`` to ``total[i, j]`` for the active channels.

    Parameters
    ----------
    total : (rows, columns) float64
        Of a symmetric selection with ``a is b`` only the upper triangle is filled.
    a, b : (len(active), k) float32 or float64
    active : (n,) ascending positions in ``selection.numbers``
    selection : Selection
    """
    if selection.symmetric:
        parts = chunks(selection.numbers[active])
        for i, rows in enumerate(parts):
            for columns in parts[i:] if a is b else parts:
                product = _product(a[rows], b[columns], columns.start < rows.start)
                add_upper(total, product, active[rows], active[columns], a is b and rows == columns)
        return
    left, targets_left = _among(active, selection.rows)
    right, targets_right = _among(active, selection.columns)
    for rows in chunks(selection.numbers[active[left]]):
        factor = a[_run(left[rows])]
        for columns in chunks(selection.numbers[active[right]]):
            swapped = right[columns.start] < left[rows.start]
            product = _product(factor, b[_run(right[columns])], bool(swapped))
            add_upper(total, product, targets_left[rows], targets_right[columns], False)


def _product(
    a: NDArray[np.floating], b: NDArray[np.floating], swapped: bool
) -> NDArray[np.floating]:
    """``a b'``, with the channels that come first as the left factor.

    So the bits of a pair do not depend on which of the two is asked for with which.
    """
    return np.ascontiguousarray(np.matmul(b, a.T).T) if swapped else np.matmul(a, b.T)


def _among(active: Indices, wanted: Indices) -> tuple[Indices, Indices]:
    """Places in `active` of the channels that are wanted, ascending, and their places there."""
    _, places, targets = np.intersect1d(active, wanted, assume_unique=True, return_indices=True)
    return places, targets


def _run(indices: Indices) -> slice | Indices:
    """A slice where the indices follow each other: no copy."""
    first, last = int(indices[0]), int(indices[-1])
    return slice(first, last + 1) if last - first + 1 == len(indices) else indices


def mirror(upper: NDArray[np.float64], rows: slice) -> NDArray[np.float64]:
    """Some rows of the symmetric matrix whose upper triangle is `upper`."""
    start, stop, _ = rows.indices(len(upper))
    block = upper[start:stop].copy()
    for i in range(start, stop):
        block[i - start, :i] = upper[:i, i]
    return block
