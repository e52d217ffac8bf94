"""Ingest of the real tables, against the numbers that are known for them."""

import os
import resource

import numpy as np
import pytest

import bigcorr as bc
from bigcorr.raster import open_source
from bigcorr.raster.ingest import ingest
from bigcorr.tiles import Box

pytestmark = pytest.mark.acceptance


def whole(source, channels=slice(None)):
    return source.read(channels, Box(0, source.shape[1], 0, source.shape[2]))


def test_every_transcript_of_the_brain_crop_is_counted(real_data, tmp_path):
    done = ingest(real_data / "vizgen" / "transcripts.gz", tmp_path / "g2.zarr", pixel_size=2)
    assert (done["channels"], done["shape"], done["total_count"]) == (559, [226, 250], 80343)
    source = open_source(tmp_path / "g2.zarr")
    values = whole(source)
    np.testing.assert_array_equal(values.sum(axis=(1, 2), dtype=int), source.counts)
    assert (source.counts >= 200).sum() == 94
    pair = [source.channels.index(name) for name in ("C1qa", "C1qb")]
    flat = values[pair].reshape(2, -1).astype(float)
    assert np.corrcoef(flat)[0, 1] == pytest.approx(0.461, abs=5e-4)
    assert sum(len(files) for _, _, files in os.walk(tmp_path / "g2.zarr")) < 30


@pytest.mark.slow
def test_the_brain_crop_at_full_resolution_takes_under_a_minute(real_data, tmp_path):
    done = ingest(real_data / "vizgen" / "transcripts.gz", tmp_path / "g.zarr", pixel_size=0.108)
    assert done["shape"] == [4167, 4630]
    assert done["total_count"] == 80343
    assert done["wall_seconds"] < 60
    assert open_source(tmp_path / "g.zarr").counts.sum() == 80343
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 * 2**20  # KiB


def test_spots_of_the_olfactory_bulb_have_a_cell_each(real_data, tmp_path):
    done = ingest(
        real_data / "olfactory_bulb" / "counts.npz",
        tmp_path / "ob.zarr",
        pixel_size=1,
        round=True,
        normalize="log1p-cp10k",
    )
    assert (done["spots"], done["cells"], done["merged_spots"]) == (262, 262, 0)
    stack = bc.open_raster(tmp_path / "ob.zarr")
    assert stack.shape[0] == 15928
    assert int(stack["mask"].sum()) == 262
    assert int(stack["count"].sum()) == 4160648
    source = open_source(tmp_path / "ob.zarr")
    mask = stack["mask"].values
    assert np.isnan(whole(source, [0, 9000])[:, ~mask]).all()
    known = {
        ("Kctd12", "Apod"): 0.8169,
        ("Kctd12", "Fabp7"): 0.7952,
        ("Fabp7", "Apoe"): 0.8408,
        ("Doc2g", "Cdhr1"): 0.6801,
    }
    for names, value in known.items():
        pair = whole(source, [source.channels.index(name) for name in names])[:, mask]
        assert np.corrcoef(pair.astype(float))[0, 1] == pytest.approx(value, abs=5e-5)
    assert sum(len(files) for _, _, files in os.walk(tmp_path / "ob.zarr")) < 30


def test_positions_taken_down_would_merge_fifty_spots(real_data, tmp_path):
    counts = real_data / "olfactory_bulb" / "counts.npz"
    done = ingest(counts, tmp_path / "ob.zarr", pixel_size=1, origin=(0, 0))
    assert done["merged_spots"] == 50
    assert done["total_count"] == 4160648


def test_stained_images_open_directly(real_data):
    first = bc.open_raster(real_data / "vizgen" / "mini_dataset_dapi_z0.jpg")
    second = bc.open_raster(real_data / "vizgen" / "mini_dataset_dapi_z1.jpg")
    assert first.dims == ("y", "x")
    assert first.shape == second.shape == (4143, 4603)
    pair = np.stack([first.values.ravel(), second.values.ravel()]).astype(float)
    assert np.corrcoef(pair)[0, 1] > 0.99


def test_georeferenced_bands_are_channels(real_data):
    folder = real_data / "geotiff"
    stack = bc.open_raster([folder / f"{name}.tif" for name in ("red", "green", "blue")])
    assert list(stack["channel"].values) == ["red", "green", "blue"]
    together = bc.open_raster(folder / "rmnp-rgb.tif")
    np.testing.assert_array_equal(stack.values, together.values)
    assert bc.open_raster(folder / "rmnp-dem.tif").attrs["nodata"] == 65535
