"""Runs a job in fresh processes and measures their memory; makes the rasters that jobs are run on.

Which jobs, and what must come of it, is said in `peaks.py` and `test_peaks.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bigcorr.cli.app import WORKER_ENVIRONMENT
from bigcorr.raster import store

JOB = Path(__file__).with_name("measured_job.py")
SERIES = []
EVERY = 0.02
"""Seconds between two looks at the processes."""


@dataclass(frozen=True)
class Measured:
    """What a run took at its worst and what was projected, in bytes of all its processes."""

    peak: int
    projected: int
    seconds: float


def measure(kind: str, what: dict[str, Any], source: Path, output: Path, pool: Any) -> Measured:
    """Run a job in processes of its own, and look at all of them all the time."""
    started = time.monotonic()
    given = kind, json.dumps(what), str(source), str(output), json.dumps(pool)
    process = subprocess.Popen(
        [sys.executable, str(JOB), *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **WORKER_ENVIRONMENT},
    )
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(EVERY):
            peak = max(peak, sum(resident(pid) for pid in family(process.pid)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        out, errors = process.communicate()
    finally:
        process.kill()
        done.set()
        thread.join()
        shutil.rmtree(output, ignore_errors=True)
        shutil.rmtree(output.with_name(output.name + ".partial"), ignore_errors=True)
    if process.returncode:
        raise RuntimeError(f"{kind} {what} on {source}: {errors[-3000:]}")
    told = json.loads(out.strip().splitlines()[-1])
    # Of one process its own account has no gaps.
    peak = max(peak, told["most"])
    return Measured(peak, told["summary"]["projected_peak_bytes"], time.monotonic() - started)


def family(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                for child in (task / "children").read_text().split():
                    yield from family(int(child))


def resident(pid: int) -> int:
    """Bytes of a process in memory; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


PAGE = os.sysconf("SC_PAGE_SIZE")


def make_stack(path: Path, shape: tuple[int, int, int], dtype: str = "uint8") -> Path:
    """A stack of counts in blobs, made shard by shard; each channel is the first, a little moved.

    Each shard holds the same, rolled by an amount of its own, so that a pair can be registered.
    """
    rng = np.random.default_rng(0)
    channels, height, width = shape
    side = min(2048, max(height, width))
    blobs = np.kron(rng.gamma(0.5, 4.0, (-(-side // 8),) * 2), np.ones((8, 8)))[:side, :side]
    counts = np.minimum(rng.poisson(blobs), 255).astype(dtype)
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    array = store.create_array(
        group,
        "raster",
        shape=shape,
        dtype=dtype,
        chunks=(1, min(512, height), min(512, width)),
        shards=(min(channels, 64), min(side, height), min(side, width)),
        dims=("channel", "y", "x"),
    )
    for first in range(0, channels, 64):
        some = range(first, min(first + 64, channels))
        for y in range(0, height, side):
            for x in range(0, width, side):
                bottom, right = min(y + side, height), min(x + side, width)
                turn = (y + 3 * x) // 7
                part = [np.roll(counts, (2 * c, turn), (0, 1)) for c in some]
                array[first : some.stop, y:bottom, x:right] = np.stack(part)[
                    :, : bottom - y, : right - x
                ]
    return path
