"""Sorting and adding up more (key, amount) pairs than memory holds.

Pairs come in any order; out come sorted keys, each once, with the sum of its amounts. Runs of
bounded length are sorted in memory; where there is more than one they go to files and are merged
by ranges of keys. It knows nothing of pixels: `rasterize.py` makes the keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.raster import store

RUN_ROWS = 2**21
"""Pairs sorted at once: 32 MiB, and a few times as much while they are sorted."""


class Pairs(NamedTuple):
    """Keys and the amount of each."""

    key: NDArray[np.int64]
    amount: NDArray[np.int64]


class Run:
    """Sorted pairs without repeated keys, in memory or in two files.

    Files are mapped for the moment of each look only: pages that stay mapped would count as the
    process's memory.
    """

    def __init__(self, length: int, held: Pairs | tuple[Path, Path]) -> None:
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
        held = self._held[part]
        if isinstance(held, np.ndarray):
            return held
        if not self._length:
            return np.empty(0, dtype=np.int64)
        return np.memmap(held, dtype=np.int64, mode="r", shape=(self._length,))


class Accumulator:
    """Adds up amounts by key in bounded memory.

    Parameters
    ----------
    folder : where runs are kept once there are more than one; made when it is needed.
    rows : pairs held in memory before they become a run.
    """

    def __init__(self, folder: Path, rows: int = RUN_ROWS) -> None:
        self._folder = folder
        self._rows = rows
        self._waiting: list[Pairs] = []
        self._count = 0
        self._runs: list[Run] = []

    def add(self, key: NDArray[np.int64], amount: NDArray[np.int64]) -> None:
        """Take up pairs; keys may repeat."""
        for start in range(0, len(key), self._rows):
            part = Pairs(key[start : start + self._rows], amount[start : start + self._rows])
            self._waiting.append(part)
            self._count += len(part.key)
            if self._count >= self._rows:
                self._close_run()

    def _close_run(self) -> None:
        pairs = add_up(self._waiting)
        self._waiting, self._count = [], 0
        with store.writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            files = self._files(f"run-{len(self._runs)}")
            for path, values in zip(files, pairs, strict=True):
                values.tofile(path)
        self._runs.append(Run(len(pairs.key), files))

    def _files(self, name: str) -> tuple[Path, Path]:
        return self._folder / f"{name}-keys", self._folder / f"{name}-amounts"

    def result(self) -> tuple[Run, int]:
        """All keys in order with their sums, and the largest sum."""
        if not self._runs:
            pairs = add_up(self._waiting)
            return Run(len(pairs.key), pairs), int(pairs.amount.max(initial=0))
        if self._count:
            self._close_run()
        low = min(int(run.take(0, 1).key[0]) for run in self._runs)
        high = max(int(run.take(len(run) - 1, len(run)).key[0]) for run in self._runs) + 1
        total = largest = 0
        files = self._files("merged")
        with (
            store.writing(self._folder),
            open(files[0], "wb") as keys,
            open(files[1], "wb") as sums,
        ):
            for part in self._merged_parts(low, high):
                part.key.tofile(keys)
                part.amount.tofile(sums)
                total += len(part.key)
                largest = max(largest, int(part.amount.max()))
        return Run(total, files), largest

    def _merged_parts(self, low: int, high: int) -> Iterator[Pairs]:
        """The sums of keys in [low, high), range by range: halved until it fits in memory."""
        bounds = [run.bounds(low, high) for run in self._runs]
        total = sum(stop - start for start, stop in bounds)
        if total > self._rows and high - low > 1:
            middle = (low + high) // 2
            yield from self._merged_parts(low, middle)
            yield from self._merged_parts(middle, high)
        elif total:
            yield add_up([run.take(*bound) for run, bound in zip(self._runs, bounds, strict=True)])


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
    """Rows kept for a second look: in memory while they are few, else in a file.

    Parameters
    ----------
    folder : where the file goes.
    dtype : of a row.
    limit : bytes held in memory.
    """

    def __init__(self, folder: Path, dtype: np.dtype[np.void], limit: int = 2**26) -> None:
        self._path = folder / "rows"
        self._dtype = dtype
        self._limit = limit
        self._parts: list[NDArray[np.void]] = []
        self._lengths: list[int] = []
        self._held = 0

    def add(self, rows: NDArray[np.void]) -> None:
        """Append a batch of rows."""
        self._lengths.append(len(rows))
        self._parts.append(rows)
        self._held += rows.nbytes
        if self._held > self._limit:
            with store.writing(self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with open(self._path, "ab") as file:
                    for part in self._parts:
                        part.tofile(file)
            self._parts, self._held = [], 0

    def __iter__(self) -> Iterator[NDArray[np.void]]:
        """The batches in the order in which they came."""
        in_memory = iter(self._parts)
        on_disk = len(self._lengths) - len(self._parts)
        if on_disk:
            with open(self._path, "rb") as file:
                for length in self._lengths[:on_disk]:
                    yield np.fromfile(file, dtype=self._dtype, count=length)
        yield from in_memory
