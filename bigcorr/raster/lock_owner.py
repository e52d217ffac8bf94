"""Who holds a lock: what its file says, and whether that process lives. See `lock.py`."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BATCH_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")


@dataclass(frozen=True)
class Owner:
    """A lock file as it was found."""

    id: str
    touched: float
    facts: dict[str, Any]

    @property
    def host(self) -> str:
        return str(self.facts.get("host", "an unknown host"))

    @property
    def here(self) -> bool:
        """Whether its process ran where we can ask for it."""
        return self.facts.get("place") == place()

    @property
    def lives(self) -> bool:
        born = born_at(int(self.facts["pid"]))
        return born is not None and born == self.facts.get("born")

    def in_words(self, now: float | None) -> str:
        """Who it is, in words; with the age of the last beat by the file system's time `now`."""
        said = [f"process {self.facts.get('pid', 'unknown')} on {self.host}"]
        if self.facts.get("job"):
            said.append(f"job {self.facts['job']}")
        said.append(f"started {self.facts.get('started', 'at an unknown time')}")
        if now is not None:
            said.append(f"last sign of life {max(0.0, now - self.touched):.0f} s ago")
        return ", ".join(said)


def look(path: Path) -> Owner | None:
    """The lock at `path`; None where there is none. An unreadable one is still a lock."""
    try:
        # To open it makes a network file system ask its server anew.
        with open(path, encoding="utf-8", errors="replace") as file:
            touched = os.fstat(file.fileno()).st_mtime
            text = file.read(2**16)
    except FileNotFoundError:
        return None
    try:
        facts = json.loads(text)
    except ValueError:
        facts = {}
    if not isinstance(facts, dict) or not isinstance(facts.get("pid"), int):
        facts = {}
    return Owner(str(facts.get("id", "")), touched, facts)


def this_process() -> dict[str, Any]:
    jobs = [os.environ[name] for name in _BATCH_JOBS if os.environ.get(name)]
    return {
        "host": platform.node(),
        "place": place(),
        "pid": os.getpid(),
        "born": born_at(os.getpid()),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "job": jobs[0] if jobs else None,
    }


def place() -> str:
    """Within this, a process number means one process: the host since it started, the container."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def born_at(pid: int) -> str | None:
    """When a living process began, by which a number that was given again is told; else None."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]
    except (OSError, IndexError, ValueError):
        if os.path.isdir("/proc/self"):
            return None
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return None
