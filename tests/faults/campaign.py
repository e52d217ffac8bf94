"""`make faults`: harm is done to jobs at seeded moments, and each is run again by the same command.

Of every case it is asked: are the bytes those of an undisturbed run; does `check_store` find what
was kept whole; is an error clear; is nothing left lying about. A table says how many units were
lost and computed again. ``campaign.py [RUNS [SEED]]``; ends with status 1 if anything is wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import bigcorr as bc

JOB = Path(__file__).with_name("job.py")
JOBS = ("map", "pairs", "ingest")
FAULTS = ("kill", "kill worker", "kill all", "stop", "truncate", "flip", "disk full", "read-only")
STOPPED_SECONDS = 2.0
LIMIT_SECONDS = 240.0


@dataclass
class Run:
    """One run of a job, as far as it got."""

    status: int
    events: list[dict[str, Any]]
    finished: dict[str, int] | None
    stderr: str

    @property
    def units(self) -> int:
        """Units that it had told to be done when it ended."""
        best: dict[str, float] = {}
        for event in self.events:
            best[event["stage"]] = max(best.get(event["stage"], 0), event["done"])
        return int(sum(best.values()))


@dataclass
class Row:
    """The outcome of one case."""

    job: str
    fault: str
    cluster: str
    seed: int
    statuses: list[int]
    done: int = 0
    units: int = 0
    found: int = 0
    wrong: str = ""

    @property
    def lost(self) -> int:
        """Units that had been told to be done and were done again."""
        return max(0, self.done - self.found) if len(self.statuses) > 1 else 0

    @property
    def again(self) -> int:
        """Units that the second run computed."""
        return self.units - self.found if len(self.statuses) > 1 else 0


def make_input(folder: Path, side: int = 512, channels: int = 3) -> Path:
    """A stack with shards, in which all chunks have something."""
    smooth = np.random.default_rng(0).random((channels, side, side)).cumsum(axis=2) % 7
    path = folder / "stack.zarr"
    bc.save_raster(smooth.astype("f4"), path, chunk=64, shard=128)
    return path


def run_job(
    job: str,
    source: Path,
    output: Path,
    cluster: str = "threads",
    harm: Callable[[subprocess.Popen[str]], None] | None = None,
    at: int = 0,
    file_limit: int | None = None,
) -> Run:
    """Run a job; `harm` is done to it while it waits after its event number `at`."""

    def limit() -> None:
        assert file_limit is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    process = subprocess.Popen(
        [sys.executable, str(JOB), job, str(source), str(output), cluster],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=None if file_limit is None else limit,
        env={**os.environ, "DASK_LOGGING__DISTRIBUTED": "critical"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    events: list[dict[str, Any]] = []
    finished = None
    started = time.monotonic()
    try:
        for line in process.stdout:
            said = json.loads(line)
            if "finished" in said:
                finished = said["finished"]
                continue
            events.append(said)
            if harm is not None and len(events) == at + 1:
                harm(process)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write("\n")
                process.stdin.flush()
            assert time.monotonic() - started < LIMIT_SECONDS, f"{job} hangs"
        assert process.stderr is not None
        errors = process.stderr.read()
        return Run(process.wait(timeout=60), events, finished, errors)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        if process.stderr is not None:
            process.stderr.close()


def _workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


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


def _remount(place: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True)


class Campaign:
    """Cases on one input, whose undisturbed results are made once."""

    def __init__(self, folder: Path, jobs: tuple[str, ...] = JOBS, side: int = 512) -> None:
        self.folder = folder
        self.source = make_input(folder, side)
        self.whole: dict[str, dict[str, bytes]] = {}
        self.events: dict[str, int] = {}
        for job in jobs:
            done = run_job(job, self.source, folder / f"{job}.zarr")
            assert done.status == 0, done.stderr
            self.whole[job] = data_files(folder / f"{job}.zarr")
            self.events[job] = len(done.events)

    def case(self, job: str, fault: str, cluster: str, seed: int) -> Row:
        """Do the harm, then run the same command until it is through."""
        chance = random.Random(f"{job} {fault} {seed}")
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            if fault in ("disk full", "read-only"):
                return self._disk(Path(name), job, fault, cluster, seed, chance)
            at = chance.randrange(self.events[job] - 1)
            if fault in ("truncate", "flip"):
                return self._damage(Path(name) / "o.zarr", job, fault, cluster, seed, chance)

            def harm(process: subprocess.Popen[str]) -> None:
                victims = _workers(process)
                if fault == "stop":
                    stopped = chance.choice(victims).pid if victims else process.pid
                    os.kill(stopped, signal.SIGSTOP)
                    time.sleep(STOPPED_SECONDS)
                    os.kill(stopped, signal.SIGCONT)
                    return
                if fault == "kill worker" and victims:
                    chance.choice(victims).kill()
                    return
                # It goes on from here, and dies somewhere in what follows.
                assert process.stdin is not None
                process.stdin.write("\n" * chance.randrange(4))
                process.stdin.flush()
                time.sleep(chance.random() * 0.03)
                if fault == "kill all":
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()

            output = Path(name) / "o.zarr"
            first = run_job(job, self.source, output, cluster, harm, at)
            row = Row(job, fault, cluster, seed, [first.status], first.units)
            return self._resume(row, first, output)

    def _resume(self, row: Row, first: Run, output: Path) -> Row:
        if first.status != 0 or first.finished is None:
            partial = output.with_name(output.name + ".partial")
            if partial.exists() and not output.exists():
                found = bc.check_store(partial)
                if not found.ok:
                    row.wrong = f"what was kept is damaged: {found.damages[0]}"
            again = run_job(row.job, self.source, output, row.cluster)
            row.statuses.append(again.status)
            if again.finished is None:
                row.wrong = f"not resumed: {again.stderr.strip()}"
                return row
            row.units, row.found = again.finished["units"], again.finished["found"]
        else:
            row.units = first.finished["units"]
        if data_files(output) != self.whole[row.job]:
            row.wrong = "other bytes"
        left = [p.name for p in output.parent.iterdir() if p != output]
        if left:
            row.wrong = f"left behind: {', '.join(left)}"
        return row

    def _damage(
        self, output: Path, job: str, fault: str, cluster: str, seed: int, chance: random.Random
    ) -> Row:
        """Harm a chunk of the input once the job has begun, and mend it when the job has failed."""
        shards = sorted(p for p in (self.source / "raster" / "c").rglob("*") if p.is_file())
        file = chance.choice(shards[len(shards) // 2 :])
        whole, stat = file.read_bytes(), file.stat()

        def harm(process: subprocess.Popen[str]) -> None:
            data = bytearray(whole)
            if fault == "flip":
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            else:
                del data[chance.randrange(len(data)) :]
            file.write_bytes(data)

        try:
            first = run_job(job, self.source, output, cluster, harm, 0)
        finally:
            file.write_bytes(whole)
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        row = Row(job, fault, cluster, seed, [first.status], first.units)
        if first.status == 0:
            row.wrong = "damage of the input was not seen"
            return row
        if first.status != 1 or str(file) not in first.stderr or "chunk (" not in first.stderr:
            row.wrong = f"status {first.status}, {first.stderr.strip()}"
            return row
        return self._resume(row, first, output)

    def _disk(
        self, folder: Path, job: str, fault: str, cluster: str, seed: int, chance: random.Random
    ) -> Row:
        size = sum(len(data) for data in self.whole[job].values())
        full = fault == "disk full"
        with small_disk(folder, "1G") as place:
            if place is None:  # the next best: files may not grow
                if not full:
                    return Row(job, fault, cluster, seed, [], wrong="skipped: cannot mount")
                output = folder / "o.zarr"
                (folder / "disk").rmdir()
                largest = max(len(data) for data in self.whole[job].values())
                first = run_job(job, self.source, output, file_limit=largest // 2)
            else:
                output = place / "o.zarr"
                room = 4096 * max(1, int(size * chance.uniform(0.1, 0.9)) // 4096)

                def harm(process: subprocess.Popen[str]) -> None:
                    if full:
                        used = sum(p.stat().st_blocks * 512 for p in place.rglob("*"))
                        _remount(place, f"size={used + room}")
                        return
                    with contextlib.suppress(subprocess.CalledProcessError):
                        _remount(place, "ro")

                at = 0 if full else chance.randrange(self.events[job] - 1)
                first = run_job(job, self.source, output, cluster, harm, at)
                _remount(place, "size=1G,rw")
            row = Row(job, fault, cluster, seed, [first.status], first.units)
            if first.status not in (0, 1) or len(first.stderr.strip().splitlines()) > 1:
                row.wrong = f"status {first.status}, {first.stderr.strip()}"
                return row
            return self._resume(row, first, output)


def table(rows: list[Row]) -> str:
    """The rows as text, and their sum."""
    head = f"{'job':8}{'fault':13}{'on':9}{'seed':>6}  {'exits':10}"
    head += f"{'units':>6}{'lost':>6}{'again':>7}  result"
    lines = [head]
    for r in rows:
        exits = " ".join(map(str, r.statuses))
        lines.append(
            f"{r.job:8}{r.fault:13}{r.cluster:9}{r.seed:6}  {exits:10}"
            f"{r.units:6}{r.lost:6}{r.again:7}  {r.wrong or 'same bytes'}"
        )
    wrong = sum(bool(r.wrong) and not r.wrong.startswith("skipped") for r in rows)
    again = sum(r.again for r in rows)
    lost = sum(r.lost for r in rows)
    lines.append(f"{len(rows)} faults, {lost} units lost, {again} computed again, {wrong} wrong")
    return "\n".join(lines)


def main(runs: int = 60, seed: int = 0) -> int:
    """All kinds in turn; worker processes for every third run and where they are to be killed."""
    rows = []
    kinds = [(job, fault) for fault in FAULTS for job in JOBS if (job, fault) not in _POINTLESS]
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        campaign = Campaign(Path(name))
        for number in range(runs):
            job, fault = kinds[number % len(kinds)]
            many = job != "ingest" and ("worker" in fault or random.Random(number).random() < 1 / 3)
            cluster = "local" if many else "threads"
            rows.append(campaign.case(job, fault, cluster, seed + number))
            print(table(rows[-1:]).splitlines()[1], flush=True)
    print("\n" + table(rows))
    return int(any(r.wrong and not r.wrong.startswith("skipped") for r in rows))


# Ingest works in one process.
_POINTLESS = {("ingest", "kill worker"), ("ingest", "kill all")}

if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
