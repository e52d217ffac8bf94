"""The tree of window sums: what it adds, and that it adds it in one order everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bigcorr.kernels.window_sums import plan_tree, push_row, sliding_extreme, sum_along_row

WINDOWS = [1, 2, 3, 4, 5, 7, 8, 11, 15, 16, 31, 85, 255]


def rows_pushed(values: np.ndarray, window: int) -> np.ndarray:
    """Window sums along the rows of `values`, as a tile streams them."""
    tree = plan_tree(window)
    depth = tree.depth
    first = np.concatenate([[0], np.cumsum(depth)[:-1]])
    ring = np.zeros((depth.sum(), values.shape[1]))
    out = np.empty((len(values) - window + 1, values.shape[1]))
    line = np.empty(values.shape[1])
    for row, value in enumerate(values):
        ring[row % depth[0]] = value
        push_row(ring, first, tree, row, line)
        if row >= window - 1:
            out[row - window + 1] = line
    return out


@pytest.mark.parametrize("window", WINDOWS)
def test_sums_are_exact_on_integers(window: int) -> None:
    values = np.random.default_rng(window).integers(-1000, 1000, (window + 9, 6)).astype(float)
    total = np.cumsum(np.vstack([np.zeros((1, 6)), values]), axis=0)
    expected = total[window:] - total[:-window]
    assert np.array_equal(rows_pushed(values, window), expected)


@pytest.mark.parametrize("window", WINDOWS)
def test_both_directions_add_in_one_order(window: int) -> None:
    line = np.random.default_rng(1).normal(size=window + 20)
    tree = plan_tree(window)
    out = np.empty(21)
    work = np.empty((tree.depth.size, line.size))
    work[0] = line
    sum_along_row(work, tree, window, out)
    assert np.array_equal(rows_pushed(line[:, None], window)[:, 0], out)


@pytest.mark.parametrize("window", [1, 2, 3, 5, 8, 13])
def test_extremes_are_those_of_every_window(window: int) -> None:
    values = np.random.default_rng(2).normal(size=(window + 8, window + 11))
    centre = (slice(window // 2, window // 2 + 9), slice(window // 2, window // 2 + 12))
    low = ndimage.minimum_filter(values, window)[centre]
    high = ndimage.maximum_filter(values, window)[centre]
    assert np.array_equal(sliding_extreme(values, window, np.minimum), low)
    assert np.array_equal(sliding_extreme(values, window, np.maximum), high)
