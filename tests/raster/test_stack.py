"""StackWriter: whole shards, right tables, and never a store that only looks finished."""

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from bigcorr.errors import InputError, RunError
from bigcorr.raster import open_source
from bigcorr.raster.occupancy import tally_blocks
from bigcorr.raster.stack import StackWriter
from bigcorr.raster.store import clip_chunks
from bigcorr.tiles import Box


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 16), st.sampled_from(["u1", "i8", "f4"])
)
def test_tables_equal_brute_force(height, width, chunk, dtype):
    rng = np.random.default_rng(height * 41 + width)
    data = (rng.random((2, height, width)) < 0.2).astype(dtype) * 3
    if dtype == "f4":
        data[0, 0, 0] = np.nan
    filled, sums = tally_blocks(data, (chunk, chunk))
    for y in range(filled.shape[1]):
        for x in range(filled.shape[2]):
            block = data[:, y * chunk : (y + 1) * chunk, x * chunk : (x + 1) * chunk]
            np.testing.assert_array_equal(filled[:, y, x], (block != 0).sum(axis=(1, 2)))
            np.testing.assert_allclose(sums[:, y, x], np.nansum(block, axis=(1, 2)))


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 600), st.integers(1, 8))
def test_a_shard_is_whole_chunks_and_no_larger_than_the_raster_needs(height, width, chunk, times):
    chunks, shards = clip_chunks((height, width), chunk, chunk * times)
    for size, c, s in zip((height, width), chunks, shards, strict=True):
        assert s % c == 0
        assert c <= size
        assert s < size + c


def test_empty_chunks_and_shards_are_not_stored(tmp_path):
    with StackWriter(tmp_path / "s.zarr", ["a", "b"], (64, 64), "u1", chunk=16, shard=32) as writer:
        for channels, box in writer.shard_boxes:
            data = np.zeros((2, *box.shape), "u1")
            if box == Box(32, 64, 0, 32):
                data[1, 3, 3] = 9
            writer.write(channels, box, data)
    files = [p for p in (tmp_path / "s.zarr/raster/c").rglob("*") if p.is_file()]
    assert len(files) == 1
    assert open_source(tmp_path / "s.zarr").counts.tolist() == [0, 9]


def test_thousands_of_small_channels_are_few_files(tmp_path):
    names = [f"g{i}" for i in range(5000)]
    with StackWriter(tmp_path / "s.zarr", names, (20, 30), "u1") as writer:
        for channels, box in writer.shard_boxes:
            writer.write(channels, box, np.ones((5000, 20, 30), "u1"))
    assert sum(p.is_file() for p in (tmp_path / "s.zarr").rglob("*")) < 30


def test_nothing_is_at_the_destination_before_the_end(tmp_path):
    path = tmp_path / "s.zarr"
    writer = StackWriter(path, ["a"], (4, 4), "u1")
    assert not path.exists()
    writer.write(slice(0, 1), Box(0, 4, 0, 4), np.ones((1, 4, 4), "u1"))
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_failing_block_leaves_nothing(tmp_path):
    writer = StackWriter(tmp_path / "s.zarr", ["a"], (4, 4), "u1")
    with pytest.raises(KeyboardInterrupt), writer:
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_swept(tmp_path):
    path = tmp_path / "s.zarr"
    StackWriter(path, ["old"], (8, 8), "u1")  # killed: neither finished nor aborted
    assert (tmp_path / "s.zarr.partial").exists()
    StackWriter(path, ["new"], (4, 4), "u1").finish()
    assert [p.name for p in tmp_path.iterdir()] == ["s.zarr"]
    assert open_source(path).channels == ("new",)


def test_a_destination_that_exists_is_kept_unless_asked(tmp_path):
    path = tmp_path / "s.zarr"
    StackWriter(path, ["a"], (4, 4), "u1").finish()
    with pytest.raises(InputError, match="exists already"):
        StackWriter(path, ["b"], (4, 4), "u1")
    StackWriter(path, ["b"], (4, 4), "u1", overwrite=True).finish()
    assert open_source(path).channels == ("b",)


def test_a_folder_that_is_no_store_is_never_overwritten(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(InputError, match="not a Zarr store"):
        StackWriter(tmp_path, ["a"], (4, 4), "u1", overwrite=True)
    assert (tmp_path / "precious.txt").exists()


def test_writes_that_do_not_cover_whole_shards_are_refused(tmp_path):
    writer = StackWriter(tmp_path / "s.zarr", ["a", "b"], (64, 64), "u1", chunk=16, shard=32)
    with pytest.raises(InputError, match="cover a whole shard"):
        writer.write(slice(0, 2), Box(0, 16, 0, 32), np.ones((2, 16, 32), "u1"))
    with pytest.raises(InputError, match="data has shape"):
        writer.write(slice(0, 2), Box(0, 32, 0, 32), np.ones((2, 32, 31), "u1"))


@pytest.mark.parametrize(
    ("names", "shape", "message"),
    [
        (["a", "a"], (4, 4), "given twice: a"),
        ([], (4, 4), "needs channels"),
        (["a"], (0, 4), "needs channels and pixels"),
    ],
)
def test_names_and_shapes_are_checked(tmp_path, names, shape, message):
    with pytest.raises(InputError, match=message):
        StackWriter(tmp_path / "s.zarr", names, shape, "u1")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_clear_error(tmp_path, monkeypatch):
    writer = StackWriter(tmp_path / "s.zarr", ["a"], (4, 4), "u1")

    def full(*_):
        raise RuntimeError("No space left on device (os error 28)")

    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with pytest.raises(RunError, match=r"no space left on the device while writing .*s.zarr"):
        writer.write(slice(0, 1), Box(0, 4, 0, 4), np.ones((1, 4, 4), "u1"))
