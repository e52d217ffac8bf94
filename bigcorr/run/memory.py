"""What a run takes of memory, known before it: what processes take, what tasks may, and the sum.

Pure arithmetic. What a task of some job holds is said where the job is (`map_job`, `plan`,
`motion.tile`); `make memory` holds all of it against runs that are watched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bigcorr.errors import InputError

MiB = 2**20

PROCESS_BYTES = 300 * MiB
"""What a process takes beside its tasks: measured are 185 to 255 MiB with the libraries and the
compiled kernels, and up to 50 more where kernels are compiled for the first time."""

DRIVER_BYTES = 260 * MiB
"""What the process that hands out the tasks of others takes, with the scheduler in it and a helper
of Python's beside it: measured are 165 to 235 MiB."""

FILL = 0.75
"""Part of a worker's limit that a plan may fill: dask pauses a worker at 0.8 of it."""


def task_room(limit: int | None) -> int | None:
    """Bytes that a task may take where a slot may take `limit`; None: there is no limit."""
    # The libraries take their part, whoever started the process.
    return None if limit is None else int(FILL * limit) - PROCESS_BYTES


def too_little_memory(needed: int, limit: int | None, takes: str) -> InputError:
    """What is said where a task of so many bytes does not fit a slot."""
    return InputError(
        f"memory: a task needs {mebibytes(needed + PROCESS_BYTES)} ({mebibytes(PROCESS_BYTES)} of "
        f"them for the process), and {FILL:.0%} of the limit of {mebibytes(limit or 0)} is "
        f"{mebibytes(int(FILL * (limit or 0)))}: {takes}"
    )


@dataclass(frozen=True)
class Projection:
    """Most bytes of a run.

    task : of one task.
    slots : tasks at a time.
    processes : workers that are processes of their own; 0: tasks are threads of this process.
    beside : arrays of this process while tasks run.
    alone : most bytes of arrays of this process while none runs.

    Examples
    --------
    >>> run = Projection(task=100 * MiB, slots=4, processes=2)
    >>> run.worker_bytes // MiB, run.peak_bytes // MiB
    (500, 1260)
    """

    task: int
    slots: int
    processes: int
    beside: int = 0
    alone: int = 0

    @classmethod
    def on(cls, pool: Any, task: int, beside: int = 0, alone: int = 0) -> Projection:
        """Of a run on a `Pool`."""
        return cls(task, pool.slots, getattr(pool, "processes", 0), beside, alone)

    @property
    def worker_bytes(self) -> int:
        """Of one process that tasks run in."""
        return PROCESS_BYTES + self.task * -(-self.slots // max(self.processes, 1))

    @property
    def peak_bytes(self) -> int:
        """Of all processes together."""
        tasks = self.slots * self.task
        if not self.processes:
            return PROCESS_BYTES + max(tasks + self.beside, self.alone)
        held = max(self.beside, self.alone)
        return DRIVER_BYTES + held + self.processes * PROCESS_BYTES + tasks


def mebibytes(value: int) -> str:
    """As people read it."""
    return f"{value / MiB:,.0f} MiB" if value >= 10 * MiB else f"{value / MiB:.1f} MiB"
