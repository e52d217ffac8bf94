"""One stage of a job: many units through a pool, merged in the order of the units.

The order in which units finish says nothing about the result: they are folded 0, 1, 2, ... and
kept on disk until their turn. A section is a run of units with a sum of its own. Knows nothing of
what a unit computes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from bigcorr.retry import in_words, patiently, telling
from bigcorr.run.checkpoint import Arrays, Checkpoint
from bigcorr.run.cluster import Pool
from bigcorr.run.progress import Progress
from bigcorr.run.worker_memory import DeadWorkerError
from bigcorr.tiles import Box

Fold = Callable[[Arrays, int, Arrays], None]
"""``fold(total, index, unit)`` adds the arrays of a unit to the total in place."""

PREFIX_BYTES = 64 * 2**20
"""A merged prefix is written once the units behind the last one hold more than this, or than
twice the total: then prefixes cost no more than units."""


class Section:
    """The folded sum of one section of a stage: in memory, or on disk until it is asked for."""

    def __init__(self, arrays: Arrays | None, checkpoint: Checkpoint | None, stage: str, k: int):
        self._arrays, self._checkpoint, self._stage, self._k = arrays, checkpoint, stage, k

    def load(self, names: Collection[str] | None = None, prefix: str = "") -> Arrays:
        """The arrays; of some names, or that begin with `prefix`, where they are there."""
        if self._arrays is None:
            assert self._checkpoint is not None
            return self._checkpoint.read_section(self._stage, self._k, names, prefix)
        return {
            name: array
            for name, array in self._arrays.items()
            if (names is None or name in names) and name.startswith(prefix)
        }


def run_stage(
    pool: Pool,
    stage: str,
    function: Callable[..., Arrays],
    units: Sequence[tuple],
    fold: Fold,
    *,
    sections: Sequence[int] | None = None,
    finish: Callable[[int, Arrays], Arrays] | None = None,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> tuple[list[Section], int]:
    """Run ``function(*unit)`` for all units and fold the results in order.

    Parameters
    ----------
    sections : lengths of the runs of units that are folded by themselves; one run by default.
    finish : ``finish(section, total)`` gives what is kept of a section once it is whole.

    Returns
    -------
    sections : list of Section
    found : int
        Units that an earlier run had done already.
    """
    ends = np.cumsum(sections or [len(units)]).tolist()
    whole, prefix, stored = checkpoint.done(stage) if checkpoint else (0, 0, set[int]())
    finished = [Section(None, checkpoint, stage, k) for k in range(whole)]
    merged = ends[whole - 1] if whole else 0
    total: Arrays = {}
    if checkpoint and prefix > merged:
        total, merged = checkpoint.read_prefix(stage, prefix), prefix
    stored = {index for index in stored if index >= merged}
    found = merged + len(stored)
    if found:
        progress.note(f"{stage}: {found} of {len(units)} units are done already")
    pending = [index for index in range(merged, len(units)) if index not in stored]
    waiting: dict[int, Arrays | None] = dict.fromkeys(stored)
    since = 0
    progress(stage, found, len(units))

    def fold_ready() -> None:
        nonlocal merged, since, total
        while True:
            if len(finished) < len(ends) and merged == ends[len(finished)]:
                if finish is not None:
                    total = finish(len(finished), total)
                if checkpoint:
                    checkpoint.write_section(stage, len(finished), merged, total)
                    finished.append(Section(None, checkpoint, stage, len(finished)))
                else:
                    finished.append(Section(total, None, stage, len(finished)))
                total, since = {}, 0
                continue
            if merged not in waiting:
                return
            started = time.perf_counter()
            arrays = waiting.pop(merged)
            if arrays is None:
                assert checkpoint is not None
                arrays = checkpoint.read_unit(stage, merged)
            since += sum(array.nbytes for array in arrays.values())
            fold(total, merged, arrays)
            total["time.merge"] = total.get("time.merge", np.array(0.0)) + (
                time.perf_counter() - started
            )
            merged += 1
            held = sum(array.nbytes for array in total.values())
            if checkpoint and merged not in ends and since > max(PREFIX_BYTES, 2 * held):
                checkpoint.write_prefix(stage, merged, total)
                since = 0

    fold_ready()
    tasks = ((checkpoint, stage, index, function, units[index]) for index in pending)
    try:
        for count, (position, arrays) in enumerate(pool.imap(_run_unit, tasks), 1):
            waiting[pending[position]] = arrays
            fold_ready()
            progress(stage, found + count, len(units))
    except DeadWorkerError as error:
        index = pending[error.index]
        raise error.told(_unit_in_words(stage, index, units[index])) from error
    return finished, found


def _unit_in_words(stage: str, index: int, unit: tuple) -> str:
    box = next((part for part in unit if isinstance(part, Box)), None)
    return f"unit {index} of {stage}" + ("" if box is None else f", {in_words(box)}")


def _run_unit(
    checkpoint: Checkpoint | None,
    stage: str,
    index: int,
    function: Callable[..., Arrays],
    unit: tuple,
) -> Any:
    """In the worker: compute a unit and keep it where all can see it, or hand it back."""
    where = _unit_in_words(stage, index, unit)
    arrays = telling(where, function, *unit)
    if checkpoint is None:
        return arrays
    patiently(f"keeping {where}", checkpoint.write_unit, stage, index, arrays)
    return None
