"""Sums by blocks: what they add, and that they add it in one order wherever a tile begins."""

from __future__ import annotations

import numpy as np
import pytest

from bigcorr.kernels import moments
from bigcorr.kernels.block_sums import sum_along
from bigcorr.kernels.formulas import SUM
from bigcorr.kernels.vectors import LANES

WINDOWS = [1, 2, 3, 5, 7, 8, 9, 16, 31, 85]


def window_sums(
    a: np.ndarray, b: np.ndarray, window: int, origin: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """The five sums of every window."""
    pair = moments.as_pair(a, b, 0.0, 0.0)
    out = np.empty((5, a.shape[0] - window + 1, a.shape[1] - window + 1))
    for k in range(5):
        moments.map_windows(pair, window, moments.EQUAL, SUM, (k,), 0.5, origin, out[k])
    return out


@pytest.mark.parametrize("window", WINDOWS)
def test_sums_are_exact_on_integers(window: int) -> None:
    rng = np.random.default_rng(window)
    a, b = rng.integers(-100, 100, (2, window + 20, window + 13)).astype(float)
    for origin in ((0, 0), (3, 1), (-2, 40)):
        found = window_sums(a, b, window, origin)
        for k, image in enumerate((a, b, a * b, a * a, b * b)):
            total = np.pad(image.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
            expected = (
                total[window:, window:]
                - total[:-window, window:]
                - total[window:, :-window]
                + total[:-window, :-window]
            )
            np.testing.assert_array_equal(found[k], expected)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_part_has_the_bits_of_the_whole(window: int) -> None:
    rng = np.random.default_rng(window)
    a, b = rng.normal(size=(2, window + 40, window + 30))
    whole = window_sums(a, b, window, (5, 2))
    for y, x in ((0, 0), (1, 0), (0, 1), (7, 9), (16, 13)):
        part = window_sums(a[y:-3, x:-2].copy(), b[y:-3, x:-2].copy(), window, (5 + y, 2 + x))
        np.testing.assert_array_equal(part, whole[:, y:-3, x:-2])


def test_what_is_not_in_a_window_does_not_touch_it() -> None:
    x = np.ones((5, 30, LANES))
    x[:, 10] = 1e300
    room, out = np.empty(5 * 3 * LANES), np.empty((28, LANES))
    weight = np.ones(28 * LANES)
    for k in range(5):
        terms = np.array([k], float)
        sum_along(x.ravel(), 30 * LANES, 28, 3, 1, room, weight, SUM, terms, out.ravel())
        assert (np.delete(out, [8, 9, 10], axis=0) == 3).all()
