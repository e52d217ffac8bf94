"""Two runs on one output: the second is refused, in words; what a dead run left is taken over."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bigcorr as bc
from bigcorr.errors import RunError
from bigcorr.operators import GaussianBlur
from bigcorr.raster import lock, lock_owner
from bigcorr.raster.ingest import ingest
from bigcorr.raster.lock import LostLockError, force_unlock, lock_path, locked
from bigcorr.raster.stack import StackWriter
from bigcorr.run.map_job import run_map
from bigcorr.run.pairs_job import run_pairs
from bigcorr.simulate import tissue
from bigcorr.simulate.store import write_images

HOLDER = """
import sys, time
from bigcorr.raster import lock, lock_owner
if sys.argv[2] == "elsewhere":
    lock_owner.place = lambda: "another machine"
    lock.BEAT_SECONDS = 0.1
with lock.locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(120)
"""


@contextlib.contextmanager
def holder(output: Path, where: str = "here") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of `output`."""
    command = [sys.executable, "-c", HOLDER, str(output), where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def left_behind(output: Path, age: float, **facts: Any) -> Path:
    """The lock of a run on another machine, last touched `age` seconds ago."""
    path = lock_path(output)
    said = {"id": "x", "host": "node7", "place": "node7 b", "pid": 1, "born": "1", **facts}
    path.write_text(json.dumps(said))
    touched = time.time() - age
    os.utime(path, (touched, touched))
    return path


def test_a_second_process_is_refused_by_host_process_and_age(tmp_path: Path) -> None:
    output = tmp_path / "o.zarr"
    with holder(output) as first:
        with pytest.raises(RunError) as caught, locked(output):
            pass
        for words in (str(output), f"process {first.pid} on ", " s ago", "--force-unlock"):
            assert words in str(caught.value)
        assert "\n" not in str(caught.value)
        first.send_signal(signal.SIGSTOP)  # it sleeps, and may wake up: the lock is still its own
        with pytest.raises(RunError, match="being written by another run"), locked(output):
            pass
        assert lock_path(output).exists()


def test_the_lock_of_a_killed_process_is_stale_at_once(tmp_path: Path) -> None:
    with holder(tmp_path / "o") as first:
        first.kill()
        time.sleep(0.1)  # it is dead, and nobody has waited for it yet
        with locked(tmp_path / "o"):
            assert json.loads(lock_path(tmp_path / "o").read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_process_number_that_was_given_again_is_no_owner(tmp_path: Path) -> None:
    left_behind(tmp_path / "o", 0, place=lock_owner.place(), pid=os.getpid(), born="long ago")
    with locked(tmp_path / "o"):
        pass


@pytest.mark.parametrize("how", [RuntimeError, KeyboardInterrupt])
def test_the_lock_is_given_back_on_errors_and_on_interrupts(
    tmp_path: Path, how: type[BaseException]
) -> None:
    def fail() -> None:
        with locked(tmp_path / "new" / "o"):
            assert lock_path(tmp_path / "new" / "o").exists()
            raise how

    with pytest.raises(how):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_live_run_on_another_machine_is_refused_at_its_next_beat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.1)
    with holder(tmp_path / "o", "elsewhere"):
        with (
            pytest.raises(RunError, match="being written by another run"),
            locked(tmp_path / "o", lambda stage, done, total: told.append(stage)),
        ):
            pass
        assert all("sign of life" in stage for stage in told)


def test_a_requeued_job_gets_in_once_the_beats_are_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_behind(tmp_path / "o", age=lock.STALE_SECONDS + 1)
    started = time.monotonic()
    with locked(tmp_path / "o"):
        assert time.monotonic() - started < 1
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.5)
    left_behind(tmp_path / "o", age=0)
    started = time.monotonic()
    with locked(tmp_path / "o"):
        assert 0.3 < time.monotonic() - started < 5


def test_a_torn_lock_is_a_lock_until_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.3)
    lock_path(tmp_path / "o").write_text('{"id": "7')
    with locked(tmp_path / "o"):
        assert json.loads(lock_path(tmp_path / "o").read_text())["pid"] == os.getpid()


def test_force_takes_the_lock_with_a_warning_and_the_other_run_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    notes: list[str] = []
    with locked(tmp_path / "o") as first, force_unlock(notes.append), locked(tmp_path / "o"):
        assert "removed by force" in notes[0]
        for _ in range(200):
            if first.lost:
                break
            time.sleep(0.02)
        with pytest.raises(LostLockError, match="taken over by another run"):
            first.watch()("stage", 1, 2)
        first.release()
        assert lock_path(tmp_path / "o").exists()  # it is the second's


def test_a_run_that_lost_its_lock_leaves_the_other_ones_work_alone(tmp_path: Path) -> None:
    with pytest.raises(LostLockError), StackWriter(tmp_path / "s.zarr", ["a"], (8, 8), "uint8"):
        raise LostLockError
    assert (tmp_path / "s.zarr.partial").exists()


def test_a_lock_works_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with locked(tmp_path / "o"):
        with pytest.raises(RunError, match="being written"), locked(tmp_path / "o"):
            pass
        assert [path.name for path in tmp_path.iterdir()] == ["o.lock"]


def test_of_many_who_want_a_stale_lock_one_gets_it(tmp_path: Path) -> None:
    left_behind(tmp_path / "o", age=1000)
    code = """
import sys, time
from bigcorr.raster.lock import locked
from bigcorr.errors import RunError
print("up", flush=True)
sys.stdin.readline()
try:
    with locked(sys.argv[1]):
        print("mine", flush=True)
        sys.stdin.readline()
except RunError:
    print("refused", flush=True)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "o")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    runs = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    try:
        assert [run.stdout.readline() for run in runs] == ["up\n"] * 4
        for run in runs:
            run.stdin.write("\n")
            run.stdin.flush()
        said = sorted(run.stdout.readline() for run in runs)
    finally:
        for run in runs:
            run.communicate(timeout=60)
    assert said == ["mine\n", "refused\n", "refused\n", "refused\n"]
    assert list(tmp_path.iterdir()) == []


def _stack(tmp_path: Path) -> str:
    path = tmp_path / "in.npy"
    if not path.exists():
        np.save(path, np.random.default_rng(0).random((2, 40, 40), np.float32))
    return str(path)


JOBS = {
    "map": lambda tmp, out: run_map(GaussianBlur(1.0), [_stack(tmp)], out),
    "pairs": lambda tmp, out: run_pairs(_stack(tmp), out, measures=["pearson"]),
    "ingest": lambda tmp, out: ingest(_stack(tmp), out),
    "tissue": lambda tmp, out: tissue(out, channels=2, size=32),
    "images": lambda tmp, out: write_images(out, 32),
    "save": lambda tmp, out: bc.save_raster(np.eye(9, dtype="f4"), out),
    "ranking": lambda tmp, out: bc.write_ranking(
        bc.pairwise(np.load(_stack(tmp)), ["pearson"]), "pearson", f"{out}.csv"
    ),
}


@pytest.mark.parametrize("job", list(JOBS))
def test_every_job_that_writes_refuses_an_output_in_use_and_leaves_it_alone(
    tmp_path: Path, job: str
) -> None:
    output = tmp_path / "o"
    written = tmp_path / "o.csv" if job == "ranking" else output
    begun = tmp_path / f"{written.name}.partial"
    begun.mkdir()
    (begun / "work").write_text("of the first run")
    with locked(written), pytest.raises(RunError, match="being written by another run"):
        JOBS[job](tmp_path, output)
    assert (begun / "work").read_text() == "of the first run"
    (begun / "work").unlink()
    JOBS[job](tmp_path, output)
    assert written.exists()
    assert not lock_path(written).exists()


def test_the_command_line_refuses_and_takes_force(tmp_path: Path) -> None:
    output = tmp_path / "o.zarr"
    command = [sys.executable, "-m", "bigcorr", "simulate", str(output), "--size", "32"]
    command += ["--channels", "1"]
    with holder(output):
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert "bigcorr: error:" in refused.stderr
        assert "being written by another run" in refused.stderr
        forced = subprocess.run(
            [*command, "--force-unlock"], capture_output=True, text=True, check=False
        )
        assert forced.returncode == 0, forced.stderr
        assert "removed by force" in forced.stderr
    assert output.exists()
