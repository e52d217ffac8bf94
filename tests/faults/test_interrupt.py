"""Ctrl-C and SIGTERM end a command within five seconds, a second one at once; work done is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bigcorr.raster.lock import lock_path

COMMANDS = {
    "map": ["ncc", "pair.npy#0", "pair.npy#1", "-o", "o.zarr", "--window", "61"],
    "pairs": ["pairs", "pair.npy", "-o", "o.zarr", "--sigma", "12", "-m", "ncc:window=64,stride=1"],
    "ingest": ["ingest", "points.csv", "o.zarr", "--bin", "1"],
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work for many seconds, in units of some seconds each."""
    folder = tmp_path_factory.mktemp("inputs")
    np.save(folder / "pair.npy", np.random.default_rng(0).random((3, 3000, 3000), np.float32))
    rng = np.random.default_rng(0)
    places = rng.integers(0, 9000, (50_000, 2)).tolist()
    block = "".join(f"{x},{y},g{x % 40}\n" for x, y in places)
    with open(folder / "points.csv", "w") as file:
        file.write("x,y,gene\n")
        for _ in range(200):
            file.write(block)
    return folder


def start(job: str, inputs: Path, out: Path) -> subprocess.Popen[str]:
    command = [out.name if word == "o.zarr" else word for word in COMMANDS[job]]
    command = [str(out) if word == out.name else word for word in command]
    return subprocess.Popen(
        [sys.executable, "-m", "bigcorr", *command, "--workers", "2"],
        cwd=inputs,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_work(process: subprocess.Popen[str], out: Path) -> None:
    """Until the run keeps something."""
    partial = out.with_name(f"{out.name}.partial")
    for _ in range(1200):
        assert process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
        if partial.exists() and len(list(partial.iterdir())) > 1:
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing in {partial} after a minute")


@pytest.mark.parametrize(
    ("job", "name", "status"),
    [
        ("map", "SIGINT", 130),
        ("pairs", "SIGINT", 130),
        ("pairs", "SIGTERM", 143),
        ("ingest", "SIGTERM", 143),
    ],
)
def test_a_signal_ends_a_command_within_five_seconds(
    job: str, name: str, status: int, inputs: Path, tmp_path: Path
) -> None:
    process = start(job, inputs, tmp_path / "o.zarr")
    wait_for_work(process, tmp_path / "o.zarr")
    started = time.monotonic()
    # Ctrl-C reaches the workers as well; a batch system's signal may reach the driver only.
    signalled = os.killpg if name == "SIGINT" else os.kill
    signalled(process.pid, getattr(signal, name))
    _, spoken = process.communicate(timeout=60)
    assert time.monotonic() - started < 5
    assert process.returncode == status, spoken
    assert spoken.splitlines()[-1].startswith("bigcorr: interrupted; the same command again goes")
    assert "Traceback" not in spoken
    assert not (tmp_path / "o.zarr").exists()
    assert (tmp_path / "o.zarr.partial").exists()


@pytest.mark.parametrize("job", list(COMMANDS))
def test_a_second_signal_ends_it_at_once(job: str, inputs: Path, tmp_path: Path) -> None:
    process = start(job, inputs, tmp_path / "o.zarr")
    wait_for_work(process, tmp_path / "o.zarr")
    workers = _descendants(process.pid)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.05)
    started = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    _, spoken = process.communicate(timeout=60)
    assert time.monotonic() - started < 2
    # By itself, by the second signal, or by Python's own answer to it at the very end.
    assert process.returncode in (130, -signal.SIGINT), spoken
    assert "interrupted" in spoken
    assert "Traceback" not in spoken
    # Nobody goes on writing, and the lock that is left stands in nobody's way.
    for _ in range(100):
        if not any(_runs(pid) for pid in workers):
            break
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in workers)
    lock_path(tmp_path / "o.zarr").unlink(missing_ok=True)


def _descendants(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def _runs(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
