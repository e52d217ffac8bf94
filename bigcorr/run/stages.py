"""Stages of a job: many units through a pool, merged in the order of the units.

The order in which units finish says nothing about the result: they are folded 0, 1, 2, ... and
kept on disk until their turn. A section is a run of units with a sum of its own. Stages of several
blurs may go through the pool side by side; each is merged and kept by itself. Knows nothing of
what a unit computes.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from bigcorr.retry import in_words, patiently, telling
from bigcorr.run.checkpoint import Arrays, Checkpoint
from bigcorr.run.cluster import Pool
from bigcorr.run.progress import Progress
from bigcorr.run.together import run_together
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


@dataclass(frozen=True)
class StageAsked:
    """A stage that is wanted: ``function(*unit)`` for all units, folded in order.

    name : what it is, the same for all blurs.
    folder : where its units and sums are kept, a name of its own.
    sections : lengths of the runs of units that are folded by themselves; one run by default.
    finish : ``finish(section, total)`` gives what is kept of a section once it is whole.
    keys : where each unit looks, in increasing order; by default its number. Units with the same
        key of stages with the same name may be worked on together.
    """

    name: str
    folder: str
    function: Callable[..., Arrays]
    units: Sequence[tuple]
    fold: Fold
    sections: Sequence[int] | None = None
    finish: Callable[[int, Arrays], Arrays] | None = None
    keys: Sequence[tuple[int, ...]] | None = None


class _Running:
    """A stage under way: what is merged of it, what waits for its turn, what is to be done."""

    def __init__(self, asked: StageAsked, checkpoint: Checkpoint | None) -> None:
        self.asked, self.checkpoint = asked, checkpoint
        self.ends = np.cumsum(asked.sections or [len(asked.units)]).tolist()
        whole, prefix, stored = checkpoint.done(asked.folder) if checkpoint else (0, 0, set[int]())
        self.finished = [Section(None, checkpoint, asked.folder, k) for k in range(whole)]
        self.merged = self.ends[whole - 1] if whole else 0
        self.total: Arrays = {}
        if checkpoint and prefix > self.merged:
            self.total, self.merged = checkpoint.read_prefix(asked.folder, prefix), prefix
        stored = {index for index in stored if index >= self.merged}
        self.found = self.merged + len(stored)
        units = range(self.merged, len(asked.units))
        self.pending = [index for index in units if index not in stored]
        self.waiting: dict[int, Arrays | None] = dict.fromkeys(stored)
        self.since = 0

    def key(self, index: int) -> tuple[int, ...]:
        return (index,) if self.asked.keys is None else self.asked.keys[index]

    def fold_ready(self) -> None:
        """Fold all units whose turn it is."""
        folder, checkpoint = self.asked.folder, self.checkpoint
        while True:
            if len(self.finished) < len(self.ends) and self.merged == self.ends[len(self.finished)]:
                if self.asked.finish is not None:
                    self.total = self.asked.finish(len(self.finished), self.total)
                if checkpoint:
                    checkpoint.write_section(folder, len(self.finished), self.merged, self.total)
                    self.finished.append(Section(None, checkpoint, folder, len(self.finished)))
                else:
                    self.finished.append(Section(self.total, None, folder, len(self.finished)))
                self.total, self.since = {}, 0
                continue
            if self.merged not in self.waiting:
                return
            started = time.perf_counter()
            arrays = self.waiting.pop(self.merged)
            if arrays is None:
                assert checkpoint is not None
                arrays = checkpoint.read_unit(folder, self.merged)
            self.since += sum(array.nbytes for array in arrays.values())
            self.asked.fold(self.total, self.merged, arrays)
            self.total["time.merge"] = self.total.get("time.merge", np.array(0.0)) + (
                time.perf_counter() - started
            )
            self.merged += 1
            held = sum(array.nbytes for array in self.total.values())
            within = self.merged not in self.ends
            if checkpoint and within and self.since > max(PREFIX_BYTES, 2 * held):
                checkpoint.write_prefix(folder, self.merged, self.total)
                self.since = 0


def run_stages(
    pool: Pool,
    asked: Sequence[StageAsked],
    *,
    held_bytes: int = 0,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> list[tuple[list[Section], int]]:
    """Run stages side by side: their units that look at the same place make up one task.

    Parameters
    ----------
    asked : stages of the same name, one a blur
    held_bytes : most bytes of pixels that the units of a task keep for each other

    Returns
    -------
    list of (sections, found)
        Of each stage; `found`: its units that an earlier run had done already.
    """
    running = [_Running(stage, checkpoint) for stage in asked]
    name = asked[0].folder if len(asked) == 1 else asked[0].name
    count = sum(len(stage.units) for stage in asked)
    found = sum(stage.found for stage in running)
    if found:
        progress.note(f"{name}: {found} of {count} units are done already")
    places: dict[tuple[int, ...], list[tuple[_Running, int]]] = defaultdict(list)
    for stage in running:
        for index in stage.pending:
            places[stage.key(index)].append((stage, index))
    pending = [places[key] for key in sorted(places)]
    progress(name, found, count)
    for stage in running:
        stage.fold_ready()
    tasks = (
        (
            checkpoint,
            name,
            [(s.asked.folder, index, s.asked.function, s.asked.units[index]) for s, index in parts],
            held_bytes,
        )
        for parts in pending
    )
    done = found
    try:
        for position, results in pool.imap(_run_units, tasks):
            for (stage, index), arrays in zip(pending[position], results, strict=True):
                stage.waiting[index] = arrays
                stage.fold_ready()
            done += len(results)
            progress(name, done, count)
    except DeadWorkerError as error:
        stage, index = pending[error.index][0]
        raise error.told(_unit_in_words(name, index, stage.asked.units[index])) from error
    return [(stage.finished, stage.found) for stage in running]


def _unit_in_words(stage: str, index: int, unit: tuple) -> str:
    box = next((part for part in unit if isinstance(part, Box)), None)
    return f"unit {index} of {stage}" + ("" if box is None else f", {in_words(box)}")


def _run_units(
    checkpoint: Checkpoint | None,
    stage: str,
    parts: list[tuple[str, int, Callable[..., Arrays], tuple]],
    held_bytes: int,
) -> list[Arrays | None]:
    """In the worker: compute units and keep them where all can see them, or hand them back."""
    _, index, function, unit = parts[0]
    where = _unit_in_words(stage, index, unit)
    if len(parts) == 1:
        found = [telling(where, function, *unit)]
    else:
        found = telling(where, run_together, [part[2:] for part in parts], held_bytes)
    if checkpoint is None:
        return list(found)
    for (folder, index, _, _), arrays in zip(parts, found, strict=True):
        patiently(f"keeping {where}", checkpoint.write_unit, folder, index, arrays)
    return [None] * len(parts)
