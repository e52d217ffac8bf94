"""A job in slices of a batch queue: SIGTERM after so many seconds, and the same command again.

``campaign.py --walltime SECONDS FOLDER COMMAND...`` runs a command of bigcorr that has ``{out}``
for its output twice in FOLDER: undisturbed, and in slices. It tells what the slices cost beyond
the undisturbed run, and whether the bytes are the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from harness import data_files

SAMPLE_SECONDS = 0.2
MOST_SLICES = 200
CUT = (143, -signal.SIGTERM)


@dataclass
class Slice:
    """What one process, with all below it, took."""

    status: int
    seconds: float
    cpu: float
    ending: float = 0.0
    """Seconds between the signal and its end."""


def run_slice(command: list[str], folder: Path, limit: float | None) -> Slice:
    """Run a command of bigcorr, and end it by SIGTERM after `limit` seconds."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "bigcorr", *command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    cpu: dict[tuple[int, float], float] = {}
    signalled = None
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            top = psutil.Process(process.pid)
            for each in [top, *top.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    times = each.cpu_times()
                    cpu[each.pid, each.create_time()] = times.user + times.system
        if signalled is None and limit is not None and time.monotonic() - started > limit:
            os.kill(process.pid, signal.SIGTERM)
            signalled = time.monotonic()
        time.sleep(SAMPLE_SECONDS)
    ended = time.monotonic()
    ending = 0.0 if signalled is None else ended - signalled
    return Slice(process.returncode, ended - started, sum(cpu.values()), ending)


def compare(command: list[str], folder: Path, limit: float) -> tuple[dict[str, object], bool]:
    """Run a command whole and in slices; the figures, and whether all is right."""

    def named(out: str) -> list[str]:
        return [word.replace("{out}", out) for word in command]

    whole = run_slice(named("whole.zarr"), folder, None)
    slices: list[Slice] = []
    # A signal behind the last unit may still end a slice; one more finds all done.
    while not slices or slices[-1].status in CUT:
        slices.append(run_slice(named("cut.zarr"), folder, limit))
        if len(slices) > MOST_SLICES:
            break
    same = data_files(folder / "whole.zarr") == data_files(folder / "cut.zarr")
    cpu, seconds = sum(s.cpu for s in slices), sum(s.seconds for s in slices)
    figures = {
        "command": " ".join(command),
        "walltime": limit,
        "slices": len(slices),
        "statuses": [s.status for s in slices],
        "whole_seconds": round(whole.seconds, 1),
        "cut_seconds": round(seconds, 1),
        "lost_of_seconds": round(1 - whole.seconds / seconds, 3),
        "whole_cpu": round(whole.cpu, 1),
        "cut_cpu": round(cpu, 1),
        "lost_of_cpu": round(1 - whole.cpu / cpu, 3),
        "longest_ending": round(max(s.ending for s in slices), 1),
        "same_bytes": same,
    }
    ended = whole.status == 0 and slices[-1].status == 0
    return figures, same and ended


def main(limit: str, folder: str, *command: str) -> int:
    """See the module's first lines."""
    figures, right = compare(list(command), Path(folder), float(limit))
    print(json.dumps(figures, indent=1))
    return int(not right)
