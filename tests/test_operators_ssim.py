"""SSIM: scikit-image's map and mean, with missing data too, whatever the chunks and tiles."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from skimage.metrics import structural_similarity

import bigcorr as bc
from bigcorr import operators
from bigcorr.errors import InputError
from bigcorr.operators_ssim import SSIM


def pair(
    shape: tuple[int, ...] = (40, 52), dtype: str = "float64", seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Two images of one scene: part smooth, part noise, part flat."""
    rng = np.random.default_rng(seed)
    a = rng.random(shape) * 120 + 60
    b = 0.7 * a + rng.normal(size=shape) * 12 + 30
    a[..., 5:20, 8:30] = 150
    b[..., 10:30, 12:30] = 77
    return a.clip(0, 250).astype(dtype), b.clip(0, 250).astype(dtype)


def brute_force(a: np.ndarray, b: np.ndarray, op: SSIM, span: float) -> np.ndarray:
    """The definition over the valid pixels of each window, whose weights are made to sum to 1."""
    w, r = op.side, op.side // 2
    line = np.exp(-0.5 * (np.arange(-r, r + 1) / op.sigma) ** 2)
    weights = np.outer(line, line).ravel() if op.gaussian_weights else np.ones(w * w)
    weights /= weights.sum()
    windows = (sliding_window_view(np.pad(x, r, mode="symmetric"), (w, w)) for x in (a, b))
    u, v = (x.reshape(*a.shape, -1) for x in windows)
    valid = np.isfinite(u) & np.isfinite(v)
    share = (valid * weights).sum(-1)
    t = valid * weights / share[..., None]
    u, v = np.where(valid, u, 0), np.where(valid, v, 0)
    mu, mv = (t * u).sum(-1), (t * v).sum(-1)
    du, dv = u - mu[..., None], v - mv[..., None]
    n = share * w * w
    scale = n / (n - 1) if op.use_sample_covariance else 1.0
    vu, vv, uv = (scale * (t * x).sum(-1) for x in (du * du, dv * dv, du * dv))
    c1, c2 = (op.k1 * span) ** 2, (op.k2 * span) ** 2
    out = (2 * mu * mv + c1) * (2 * uv + c2) / ((mu**2 + mv**2 + c1) * (vu + vv + c2))
    out[share < op.min_valid - 1e-12] = np.nan
    return out


# ---------------------------------------------------------------- scikit-image


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize("sample", [False, True])
def test_the_map_and_the_mean_are_scikit_images(dtype: str, gaussian: bool, sample: bool) -> None:
    a, b = pair(dtype=dtype)
    options: dict[str, Any] = {"gaussian_weights": gaussian, "use_sample_covariance": sample}
    result = bc.ssim(a, b, data_range=250, **options)
    assert result.dtype == np.float32
    mean, expected = structural_similarity(
        a.astype(float), b.astype(float), data_range=250, full=True, **options
    )
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
    assert bc.mean_ssim(a, b, data_range=250, **options) == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize("window", [3, 11, 31])
def test_windows_and_constants_are_scikit_images(window: int) -> None:
    a, b = pair()
    mean, expected = structural_similarity(
        a, b, win_size=window, data_range=100, K1=0.05, K2=0.2, full=True
    )
    options = {"k1": 0.05, "k2": 0.2}
    np.testing.assert_allclose(bc.ssim(a, b, window, 100, **options), expected, rtol=0, atol=1e-6)
    assert bc.mean_ssim(a, b, window, 100, **options) == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize("sigma", [0.7, 2.5])
def test_gaussian_windows_of_any_sigma_are_scikit_images(sigma: float) -> None:
    a, b = pair()
    mean, expected = structural_similarity(
        a, b, sigma=sigma, gaussian_weights=True, data_range=255, full=True
    )
    options: dict[str, Any] = {"gaussian_weights": True, "sigma": sigma, "data_range": 255}
    np.testing.assert_allclose(bc.ssim(a, b, **options), expected, rtol=0, atol=1e-6)
    assert bc.mean_ssim(a, b, **options) == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_integers_bring_their_data_range(dtype: str) -> None:
    a, b = pair(dtype=dtype)
    limits = np.iinfo(dtype)
    assert np.array_equal(bc.ssim(a, b), bc.ssim(a, b, data_range=limits.max - int(limits.min)))
    assert bc.ssim(a > 100, b > 100).dtype == np.float32


# ---------------------------------------------------------------- hard data


@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize("level", [1e4, 1e6])
def test_noise_on_a_high_level_keeps_its_digits(level: float, gaussian: bool) -> None:
    rng = np.random.default_rng(0)
    a = level + rng.normal(size=(40, 50))
    b = a + rng.normal(size=a.shape)
    op = SSIM(7, 10.0, gaussian_weights=gaussian)
    result = bc.ssim(a, b, 7, 10.0, gaussian_weights=gaussian)
    np.testing.assert_allclose(result, brute_force(a, b, op, 10.0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("gaussian", [False, True])
def test_an_image_is_exactly_like_itself(dtype: str, gaussian: bool) -> None:
    a = pair(dtype=dtype)[0]
    assert (bc.ssim(a, a, data_range=1.0, gaussian_weights=gaussian) == 1).all()
    assert bc.mean_ssim(a, a, data_range=1.0, gaussian_weights=gaussian) == 1


def test_without_constants_two_empty_images_are_alike() -> None:
    zero = np.zeros((9, 9))
    assert (bc.ssim(zero, zero, data_range=1.0, k1=0, k2=0) == 1).all()


# ---------------------------------------------------------------- missing data


@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_missing_pixels_leave_their_weight_to_the_others(
    gaussian: bool, sample: bool, share: float
) -> None:
    a, b = pair()
    rng = np.random.default_rng(1)
    a[rng.random(a.shape) < share] = np.nan
    b[rng.random(b.shape) < share / 2] = np.inf
    op = SSIM(7, 250.0, gaussian_weights=gaussian, use_sample_covariance=sample)
    options: dict[str, Any] = {"gaussian_weights": gaussian, "use_sample_covariance": sample}
    result = bc.ssim(a, b, 7, 250.0, **options)
    expected = brute_force(a, b, op, 250.0)
    assert np.isnan(expected).any() == (share == 0.5)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("gaussian", [False, True])
def test_a_missing_pixel_touches_exactly_the_windows_that_hold_it(gaussian: bool) -> None:
    a, b = pair((60, 60))
    options: dict[str, Any] = {"data_range": 250.0, "gaussian_weights": gaussian}
    plain = bc.ssim(a, b, **options)
    a[40, 41] = np.nan
    touched = np.argwhere(bc.ssim(a, b, **options) != plain)
    r = 5 if gaussian else 3
    assert (touched.min(0) == (40 - r, 41 - r)).all()
    assert (touched.max(0) == (40 + r, 41 + r)).all()


def test_a_mask_and_nodata_are_missing_and_are_left_out_of_the_mean() -> None:
    a, b = pair(dtype="uint8")
    a[3:9, 3:9] = 255
    mask = np.ones(a.shape, bool)
    mask[20:, 30:] = False
    holes = np.where(mask & (a != 255), a, np.nan).astype(float)
    expected = bc.ssim(holes, b.astype(float), data_range=255)
    labelled = xr.DataArray(a, {"mask": (("y", "x"), mask)}, ("y", "x"), attrs={"nodata": 255})
    for first in (labelled, labelled.chunk(13)):
        result = bc.ssim(first, b)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
        mean = bc.mean_ssim(first, b)
        assert float(mean) == pytest.approx(np.nanmean(expected[3:-3, 3:-3]), abs=1e-7)
        assert not mean.coords


def test_too_few_valid_pixels_give_nan_and_a_mean_of_none_is_nan() -> None:
    a, b = pair((9, 9))
    assert np.isnan(bc.ssim(a * np.nan, b, data_range=1.0, min_valid=0)).all()
    assert np.isnan(bc.mean_ssim(a * np.nan, b, data_range=1.0))


# ---------------------------------------------------------------- one answer


@given(
    st.integers(4, 40),
    st.integers(4, 40),
    st.sampled_from(["uint8", "uint16", "int32", "float32", "float64"]),
    st.sampled_from([0.0, 0.05, 0.6]),
    st.sampled_from(["reflect", "nearest", "nan"]),
    st.booleans(),
    st.integers(3, 17),
    st.integers(0, 2**32 - 1),
)
def test_ssim_is_bit_identical_for_any_chunks_and_tiles(
    h: int,
    w: int,
    dtype: str,
    missing: float,
    boundary: Any,
    gaussian: bool,
    tile: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    a, b = pair((h, w), dtype, seed)
    if a.dtype.kind == "f":
        a[rng.random(a.shape) < missing] = np.nan
    window = int(rng.integers(1, min(h, w))) * 2 + 1
    sigma = float(rng.uniform(0.3, 1.0))
    options: dict[str, Any] = {"boundary": boundary, "gaussian_weights": gaussian, "sigma": sigma}
    expected = bc.ssim(a, b, window, 250, **options)
    chunks = [tuple(int(n) for n in rng.multinomial(size - 2, [0.4, 0.6]) + 1) for size in (h, w)]
    lazy = bc.ssim(
        da.from_array(a, chunks=chunks), da.from_array(b, chunks=7), window, 250, **options
    )
    assert np.array_equal(lazy.compute(scheduler="sync"), expected, equal_nan=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators, "tile_shape", lambda halo: (tile, tile))
        again = bc.ssim(a, b, window, 250, **options)
    assert np.array_equal(again, expected, equal_nan=True)


def test_the_mean_is_one_number_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    from bigcorr import wiring

    monkeypatch.setattr(wiring, "_BLOCK", 16)
    a, b = pair((3, 61, 70), "float32")
    whole = bc.mean_ssim(a, b, data_range=250)
    each = [bc.mean_ssim(x, y, data_range=250) for x, y in zip(a, b, strict=True)]
    assert whole.shape == (3,)
    assert np.array_equal(whole, each)
    assert all(isinstance(value, float) for value in each)
    lazy = bc.mean_ssim(da.from_array(a, chunks=(2, 19, 23)), b, data_range=250)
    assert isinstance(lazy, da.Array)
    assert np.array_equal(lazy.compute(scheduler="sync"), whole)


def test_the_kind_that_goes_in_comes_out() -> None:
    a, b = pair(dtype="float32")
    labelled = xr.DataArray(da.from_array(a, chunks=16), {"x": np.arange(52)}, ("y", "x"), "dapi")
    result = bc.ssim(labelled, b, data_range=250)
    assert result.name == "ssim"
    assert result.chunks == labelled.chunks
    assert np.array_equal(result, bc.ssim(a, b, data_range=250))


# ---------------------------------------------------------------- errors

GOOD = np.zeros((20, 30), np.float32)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"data_range": None}, "data_range: got None for pixels of dtype float32, takes the dist"),
        ({"data_range": 0}, "data_range: got 0, takes a number > 0"),
        ({"data_range": "1"}, "data_range: got '1'"),
        ({"b": np.zeros((20, 31))}, r"b: got shape \(20, 31\), takes that of a, \(20, 30\)"),
        ({"a": np.zeros(20)}, "a: got 1 dimensions"),
        ({"window": 8}, "window: got 8, takes an odd"),
        ({"window": 41}, "window: got 41 for a raster of 20 x 30 pixels, takes at most .* 39"),
        ({"gaussian_weights": True, "sigma": 9}, "sigma: makes a window of 65 for a raster"),
        ({"sigma": 0}, "sigma: got 0, takes a number > 0"),
        ({"k1": -1}, "k1: got -1, takes a number of at least 0"),
        ({"k2": np.inf}, "k2: got inf"),
        ({"min_valid": 2}, "min_valid: got 2"),
        ({"boundary": "wrap"}, "boundary: got 'wrap'"),
    ],
)
def test_bad_input_is_refused_when_called(arguments: dict[str, Any], says: str) -> None:
    given_ = {"a": GOOD, "b": GOOD, "data_range": 1.0, **arguments}
    for function in (bc.ssim, bc.mean_ssim):
        with pytest.raises(InputError, match=says):
            function(**given_)


def test_a_mean_needs_a_window_inside_the_raster() -> None:
    assert bc.ssim(GOOD, GOOD, 21, 1.0).shape == GOOD.shape
    with pytest.raises(InputError, match="window: a window of 21 is larger than the raster"):
        bc.mean_ssim(GOOD, GOOD, 21, 1.0)
