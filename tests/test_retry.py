"""What passes by itself is tried again and said in the log; what does not is told by its tile."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bigcorr as bc
from bigcorr import retry
from bigcorr.errors import RunError
from bigcorr.operators import GaussianBlur
from bigcorr.raster.writer import ShardWriter
from bigcorr.raster.zarr_ import ZarrSource
from bigcorr.run.checkpoint import Checkpoint
from bigcorr.run.map_job import run_map
from bigcorr.run.pairs_job import run_pairs

SMALL = {"chunk": 16, "shard": 32}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSES", (0.001, 0.001, 0.001))


def failing(times: int, error: Callable[[], Exception]) -> Callable[[], int]:
    """A task that fails so many times and then gives how often it was called."""
    calls = []

    def task() -> int:
        calls.append(1)
        if len(calls) <= times:
            raise error()
        return len(calls)

    return task


def os_error(number: int) -> Callable[[], Exception]:
    return lambda: OSError(number, "said the disk")


def wrapped(number: int) -> Exception:
    """As the compiled codecs and our own wrappers hand it on."""
    error = RunError("cannot write o.zarr")
    error.__cause__ = RuntimeError(f"Input/output error (os error {number})")
    return error


@pytest.mark.parametrize(
    "error",
    [os_error(errno.EIO), os_error(errno.ESTALE), lambda: wrapped(errno.EIO), TimeoutError],
)
def test_what_passes_by_itself_is_tried_again_and_logged(
    error: Callable[[], Exception], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "bigcorr"):
        assert retry.patiently("unit 7", failing(3, error)) == 4
    assert len(caplog.messages) == 3
    assert all(text.startswith("unit 7: ") for text in caplog.messages)
    with pytest.raises((OSError, RunError)):
        retry.patiently("unit 7", failing(4, error))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOENT])
def test_what_wants_somebody_is_raised_at_once(number: int) -> None:
    for error in (os_error(number), lambda: wrapped(number)):
        task = failing(1, error)
        with pytest.raises((OSError, RunError)):
            retry.patiently("unit 7", task)
        assert task() == 2


def test_a_map_outlives_hiccups_of_reading_and_of_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    image = np.random.default_rng(0).random((64, 64), "f4")
    bc.save_raster(image, tmp_path / "a.zarr", **SMALL)
    run_map(GaussianBlur(1.0), [str(tmp_path / "a.zarr")], tmp_path / "one.zarr", **SMALL)
    for owner, name in ((ShardWriter, "_write"), (ZarrSource, "_read")):
        _hiccup(monkeypatch, owner, name)
    run_map(GaussianBlur(1.0), [str(tmp_path / "a.zarr")], tmp_path / "two.zarr", **SMALL)
    assert len(caplog.messages) == 2
    said = sorted(text.partition(": ")[0] for text in caplog.messages)
    assert said == [f"reading {tmp_path}/a.zarr", f"writing {tmp_path}/two.zarr"]
    for file in (tmp_path / "one.zarr" / "blur").rglob("*"):
        other = tmp_path / "two.zarr" / file.relative_to(tmp_path / "one.zarr")
        assert file.is_dir() or file.read_bytes() == other.read_bytes()


def test_pairs_outlive_hiccups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    image = np.random.default_rng(0).random((3, 64, 64), "f4")
    bc.save_raster(image, tmp_path / "a.zarr", **SMALL)
    run_pairs(str(tmp_path / "a.zarr"), tmp_path / "one.zarr", measures=["pearson"])
    for owner, name in ((Checkpoint, "write_unit"), (ZarrSource, "_read")):
        _hiccup(monkeypatch, owner, name)
    run_pairs(str(tmp_path / "a.zarr"), tmp_path / "two.zarr", measures=["pearson"])
    assert len(caplog.messages) == 2
    assert any("keeping unit 0 of " in text for text in caplog.messages)
    files = [tmp_path / run / "pearson" / "c" / "0" / "0" for run in ("one.zarr", "two.zarr")]
    assert files[0].read_bytes() == files[1].read_bytes()


def ones(folder: Path) -> str:
    """A mask, so that nothing is read before the first unit to find what is empty."""
    np.save(folder / "mask.npy", np.ones((64, 64), bool))
    return str(folder / "mask.npy")


def _hiccup(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """Let the first call fail."""
    real, failed = getattr(owner, name), []

    def first_fails(*args: Any) -> Any:
        if not failed:
            failed.append(1)
            raise OSError(errno.EIO, "Input/output error")
        return real(*args)

    monkeypatch.setattr(owner, name, first_fails)


@pytest.mark.parametrize("kind", ["map", "pairs"])
def test_damaged_input_stops_the_run_with_the_chunk_and_the_tile(tmp_path: Path, kind: str) -> None:
    image = np.random.default_rng(0).random((2, 64, 64), "f4")
    bc.save_raster(image, tmp_path / "a.zarr", **SMALL)
    file = tmp_path / "a.zarr" / "raster" / "c" / "0" / "1" / "1"
    data = bytearray(file.read_bytes())
    data[50] ^= 1
    file.write_bytes(data)
    source, out = str(tmp_path / "a.zarr"), tmp_path / "o.zarr"

    def run() -> None:
        if kind == "map":
            run_map(GaussianBlur(1.0), [source], out, **SMALL)
        else:
            run_pairs(source, out, measures=["pearson"], mask=ones(tmp_path))

    with pytest.raises(RunError) as caught:
        run()
    text = str(caught.value)
    assert f"cannot read chunk (0, 2, 2) of {tmp_path}/a.zarr/raster (channel 0, rows 32" in text
    assert str(file) in text
    assert "(in the shard of rows " in text or "(in unit 0 of statistics)" in text
    assert (tmp_path / "o.zarr.partial").exists()
    assert not (tmp_path / "o.zarr.lock").exists()
