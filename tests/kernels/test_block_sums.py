"""Sums by blocks: what they add, and that they add it in one order wherever a tile begins."""

from __future__ import annotations

import numpy as np
import pytest

from bigcorr.kernels import moments
from bigcorr.kernels.block_sums import sum_along
from bigcorr.kernels.rows import raw_rows
from bigcorr.kernels.vectors import LANES

WINDOWS = [1, 2, 3, 5, 7, 8, 9, 16, 31, 85]


def window_sums(
    a: np.ndarray, b: np.ndarray, window: int, origin: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """The five sums of every window, as a panel of a tile streams through."""
    height, columns = a.shape
    n = columns - window + 1
    room = moments.make_room(n, window, moments.EQUAL)
    out = np.empty((5, height - window + 1, n))
    first, last = 0, window - 1
    while first < height:
        for tile, to in ((a, room.x), (b, room.y)):
            moments.load_rows(*raw_rows(tile), 0, 0.0, columns, first, last, room, to)
        phase = origin[0] % window, origin[1] % window
        moments.take_rows(first, last, columns, *phase, room)
        if last >= window:
            y = max(first - window + 1, 0)
            for k in range(5):
                vectors = room.total[k * room.step : k * room.step + n * LANES].reshape(n, LANES)
                out[k, y : last - window + 1] = vectors.T[: last - window + 1 - y]
        first, last = last, min(last + LANES, height)
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
    out = np.empty((5, 28, LANES))
    sum_along(x.ravel(), 30 * LANES, 28, 3, 1, np.empty(5 * 3 * LANES), out.ravel(), 28 * LANES)
    assert (np.delete(out, [8, 9, 10], axis=1) == 3).all()
