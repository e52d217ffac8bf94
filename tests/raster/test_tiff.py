"""TIFF: every layout is read as tifffile reads the whole, box by box."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile

from bigcorr.errors import InputError, RunError
from bigcorr.raster import open_raster, open_source
from bigcorr.tiles import Box

LAYOUTS = {
    "contiguous": {},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "tiles": {"tile": (16, 32), "compression": "zlib", "predictor": True},
    "bigtiff": {"bigtiff": True, "tile": (16, 16)},
    "big-endian": {"byteorder": ">"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(50, 70), (3, 50, 70), (50, 70, 3)])
def test_every_layout_is_read_by_boxes(tmp_path, layout, dtype, shape):
    data = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    colour = {"photometric": "rgb"} if shape[-1] == 3 else {"photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", data, **colour, **LAYOUTS[layout])
    expected = np.moveaxis(data, -1, 0) if shape[-1] == 3 else data.reshape(-1, 50, 70)
    source = pickle.loads(pickle.dumps(open_source(tmp_path / "a.tif")))
    assert source.shape == expected.shape
    assert source.dtype == np.dtype(dtype)
    last = source.shape[0] - 1
    found = source.read([last, 0], Box(3, 45, 11, 69))
    np.testing.assert_array_equal(found, expected[[last, 0], 3:45, 11:69])
    assert open_raster(tmp_path / "a.tif").ndim == len(shape)


def test_bands_on_planes_of_their_own_are_channels(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (3, 40, 60)).astype("u1")
    tifffile.imwrite(
        tmp_path / "a.tif", data, photometric="rgb", planarconfig="separate", tile=(16, 16)
    )
    source = open_source(tmp_path / "a.tif")
    assert source.channels == ("red", "green", "blue")
    np.testing.assert_array_equal(source.read(slice(None), Box(0, 40, 0, 60)), data)


def test_only_the_full_resolution_of_a_pyramid_is_read(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (64, 96)).astype("u1")
    with tifffile.TiffWriter(tmp_path / "p.ome.tif") as writer:
        writer.write(data, subifds=1, tile=(16, 16), metadata={"Channel": {"Name": ["DAPI"]}})
        writer.write(data[::2, ::2], subfiletype=1, tile=(16, 16))
    source = open_source(tmp_path / "p.ome.tif")
    np.testing.assert_array_equal(source.read([0], Box(5, 60, 7, 90))[0], data[5:60, 7:90])


def test_ome_channels_have_their_names(tmp_path):
    data = np.zeros((2, 20, 30), "u2")
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "polyT"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", data, metadata=metadata)
    assert open_source(tmp_path / "a.ome.tif").channels == ("DAPI", "polyT")


def test_nodata_and_georeference_are_kept(tmp_path):
    tags = [
        (42113, "s", 0, "-9999", True),
        (33550, "d", 3, (2.0, 2.0, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 500.0, 900.0, 0.0), True),
    ]
    tifffile.imwrite(tmp_path / "dem.tif", np.zeros((4, 5), "f4"), extratags=tags)
    source = open_source(tmp_path / "dem.tif")
    assert source.nodata == -9999.0
    assert source.attrs["pixel_size"] == 2.0
    array = open_raster(tmp_path / "dem.tif")
    assert array.attrs["nodata"] == -9999.0
    assert array["y"].values.tolist() == [899.0, 897.0, 895.0, 893.0]
    assert array["x"].values.tolist() == [501.0, 503.0, 505.0, 507.0, 509.0]


def test_threads_may_read_one_file_at_once(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (200, 300)).astype("u1")
    tifffile.imwrite(tmp_path / "a.tif", data, tile=(16, 16), compression="zlib")
    source = open_source(tmp_path / "a.tif")
    boxes = [Box(y, y + 90, x, x + 90) for y in range(0, 110, 10) for x in range(0, 210, 30)]
    with ThreadPoolExecutor(8) as pool:
        for box, found in zip(boxes, pool.map(lambda b: source.read([0], b), boxes), strict=True):
            np.testing.assert_array_equal(found[0], data[box.slices])


def test_a_damaged_tile_is_named_by_its_place(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (64, 64)).astype("u1")
    tifffile.imwrite(tmp_path / "a.tif", data, tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        start = file.pages[0].dataoffsets[5]
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    raw[start : start + 40] = bytes(40)
    (tmp_path / "a.tif").write_bytes(raw)
    with pytest.raises(RunError, match=r"a\.tif at rows 0:64, columns 0:64"):
        open_source(tmp_path / "a.tif").read([0], Box(0, 64, 0, 64))


def test_tiles_that_no_memory_holds_are_refused_by_their_size(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((64, 64), "u2"), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["TileWidth"].overwrite(2**30)
    with pytest.raises(InputError, match=r"pieces of \(16, 1073741824\) pixels"):
        open_source(path).read([0], Box(0, 64, 0, 64))


def test_axes_that_are_no_raster_are_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros((3, 4, 20, 30), "u1"),
        metadata={"axes": "TZYX"},
        photometric="minisblack",
    )
    with pytest.raises(InputError, match="a raster is"):
        open_source(tmp_path / "a.tif")
