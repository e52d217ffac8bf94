"""`bigcorr check`: whole is whole, and each kind of damage is told with its place."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

import bigcorr as bc
from bigcorr.errors import InputError, MissingFileError, RunError
from bigcorr.operators import GaussianBlur
from bigcorr.raster.lock import locked
from bigcorr.raster.writer import ShardWriter
from bigcorr.run.checkpoint import Checkpoint
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.map_job import run_map
from bigcorr.run.pairs_job import run_pairs
from bigcorr.simulate import tissue

SMALL = {"chunk": 16, "shard": 32}


class Stop(Exception):
    """A run that is cut off."""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(3, 64, 64)).astype("f4")
    np.save(tmp_path / "a.npy", values)
    return tmp_path / "a.npy"


def make(kind: str, image: Path) -> Path:
    out = image.with_name(f"{kind}.zarr")
    if kind == "map":
        run_map(GaussianBlur(1.0), [str(image)], out, **SMALL)
    elif kind == "pairs":
        run_pairs(str(image), out, measures=["pearson"])
    elif kind == "stack":
        tissue(out, channels=3, size=64)
    else:
        bc.save_raster(np.load(image), out, **SMALL)
    return out


def shards(store: Path) -> list[Path]:
    """The largest array's files."""
    files = sorted(p for p in store.rglob("*") if p.is_file() and "/c/" in str(p))
    name = max(files, key=lambda p: p.stat().st_size).relative_to(store).parts[0]
    return [p for p in files if p.relative_to(store).parts[0] == name]


@pytest.mark.parametrize("kind", ["map", "pairs", "stack", "raster"])
def test_what_is_whole_is_found_whole_and_damage_is_found_by_its_place(
    image: Path, kind: str
) -> None:
    store = make(kind, image)
    found = bc.check_store(store)
    assert (found.ok, found.kind, found.state) == (True, kind, "finished")
    assert found.files > 0
    assert found.without_checksum == ()
    file = shards(store)[-1]
    whole = file.read_bytes()

    file.unlink()  # read by Zarr, this would be nothing but fill
    (missing,) = bc.check_store(store).damages
    assert (missing.kind, missing.file) == ("missing", str(file))
    assert missing.chunk is not None
    assert missing.start is not None

    file.write_bytes(whole[:-7])
    (torn,) = bc.check_store(store).damages
    assert (torn.kind, torn.chunk) == ("torn", missing.chunk)
    assert f"{len(whole)} were written" in torn.reason

    data = bytearray(whole)
    data[len(data) // 3] ^= 32
    file.write_bytes(data)
    (flipped,) = bc.check_store(store).damages
    assert (flipped.kind, flipped.file) == ("damaged", str(file))
    assert all(a <= b for a, b in zip(missing.start, flipped.start or (), strict=True))
    assert all(word in flipped.where for word in ("chunk (", ":"))


def test_the_shards_of_a_map_under_way_are_held_against_their_markers(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = image.with_name("o.zarr")
    write, done = ShardWriter.write, []

    def stopping(self: ShardWriter, unit: object, data: np.ndarray) -> None:
        if len(done) == 3:
            raise Stop
        write(self, unit, data)  # type: ignore[arg-type]
        done.append(unit)

    monkeypatch.setattr(ShardWriter, "write", stopping)
    with contextlib.suppress(Stop):
        run_map(GaussianBlur(1.0), [str(image)], out, cluster=ThreadPool(1), **SMALL)
    found = bc.check_store(out)  # by the output's name
    assert (found.ok, found.kind, found.state) == (True, "map", "unfinished")
    assert (found.units_done, found.units) == (3, 4)
    partial = image.with_name("o.zarr.partial")
    files = shards(partial / "store")
    markers = sorted((partial / "done").iterdir())
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
    files[1].unlink()
    markers[2].write_text("{")
    damages = sorted(bc.check_store(partial).damages, key=lambda d: d.file)
    assert [d.kind for d in damages] == ["marker", "damaged", "missing"]
    assert [d.file for d in damages] == [str(p) for p in (markers[2], *files[:2])]
    assert damages[2].where.endswith("columns 32:64)")
    with locked(out):
        assert bc.check_store(out).state == "in use"


def test_the_sums_of_pairs_under_way_are_verified(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = image.with_name("o.zarr")

    def stop(*_: object) -> None:
        raise Stop

    monkeypatch.setattr("bigcorr.run.pairs_job.write_result", stop)
    with contextlib.suppress(Stop):
        run_pairs(str(image), out, measures=["pearson"])
    found = bc.check_store(out)
    assert (found.ok, found.kind, found.state) == (True, "pairs", "unfinished")
    sums = sorted(image.with_name("o.zarr.partial").rglob("*.npz"))[0]
    data = bytearray(sums.read_bytes())
    data[len(data) // 2] ^= 1
    sums.write_bytes(data)
    (damage,) = bc.check_store(out).damages
    assert (damage.kind, damage.file) == ("damaged", str(sums))
    assert damage.where.endswith("section 0")
    with pytest.raises(RunError, match="is damaged"):
        Checkpoint._read(sums)


def test_stores_of_others_are_read_through_and_said_to_have_no_checksums(tmp_path: Path) -> None:
    for version in (2, 3):
        path = tmp_path / f"v{version}.zarr"
        array = zarr.create_array(
            str(path), shape=(40, 40), chunks=(20, 20), dtype="u2", zarr_format=version
        )
        array[...] = np.arange(1600).reshape(40, 40)
        found = bc.check_store(path)
        assert (found.ok, found.kind, found.files) == (True, "zarr", 4)
        assert found.without_checksum == (path.name,)
        chunk = path / ("1.0" if version == 2 else "c/1/0")
        chunk.write_bytes(chunk.read_bytes()[:9])
        (damage,) = bc.check_store(path).damages
        assert damage.chunk == (1, 0)
        assert damage.where == "chunk (1, 0) (rows 20:40, columns 0:20)"


def test_damaged_metadata_are_told(image: Path) -> None:
    store = make("raster", image)
    (store / "zarr.json").write_text("{")
    (damage,) = bc.check_store(store).damages
    assert damage.kind == "metadata"


@pytest.mark.parametrize(
    ("what", "error"),
    [
        (lambda path: path / "nothing", MissingFileError),
        (lambda path: path, InputError),
    ],
)
def test_what_is_no_store_is_refused(
    tmp_path: Path, what: Callable[[Path], Path], error: type[Exception]
) -> None:
    with pytest.raises(error):
        bc.check_store(what(tmp_path))


def test_the_command_says_it_by_its_exit_status_and_as_json(image: Path) -> None:
    store = make("raster", image)
    command = [sys.executable, "-m", "bigcorr", "check", str(store)]
    fine = subprocess.run(command, capture_output=True, text=True, check=False)
    assert fine.returncode == 0
    assert "nothing wrong" in fine.stdout
    file = shards(store)[0]
    file.write_bytes(file.read_bytes()[:-1])
    bad = subprocess.run(command, capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert f"torn: chunk (0, 0, 0) (channel 0:3, rows 0:32, columns 0:32): {file}" in bad.stdout
    told = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    facts = json.loads(told.stdout)
    assert (facts["ok"], facts["damages"][0]["chunk"]) == (False, [0, 0, 0])
    assert told.stderr == ""


@pytest.mark.parametrize("version", [2, 3])
def test_a_shape_without_end_is_no_work_without_end(tmp_path: Path, version: int) -> None:
    path = tmp_path / "a.zarr"
    array = zarr.create_array(
        str(path), shape=(40, 40), chunks=(20, 20), dtype="u2", zarr_format=version
    )
    array[...] = np.arange(1600).reshape(40, 40)
    meta = path / (".zarray" if version == 2 else "zarr.json")
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"shape": [10**12, 10**12]}))
    found = bc.check_store(path)
    assert (found.ok, found.files) == (True, 4)
    chunk = path / ("1.1" if version == 2 else "c/1/1")
    chunk.write_bytes(chunk.read_bytes()[:9])
    (damage,) = bc.check_store(path).damages
    assert damage.chunk == (1, 1)
