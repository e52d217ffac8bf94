"""`make faults`: harm is done to jobs at seeded moments, and each is run again by the same command.

Of every case it is asked: are the bytes those of an undisturbed run; does `check_store` find what
was kept whole; is an error clear; was a unit lost that had been told to be done; is nothing left
lying about. A table says how many units were computed again. ``campaign.py [RUNS [SEED]]``; ends
with status 1 if anything is wrong. ``campaign.py --walltime`` is another thing: see `walltime.py`.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import bigcorr as bc

sys.path.insert(0, str(Path(__file__).parent))
import harness
from harness import Process, Run, Scheduler, data_files, run_job

JOBS = ("map", "pairs", "displacement", "registered", "ingest", "table")
FAULTS = (
    "kill",
    "kill worker",
    "kill scheduler",
    "kill all",
    "stop",
    "truncate",
    "flip",
    "disk full",
    "read-only",
)
STOPPED_SECONDS = 30.0
IN_ONE_PROCESS = ("ingest", "table")


@dataclass
class Row:
    """The outcome of one case."""

    job: str
    fault: str
    cluster: str
    seed: int
    runs: list[Run] = field(default_factory=list)
    done: int = 0
    units: int = 0
    found: int = 0
    wrong: str = ""

    @property
    def lost(self) -> int:
        """Units that had been told to be done and were done again."""
        return max(0, self.done - self.found) if len(self.runs) > 1 else 0

    @property
    def again(self) -> int:
        """Units that the second run computed."""
        return self.units - self.found if len(self.runs) > 1 else 0

    @property
    def skipped(self) -> bool:
        return self.wrong.startswith("skipped")


class Campaign:
    """Cases on one input, whose undisturbed results are made once."""

    def __init__(self, folder: Path, jobs: tuple[str, ...] = JOBS, side: int = 512) -> None:
        self.folder = folder
        stack, table = harness.make_stack(folder, side), harness.make_table(folder, side)
        self.sources = {job: table if job == "table" else stack for job in jobs}
        self.whole: dict[str, dict[str, bytes]] = {}
        self.events: dict[str, int] = {}
        for job in jobs:
            done = run_job(job, self.sources[job], folder / f"{job}.zarr")
            assert done.status == 0, done.stderr
            self.whole[job] = data_files(folder / f"{job}.zarr")
            self.events[job] = len(done.events)

    def case(self, job: str, fault: str, cluster: str, seed: int) -> Row:
        """Do the harm, then run the same command until it is through."""
        chance = random.Random(f"{job} {fault} {seed}")
        row = Row(job, fault, cluster, seed)
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            place = Path(name) / "out"
            place.mkdir()
            if fault in ("disk full", "read-only"):
                self._disk(row, Path(name), chance)
            elif fault in ("truncate", "flip"):
                self._damage(row, place / "o.zarr", chance)
            else:
                self._kill(row, Path(name), place / "o.zarr", chance)
        return row

    def _run(self, row: Row, output: Path, **harm: object) -> Run:
        """One more run of the case's job."""
        run = run_job(row.job, self.sources[row.job], output, row.cluster, **harm)  # type: ignore[arg-type]
        row.runs.append(run)
        return run

    def _kill(self, row: Row, folder: Path, output: Path, chance: random.Random) -> None:
        at = chance.randrange(self.events[row.job] - 1)
        with _cluster(row, folder / "first") as scheduler:

            def harm(process: Process) -> None:
                victims = scheduler.workers() if scheduler else harness.workers_of(process.pid)
                if row.fault == "stop":
                    stopped = chance.choice(victims).pid if victims else process.pid
                    os.kill(stopped, signal.SIGSTOP)
                    time.sleep(STOPPED_SECONDS)
                    os.kill(stopped, signal.SIGCONT)
                    return
                if row.fault == "kill worker":
                    chance.choice(victims).kill()
                    return
                # It goes on from here, and is killed somewhere in what follows.
                assert process.stdin is not None
                process.stdin.write("\n" * chance.randrange(4))
                process.stdin.flush()
                time.sleep(chance.random() * 0.03)
                if row.fault == "kill scheduler":
                    assert scheduler is not None
                    scheduler.kill()
                    return
                if row.fault == "kill all" and scheduler:
                    scheduler.stop()
                if row.fault == "kill all":
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()

            first = self._run(row, output, harm=harm, at=at)
            row.done = first.units
            killed = row.fault in ("kill", "kill all")
            if first.finished is None and not killed and len(first.stderr.splitlines()) != 1:
                row.wrong = f"no clear error: {first.stderr.strip()}"
                return
            if row.fault == "kill":  # its workers, if it had any of its own accord, live on
                self._resume(row, output)
        if row.fault != "kill":
            with _cluster(row, folder / "second"):
                self._resume(row, output)

    def _resume(self, row: Row, output: Path) -> None:
        """The same command again, if the first run did not get to its end."""
        last = row.runs[-1]
        if last.finished is None:
            partial = output.with_name(output.name + ".partial")
            if partial.exists() and not output.exists() and any(partial.iterdir()):
                found = bc.check_store(partial)
                if not found.ok:
                    row.wrong = f"what was kept is damaged: {found.damages[0]}"
            last = self._run(row, output)
            if last.finished is None:
                row.wrong = f"not resumed: {last.stderr.strip()}"
                return
            row.found = last.finished["found"]
        assert last.finished is not None
        row.units = last.finished["units"] or row.found
        if data_files(output) != self.whole[row.job]:
            row.wrong = "other bytes"
        left = [p.name for p in output.parent.iterdir() if p != output]
        if left:
            row.wrong = f"left behind: {', '.join(left)}"
        # What a damaged table gave before its checksum failed is not trusted.
        if row.units and row.lost and (row.job, row.fault) not in DISTRUSTED:
            row.wrong = f"{row.lost} units were told to be done and were lost"

    def _damage(self, row: Row, output: Path, chance: random.Random) -> None:
        """Harm the input once the job has begun, and mend it when the job has failed."""
        file = source = self.sources[row.job]
        if source.is_dir():
            shards = sorted(p for p in (source / "raster" / "c").rglob("*") if p.is_file())
            file = chance.choice(shards[len(shards) // 2 :])
        whole, stat = file.read_bytes(), file.stat()
        # A table is a stream: what has been read of it already may have been whole.
        start = 0 if source.is_dir() else len(whole) * 3 // 4

        def harm(process: Process) -> None:
            data = bytearray(whole)
            place = chance.randrange(start, len(data) - 8)
            if row.fault == "flip":
                data[place] ^= 1 << chance.randrange(8)
            else:
                del data[place:]
            with open(file, "r+b") as out:  # in place: a job that has it open sees it
                out.write(data)
                out.truncate()

        try:
            first = self._run(row, output, harm=harm, at=0)
        finally:
            file.write_bytes(whole)
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        row.done = first.units
        named = str(file) in first.stderr and (not source.is_dir() or "chunk (" in first.stderr)
        if first.status == 0:
            row.wrong = "damage of the input was not seen"
        elif first.status not in (1, 2) or not named or len(first.stderr.splitlines()) != 1:
            row.wrong = f"status {first.status}, {first.stderr.strip()}"
        else:
            self._resume(row, output)

    def _disk(self, row: Row, folder: Path, chance: random.Random) -> None:
        size = sum(len(data) for data in self.whole[row.job].values())
        full = row.fault == "disk full"
        with harness.small_disk(folder, "1G") as place:
            if place is None:  # the next best: files may not grow
                if not full:
                    row.wrong = "skipped: cannot mount"
                    return
                output = folder / "out" / "o.zarr"
                largest = max(len(data) for data in self.whole[row.job].values())
                first = self._run(row, output, file_limit=largest // 2)
            else:
                output = place / "o.zarr"
                room = 4096 * max(1, int(size * chance.uniform(0.1, 0.9)) // 4096)

                def harm(process: Process) -> None:
                    if full:
                        used = sum(p.stat().st_blocks * 512 for p in place.rglob("*"))
                        harness.remount(place, f"size={used + room}")
                        return
                    with contextlib.suppress(Exception):
                        harness.remount(place, "ro")

                at = 0 if full else chance.randrange(self.events[row.job] - 1)
                first = self._run(row, output, harm=harm, at=at)
                harness.remount(place, "size=1G,rw")
            row.done = first.units
            if first.status not in (0, 1, 2) or len(first.stderr.strip().splitlines()) > 1:
                row.wrong = f"status {first.status}, {first.stderr.strip()}"
                return
            self._resume(row, output)


DISTRUSTED = {("table", "truncate"), ("table", "flip")}


@contextlib.contextmanager
def _cluster(row: Row, folder: Path) -> Iterator[Scheduler | None]:
    """A scheduler for the time of a run, where the case wants one."""
    if not row.cluster.startswith("tcp"):
        yield None
        return
    scheduler = Scheduler(folder)
    row.cluster = scheduler.address
    try:
        yield scheduler
    finally:
        scheduler.stop()


def table(rows: list[Row]) -> str:
    """The rows as text, and their sum."""
    head = f"{'job':13}{'fault':16}{'on':9}{'seed':>6}  {'exits':8}{'seconds':>8}"
    head += f"{'units':>7}{'lost':>6}{'again':>7}  result"
    lines = [head]
    for r in rows:
        exits = " ".join(str(run.status) for run in r.runs)
        cluster = r.cluster.partition(":")[0]
        seconds = sum(run.seconds for run in r.runs)
        lines.append(
            f"{r.job:13}{r.fault:16}{cluster:9}{r.seed:6}  {exits:8}{seconds:8.1f}"
            f"{r.units:7}{r.lost:6}{r.again:7}  {r.wrong or 'same bytes'}"
        )
    wrong = sum(bool(r.wrong) and not r.skipped for r in rows)
    again, lost = sum(r.again for r in rows), sum(r.lost for r in rows)
    lines.append(f"{len(rows)} faults, {lost} units lost, {again} computed again, {wrong} wrong")
    return "\n".join(lines)


def clusters(job: str, fault: str, number: int) -> str:
    """Where a case runs: each kind of fault on all kinds of cluster that it can happen to."""
    if job in IN_ONE_PROCESS:
        return "threads"
    if fault == "kill scheduler":
        return "tcp"
    kinds = ["threads", "local", "tcp"]
    if fault in ("kill worker", "stop"):
        kinds = ["local", "tcp"]
    elif not fault.startswith("kill"):
        kinds = ["threads", "local"]
    return kinds[number % len(kinds)]


def main(runs: int = 120, seed: int = 0) -> int:
    """All kinds in turn."""
    rows: list[Row] = []
    kinds = [(job, fault) for fault in FAULTS for job in JOBS if _happens(job, fault)]
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        campaign = Campaign(Path(name))
        for number in range(runs):
            job, fault = kinds[number % len(kinds)]
            cluster = clusters(job, fault, number // len(kinds) + number)
            rows.append(campaign.case(job, fault, cluster, seed + number))
            print(table(rows[-1:]).splitlines()[1], flush=True)
    print("\n" + table(rows))
    return int(any(r.wrong and not r.skipped for r in rows))


def _happens(job: str, fault: str) -> bool:
    """An ingest works in one process: killed is killed."""
    apart = ("kill worker", "kill scheduler", "kill all")
    return not (job in IN_ONE_PROCESS and fault in apart)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--walltime"]:
        import walltime

        sys.exit(walltime.main(*sys.argv[2:]))
    sys.exit(main(*map(int, sys.argv[1:3])))
