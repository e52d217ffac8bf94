"""Total orders: numbers as sortable integers, ties broken by a second key. No more than that."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Indices = NDArray[np.intp]


def sortable(x: NDArray[np.float64], descending: bool = False) -> Keys:
    """Integers in the order of the numbers: equal numbers are equal, NaN comes last either way.

    Examples
    --------
    >>> np.argsort(sortable(np.array([2.0, np.nan, -np.inf, 0.5]), descending=True)).tolist()
    [0, 3, 2, 1]
    """
    # Adding zero makes -0.0 the same as 0.0. The bits of a float ascend with it above zero and
    # descend below.
    bits = (x + 0.0).view(np.uint64)
    sign = np.uint64(1 << 63)
    key = np.where(bits & sign, ~bits, bits | sign)
    if descending:
        key = ~key
    key[np.isnan(x)] = np.iinfo(np.uint64).max
    return key


def ordered(key: Keys, tie: NDArray[np.int64] | None = None) -> Indices:
    """Indices that sort by `key`, and where keys are equal by `tie`."""
    # Stable, since that merges what is sorted in parts already.
    order = np.argsort(key, kind="stable")
    if tie is None or len(key) < 2:
        return order
    ranked = key[order]
    same = ranked[1:] == ranked[:-1]
    if not same.any():
        return order
    tied = np.flatnonzero(np.concatenate([[False], same]) | np.concatenate([same, [False]]))
    members = order[tied]
    order[tied] = members[np.lexsort((tie[members], key[members]))]
    return order


def first_of(key: Keys, tie: NDArray[np.int64], count: int) -> Indices:
    """Indices of the first `count` by `key` and `tie`, sorted, without sorting the others."""
    if count >= len(key):
        return ordered(key, tie)
    if count <= 0:
        return np.empty(0, dtype=np.intp)
    bound = np.partition(key, count - 1)[count - 1]
    kept = np.flatnonzero(key <= bound)
    return kept[ordered(key[kept], tie[kept])[:count]]
