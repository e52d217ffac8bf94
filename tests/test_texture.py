"""Local binary patterns and their histograms: one answer whatever the array, chunks and tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask_image.ndmeasure
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from skimage.feature import local_binary_pattern

import bigcorr as bc
from bigcorr import operators
from bigcorr.errors import InputError
from bigcorr.kernels.lbp_circle import METHODS, number_of_codes
from bigcorr.operators_lbp import LocalBinaryPattern
from bigcorr.raster.memory import ArraySource
from bigcorr.run.map_job import run_map

pytestmark = pytest.mark.filterwarnings("ignore:Applying `local_binary_pattern`")

DTYPES = ["bool", "uint8", "uint16", "int32", "int64", "float32", "float64"]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    with dask.config.set(scheduler="synchronous"):
        yield


def image(shape: tuple[int, ...], dtype: str = "uint8", levels: int = 5, seed: int = 0) -> Any:
    values = np.random.default_rng(seed).integers(0, 2 if dtype == "bool" else levels, shape)
    return (values * 0.3).astype(dtype) if np.dtype(dtype).kind == "f" else values.astype(dtype)


def cut(size: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Chunks at random places along an axis."""
    places = np.flatnonzero(rng.random(size - 1) < rng.choice([0.05, 0.4])) + 1
    return tuple(np.diff([0, *places.tolist(), size]).tolist())


def expected_histogram(a: np.ndarray, where: np.ndarray | None = None, **options: Any) -> Any:
    """By scikit-image and numpy.histogram."""
    points, method = options.get("points", 8), options.get("method", "uniform")
    codes = local_binary_pattern(a, points, options.get("radius", 1), method)
    bins = number_of_codes(points, method)
    kept = codes if where is None else codes[where]
    return np.histogram(kept, np.arange(bins + 1) - 0.5)[0] / kept.size


# ---------------------------------------------------------------- patterns


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(DTYPES),
    st.sampled_from([1, 4, 8, 12, 16, 24]),
    st.sampled_from([1, 1.5, 2, 3, 7.3]),
    st.sampled_from(METHODS),
    st.integers(1, 17),
    st.integers(0, 2**32 - 1),
)
def test_any_chunks_and_tiles_equal_scikit_image_on_the_whole(
    h: int, w: int, dtype: str, points: int, radius: float, method: Any, tile: int, seed: int
) -> None:
    """From one pixel upward, and with circles larger than the chunks and the raster."""
    rng = np.random.default_rng(seed)
    a = image((h, w), dtype, int(rng.choice([2, 4, 250])), seed)
    expected = local_binary_pattern(a, points, radius, method)
    lazy = da.from_array(a, chunks=(cut(h, rng), cut(w, rng)))
    patterns = bc.local_binary_pattern(lazy, points, radius, method)
    assert patterns.chunks == lazy.chunks
    assert np.array_equal(patterns.compute(), expected, equal_nan=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators, "tile_shape", lambda halo: (tile, tile))
        tiled = bc.local_binary_pattern(a, points, radius, method)
    assert np.array_equal(tiled, expected, equal_nan=True)
    assert tiled.dtype == patterns.dtype


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_a_batch_run_has_the_bits_of_the_lazy_map(tmp_path: Path, dtype: str, method: Any) -> None:
    a = image((150, 201), dtype)
    run_map(LocalBinaryPattern(8, 1.5, method), [a], tmp_path / "o.zarr", chunk=32, shard=64)
    with xr.open_zarr(tmp_path / "o.zarr") as dataset:
        result = dataset["lbp"].values
    expected = local_binary_pattern(a, 8, 1.5, method)
    assert np.array_equal(result, expected, equal_nan=True)
    assert np.array_equal(bc.local_binary_pattern(a, 8, 1.5, method), expected, equal_nan=True)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_run_gives_empty_blocks_the_code_of_a_flat_image(
    tmp_path: Path, method: Any
) -> None:
    stack = image((2, 150, 201))
    stack[1] = 0
    stack[0, 60:] = 0
    raster = xr.DataArray(stack, dims=("channel", "y", "x"))
    bc.save_raster(raster, tmp_path / "stack.zarr", chunk=32, shard=64)
    source = str(tmp_path / "stack.zarr")
    run_map(LocalBinaryPattern(8, 1, method), [source], tmp_path / "o.zarr", chunk=32, shard=64)
    with xr.open_zarr(tmp_path / "o.zarr") as dataset:
        result = dataset["lbp"].values
    assert np.array_equal(result, bc.local_binary_pattern(stack, 8, 1, method), equal_nan=True)


class Empty(ArraySource):
    """A source that knows where it holds nothing, as our stacks do."""

    def occupied(self, box: Any) -> np.ndarray:
        return np.array([self.read([0], box).any()])


@pytest.mark.parametrize("method", METHODS)
def test_what_is_known_to_be_empty_is_not_taken_for_code_0(tmp_path: Path, method: Any) -> None:
    a = np.zeros((90, 90), np.uint8)
    a[70:, 80:] = image((20, 10))
    run_map(LocalBinaryPattern(8, 1, method), [Empty(a)], tmp_path / "o.zarr", chunk=16, shard=32)
    with xr.open_zarr(tmp_path / "o.zarr") as dataset:
        expected = local_binary_pattern(a, 8, 1, method)
        assert np.array_equal(dataset["lbp"].values, expected, equal_nan=True)


def test_codes_have_the_smallest_unsigned_type() -> None:
    a = image((9, 9))
    for points, method, dtype in [
        (8, "uniform", "uint8"),
        (8, "default", "uint8"),
        (9, "default", "uint16"),
        (16, "nri_uniform", "uint8"),
        (17, "nri_uniform", "uint16"),
        (24, "ror", "uint32"),
        (40, "default", "uint64"),
        (64, "uniform", "uint8"),
        (8, "var", "float64"),
    ]:
        codes = bc.local_binary_pattern(a, points, 1, method)  # type: ignore[arg-type]
        assert codes.dtype == dtype, (points, method)
    assert bc.local_binary_pattern(a, 8, method="default", nodata=1).dtype == np.uint16
    assert bc.local_binary_pattern(a.astype("f4"), 8, method="default").dtype == np.uint16
    assert bc.local_binary_pattern(a.astype("f4"), 8).dtype == np.uint8


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_missing_pixel_touches_exactly_the_patterns_that_sample_it(
    dtype: str, method: Any
) -> None:
    a = image((30, 30), dtype, 200) + 1
    expected = local_binary_pattern(a, 8, 1, method)
    a[12, 14] = np.nan if dtype == "float32" else 0
    nodata = None if dtype == "float32" else 0
    codes = bc.local_binary_pattern(a, 8, 1, method, nodata=nodata)
    marked = np.isnan(codes) if method == "var" else codes == np.iinfo(codes.dtype).max
    touched = np.zeros(a.shape, bool)
    touched[11:14, 13:16] = True
    assert np.array_equal(marked, touched)
    assert np.array_equal(codes[~touched], expected[~touched])
    lazy = bc.local_binary_pattern(da.from_array(a, chunks=7), 8, 1, method, nodata=nodata)
    assert np.array_equal(lazy.compute(), codes, equal_nan=True)


def test_the_outside_is_zero_and_never_missing() -> None:
    a = image((12, 13)) + 1
    assert np.array_equal(
        bc.local_binary_pattern(a, nodata=0), local_binary_pattern(a, 8, 1, "uniform")
    )
    inf = a.astype("f8")
    inf[0, 0] = np.inf
    codes = bc.local_binary_pattern(inf)
    assert (codes == 255).sum() == 4


def test_a_dataarray_brings_its_nodata_and_its_mask_and_says_what_is_missing() -> None:
    a = image((20, 24))
    mask = np.random.default_rng(0).random(a.shape) > 0.1
    raster = xr.DataArray(a, dims=("y", "x"), coords={"mask": (("y", "x"), mask)}, name="dapi")
    as_nan = np.where(mask, a, np.nan)
    for given_ in (raster, raster.chunk(7)):
        codes = bc.local_binary_pattern(given_)
        assert np.array_equal(codes, bc.local_binary_pattern(as_nan))
        assert codes.name == "lbp"
        assert codes.attrs["nodata"] == 255
    assert "nodata" not in bc.local_binary_pattern(raster.drop_vars("mask")).attrs
    stack = xr.concat([raster, raster], "channel")
    assert np.array_equal(bc.local_binary_pattern(stack)[1], codes)


def test_a_masked_source_in_a_batch_run_is_marked_as_in_the_lazy_map(tmp_path: Path) -> None:
    a = image((60, 70))
    mask = np.random.default_rng(0).random(a.shape) > 0.05
    source = ArraySource(a, mask=mask, nodata=3)
    op = LocalBinaryPattern(8, 2, "default", may_miss=True)
    run_map(op, [source], tmp_path / "o.zarr", chunk=32, shard=32)
    expected = bc.local_binary_pattern(np.where(mask & (a != 3), a, np.nan), 8, 2, "default")
    with xr.open_zarr(tmp_path / "o.zarr") as dataset:
        assert np.array_equal(dataset["lbp"].values, expected)
    with pytest.raises(InputError, match="may_miss: got False for pixels of which some"):
        run_map(LocalBinaryPattern(8, 2, "default"), [source], tmp_path / "p.zarr")


def test_lazy_patterns_have_stable_names_and_read_nothing_early() -> None:
    def refuse(block: np.ndarray) -> np.ndarray:
        raise AssertionError("read too early")

    a = da.zeros((64, 64), chunks=16, dtype=np.uint8).map_blocks(refuse, dtype=np.uint8)
    assert bc.local_binary_pattern(a).name == bc.local_binary_pattern(a).name
    assert bc.lbp_histogram(a, tile=8).name == bc.lbp_histogram(a, tile=8).name


# ---------------------------------------------------------------- histograms


@pytest.mark.parametrize("method", METHODS[:4])
def test_a_histogram_is_that_of_scikit_image(method: Any) -> None:
    a = image((50, 61), levels=200)
    result = bc.lbp_histogram(a, 8, 2, method)
    assert result.dtype == np.float64
    assert result.sum() == pytest.approx(1, abs=1e-12)
    assert np.array_equal(result, expected_histogram(a, points=8, radius=2, method=method))
    lazy = bc.lbp_histogram(da.from_array(a, chunks=(13, 17)), 8, 2, method)
    assert isinstance(lazy, da.Array)
    assert np.array_equal(lazy.compute(), result)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(0, 99),
)
def test_histograms_of_tiles_are_those_of_their_codes(
    h: int, w: int, y: int, x: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a = image((h, w), seed=seed)
    result = bc.lbp_histogram(a, tile=(y, x))
    lazy = bc.lbp_histogram(da.from_array(a, chunks=(cut(h, rng), cut(w, rng))), tile=(y, x))
    assert np.array_equal(lazy.compute(), result)
    codes = bc.local_binary_pattern(a)
    assert result.shape == (-(-h // y), -(-w // x), 10)
    for i, j in np.ndindex(result.shape[:2]):
        part = codes[i * y : (i + 1) * y, j * x : (j + 1) * x]
        counts = np.bincount(part.ravel(), minlength=10)
        assert np.array_equal(result[i, j], counts / part.size)


def test_histograms_of_regions_are_those_of_their_codes() -> None:
    a = image((60, 70))
    peaks = np.random.default_rng(1).random(a.shape) > 0.5
    lazy_labels, number = dask_image.ndmeasure.label(da.from_array(peaks, chunks=32))
    labels = lazy_labels.compute()
    result = bc.lbp_histogram(a, labels=labels)
    assert result.shape == (int(number), 10)
    for k in range(0, int(number), 9):
        assert np.array_equal(result[k], expected_histogram(a, labels == k + 1))
    for raster, regions in [
        (a, lazy_labels),
        (da.from_array(a, chunks=23), labels),
        (da.from_array(a, chunks=23), xr.DataArray(lazy_labels, dims=("y", "x"))),
    ]:
        lazy = bc.lbp_histogram(raster, labels=regions)
        assert np.array_equal(np.asarray(lazy), result)
    some = bc.lbp_histogram(a, labels=labels.astype(np.uint16), index=[3, 0, 1, 10_000])
    assert np.array_equal(some[[0, 2]], result[[2, 0]])
    assert np.array_equal(some[1], expected_histogram(a, labels == 0))
    assert np.isnan(some[3]).all()


def test_missing_pixels_are_left_out_of_histograms() -> None:
    a = image((40, 40), "float64", 200)
    a[10:20, 10:20] = np.nan
    reach = np.zeros(a.shape, bool)
    reach[9:21, 9:21] = True
    result = bc.lbp_histogram(a)
    assert np.array_equal(result, expected_histogram(np.nan_to_num(a), ~reach))
    assert result.sum() == pytest.approx(1)
    tiles = bc.lbp_histogram(a, tile=10)
    assert np.isnan(tiles[1, 1]).all()
    assert np.allclose(np.delete(tiles.reshape(16, 10), 5, 0).sum(1), 1)
    mask = np.isfinite(a)
    raster = xr.DataArray(np.nan_to_num(a), dims=("y", "x"), coords={"mask": (("y", "x"), mask)})
    assert np.array_equal(bc.lbp_histogram(raster, method="uniform"), result)


def test_histograms_of_a_stack_keep_its_channels() -> None:
    stack = xr.DataArray(
        image((3, 20, 22)), dims=("channel", "y", "x"), coords={"channel": ["a", "b", "c"]}
    )
    for given_ in (stack, stack.chunk({"channel": 2, "y": 7, "x": 9})):
        whole = bc.lbp_histogram(given_)
        assert whole.dims == ("channel", "code")
        assert list(whole.channel.values) == ["a", "b", "c"]
        for k in range(3):
            assert np.array_equal(whole[k], bc.lbp_histogram(stack.values[k]))
        tiles = bc.lbp_histogram(given_, tile=8)
        assert tiles.dims == ("channel", "tile_y", "tile_x", "code")
        assert np.array_equal(tiles[2], bc.lbp_histogram(stack.values[2], tile=8))
        regions = bc.lbp_histogram(given_, labels=image((20, 22)), index=[4, 2])
        assert regions.dims == ("channel", "label", "code")
        assert list(regions.label.values) == [4, 2]
        expected = bc.lbp_histogram(stack.values[1], labels=image((20, 22)), index=[4, 2])
        assert np.array_equal(regions[1], expected)


# ---------------------------------------------------------------- errors

GOOD = np.zeros((20, 30), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"points": 0}, "points: got 0, takes a whole number from 1 to 64 for 'uniform'"),
        ({"points": 65}, "points: got 65"),
        ({"points": 64, "method": "default"}, "points: got 64, takes a whole number from 1 to 63"),
        ({"points": 8.5}, r"points: got 8\.5"),
        ({"points": "8"}, "points: got '8'"),
        ({"radius": 0}, "radius: got 0, takes a number of pixels > 0, at most 1024"),
        ({"radius": -1}, "radius: got -1"),
        ({"radius": float("nan")}, "radius: got nan"),
        ({"radius": float("inf")}, "radius: got inf"),
        ({"radius": None}, "radius: got None"),
        ({"method": "circle"}, "method: got 'circle', takes one of 'default', 'ror', 'uniform'"),
        ({"method": None}, "method: got None"),
        ({"a": np.zeros(20)}, "a: got 1 dimensions"),
        ({"a": GOOD.astype(complex)}, "a: got pixels of dtype complex128"),
        ({"nodata": "none"}, "nodata: got 'none'"),
    ],
)
def test_bad_input_is_refused_when_called(arguments: dict[str, Any], says: str) -> None:
    for function in (bc.local_binary_pattern, bc.lbp_histogram):
        for wrap in (np.asarray, lambda x: da.from_array(x, chunks=-1)):
            given_ = {"a": GOOD, **arguments}
            with pytest.raises(InputError, match=says):
                function(**given_ | {"a": wrap(given_["a"])})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"method": "var"}, "method: got 'var', which has no codes"),
        ({"points": 25, "method": "default"}, "points: got 25 for 'default'"),
        ({"tile": 0}, "tile: got 0, takes a whole number of pixels"),
        ({"tile": (4, 4, 4)}, "tile: got 3 values"),
        ({"tile": 4.5}, r"tile: got 4\.5"),
        ({"tile": 1, "points": 24, "method": "ror"}, "tile: got 600 histograms of 16,777,216"),
        ({"tile": 4, "labels": GOOD}, "labels: got both"),
        ({"labels": GOOD[:5]}, r"labels: got shape \(5, 30\)"),
        ({"labels": GOOD.astype(float)}, "labels: got dtype float64, takes integers"),
        ({"index": [1]}, "index: got"),
        ({"labels": GOOD, "index": [1, 1]}, r"index: got \[1, 1\], takes different"),
        ({"labels": GOOD, "index": [-1]}, r"index: got \[-1\]"),
    ],
)
def test_bad_input_of_histograms_is_refused_when_called(
    arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        bc.lbp_histogram(**{"a": GOOD, **arguments})


def test_no_region_gives_no_histogram() -> None:
    assert bc.lbp_histogram(GOOD, labels=GOOD).shape == (0, 10)
    lazy = bc.lbp_histogram(da.from_array(GOOD, chunks=8), labels=GOOD)
    assert lazy.compute().shape == (0, 10)


def test_the_memory_of_a_tile_is_known_and_kept() -> None:
    import tracemalloc

    for op, dtype in (
        (LocalBinaryPattern(24, 3, "uniform"), "float32"),
        (LocalBinaryPattern(8, 1, "default", True), "uint8"),
        (LocalBinaryPattern(16, 20, "var"), "float64"),
    ):
        side = 512
        layer = operators.Layer(image([side + 2 * r for r in op.halo], dtype), nodata=0.0)
        op.tile(layer)
        tracemalloc.start()
        op.tile(layer)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= op.tile_bytes((side, side), dtype)
