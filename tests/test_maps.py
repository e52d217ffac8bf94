"""The maps: one answer whatever kind of array, chunks and tiles; errors when they are called."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

import bigcorr as bc
from bigcorr import operators
from bigcorr.errors import InputError
from bigcorr.maps import NCC, SSIM, GaussianBlur

DTYPES = ["bool", "uint8", "uint16", "int16", "int32", "int64", "uint64", "float32", "float64"]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    with dask.config.set(scheduler="synchronous"):
        yield


def image(shape: tuple[int, ...], dtype: str, seed: int = 0, missing: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.random(shape) < 0.5
    values = (rng.normal(size=shape) * 40 + 100).clip(0, 250).astype(dtype)
    if values.dtype.kind == "f":
        values[rng.random(shape) < missing] = np.nan
    return values


def cut(size: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Chunks at random places along an axis."""
    places = np.flatnonzero(rng.random(size - 1) < rng.choice([0.05, 0.4])) + 1
    return tuple(np.diff([0, *places.tolist(), size]).tolist())


# ---------------------------------------------------------------- one answer


@given(
    st.integers(2, 40),
    st.integers(2, 40),
    st.sampled_from(DTYPES),
    st.sampled_from(DTYPES),
    st.sampled_from([0.0, 0.05, 0.6]),
    st.sampled_from(["reflect", "nearest", "nan"]),
    st.sampled_from(["uniform", "gaussian"]),
    st.integers(3, 17),
    st.data(),
)
def test_ncc_is_bit_identical_for_any_chunks_and_tiles(
    h: int,
    w: int,
    dtype_a: str,
    dtype_b: str,
    missing: float,
    boundary: Any,
    weights: Any,
    tile: int,
    data: st.DataObject,
) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1))
    window = data.draw(st.integers(1, min(h, w) - 1)) * 2 + 1
    rng = np.random.default_rng(seed)
    a, b = image((h, w), dtype_a, seed, missing), image((h, w), dtype_b, seed + 1, missing)
    options: dict[str, Any] = {"boundary": boundary, "weights": weights}
    expected = bc.ncc(a, b, window, **options)
    lazy = bc.ncc(
        da.from_array(a, chunks=(cut(h, rng), cut(w, rng))),
        da.from_array(b, chunks=(cut(h, rng), cut(w, rng))),
        window,
        **options,
    )
    assert np.array_equal(lazy.compute(), expected, equal_nan=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators, "tile_shape", lambda halo: (tile, tile))
        assert np.array_equal(bc.ncc(a, b, window, **options), expected, equal_nan=True)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(DTYPES),
    st.sampled_from([0.0, 0.05, 0.6]),
    st.floats(0.2, 15),
    st.floats(0.2, 15),
    st.booleans(),
    st.integers(1, 17),
    st.integers(0, 2**32 - 1),
)
def test_blur_is_bit_identical_for_any_chunks_and_tiles(
    h: int,
    w: int,
    dtype: str,
    missing: float,
    sigma_y: float,
    sigma_x: float,
    fill: bool,
    tile: int,
    seed: int,
) -> None:
    """From one pixel upward, and with halos larger than the chunks and the raster."""
    rng = np.random.default_rng(seed)
    a, sigma = image((h, w), dtype, seed, missing), (sigma_y, sigma_x)
    expected = bc.gaussian_blur(a, sigma, fill=fill)
    lazy = da.from_array(a, chunks=(cut(h, rng), cut(w, rng)))
    blurred = bc.gaussian_blur(lazy, sigma, fill=fill)
    assert blurred.chunks == lazy.chunks
    assert np.array_equal(blurred.compute(), expected, equal_nan=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators, "tile_shape", lambda halo: (tile, tile))
        assert np.array_equal(bc.gaussian_blur(a, sigma, fill=fill), expected, equal_nan=True)


def test_a_stack_is_mapped_channel_by_channel() -> None:
    stack = image((3, 30, 33), "float32", missing=0.02)
    expected = np.stack([bc.gaussian_blur(channel, 2.0) for channel in stack])
    assert np.array_equal(bc.gaussian_blur(stack, 2.0), expected, equal_nan=True)
    lazy = da.from_array(stack, chunks=(2, 11, 13))
    assert np.array_equal(bc.gaussian_blur(lazy, 2.0).compute(), expected, equal_nan=True)
    pairs = np.stack([bc.ncc(a, b) for a, b in zip(stack, stack[::-1], strict=True)])
    assert np.array_equal(bc.ncc(lazy, lazy[::-1]).compute(), pairs, equal_nan=True)
    assert np.array_equal(bc.ncc(stack, stack[::-1]), pairs, equal_nan=True)


# ---------------------------------------------------------------- the right answer


@pytest.mark.parametrize("boundary", ["reflect", "nearest", "nan"])
def test_ncc_equals_brute_force_up_to_the_edge(boundary: Any) -> None:
    a, b = image((21, 26), "float64", 1), image((21, 26), "float64", 2)
    mode = {"reflect": "symmetric", "nearest": "edge", "nan": "constant"}[boundary]
    fill = {"constant_values": np.nan} if boundary == "nan" else {}
    u, v = (np.pad(x, 4, mode=mode, **fill) for x in (a, b))
    x, y = (sliding_window_view(p, (9, 9)).reshape(21, 26, 81) for p in (u, v))
    x, y = x - np.nanmean(x, -1, keepdims=True), y - np.nanmean(y, -1, keepdims=True)
    expected = np.nansum(x * y, -1) / np.sqrt(np.nansum(x * x, -1) * np.nansum(y * y, -1))
    if boundary == "nan":
        expected[np.isfinite(x).sum(-1) < 0.5 * 81] = np.nan
        assert np.isnan(expected[0, 0])
    np.testing.assert_allclose(bc.ncc(a, b, 9, boundary=boundary), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sigma", [0.7, 3.0, (2.0, 9.0)])
def test_blur_equals_scipys_float64_result(dtype: str, sigma: Any) -> None:
    a = image((60, 71), dtype)
    result = bc.gaussian_blur(a, sigma)
    assert result.dtype == (np.float64 if dtype == "float64" else np.float32)
    expected = ndimage.gaussian_filter(a.astype(np.float64), sigma)
    np.testing.assert_allclose(result, expected, atol=1e-6 * np.abs(a.astype(float)).max(), rtol=0)


@pytest.mark.parametrize("method", ["separable", "fft"])
def test_a_list_of_sigmas_gives_a_leading_dimension(method: Any) -> None:
    a, sigmas = image((2, 40, 51), "float32", missing=0.02), [1, (2.0, 5.0), 30]
    expected = np.stack([bc.gaussian_blur(a, sigma, method=method) for sigma in sigmas])
    assert np.array_equal(bc.gaussian_blur(a, sigmas, method=method), expected, equal_nan=True)
    lazy = da.from_array(a, chunks=(1, 13, 17))
    blurred = bc.gaussian_blur(lazy, sigmas, method=method)
    assert blurred.chunks == ((1, 1, 1), *lazy.chunks)
    assert np.array_equal(blurred.compute(), expected, equal_nan=True)


def test_a_list_of_sigmas_is_a_labelled_dimension() -> None:
    coords = {"y": np.arange(9), "mask": (("y", "x"), np.ones((9, 8), bool))}
    a = xr.DataArray(image((9, 8), "float32"), coords, ("y", "x"), "dapi", {"unit": "um"})
    for given_ in (a, a.chunk(4)):
        blurred = bc.gaussian_blur(given_, sigma=[1, 2, 4])
        assert blurred.dims == ("sigma", "y", "x")
        assert blurred.sigma.values.tolist() == [1, 2, 4]
        assert (blurred.name, blurred.attrs, blurred.mask.dims) == ("dapi", a.attrs, ("y", "x"))
        assert np.array_equal(blurred.sel(sigma=2), bc.gaussian_blur(a, 2))
    pairs = bc.gaussian_blur(a, [(1, 2), 3])
    assert (pairs.sigma_y.values.tolist(), pairs.sigma_x.values.tolist()) == ([1, 3], [2, 3])


def test_several_sigmas_read_each_chunk_once() -> None:
    read = []

    def count(block: np.ndarray, block_id: Any = None) -> np.ndarray:
        read.append(block_id)
        return block

    a = da.ones((60, 60), chunks=20, dtype=np.float32).map_blocks(count, dtype=np.float32)
    read.clear()
    bc.gaussian_blur(a, [1, 2, 4]).compute()
    assert len(read) == 9


def test_a_sigma_of_hundreds_of_pixels_is_taken() -> None:
    a = image((60, 71), "float64")
    for sigma in (150.0, [300.0]):
        expected = ndimage.gaussian_filter(a, np.ravel(sigma)[0])
        np.testing.assert_allclose(np.squeeze(bc.gaussian_blur(a, sigma)), expected, rtol=1e-9)


@pytest.mark.parametrize("shape", [(40, 51), (7, 64)])
def test_fft_blur_is_the_blur_with_edges_that_wrap_around(shape: tuple[int, int]) -> None:
    a = image(shape, "float64")
    expected = ndimage.gaussian_filter(a, (2.0, 3.0), mode="wrap")
    np.testing.assert_allclose(bc.gaussian_blur(a, (2.0, 3.0), method="fft"), expected, rtol=1e-12)
    lazy = bc.gaussian_blur(da.from_array(a, chunks=5), (2.0, 3.0), method="fft")
    np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-12)


def test_fft_blur_leaves_missing_pixels_out() -> None:
    a = image((40, 50), "float64", missing=0.1)
    valid = np.isfinite(a)
    top = ndimage.gaussian_filter(np.where(valid, a, 0), 2.0, mode="wrap")
    expected = top / ndimage.gaussian_filter(valid.astype(float), 2.0, mode="wrap")
    filled = bc.gaussian_blur(a, 2.0, method="fft", fill=True)
    np.testing.assert_allclose(filled, expected, rtol=1e-10)
    kept = bc.gaussian_blur(a, 2.0, method="fft")
    assert np.array_equal(np.isnan(kept), ~valid)


def test_a_large_raster_of_a_constant_level_is_nowhere_similar() -> None:
    flat = np.full((30, 40), 0.1)
    assert not bc.ncc(flat, image((30, 40), "float64")).any()
    assert not bc.ncc(da.from_array(flat, chunks=9), da.from_array(flat, chunks=7)).compute().any()


@pytest.mark.parametrize("sigmas", [(1.5, 1.5), ((2.0, 3.0), 1.0)])
def test_a_chain_has_the_bits_of_its_steps_on_the_whole(sigmas: Any) -> None:
    """Blur, then NCC: in chunks, each block is computed from the sum of the halos around it."""
    a, b = image((61, 70), "float32", 1), image((61, 70), "float32", 2, missing=0.03)
    whole = [bc.gaussian_blur(x, sigma) for x, sigma in zip((a, b), sigmas, strict=True)]
    expected = bc.ncc(*whole, 7)
    for chunks in (13, (61, 20), (40, 9)):
        lazy = [da.from_array(x, chunks=chunks) for x in (a, b)]
        steps = [bc.gaussian_blur(x, sigma) for x, sigma in zip(lazy, sigmas, strict=True)]
        assert np.array_equal(bc.ncc(*steps, 7).compute(), expected, equal_nan=True)
        assert np.array_equal(
            bc.ssim(*steps, 7, 200).compute(), bc.ssim(*whole, 7, 200), equal_nan=True
        )


# ---------------------------------------------------------------- missing data


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_nodata_is_missing(dtype: str) -> None:
    a, b = image((30, 30), dtype, 1), image((30, 30), dtype, 2)
    a[5:9, 5:9], b[20, 20] = 7, 7
    as_nan = [np.where(x == 7, np.nan, x).astype(np.float64) for x in (a, b)]
    np.testing.assert_allclose(bc.ncc(a, b, nodata=7), bc.ncc(*as_nan), atol=1e-7)
    np.testing.assert_allclose(
        bc.gaussian_blur(a, 2.0, nodata=7), bc.gaussian_blur(as_nan[0], 2.0), rtol=1e-6
    )


def test_a_nodata_value_that_the_dtype_cannot_hold_is_nowhere() -> None:
    a = image((10, 10), "uint8")
    assert np.array_equal(bc.gaussian_blur(a, 1.0, nodata=-9999), bc.gaussian_blur(a, 1.0))
    assert np.array_equal(bc.gaussian_blur(a, 1.0, nodata=np.nan), bc.gaussian_blur(a, 1.0))


def test_a_dataarray_brings_its_nodata_and_its_mask() -> None:
    a = image((20, 24), "float32")
    mask = np.random.default_rng(0).random(a.shape) > 0.2
    a[3, 3] = -1
    raster = xr.DataArray(
        a, dims=("y", "x"), coords={"mask": (("y", "x"), mask)}, attrs={"nodata": -1, "unit": "um"}
    )
    expected = bc.gaussian_blur(np.where(mask & (a != -1), a, np.nan), 1.5)
    for given_ in (raster, raster.chunk(7)):
        blurred = bc.gaussian_blur(given_, 1.5)
        assert np.array_equal(blurred, expected, equal_nan=True)
        assert blurred.attrs == {"unit": "um"}


# ---------------------------------------------------------------- kinds


def test_memory_of_any_layout_is_taken() -> None:
    a, b = image((30, 33), "float64", 1), image((30, 33), "float64", 2)
    expected = bc.ncc(a, b), bc.gaussian_blur(a, 2.0)
    frozen = a.copy()
    frozen.flags.writeable = False
    for same in (a.astype(">f8"), np.asfortranarray(a), a[:, ::-1].copy()[:, ::-1], frozen):
        assert np.array_equal(bc.ncc(same, b), expected[0])
        blurred = bc.gaussian_blur(same, 2.0)
        assert blurred.dtype == np.float64
        assert np.array_equal(blurred, expected[1])


def test_the_kind_that_goes_in_comes_out() -> None:
    a, b = image((20, 22), "float32", 1), image((20, 22), "float32", 2)
    coords = {"y": np.arange(20) * 0.5, "x": np.arange(22) * 0.5}
    labelled = xr.DataArray(da.from_array(a, chunks=8), coords, ("y", "x"), "dapi", {"unit": "um"})
    assert isinstance(bc.ncc(a, b), np.ndarray)
    assert isinstance(bc.ncc(da.from_array(a), b), da.Array)
    similarity = bc.ncc(labelled, labelled.copy(data=da.from_array(b, chunks=5)))
    assert similarity.name == "ncc"
    assert similarity.dtype == np.float32
    assert dask.is_dask_collection(similarity)
    blurred = bc.gaussian_blur(labelled, 1.0)
    assert blurred.name == "dapi"
    for out in (similarity, blurred):
        assert out.attrs == {"unit": "um"}
        xr.testing.assert_equal(out.coords.to_dataset(), labelled.coords.to_dataset())


def test_lazy_maps_read_nothing_until_they_are_computed_and_have_stable_names() -> None:
    def refuse(block: np.ndarray) -> np.ndarray:
        raise AssertionError("read too early")

    a = da.zeros((64, 64), chunks=16, dtype=np.float32).map_blocks(refuse, dtype=np.float32)
    first, second = (bc.ncc(a, a).name for _ in range(2))
    assert first == second
    assert bc.gaussian_blur(a, 2.0).name == bc.gaussian_blur(a, 2.0).name


# ---------------------------------------------------------------- errors

GOOD = np.zeros((20, 30), np.float32)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"b": np.zeros((20, 31))}, r"b: got shape \(20, 31\), takes that of a, \(20, 30\)"),
        ({"a": np.zeros(20)}, "a: got 1 dimensions"),
        ({"a": np.zeros((2, 2, 20, 30))}, "a: got 4 dimensions"),
        ({"a": np.zeros((0, 30))}, "a: got shape"),
        ({"a": GOOD.astype(object)}, "a: got pixels of dtype object"),
        ({"b": GOOD.astype(complex)}, "b: got pixels of dtype complex128"),
        ({"window": 0}, "window: got 0, takes an odd whole number of at least 3"),
        ({"window": 8}, "window: got 8, takes an odd"),
        ({"window": 1}, "window: got 1"),
        ({"window": -7}, "window: got -7"),
        ({"window": 7.5}, r"window: got 7\.5"),
        ({"window": "7"}, "window: got '7'"),
        ({"window": 41}, "window: got 41 for a raster of 20 x 30 pixels, takes at most .* 39"),
        ({"boundary": "wrap"}, "boundary: got 'wrap', takes 'reflect', 'nearest' or 'nan'"),
        ({"weights": "box"}, "weights: got 'box', takes 'uniform' or 'gaussian'"),
        ({"min_valid": 1.5}, r"min_valid: got 1\.5, takes a share from 0 to 1"),
        ({"min_valid": np.nan}, "min_valid: got nan"),
        ({"nodata": "none"}, "nodata: got 'none', takes a number"),
    ],
)
def test_bad_input_of_ncc_is_refused_when_called(arguments: dict[str, Any], says: str) -> None:
    for wrap in (np.asarray, lambda x: da.from_array(x, chunks=-1)):
        given_ = {"a": GOOD, "b": GOOD, **arguments}
        given_ |= {name: wrap(given_[name]) for name in ("a", "b")}
        with pytest.raises(InputError, match=says) as caught:
            bc.ncc(**given_)
        assert isinstance(caught.value, ValueError)


def test_the_largest_window_is_taken() -> None:
    assert bc.ncc(GOOD, GOOD, 39).shape == GOOD.shape


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"sigma": 0}, "sigma: got 0, takes one number > 0, or two"),
        ({"sigma": -1.0}, r"sigma: got -1\.0, takes"),
        ({"sigma": float("nan")}, "sigma: got nan"),
        ({"sigma": float("inf")}, "sigma: got inf"),
        ({"sigma": (1, 0)}, r"sigma: got \(1, 0\)"),
        ({"sigma": (1, 2, 3)}, "sigma: got 3 values"),
        ({"sigma": []}, "sigma: got an empty list"),
        ({"sigma": [1, 0]}, "sigma: got 0, takes"),
        ({"sigma": "2"}, "sigma: got '2'"),
        ({"sigma": None}, "sigma: got None"),
        ({"sigma": 1, "truncate": 0}, "truncate: got 0"),
        ({"sigma": 1e23}, r"sigma: got 1e\+23, takes at most 100,000 pixels"),
        ({"sigma": 100.0, "truncate": 1e9}, r"truncate: got 1e\+09, takes at most 4000 with"),
        ({"sigma": 1, "method": "box"}, "method: got 'box', takes 'separable' or 'fft'"),
        ({"sigma": 1, "a": np.zeros(4)}, "a: got 1 dimensions"),
        ({"sigma": 1, "a": np.array([["x"]])}, "a: got pixels of dtype <U1"),
        ({"sigma": 1, "a": xr.Dataset({"p": (("y", "x"), GOOD)})}, "a: got a Dataset with"),
    ],
)
def test_bad_input_of_blur_is_refused_when_called(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        bc.gaussian_blur(**{"a": GOOD, **arguments})


# ---------------------------------------------------------------- operators


def test_operators_are_plain_values() -> None:
    assert NCC(7) == NCC(window=np.int64(7))  # type: ignore[arg-type]
    assert NCC(7).halo == (3, 3)
    assert GaussianBlur(2.0) == GaussianBlur((2.0, 2.0))
    assert GaussianBlur((2.0, 0.1)).halo == (8, 0)
    assert len({NCC(7), NCC(7), NCC(9)}) == 2


def test_the_memory_of_a_tile_is_known_and_kept() -> None:
    import tracemalloc

    for op, dtypes in (
        (NCC(31), ["float32"] * 2),
        (SSIM(31, 1.0), ["uint16"] * 2),
        (GaussianBlur(9.0), ["float64"]),
    ):
        side = 512
        layers = [
            operators.Layer(image([side + 2 * r for r in op.halo], d, i, 0.01))
            for i, d in enumerate(dtypes)
        ]
        op.tile(*layers)
        tracemalloc.start()
        op.tile(*layers)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= op.tile_bytes((side, side), *dtypes)
