"""The Gaussian kernel against scipy, and bit for bit against itself under any tiling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from bigcorr.kernels.gaussian import blur_tile, blur_tile_masked, gaussian_taps

DTYPES = ["uint8", "uint16", "float32", "float64"]


def reach(sigma: float) -> int:
    return gaussian_taps(sigma).size // 2


def padded(a: np.ndarray, sigma_y: float, sigma_x: float) -> np.ndarray:
    ry, rx = reach(sigma_y), reach(sigma_x)
    return np.pad(a, ((ry, ry), (rx, rx)), mode="symmetric")


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0, 7.3, 20.0])
def test_taps_are_those_of_scipy_and_symmetric_to_the_last_bit(sigma: float) -> None:
    taps = gaussian_taps(sigma)
    impulse = np.zeros(taps.size)
    impulse[taps.size // 2] = 1
    np.testing.assert_allclose(taps, ndimage.gaussian_filter1d(impulse, sigma), rtol=1e-13)
    assert np.array_equal(taps, taps[::-1])
    assert taps.sum() == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("sigma", [1e-300, 5e-324, 1e-160, 0.1])
def test_a_sigma_far_below_a_pixel_leaves_the_pixel(sigma: float) -> None:
    assert gaussian_taps(sigma).tolist() == [1.0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sigmas", [(0.4, 0.4), (2.0, 2.0), (1.0, 6.5), (20.0, 3.0)])
def test_blur_equals_scipy_in_float64(dtype: str, sigmas: tuple[float, float]) -> None:
    rng = np.random.default_rng(3)
    a = (rng.random((150, 131)) * 200).astype(dtype)
    expected = ndimage.gaussian_filter(a.astype(float), sigmas, mode="reflect")
    taps = [gaussian_taps(s) for s in sigmas]
    result = blur_tile(padded(a, *sigmas), *taps)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12 * np.abs(a).max())


def test_other_dtypes_are_taken_as_float64() -> None:
    a = np.arange(-40, 40, dtype=np.int32).reshape(8, 10)
    taps = gaussian_taps(0.5)
    assert np.array_equal(blur_tile(a, taps, taps), blur_tile(a.astype(float), taps, taps))


@given(
    st.integers(1, 60),
    st.integers(1, 700),
    st.floats(0.2, 9),
    st.floats(0.2, 9),
    st.sampled_from(DTYPES),
    st.sampled_from([0.0, 1e-3, 0.02, 0.2, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_every_pixel_has_the_same_bits_in_any_tile(
    h: int, w: int, sy: float, sx: float, dtype: str, density: float, seed: int
) -> None:
    """Sparse and dense tiles take different loops, and cuts fall anywhere in their blocks."""
    rng = np.random.default_rng(seed)
    ty, tx = gaussian_taps(sy), gaussian_taps(sx)
    shape = h + ty.size - 1, w + tx.size - 1
    a = (rng.integers(1, 250, shape) * (rng.random(shape) < density)).astype(dtype)
    whole = blur_tile(a, ty, tx)
    y, x = rng.integers(0, h), rng.integers(0, w)
    y1, x1 = rng.integers(y, h) + 1, rng.integers(x, w) + 1
    part = blur_tile(a[y : y1 + ty.size - 1, x : x1 + tx.size - 1], ty, tx)
    assert np.array_equal(part, whole[y:y1, x:x1])


def test_sparse_loops_give_the_bits_of_the_dense_ones() -> None:
    """A dense stranger far away changes which loops run, and no bit of what it cannot reach."""
    rng = np.random.default_rng(0)
    taps = gaussian_taps(3.0)
    sparse = (rng.random((90, 400)) < 0.01) * rng.random((90, 400))
    dense = sparse.copy()
    dense[:, 200:] = rng.random((90, 200))
    clear = slice(0, 200 - taps.size)
    assert np.array_equal(
        blur_tile(sparse, taps, taps)[:, clear], blur_tile(dense, taps, taps)[:, clear]
    )


def test_float32_output_is_the_float64_one_rounded() -> None:
    a = np.random.default_rng(1).random((40, 50))
    taps = gaussian_taps(1.5)
    out = np.empty((40 - taps.size + 1, 50 - taps.size + 1), np.float32)
    assert blur_tile(a, taps, taps, out) is out
    assert np.array_equal(out, blur_tile(a, taps, taps).astype(np.float32))


def test_an_empty_tile_is_zero_and_leaves_no_trace_for_the_next() -> None:
    taps = gaussian_taps(2.0)
    ones = np.ones((60, 60), np.uint8)
    before = blur_tile(ones, taps, taps)
    assert not blur_tile(np.zeros((60, 60), np.uint8), taps, taps).any()
    assert np.array_equal(blur_tile(ones, taps, taps), before)


def test_masked_blur_is_the_normalised_convolution() -> None:
    rng = np.random.default_rng(5)
    a = rng.random((60, 70)) + 5
    valid = rng.random(a.shape) > 0.3
    taps = gaussian_taps(2.0)
    r = taps.size // 2
    top = ndimage.gaussian_filter(np.where(valid, a, 0), 2.0)
    expected = (top / ndimage.gaussian_filter(valid.astype(float), 2.0))[r:-r, r:-r]
    filled = blur_tile_masked(a, valid, taps, taps, fill=True)
    np.testing.assert_allclose(filled, expected, rtol=1e-13)
    kept = blur_tile_masked(a, valid, taps, taps)
    inside = valid[r:-r, r:-r]
    assert np.isnan(kept[~inside]).all()
    assert np.array_equal(kept[inside], filled[inside])


def test_missing_pixels_touch_only_what_they_reach() -> None:
    a = np.random.default_rng(6).random((80, 80))
    valid = np.ones(a.shape, bool)
    valid[40, 40] = False
    taps = gaussian_taps(1.0)
    r = taps.size // 2
    plain, masked = blur_tile(a, taps, taps), blur_tile_masked(a, valid, taps, taps, fill=True)
    differs = np.argwhere(plain != masked) + r
    assert differs.min() == 40 - r
    assert differs.max() == 40 + r
    assert len(differs) == (2 * r + 1) ** 2


def test_nothing_valid_in_reach_stays_missing() -> None:
    taps = gaussian_taps(1.0)
    out = blur_tile_masked(np.ones((30, 30)), np.zeros((30, 30), bool), taps, taps, fill=True)
    assert np.isnan(out).all()
