"""Sources: every way in gives the same pixels, names and facts, and errors name the cause."""

import base64
import json
import pickle
import struct
import warnings

import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import bigcorr as bc
from bigcorr.errors import InputError, MissingFileError, RunError
from bigcorr.raster import as_source, open_raster, open_source
from bigcorr.raster.memory import DaskSource
from bigcorr.raster.stack import StackWriter
from bigcorr.raster.zarr_ import ZarrSource, runs
from bigcorr.tiles import Box


def whole(source):
    return source.read(slice(None), Box(0, source.shape[1], 0, source.shape[2]))


@pytest.fixture
def cube():
    return np.random.default_rng(0).integers(0, 200, (6, 33, 41)).astype("uint16")


@pytest.fixture
def stack(tmp_path, cube):
    cube[1] = 0
    cube[0, :16, :16] = 0
    mask = np.ones(cube.shape[1:], bool)
    mask[:5] = False
    attrs = {"pixel_size": 2.0, "origin": [10.0, 20.0]}
    path = str(tmp_path / "stack.zarr")
    writer = StackWriter(
        path, list("abcdef"), cube.shape[1:], cube.dtype, chunk=8, shard=16, attrs=attrs, mask=mask
    )
    for channels, box in writer.shard_boxes:
        writer.write(channels, box, cube[(channels, *box.slices)])
    writer.finish()
    return path, cube, mask


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["uint8", ">i2", "float32", "<f8", "bool", "float16"])
def test_a_bare_array_of_either_format_is_read_whole_and_by_boxes(
    tmp_path, cube, zarr_format, dtype
):
    path = str(tmp_path / "a.zarr")
    data = (cube % 2).astype(dtype)
    array = zarr.create_array(
        path, shape=data.shape, chunks=(2, 10, 10), dtype=dtype, zarr_format=zarr_format
    )
    array[...] = data
    source = open_source(path)
    assert source.dtype.isnative
    assert source.channels == ("c0", "c1", "c2", "c3", "c4", "c5")
    np.testing.assert_array_equal(whole(source), data)
    part = source.read([5, 0, 3], Box(3, 31, 7, 40))
    assert part.flags.c_contiguous
    np.testing.assert_array_equal(part, data[[5, 0, 3], 3:31, 7:40])


def test_a_stack_is_opened_by_xarray_without_a_warning(stack):
    path, cube, mask = stack
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xr.open_zarr(path)
    np.testing.assert_array_equal(data["raster"].values, cube)
    np.testing.assert_array_equal(data["mask"].values, mask)
    np.testing.assert_array_equal(data["count"].values, cube.sum(axis=(1, 2)))
    np.testing.assert_array_equal(data["y"].values[:2], [11.0, 13.0])
    assert list(data["channel"].values) == list("abcdef")


def test_a_stack_is_read_by_plain_zarr_python(stack):
    path, cube, _ = stack
    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}):
        np.testing.assert_array_equal(zarr.open_group(path, mode="r")["raster"][...], cube)


def test_opening_leaves_the_users_zarr_settings_alone(stack):
    before = zarr.config.get("codec_pipeline.path")
    whole(open_source(stack[0]))
    assert zarr.config.get("codec_pipeline.path") == before


def test_a_stack_knows_what_is_empty_masked_and_counted(stack):
    path, cube, mask = stack
    source = open_source(path)
    np.testing.assert_array_equal(source.counts, cube.sum(axis=(1, 2)))
    assert source.occupied(Box(0, 16, 0, 16)).tolist() == [False, False, True, True, True, True]
    assert source.occupied(Box(0, 17, 0, 16))[0]
    np.testing.assert_array_equal(source.mask(Box(3, 9, 2, 6)), mask[3:9, 2:6])
    assert source.attrs["pixel_size"] == 2.0


def test_a_source_pickles_as_a_path_and_reads_the_same(stack):
    path, cube, _ = stack
    source = open_source(path)
    message = pickle.dumps(source)
    assert len(message) < 500
    np.testing.assert_array_equal(whole(pickle.loads(message)), cube)
    chosen = pickle.loads(pickle.dumps(source.select([4, 2])))
    assert chosen.channels == ("e", "c")
    np.testing.assert_array_equal(whole(chosen), cube[[4, 2]])


@pytest.mark.parametrize("suffix", ["zarr", "npy", "tif", "png"])
def test_a_relative_path_is_found_from_another_folder(tmp_path, monkeypatch, cube, suffix):
    image = cube[2].astype("u1")
    monkeypatch.chdir(tmp_path)
    if suffix == "zarr":
        zarr.create_array("a.zarr", data=image)
    elif suffix == "npy":
        np.save("a.npy", image)
    elif suffix == "tif":
        tifffile.imwrite("a.tif", image, compression="zlib")
    else:
        Image.fromarray(image).save("a.png")
    source = open_source(f"a.{suffix}")
    assert source.path == f"a.{suffix}"
    assert source.fingerprint() == open_source(tmp_path / f"a.{suffix}").fingerprint()
    message = pickle.dumps(source)
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(whole(pickle.loads(message))[0], image)


def test_a_store_that_changed_is_not_read_by_a_worker_as_if_it_had_not(stack):
    path, _, _ = stack
    message = pickle.dumps(open_source(path))
    StackWriter(path, ["z"], (5, 6), "uint8", overwrite=True).finish()
    with pytest.raises(RunError, match="changed while it was in use"):
        pickle.loads(message)


def test_the_fingerprint_changes_with_the_data_only(stack):
    path, _, _ = stack
    first = open_source(path).fingerprint()
    assert open_source(path).fingerprint() == first
    raster = zarr.open_group(path, mode="r+")["raster"]
    raster[0, 0, 0] = 77
    assert open_source(path).fingerprint() != first


def test_a_damaged_chunk_is_named(stack, tmp_path):
    path, _, _ = stack
    file = next(p for p in (tmp_path / "stack.zarr" / "raster" / "c").rglob("*") if p.is_file())
    raw = bytearray(file.read_bytes())
    raw[-40:] = bytes(40)
    file.write_bytes(raw)
    with pytest.raises(RunError) as caught:
        whole(open_source(path))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_chunk_is_named(stack, tmp_path):
    path, _, _ = stack
    file = next(p for p in (tmp_path / "stack.zarr" / "raster" / "c").rglob("*") if p.is_file())
    file.write_bytes(file.read_bytes()[:10])
    with pytest.raises(RunError, match="cannot read chunk"):
        whole(open_source(path))


def test_a_channel_is_named_or_numbered(stack):
    path, cube, _ = stack
    for name, number in (("c", 2), ("4", 4)):
        source = open_source(f"{path}#{name}")
        assert source.planar
        assert source.shape == (1, 33, 41)
        np.testing.assert_array_equal(whole(source)[0], cube[number])
    assert open_raster(f"{path}#c").dims == ("y", "x")


def test_an_unknown_channel_suggests_a_close_one(tmp_path):
    path = str(tmp_path / "s.zarr")
    StackWriter(path, ["Gad1", "Gad2", "Slc17a7"], (4, 4), "uint8").finish()
    with pytest.raises(InputError, match=r"no channel 'Gda1'; close: .*Gad1"):
        open_source(path + "#Gda1")
    with pytest.raises(InputError, match="no channel '7'"):
        open_source(path + "#7")


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_xarray_groups_keep_names_coordinates_and_nodata(tmp_path, cube):
    path = str(tmp_path / "x.zarr")
    array = xr.DataArray(
        cube.astype("float32"),
        dims=("band", "y", "x"),
        coords={"band": list("uvwxyz"), "y": np.arange(33.0), "x": np.arange(41.0) * 2},
    )
    array.to_dataset(name="v").to_zarr(
        path, zarr_format=3, consolidated=False, encoding={"v": {"_FillValue": 7.0}}
    )
    source = open_source(path)
    assert source.channels == tuple("uvwxyz")
    assert source.nodata == 7.0
    opened = open_raster(path)
    assert opened.attrs["nodata"] == 7.0
    np.testing.assert_array_equal(opened["x"].values, np.arange(41.0) * 2)
    np.testing.assert_array_equal(opened.values, cube)


def test_base64_fill_values_of_xarray_are_understood(tmp_path):
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=(4, 4), dtype="float64")
    array.attrs["_FillValue"] = base64.standard_b64encode(struct.pack("<d", -9999.0)).decode()
    assert open_source(str(tmp_path / "a.zarr")).nodata == -9999.0


def test_packed_values_are_unpacked(tmp_path):
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=(2, 2), dtype="int16")
    array[...] = np.array([[0, 10], [20, -1]])
    array.attrs.update({"scale_factor": 0.5, "add_offset": 100.0, "_FillValue": -1})
    source = open_source(str(tmp_path / "a.zarr"))
    assert source.dtype == np.float32
    np.testing.assert_array_equal(whole(source)[0], [[100.0, 105.0], [110.0, np.nan]])


def test_images_of_a_group_are_channels(tmp_path, cube):
    path = str(tmp_path / "x.zarr")
    images = {name: (("y", "x"), cube[i]) for i, name in enumerate(("red", "green"))}
    xr.Dataset(images).to_zarr(path, zarr_format=2)
    source = open_source(path)
    assert source.channels == ("green", "red")
    np.testing.assert_array_equal(whole(source), cube[[1, 0]])


def test_dimensions_may_come_in_any_order(tmp_path, cube):
    path = str(tmp_path / "x.zarr")
    xr.DataArray(cube.transpose(1, 2, 0), dims=("y", "x", "band"), name="v").to_zarr(
        path, consolidated=False
    )
    np.testing.assert_array_equal(whole(open_source(path)), cube)
    np.testing.assert_array_equal(
        open_source(path).read([4, 1], Box(2, 9, 3, 8)), cube[[4, 1], 2:9, 3:8]
    )


def test_ome_zarr_is_opened_at_full_resolution(tmp_path, cube):
    group = zarr.open_group(str(tmp_path / "o.zarr"), mode="w")
    for level, step in enumerate((1, 2)):
        data = cube[None, :2, None, ::step, ::step]
        array = group.create_array(
            str(level), shape=data.shape, dtype=data.dtype, dimension_names=tuple("tczyx")
        )
        array[...] = data
    group.attrs["ome"] = {
        "multiscales": [{"datasets": [{"path": "0"}, {"path": "1"}]}],
        "omero": {"channels": [{"label": "DAPI"}, {"label": "polyT"}]},
    }
    source = open_source(str(tmp_path / "o.zarr"))
    assert source.channels == ("DAPI", "polyT")
    np.testing.assert_array_equal(whole(source), cube[:2])


@pytest.mark.parametrize("kind", ["chunks", "shards"])
def test_chunks_of_no_pixel_are_refused(tmp_path, kind):
    path = tmp_path / "a.zarr"
    if kind == "chunks":
        zarr.create_array(path, shape=(2, 9, 9), dtype="u1", zarr_format=2)
        file, change = path / ".zarray", {"chunks": [0, 9, 9]}
    else:
        zarr.create_array(path, shape=(2, 9, 9), chunks=(1, 9, 9), shards=(2, 9, 9), dtype="u1")
        grid = {"name": "regular", "configuration": {"chunk_shape": [2, 0, 9]}}
        file, change = path / "zarr.json", {"chunk_grid": grid}
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=f"takes {kind} of at least one pixel along each axis"):
        open_source(path)


def test_several_rasters_are_channels_of_one(tmp_path, cube):
    np.save(tmp_path / "a.npy", cube[0])
    np.save(tmp_path / "b.npy", cube[1:3].astype("float32"))
    source = open_source([tmp_path / "a.npy", tmp_path / "b.npy"])
    assert source.channels == ("a", "b:c0", "b:c1")
    assert source.dtype == np.float32
    np.testing.assert_array_equal(whole(source), cube[:3])
    np.testing.assert_array_equal(source.read([2, 0], Box(1, 2, 3, 9)), cube[[2, 0], 1:2, 3:9])


def test_rasters_of_different_shape_are_refused_together(tmp_path, cube):
    np.save(tmp_path / "a.npy", cube[0])
    np.save(tmp_path / "b.npy", cube[0, 1:])
    with pytest.raises(InputError, match=r"a.npy is \(33, 41\), .*b.npy is \(32, 41\)"):
        open_source([tmp_path / "a.npy", tmp_path / "b.npy"])


def test_what_is_no_raster_is_refused_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY nonsense")
    (tmp_path / "broken.tif").write_bytes(b"II*\x00nonsense")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nonsense")
    (tmp_path / "nothing.tif").write_bytes(b"")
    (tmp_path / "torn.zarr").mkdir()
    (tmp_path / "torn.zarr" / "zarr.json").write_text('{"zarr_format": 3')
    zarr.open_group(str(tmp_path / "group.zarr"), mode="w")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "complex.npy", np.ones((3, 3), complex))
    np.save(tmp_path / "line.npy", np.ones(3))
    np.save(tmp_path / "none.npy", np.ones((0, 3)))
    for path in tmp_path.iterdir():
        with pytest.raises(InputError) as caught:
            open_source(path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(MissingFileError, match="no such file"):
        open_source(tmp_path / "absent.zarr")


def test_an_untouched_dataarray_gives_back_the_files_own_source(stack):
    path, cube, mask = stack
    array = open_raster(path)
    assert isinstance(as_source(array), ZarrSource)
    assert isinstance(as_source(array.data), ZarrSource)
    changed = as_source(array[1:3] + 1)
    assert isinstance(changed, DaskSource)
    assert changed.channels == ("b", "c")
    np.testing.assert_array_equal(whole(changed), cube[1:3] + 1)
    np.testing.assert_array_equal(changed.mask(Box(0, 33, 0, 41)), mask)
    without = as_source(array.drop_vars("mask"))
    assert without.mask(Box(0, 1, 0, 1)) is None


@pytest.mark.parametrize(
    ("choose", "expected"),
    [
        (lambda x: x.sel(channel=["e", "b"]), [4, 1]),
        (lambda x: x.sel(channel="d"), [3]),
        (lambda x: x[2], [2]),
        (lambda x: x[1:5:2], [1, 3]),
        (lambda x: x[::-1], [5, 4, 3, 2, 1, 0]),
        (lambda x: x.isel(channel=x["count"].values > 0), [0, 2, 3, 4, 5]),
    ],
)
def test_chosen_channels_of_an_opened_stack_are_read_from_the_file(stack, choose, expected):
    path, cube, _ = stack
    source = as_source(choose(open_raster(path)))
    assert type(source).__name__ == "SelectedSource"
    assert source.channels == tuple("abcdef"[i] for i in expected)
    assert source.occupied(Box(0, 16, 0, 16)) is not None
    assert source.mask(Box(0, 1, 0, 1)) is not None
    np.testing.assert_array_equal(whole(source), cube[expected])


def test_other_changes_of_an_opened_stack_are_not_mistaken_for_a_choice(stack):
    path, cube, _ = stack
    array = open_raster(path)
    for changed, expected in (
        (array[[1, 2]] * 2, cube[[1, 2]] * 2),
        (array[:, ::-1], cube[:, ::-1]),
        (array.assign_coords(channel=list("fedcba"))[[0]], cube[[0]]),
        (array[[1, 0]].assign_coords(channel=["a", "b"]), cube[[1, 0]]),
    ):
        source = as_source(changed)
        np.testing.assert_array_equal(whole(source), expected)
        assert source.channels == tuple(changed["channel"].values)


@pytest.mark.parametrize("kind", ["numpy", "dask", "xarray", "xarray-dask"])
def test_arrays_of_any_kind_are_sources(kind, cube):
    lazy = da.from_array(cube, chunks=(4, 7, 9))
    data = {
        "numpy": cube,
        "dask": lazy,
        "xarray": xr.DataArray(cube, dims=("channel", "y", "x")),
        "xarray-dask": xr.DataArray(lazy, dims=("channel", "y", "x")),
    }[kind]
    source = as_source(data)
    np.testing.assert_array_equal(source.read([3, 1], Box(1, 30, 2, 9)), cube[[3, 1], 1:30, 2:9])
    assert as_source(data[0]).shape == (1, 33, 41)
    assert source.fingerprint() == as_source(data).fingerprint()


def test_reading_an_array_gives_pixels_of_its_own(cube):
    before = cube.copy()
    whole(as_source(cube))[:] = 0
    np.testing.assert_array_equal(cube, before)


@pytest.mark.parametrize(
    "bad", [np.ones(3), np.ones((2, 2, 2, 2)), np.ones((2, 2), complex), np.ones((0, 3)), 7, None]
)
def test_what_cannot_be_a_raster_is_refused(bad):
    with pytest.raises(InputError):
        as_source(bad)


def test_transposed_dataarrays_are_refused(cube):
    with pytest.raises(InputError, match="transpose"):
        as_source(xr.DataArray(cube, dims=("y", "x", "channel")))


@given(st.data())
def test_lazy_slices_equal_slices_of_the_whole(data):
    cube = np.arange(2 * 9 * 11).reshape(2, 9, 11).astype("int32")
    source = as_source(cube)
    from bigcorr.raster.opening import _Adapter

    def part(size):
        return data.draw(
            st.one_of(
                st.integers(0, size - 1),
                st.slices(size).filter(lambda s: s.step is None or s.step > 0),
                st.lists(st.integers(0, size - 1), min_size=1, max_size=3).map(np.array),
            )
        )

    key = [slice(None)] * 3
    chosen = data.draw(st.integers(0, 2))
    key[chosen] = part(cube.shape[chosen])
    np.testing.assert_array_equal(_Adapter(source)[tuple(key)], cube[tuple(key)])


@given(st.lists(st.integers(0, 60), unique=True), st.integers(1, 9))
def test_runs_cover_every_channel_once_and_bridge_only_small_gaps(index, gap):
    index = np.array(index, dtype=np.intp)
    found = runs(index, gap)
    assert [i for first, last in found for i in range(first, last)] == list(range(len(index)))
    for first, last in found:
        steps = np.diff(index[first:last])
        assert ((steps >= 1) & (steps <= gap)).all()


def test_public_names_are_there():
    assert bc.open_raster is open_raster
