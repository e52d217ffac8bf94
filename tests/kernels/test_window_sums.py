"""Extremes and counts of windows against SciPy and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bigcorr.kernels.window_sums import count_windows, sliding_extreme


@pytest.mark.parametrize("window", [1, 2, 3, 7, 12])
def test_counts_are_those_of_every_window(window: int) -> None:
    valid = np.random.default_rng(window).random((window + 8, window + 11)) < 0.7
    views = np.lib.stride_tricks.sliding_window_view(valid, (window, window))
    np.testing.assert_array_equal(count_windows(valid, window), views.sum(axis=(2, 3)))
    np.testing.assert_array_equal(count_windows(valid[:, ::-1], window), views.sum((2, 3))[:, ::-1])


@pytest.mark.parametrize("window", [1, 2, 3, 5, 8, 13])
def test_extremes_are_those_of_every_window(window: int) -> None:
    values = np.random.default_rng(2).normal(size=(window + 8, window + 11))
    centre = (slice(window // 2, window // 2 + 9), slice(window // 2, window // 2 + 12))
    low = ndimage.minimum_filter(values, window)[centre]
    high = ndimage.maximum_filter(values, window)[centre]
    assert np.array_equal(sliding_extreme(values, window, np.minimum), low)
    assert np.array_equal(sliding_extreme(values, window, np.maximum), high)
