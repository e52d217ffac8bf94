"""`fold` and the vectors it is made of."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from bigcorr.kernels.fold import fold
from bigcorr.kernels.vectors import LANES, load, splat, store, transpose


@pytest.mark.parametrize("radius", [0, 1, 7, 20])
def test_fold_is_the_weighted_sum_of_pairs_from_the_middle_outwards(radius: int) -> None:
    rng = np.random.default_rng(radius)
    x, half = rng.normal(size=(2 * radius + 4, LANES)), rng.random(radius + 1)
    out = np.full((6, LANES), -1.0)
    fold(x.ravel(), radius * LANES, LANES, half, radius, out.ravel(), LANES, LANES)
    for i in range(4):
        middle = radius + i
        total = half[0] * x[middle]
        for k in range(1, radius + 1):
            total += half[k] * (x[middle - k] + x[middle + k])
        np.testing.assert_allclose(out[1 + i], total, rtol=1e-13)
    assert (out[[0, 5]] == -1).all()


def test_transpose_swaps_rows_and_lanes() -> None:
    turn = njit(lambda x, out: transpose(x, 3, 10, out, 1, 9))
    x, out = np.arange(100.0), np.full(80, -1.0)
    turn(x, out)
    for i in range(LANES):
        np.testing.assert_array_equal(out[1 + 9 * i : 9 + 9 * i], x[3 + i : 83 + i : 10])
    assert out[0] == -1
    assert (out[72:] == -1).all()


@pytest.mark.parametrize("source", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("target", ["float32", "float64"])
def test_vectors_are_read_and_written_as_what_the_array_holds(source: str, target: str) -> None:
    def work(x, out):  # type: ignore[no-untyped-def]
        store(out, 1, (load(x, 2) - splat(1.0)) * load(x, 3) + splat(0.25))

    x, out = np.arange(3, 20).astype(source), np.zeros(12, target)
    njit(work)(x, out)
    a, b = x[2:10].astype(float), x[3:11].astype(float)
    np.testing.assert_array_equal(out[1:9], (a - 1) * b + 0.25)
    assert out[0] == 0
    assert (out[9:] == 0).all()
