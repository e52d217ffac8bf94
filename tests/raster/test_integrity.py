"""What is stored is whole: equal bytes from equal runs, and no flipped bit goes unseen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

import bigcorr as bc
from bigcorr.errors import RunError
from bigcorr.operators import NCC, GaussianBlur
from bigcorr.raster import chunks, codecs, store
from bigcorr.raster.source import open_source
from bigcorr.raster.writer import ShardWriter
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.map_job import run_map
from bigcorr.run.pairs_job import run_pairs
from bigcorr.tiles import Box

SMALL = {"chunk": 16, "shard": 64}


def tree(path: Path) -> dict[str, bytes]:
    """Every file below `path`."""
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return {str(each.relative_to(path)): each.read_bytes() for each in files}


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    random = np.random.default_rng(0)
    paths = [str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]
    for path in paths:
        np.save(path, random.normal(size=(150, 201)).astype("float32"))
    return paths


def test_two_runs_of_a_map_give_equal_bytes(pair: list[str], tmp_path: Path) -> None:
    run_map(NCC(7), pair, tmp_path / "one.zarr", cluster=ThreadPool(1), **SMALL)
    for again in range(3):
        other = tmp_path / f"again{again}.zarr"
        run_map(NCC(7), pair, other, cluster=ThreadPool(4), **SMALL)
        assert tree(other) == tree(tmp_path / "one.zarr")
    assert any(name.startswith("ncc/c/") for name in tree(tmp_path / "one.zarr"))


def test_writing_in_order_leaves_the_threads_of_zarr_as_they_are() -> None:
    from zarr.core import sync

    with codecs.fast_codecs(in_order=True):
        pass
    assert sync._executor is not None
    assert sync._executor._max_workers > 1


@pytest.mark.parametrize("byte", range(0, 100, 9))
def test_a_flipped_bit_is_found_and_its_chunk_named(tmp_path: Path, byte: int) -> None:
    image = np.random.default_rng(1).normal(size=(3, 96, 96)).astype("float32")
    bc.save_raster(image, tmp_path / "s.zarr", **SMALL)
    array = store.open_array(tmp_path / "s.zarr", component="raster")
    file = sorted(p for p in (tmp_path / "s.zarr" / "raster" / "c").rglob("*") if p.is_file())[0]
    data = bytearray(file.read_bytes())
    data[len(data) * byte // 100] ^= 4
    file.write_bytes(data)
    found = list(chunks.damaged_chunks(array, (slice(0, 3), slice(0, 96), slice(0, 96))))
    assert len(found) == 1
    index, place, _ = found[0]
    with pytest.raises(RunError) as caught:
        bc.open_raster(str(tmp_path / "s.zarr")).compute()
    y, x = (f"{part.start}:{part.stop}" for part in place[1:])
    assert f"chunk {index} of {tmp_path}/s.zarr/raster (channel " in str(caught.value)
    assert f"rows {y}, columns {x}): {file}: " in str(caught.value)
    whole = np.ones(image.shape, bool)
    whole[place] = False
    for part in chunks.parts_of((slice(0, 3), slice(0, 96), slice(0, 96)), array.chunks):
        if whole[part].all():  # only the chunk that is named is lost
            assert np.array_equal(array[part], image[part])


@pytest.mark.parametrize("shards", [None, (64, 64)])
def test_the_checksums_of_other_peoples_stores_are_verified(
    tmp_path: Path, shards: tuple[int, int] | None
) -> None:
    image = np.random.default_rng(1).normal(size=(64, 64)).astype("float32")
    group = zarr.open_group(str(tmp_path / "s.zarr"), mode="w", zarr_format=3)
    array = group.create_array(
        "raster",
        shape=(64, 64),
        dtype="f4",
        chunks=(32, 32),
        shards=shards,
        compressors=[BloscCodec(typesize=4), Crc32cCodec()],
    )
    array[...] = image
    file = next(p for p in (tmp_path / "s.zarr" / "raster" / "c").rglob("*") if p.is_file())
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    source = open_source(str(tmp_path / "s.zarr"))
    said = []
    for y in (1, 33):  # less than a chunk each
        for x in (1, 33):
            try:
                source.read([0], Box(y, y + 9, x, x + 9))
            except RunError as error:
                said.append(str(error))
    assert len(said) == 1
    assert "cannot read chunk (" in said[0]
    y, x = (32 * int(part[0]) for part in said[0].partition("chunk (")[2].split(", ")[:2])
    assert f"rows {y}:{y + 32}, columns {x}:{x + 32})" in said[0]


def test_a_torn_shard_is_told_once(tmp_path: Path) -> None:
    bc.save_raster(np.ones((128, 64), "float32"), tmp_path / "s.zarr", **SMALL)
    file = tmp_path / "s.zarr" / "raster" / "c" / "1" / "0"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(RunError, match=r"chunk \(4, 0\) .*\(rows 64:128, columns 0:64\)"):
        bc.open_raster(str(tmp_path / "s.zarr")).compute()


@pytest.mark.parametrize("harm", ["shorter", "gone", "marker"])
def test_a_shard_that_was_harmed_between_two_runs_is_written_anew(
    tmp_path: Path, harm: str
) -> None:
    def writer() -> ShardWriter:
        return ShardWriter(tmp_path / "o.zarr", (128, 64), "f4", fingerprint="a", **SMALL)

    first = writer()
    units = first.pending
    for unit in units:
        first.write(unit, np.full((64, 64), 3, "f4"))
    assert writer().pending == []
    file = tmp_path / "o.zarr.partial" / "store" / "raster" / "c" / "1" / "0"
    if harm == "shorter":
        file.write_bytes(file.read_bytes()[:50])
    elif harm == "gone":
        file.unlink()
    else:
        (tmp_path / "o.zarr.partial" / "done" / "1-0").write_text("{")
    assert writer().pending == units[1:]
    assert not file.exists()


def test_a_worker_that_outlived_its_run_does_not_touch_another_ones_work(tmp_path: Path) -> None:
    old = ShardWriter(tmp_path / "o.zarr", (64, 64), "f4", fingerprint="old", **SMALL)
    new = ShardWriter(tmp_path / "o.zarr", (64, 64), "f4", fingerprint="new", **SMALL)
    with pytest.raises(RunError, match="started afresh by another run"):
        old.write(new.pending[0], np.ones((64, 64), "f4"))
    assert new.pending
    assert not (tmp_path / "o.zarr.partial" / "store" / "raster" / "c").exists()
    assert list((tmp_path / "o.zarr.partial" / "writing").iterdir()) == []


def test_what_a_run_left_that_was_killed_at_its_very_end_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.ones((40, 40), "f4")
    with monkeypatch.context() as patch:
        patch.setattr(store, "rename_into_place", _killed_after(store.rename_into_place))
        with pytest.raises(KeyboardInterrupt):
            bc.save_raster(image, tmp_path / "o.zarr", **SMALL)
        with pytest.raises(KeyboardInterrupt):
            run_pairs(image[None], tmp_path / "p.zarr", measures=["pearson"])
    assert len(list(tmp_path.iterdir())) == 4
    bc.save_raster(image, tmp_path / "o.zarr", **SMALL)
    run_pairs(image[None], tmp_path / "p.zarr", measures=["pearson"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.zarr", "p.zarr"]


def _killed_after(step: Callable[..., None]) -> Callable[..., None]:
    def killed(*args: Path) -> None:
        step(*args)
        raise KeyboardInterrupt

    return killed


def test_plain_zarr_python_reads_what_has_checksums(tmp_path: Path) -> None:
    image = np.arange(96 * 96, dtype="uint16").reshape(96, 96)
    bc.save_raster(image, tmp_path / "s.zarr", **SMALL)
    metadata = json.loads((tmp_path / "s.zarr" / "raster" / "zarr.json").read_text())
    checksum = {"name": "zstd", "configuration": {"level": -1000, "checksum": True}}
    assert metadata["codecs"][0]["configuration"]["codecs"][-1] == checksum
    assert np.array_equal(zarr.open_array(str(tmp_path / "s.zarr"), path="raster")[...], image)


def test_an_index_without_a_checksum_is_not_believed(tmp_path: Path) -> None:
    # Other libraries may write shards whose index nothing verifies; read, they are as good.
    pixels = np.random.default_rng(7).integers(0, 99, (2, 40, 36)).astype("u2")
    path = tmp_path / "a.zarr"
    codec = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [1, 20, 18],
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "index_location": "end",
        },
    }
    zarr.create_array(path, data=pixels, chunks=pixels.shape, compressors=None)
    metadata = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps({**metadata, "codecs": [codec]}))
    zarr.open_array(path, mode="r+")[:] = pixels
    assert np.array_equal(bc.open_raster(path).values, pixels)
    # An index that is read from the wrong place tells of chunks of any size.
    file = path / "c" / "0" / "0" / "0"
    file.write_bytes(file.read_bytes() + bytes(range(1, 6)))
    with pytest.raises(RunError, match=r"chunk \(0, 0, 0\) of .*a\.zarr"):
        run_map(GaussianBlur(1.0), [str(path)], tmp_path / "o.zarr", cluster=ThreadPool(1))
