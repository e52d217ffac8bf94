"""The NCC kernel against float64 brute force, and bit for bit against itself under any tiling."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from bigcorr.kernels.gaussian import gaussian_weights
from bigcorr.kernels.moments import EQUAL
from bigcorr.kernels.ncc import ncc_tile


def brute_force(a: np.ndarray, b: np.ndarray, window: int, min_valid: float = 0.5) -> np.ndarray:
    """The formula of the definition, window by window."""
    u = sliding_window_view(a.astype(np.float64), (window, window)).reshape(-1, window**2)
    v = sliding_window_view(b.astype(np.float64), (window, window)).reshape(-1, window**2)
    out = np.empty(len(u))
    for i, (x, y) in enumerate(zip(u, v, strict=True)):
        both = ~(np.isnan(x) | np.isnan(y))
        x, y = x[both], y[both]
        if both.sum() < max(1, min_valid * window**2):
            out[i] = np.nan
        elif (x == x[0]).all() or (y == y[0]).all():
            out[i] = 0
        else:
            x, y = x - x.mean(), y - y.mean()
            out[i] = (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum())
    return out.reshape(a.shape[0] - window + 1, a.shape[1] - window + 1)


def pair(shape: tuple[int, int] = (50, 60), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=shape)
    return a, a + rng.normal(size=shape)


KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "zero mean": lambda x: x,
    "float32": lambda x: x.astype(np.float32),
    "offset 1e4 in float32": lambda x: (x + 1e4).astype(np.float32),
    "1e6 + noise": lambda x: x + 1e6,
    "1e6 + noise in float32": lambda x: (x + 1e6).astype(np.float32),
    "60000 +- 1": lambda x: (60000 + np.sign(x)).astype(np.uint16),
    "dim corner of a bright image": lambda x: np.where(x > -2, x * 1e-3 + 5, 1e9),
    "counts": lambda x: np.clip(x * 2, 0, None).astype(np.uint8),
    "signed": lambda x: (x * 9000).astype(np.int16),
    "long": lambda x: (x * 1e6 + 1e9).astype(np.int64),
    "missing": lambda x: np.where(x > 1, np.nan, x),
}


@pytest.mark.parametrize("window", [3, 5, 7, 15, 31])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_ncc_equals_brute_force(kind: str, window: int, offset: float) -> None:
    """Whatever the offset: it may only cost time, never digits."""
    a, b = (KINDS[kind](x) for x in pair())
    result = ncc_tile(a, b, window, offset, offset)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, brute_force(a, b, window), rtol=0, atol=1e-6)


@pytest.mark.parametrize("window", [63, 255])
def test_large_windows_equal_brute_force(window: int) -> None:
    a, b = pair((window + 3, window + 5))
    for kind in ("1e6 + noise", "60000 +- 1", "missing"):
        x, y = KINDS[kind](a), KINDS[kind](b)
        np.testing.assert_allclose(
            ncc_tile(x, y, window), brute_force(x, y, window), rtol=0, atol=1e-6
        )


def weighted(a: np.ndarray, b: np.ndarray, taps: np.ndarray, min_valid: float = 0.5) -> np.ndarray:
    """The formula with weights, window by window."""
    w = taps.size
    weights = np.outer(taps, taps).ravel()
    u = sliding_window_view(a.astype(np.float64), (w, w)).reshape(-1, w * w)
    v = sliding_window_view(b.astype(np.float64), (w, w)).reshape(-1, w * w)
    out = np.empty(len(u))
    for i, (x, y) in enumerate(zip(u, v, strict=True)):
        both = ~(np.isnan(x) | np.isnan(y))
        x, y, t = x[both], y[both], weights[both]
        if t.sum() < min_valid * weights.sum() * (1 - 1e-12) or not both.any():
            out[i] = np.nan
        elif (x == x[0]).all() or (y == y[0]).all():
            out[i] = 0
        else:
            x, y = x - np.average(x, weights=t), y - np.average(y, weights=t)
            out[i] = (t * x * y).sum() / np.sqrt((t * x * x).sum() * (t * y * y).sum())
    return out.reshape(a.shape[0] - w + 1, a.shape[1] - w + 1)


@pytest.mark.parametrize("window", [3, 7, 15])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_weighted_windows_equal_brute_force(kind: str, window: int, offset: float) -> None:
    a, b = (KINDS[kind](x) for x in pair((30, 34)))
    taps = gaussian_weights(window / 3.5, window // 2)
    result = ncc_tile(a, b, window, offset, offset, taps=taps)
    np.testing.assert_allclose(result, weighted(a, b, taps), rtol=0, atol=1e-6)


def test_constant_windows_of_any_weights_give_exactly_zero() -> None:
    a, b = pair((40, 40))
    a[10:25, 12:30] = 0.1
    b[np.random.default_rng(1).random(b.shape) < 0.1] = np.nan
    taps = gaussian_weights(2.0, 2)
    result = ncc_tile(a, b, 5, offset_a=0.7, taps=taps)
    assert np.array_equal(result == 0, weighted(a, b, taps) == 0)
    assert (result == 0).sum() == 11 * 14


def test_ncc_equals_scipys_formula_on_zero_mean_data() -> None:
    a, b = pair((90, 90))

    def mean(x: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(x, 7)[3:-3, 3:-3]

    top = mean(a * b) - mean(a) * mean(b)
    bottom = np.sqrt((mean(a * a) - mean(a) ** 2) * (mean(b * b) - mean(b) ** 2))
    np.testing.assert_allclose(ncc_tile(a, b, 7), top / bottom, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 65535.0, 1e6, 1 / 3, -7.7e-12])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [0.0, 0.05, 1e5])
def test_constant_windows_give_exactly_zero(value: float, dtype: str, offset: float) -> None:
    flat = np.full((40, 44), value, dtype)
    varied = pair((40, 44))[0].astype(dtype)
    for a, b in ((flat, varied), (varied, flat), (flat, flat)):
        assert not ncc_tile(a, b, 7, offset, offset).any()


def test_a_patch_that_is_constant_gives_zero_and_its_rim_does_not() -> None:
    a, b = pair((40, 40))
    a[10:25, 12:30] = 0.1
    result = ncc_tile(a, b, 5, offset_a=0.7)
    expected = brute_force(a, b, 5)
    assert np.array_equal(result == 0, expected == 0)
    assert (result == 0).sum() == 11 * 14
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_constant_but_for_missing_pixels_is_constant() -> None:
    a, b = pair((30, 30))
    a[:, :15] = 3.3
    b[np.random.default_rng(1).random(b.shape) < 0.2] = np.nan
    result = ncc_tile(a, b, 5)
    assert not result[:, :11].any()
    np.testing.assert_allclose(result, brute_force(a, b, 5), atol=1e-6)


def test_a_missing_pixel_touches_exactly_the_windows_that_hold_it() -> None:
    a, b = (x.astype(np.float32) for x in pair((60, 60)))
    plain = ncc_tile(a, b, 7)
    a[30, 31] = np.nan
    masked = ncc_tile(a, b, 7)
    touched = np.argwhere(plain != masked)
    assert len(touched) == 49
    assert (touched.min(0) == (24, 25)).all()
    assert (touched.max(0) == (30, 31)).all()


def test_too_few_valid_pixels_give_nan() -> None:
    a, b = pair((5, 5))
    a.ravel()[:13] = np.nan
    assert np.isnan(ncc_tile(a, b, 5)).all()
    assert np.isfinite(ncc_tile(a, b, 5, min_valid=12 / 25)).all()
    assert np.isnan(ncc_tile(a * np.nan, b, 5, min_valid=0)).all()


def test_infinite_pixels_are_missing() -> None:
    a, b = pair((20, 20))
    a[4, 4], b[15, 9] = np.inf, -np.inf
    missing = np.where(np.isfinite(a), a, np.nan), np.where(np.isfinite(b), b, np.nan)
    assert np.array_equal(ncc_tile(a, b, 7), ncc_tile(*missing, 7))


def test_an_image_is_like_itself_and_unlike_its_negative() -> None:
    a = np.random.default_rng(0).integers(0, 65536, (40, 40)).astype(np.uint16)
    assert (ncc_tile(a, a, 7) == 1).all()
    assert (ncc_tile(a, 65535 - a, 7) == -1).all()


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([3, 5, 7, 9, 21]),
    st.sampled_from(list(KINDS)),
    st.sampled_from([0.0, 0.02, 0.5]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_every_pixel_has_the_same_bits_in_any_tile(
    h: int, w: int, window: int, kind: str, missing: float, weighted: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = (KINDS[kind](x) for x in pair((h + window - 1, w + window - 1), seed))
    if a.dtype.kind == "f":
        a[rng.random(a.shape) < missing] = np.nan
    taps = gaussian_weights(window / 3.5, window // 2) if weighted else EQUAL
    whole = ncc_tile(a, b, window, 1.0, 2.0, taps=taps)
    y, x = rng.integers(0, h), rng.integers(0, w)
    y1, x1 = rng.integers(y, h) + 1, rng.integers(x, w) + 1
    cut = slice(y, y1 + window - 1), slice(x, x1 + window - 1)
    part = ncc_tile(a[cut], b[cut], window, 1.0, 2.0, taps=taps, origin=(int(y), int(x)))
    assert np.array_equal(part, whole[y:y1, x:x1], equal_nan=True)


def test_tiles_wider_than_a_panel_have_the_same_bits() -> None:
    a, b = (x.astype(np.float32) for x in pair((12, 2300)))
    whole = ncc_tile(a, b, 7)
    part = ncc_tile(a[:, 900:1500], b[:, 900:1500], 7, origin=(0, 900))
    assert np.array_equal(part, whole[:, 900:1494])
