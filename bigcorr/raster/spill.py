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

RUN_ROWS = 2**22
"""Pairs sorted at once: about 64 MiB, and as much again while they are sorted."""


class Pairs(NamedTuple):
    """Sorted keys without repeats and the amount of each."""

    key: NDArray[np.int64]
    amount: NDArray[np.int64]


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
        self._runs: list[Pairs] = []

    def add(self, key: NDArray[np.int64], amount: NDArray[np.int64]) -> None:
        """Take up pairs; keys may repeat."""
        for start in range(0, len(key), self._rows):
            part = Pairs(key[start : start + self._rows], amount[start : start + self._rows])
            self._waiting.append(part)
            self._count += len(part.key)
            if self._count >= self._rows:
                self._close_run()

    def _close_run(self) -> None:
        run = add_up(self._waiting)
        self._waiting, self._count = [], 0
        self._runs.append(self._to_disk(run))

    def _to_disk(self, run: Pairs) -> Pairs:
        with store.writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            name = f"run-{len(self._runs)}"
            np.save(self._folder / f"{name}-key.npy", run.key)
            np.save(self._folder / f"{name}-amount.npy", run.amount)
        return self._mapped(name)

    def _mapped(self, name: str) -> Pairs:
        key, amount = (
            np.load(self._folder / f"{name}-{part}.npy", mmap_mode="r")
            for part in ("key", "amount")
        )
        return Pairs(key, amount)

    def result(self) -> tuple[Pairs, int]:
        """All keys in order with their sums (mapped from a file if large), and the largest sum."""
        if not self._runs:
            merged = add_up(self._waiting)
            return merged, int(merged.amount.max(initial=0))
        if self._count:
            self._close_run()
        if len(self._runs) == 1:
            return self._runs[0], int(self._runs[0].amount.max(initial=0))
        return self._merge()

    def _merge(self) -> tuple[Pairs, int]:
        low = min(int(run.key[0]) for run in self._runs)
        high = max(int(run.key[-1]) for run in self._runs) + 1
        total = largest = 0
        paths = [self._folder / "merged-key", self._folder / "merged-amount"]
        with (
            store.writing(self._folder),
            open(paths[0], "wb") as keys,
            open(paths[1], "wb") as sums,
        ):
            for part in self._merged_parts(low, high):
                part.key.tofile(keys)
                part.amount.tofile(sums)
                total += len(part.key)
                largest = max(largest, int(part.amount.max()))
        key, amount = (np.memmap(p, dtype=np.int64, mode="r", shape=(total,)) for p in paths)
        return Pairs(key, amount), largest

    def _merged_parts(self, low: int, high: int) -> Iterator[Pairs]:
        """The sums of keys in [low, high), range by range: halved until it fits in memory."""
        parts = [span(run, low, high) for run in self._runs]
        total = sum(len(part.key) for part in parts)
        if total > self._rows and high - low > 1:
            middle = (low + high) // 2
            yield from self._merged_parts(low, middle)
            yield from self._merged_parts(middle, high)
        elif total:
            yield add_up(parts)


def span(run: Pairs, low: int, high: int) -> Pairs:
    """The pairs of a sorted run whose key lies in [low, high)."""
    start, stop = np.searchsorted(run.key, [low, high])
    return Pairs(run.key[start:stop], run.amount[start:stop])


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
