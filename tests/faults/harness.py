"""What a fault campaign needs: inputs, jobs that are run in step, schedulers, small disks.

Which harm is done and what must come of it is said in `campaign.py`.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import bigcorr as bc
from bigcorr.cli.app import WORKER_ENVIRONMENT

JOB = Path(__file__).with_name("job.py")
LIMIT_SECONDS = 240.0

Process = subprocess.Popen[str]


@dataclass
class Run:
    """One run of a job, as far as it got; seconds from its first event on."""

    status: int
    events: list[dict[str, Any]]
    finished: dict[str, int] | None
    stderr: str
    seconds: float

    @property
    def units(self) -> int:
        """Units that it had told to be done when it ended."""
        best: dict[str, float] = {}
        for event in self.events:
            # The first two count rows; the last is made anew from the passes.
            if event["stage"] not in ("read", "merge", "result"):
                best[event["stage"]] = max(best.get(event["stage"], 0), event["done"])
        return int(sum(best.values()))


def make_stack(folder: Path, side: int = 512, channels: int = 2) -> Path:
    """A stack with shards, in which all chunks have something and every job reads them all."""
    rng = np.random.default_rng(0)
    smooth = rng.random((channels, side, side)).cumsum(axis=2) % 7
    smooth[1] = np.roll(smooth[0], (2, -3), (0, 1)) + 0.1 * smooth[1]  # the first, moved
    path = folder / "stack.zarr"
    bc.save_raster(smooth.astype("f4"), path, chunk=64, shard=128)
    return path


def make_table(folder: Path, side: int = 512, rows: int = 40_000) -> Path:
    """A table of points, compressed, with a checksum at its end."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0, side, (rows, 2)).round(2).tolist()
    genes = rng.integers(0, 5, rows).tolist()
    lines = [f"{x},{y},g{gene}" for (x, y), gene in zip(places, genes, strict=True)]
    path = folder / "points.csv.gz"
    path.write_bytes(gzip.compress("\n".join(["x,y,gene", *lines, ""]).encode(), 1))
    return path


def run_job(
    job: str,
    source: Path,
    output: Path,
    cluster: str = "threads",
    harm: Callable[[Process], None] | None = None,
    at: int = 0,
    file_limit: int | None = None,
) -> Run:
    """Run a job; `harm` is done to it while it waits after its event number `at`."""

    def limit() -> None:
        assert file_limit is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(JOB), job, str(source), str(output), cluster],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=None if file_limit is None else limit,
        env={**os.environ, **WORKER_ENVIRONMENT},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    events: list[dict[str, Any]] = []
    finished = None
    try:
        for line in process.stdout:
            said = json.loads(line)
            if "finished" in said:
                finished = said["finished"]
                continue
            if not events:
                started = time.monotonic()
            events.append(said)
            if harm is not None and len(events) == at + 1:
                harm(process)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write("\n")
                process.stdin.flush()
            assert time.monotonic() - started < LIMIT_SECONDS, f"{job} hangs"
        assert process.stderr is not None
        errors = process.stderr.read()
        status = process.wait(timeout=60)
        return Run(status, events, finished, errors, time.monotonic() - started)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        if process.stderr is not None:
            process.stderr.close()


def workers_of(pid: int) -> list[psutil.Process]:
    """The worker processes below a process."""
    children = psutil.Process(pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


class Scheduler:
    """A dask scheduler and two workers, each a process of its own, as a cluster has them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        for _ in range(2):
            self._start("worker", "--nthreads", "1", "--memory-limit", "1GiB", "--no-dashboard")
        self.address = str(json.loads(file.read_text())["address"])
        from distributed import Client

        with Client(self.address) as client:
            client.wait_for_workers(2, timeout=120)

    def _start(self, kind: str, *options: str) -> None:
        file = self._folder / "scheduler.json"
        code = f"from distributed.cli.dask_{kind} import main; main()"
        command = [sys.executable, "-c", code, "--scheduler-file", str(file), *options]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._processes.append(subprocess.Popen(command, start_new_session=True, **quiet))
        for _ in range(2400):
            if file.exists() and file.stat().st_size:
                return
            time.sleep(0.05)
        raise TimeoutError(f"no {kind} after two minutes")

    def kill(self) -> None:
        """kill -9 of the scheduler alone."""
        self._processes[0].kill()

    def workers(self) -> list[psutil.Process]:
        """The processes that compute."""
        return [each for nanny in self._processes[1:] for each in workers_of(nanny.pid)]

    def stop(self) -> None:
        """kill -9 of all."""
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def data_files(store: Path) -> dict[str, bytes]:
    """All files of a store but those that tell times and places."""
    files = (file for file in sorted(store.rglob("*")) if file.is_file())
    return {
        str(file.relative_to(store)): file.read_bytes()
        for file in files
        if file.name != "zarr.json"
    }


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path | None]:
    """A file system of its own in memory, where this user may mount one; else None."""
    place = folder / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def remount(place: Path, how: str) -> None:
    """Change the options of a disk of `small_disk`."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True)
