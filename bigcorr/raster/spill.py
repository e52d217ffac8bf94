"""Sorting and adding up more (key, amount) pairs than memory holds.

Pairs come in batches, in any order; out come sorted keys, each once, with the sum of its amounts.
Each batch is sorted in memory; where there is more than one they go to files, which are merged by
ranges of keys. What is in a file is kept for a run that is killed. Nothing is known of pixels:
`rasterize.py` makes the keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.raster.pieces import Pieces
from bigcorr.raster.points import Progress

RUN_ROWS = 2**21
"""Pairs sorted at once: 32 MiB, and a few times as much while they are sorted."""

MERGED_ROWS = 2**22
"""Merged pairs a file: 64 MiB."""

SPOOL_BYTES = 2**25
"""Rows held in memory before they go to a file."""

FOLDERS = ROWS, RUNS, MERGED = "rows", "runs", "merged"
"""Where rows, sorted batches and their sums lie in the folder of an ingest."""


class Pairs(NamedTuple):
    """Keys and the amount of each."""

    key: NDArray[np.int64]
    amount: NDArray[np.int64]


class Run:
    """Sorted pairs without repeated keys, in memory or in a file: the keys, then the amounts.

    A file is mapped for the moment of each look only: pages that stay mapped would count as the
    process's memory.
    """

    def __init__(self, length: int, held: Pairs | Path) -> None:
        self._length = length
        self._held = held

    def __len__(self) -> int:
        return self._length

    def bounds(self, low: int, high: int) -> tuple[int, int]:
        """Where the keys in [low, high) begin and end."""
        start, stop = np.searchsorted(self._mapped(0), [low, high]) if self._length else (0, 0)
        return int(start), int(stop)

    def take(self, start: int, stop: int) -> Pairs:
        """The pairs from place `start` to `stop`, in memory."""
        return Pairs(*(np.array(self._mapped(part)[start:stop]) for part in (0, 1)))

    def pieces(self, low: int = 0, high: int = 2**63 - 1) -> Iterator[Pairs]:
        """The pairs with keys in [low, high), a bounded number at a time."""
        first, last = self.bounds(low, high)
        for start in range(first, last, RUN_ROWS):
            yield self.take(start, min(start + RUN_ROWS, last))

    def _mapped(self, part: int) -> NDArray[np.int64]:
        if isinstance(self._held, tuple):
            return self._held[part]
        if not self._length:
            return np.empty(0, dtype=np.int64)
        return np.memmap(
            self._held, np.int64, "r", offset=8 * part * self._length, shape=(self._length,)
        )


class Cells:
    """All keys in order, each with its sum: a sequence of runs, one behind the other.

    Parameters
    ----------
    runs : (keys below which the run ends, run).
    largest : the largest sum.
    """

    def __init__(self, runs: list[tuple[int, Run]], largest: int) -> None:
        self._runs = runs
        self.largest = largest

    def __len__(self) -> int:
        return sum(len(run) for _, run in self._runs)

    def any(self, low: int, high: int) -> bool:
        """Whether there are keys in [low, high)."""
        return any(
            start < stop for start, stop in (r.bounds(low, high) for r in self._in(low, high))
        )

    def pieces(self, low: int = 0, high: int = 2**63 - 1) -> Iterator[Pairs]:
        """The pairs with keys in [low, high), a bounded number at a time."""
        for run in self._in(low, high):
            yield from run.pieces(low, high)

    def _in(self, low: int, high: int) -> Iterator[Run]:
        start = 0
        for stop, run in self._runs:
            if start < high and low < stop:
                yield run
            start = stop


class Accumulator:
    """Adds up amounts by key in bounded memory, batch by batch.

    Parameters
    ----------
    folder : where runs are kept if there are several batches; made when it is needed.
    batches : how many there are.
    progress : is told of each batch, and of the merge.
    """

    def __init__(self, folder: Path, batches: int, progress: Progress | None = None) -> None:
        self._batches = batches
        self._progress = progress
        self._held: Pairs | None = None
        self._left_out = 0
        self._runs = Pieces(folder / RUNS)
        self._merged = Pieces(folder / MERGED)

    @property
    def pending(self) -> range:
        """Numbers of the batches that are still to be added, in this order."""
        if self._merged.ended:
            return range(0)
        return range(len(self._runs.notes), self._batches)

    @property
    def units(self) -> int:
        """Files that were written, by this run or an earlier one."""
        return len(self._runs.notes) + len(self._merged.notes)

    @property
    def found(self) -> int:
        """Of these, those by an earlier run."""
        return self._runs.found + self._merged.found

    @property
    def left_out(self) -> int:
        """Rows of all batches that had no key."""
        return self._left_out + sum(note["left_out"] for note in self._runs.notes)

    def add(self, key: NDArray[np.int64], amount: NDArray[np.int64], left_out: int = 0) -> None:
        """Take up the next batch; keys may repeat. `left_out` tells of rows that have no key."""
        pairs = add_up([Pairs(key, amount)])
        if self._batches == 1:
            self._held, self._left_out = pairs, left_out
            return
        self._runs.add(pairs, {"length": len(pairs.key), "left_out": left_out})
        if self._progress:
            self._progress("count", len(self._runs.notes), self._batches)

    def result(self) -> Cells:
        """All keys in order with their sums."""
        if self._held is not None:
            end = int(self._held.key.max(initial=-1)) + 1
            run = Run(len(self._held.key), self._held)
            return Cells([(end, run)], int(self._held.amount.max(initial=0)))
        if not self._merged.ended:
            self._merge()
        notes = self._merged.notes
        runs = [
            (note["stop"], Run(note["length"], self._merged.file(number)))
            for number, note in enumerate(notes)
        ]
        return Cells(runs, max(note["largest"] for note in notes))

    def _merge(self) -> None:
        """Write the sums in files of bounded length, behind those that are there."""
        runs = [
            Run(note["length"], self._runs.file(number))
            for number, note in enumerate(self._runs.notes)
        ]
        filled = [run for run in runs if len(run)]
        low = min((int(run.take(0, 1).key[0]) for run in filled), default=0)
        end = max((int(run.take(len(run) - 1, len(run)).key[0]) for run in filled), default=-1) + 1
        total = sum(map(len, filled))
        if self._merged.notes:
            low = self._merged.notes[-1]["stop"]
        waiting: list[Pairs] = []

        def keep(stop: int, **more: Any) -> None:
            note = {
                "stop": stop,
                "length": sum(len(part.key) for part in waiting),
                "largest": max((int(part.amount.max()) for part in waiting), default=0),
                **more,
            }
            arrays = [part.key for part in waiting] + [part.amount for part in waiting]
            self._merged.add(arrays, note)
            waiting.clear()

        seen = 0
        for stop, part, taken in _merged_parts(filled, low, end):
            waiting.append(part)
            seen += taken
            if sum(len(each.key) for each in waiting) >= MERGED_ROWS:
                keep(stop)
            if self._progress:
                self._progress("merge", seen, total)
        keep(end, end=True)


def _merged_parts(runs: list[Run], low: int, high: int) -> Iterator[tuple[int, Pairs, int]]:
    """The sums of keys in [low, high), range by range: halved until one fits in memory.

    Gives the end of each range, its sums, and how many pairs they were made of.
    """
    bounds = [run.bounds(low, high) for run in runs]
    total = sum(stop - start for start, stop in bounds)
    if total > RUN_ROWS and high - low > 1:
        middle = (low + high) // 2
        yield from _merged_parts(runs, low, middle)
        yield from _merged_parts(runs, middle, high)
    elif total:
        parts = [run.take(*bound) for run, bound in zip(runs, bounds, strict=True)]
        yield high, add_up(parts), total


def add_up(parts: list[Pairs]) -> Pairs:
    """Sort pairs by key and add up those of the same key."""
    if not parts:
        return Pairs(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    key = np.concatenate([part.key for part in parts])
    amount = np.concatenate([part.amount for part in parts])
    if not len(key):
        return Pairs(key, amount)
    order = np.argsort(key, kind="stable")
    key, amount = key[order], amount[order]
    first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    return Pairs(key[first], np.add.reduceat(amount, first))


class Spool:
    """Rows kept for a second look: in memory while they are few, else in files.

    Parameters
    ----------
    folder : where the files go.
    dtype : of a row.
    """

    def __init__(self, folder: Path, dtype: np.dtype[np.void]) -> None:
        self.kept = Pieces(folder / ROWS)
        self._dtype = dtype
        self._parts: list[NDArray[np.void]] = []

    @property
    def full(self) -> bool:
        """Whether the rows in memory are as many as may be, and are to be kept."""
        return sum(part.nbytes for part in self._parts) > SPOOL_BYTES

    @property
    def batches(self) -> int:
        """Files, or the one batch that is in memory."""
        return len(self.kept.notes) or 1

    def add(self, rows: NDArray[np.void]) -> None:
        """Append rows."""
        self._parts.append(rows)

    def keep(self, note: dict[str, Any]) -> None:
        """Write what is in memory to a file, with a note for who goes on behind it."""
        self.kept.add(self._parts, note)
        self._parts = []

    def batch(self, number: int) -> NDArray[np.void]:
        """The rows of a batch in the order in which they came."""
        if self.kept.notes:
            return np.fromfile(self.kept.file(number), dtype=self._dtype)
        return np.concatenate([np.empty(0, self._dtype), *self._parts])
