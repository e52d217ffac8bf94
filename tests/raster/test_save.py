"""save_raster: what is saved is what was given, and a killed run goes on where it was."""

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bigcorr as bc
from bigcorr.errors import InputError


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    st.sampled_from(["u1", "i4", "f4", "f8", "bool"]),
    st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
    st.booleans(),
    st.booleans(),
)
def test_what_is_saved_is_what_was_given(tmp_path, dtype, shape, planar, lazy):
    data = np.random.default_rng(1).integers(0, 3, shape).astype(dtype)
    data = data[0] if planar else data
    given_ = da.from_array(data, chunks=7) if lazy else data
    bc.save_raster(given_, tmp_path / "a.zarr", chunk=8, shard=16, overwrite=True)
    back = bc.open_raster(tmp_path / "a.zarr")
    assert back.dims == (("y", "x") if planar else ("channel", "y", "x"))
    np.testing.assert_array_equal(back.values, data)


def test_names_coordinates_attributes_and_mask_are_kept(tmp_path):
    array = xr.DataArray(
        np.arange(24.0).reshape(2, 3, 4),
        dims=("channel", "y", "x"),
        coords={
            "channel": ["a", "b"],
            "count": ("channel", [5, 6]),
            "y": [1.0, 2.0, 3.0],
            "mask": (("y", "x"), np.eye(3, 4, dtype=bool)),
        },
        attrs={"pixel_size": np.float32(2), "nodata": -1},
        name="expression",
    )
    bc.save_raster(array, tmp_path / "a.zarr", attrs={"made_by": "a test"})
    back = bc.open_raster(tmp_path / "a.zarr")
    xr.testing.assert_equal(back.drop_vars("mask"), array.drop_vars("mask"))
    np.testing.assert_array_equal(back["mask"].values, array["mask"].values)
    assert back.attrs["pixel_size"] == 2.0
    assert back.attrs["nodata"] == -1
    assert back.attrs["made_by"] == "a test"
    assert "expression" in xr.open_zarr(tmp_path / "a.zarr")


def test_a_run_that_stopped_goes_on_where_it_was(tmp_path):
    computed = []
    broken = [True]

    def step(block, block_info=None):
        place = block_info[0]["chunk-location"]
        if broken[0] and place == (1, 1):
            raise RuntimeError("stopped")
        computed.append(place)
        return block + 1

    data = np.arange(64.0 * 64).reshape(64, 64)

    def build():
        lazy = da.from_array(data, chunks=16)
        return lazy.map_blocks(step, dtype=float, meta=np.empty((0, 0)), name="step")

    path = tmp_path / "a.zarr"
    one_thread = dask.config.set(scheduler="synchronous")  # no shard is under way at the fault
    with one_thread, pytest.raises(RuntimeError, match="stopped"):
        bc.save_raster(build(), path, chunk=16, shard=16)
    assert not path.exists()
    done = len(list((tmp_path / "a.zarr.partial" / "done").iterdir()))
    computed.clear()
    broken[0] = False
    bc.save_raster(build(), path, chunk=16, shard=16)
    assert len(computed) == 16 - done
    np.testing.assert_array_equal(bc.open_raster(path).values, data + 1)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_a_torn_shard_without_its_marker_is_written_again(tmp_path):
    from bigcorr.raster.writer import ShardWriter

    def start():
        return ShardWriter(tmp_path / "a.zarr", (32, 32), "u1", fingerprint="f", chunk=16, shard=16)

    writer = start()
    for unit in writer.pending[:2]:
        writer.write(unit, np.ones((16, 16), "u1"))
    torn = tmp_path / "a.zarr.partial/store/raster/c/1/1"
    torn.parent.mkdir(parents=True, exist_ok=True)
    torn.write_bytes(b"half")
    writer = start()
    assert len(writer.pending) == 2
    assert not torn.exists()
    with pytest.raises(InputError, match="2 shards are missing"):
        writer.finish()
    for unit in writer.pending:
        writer.write(unit, np.ones((16, 16), "u1"))
    writer.finish()
    np.testing.assert_array_equal(bc.open_raster(tmp_path / "a.zarr").values, 1)


def test_litter_of_another_run_is_swept_and_its_result_is_not_touched(tmp_path):
    path = tmp_path / "a.zarr"
    (tmp_path / "a.zarr.partial" / "done").mkdir(parents=True)
    (tmp_path / "a.zarr.partial" / "fingerprint").write_text("another")
    (tmp_path / "a.zarr.partial" / "done" / "0-0").write_text("another")
    bc.save_raster(np.ones((4, 4)), path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    bc.save_raster(np.ones((4, 4)), path)  # the same again: nothing to do
    with pytest.raises(InputError, match="other input or parameters"):
        bc.save_raster(np.zeros((4, 4)), path)
    np.testing.assert_array_equal(bc.open_raster(path).values, 1)
    bc.save_raster(np.zeros((4, 4)), path, overwrite=True)
    np.testing.assert_array_equal(bc.open_raster(path).values, 0)


@pytest.mark.parametrize("bad", [np.ones(4), np.ones((1, 1, 1, 1)), np.ones((2, 2), complex), "x"])
def test_what_is_no_raster_is_not_saved(tmp_path, bad):
    with pytest.raises(InputError):
        bc.save_raster(bad, tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []


def test_chunks_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(InputError, match="multiple of chunk"):
        bc.save_raster(np.ones((4, 4)), tmp_path / "a.zarr", chunk=3, shard=4)
