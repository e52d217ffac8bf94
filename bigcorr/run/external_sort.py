"""Sorting more records than memory holds: sorted runs in files, and their merging.

A record is an element of a NumPy array; a function gives the integers to sort by. What records
mean is not known here.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bigcorr.pairs.order import Keys, ordered, sortable
from bigcorr.run.run_file import Run, RunReader, write_run

Array = NDArray[Any]
KeyOf = Callable[[Array], Keys]
TieOf = Callable[[Array], NDArray[np.int64]]

_SLICE = 2**18


class Merge:
    """The records of several runs in one order, in pieces.

    Parameters
    ----------
    runs : sorted by `key`, and where keys are equal by `tie`.
    dtype : of a record.
    rows : records of each run that are held at once; a piece has at most so many of each.
    key, tie : functions of records; without a `tie` equal keys come in any order.
    positions : how many records of each run to leave out: where an earlier merge stopped.

    Attributes
    ----------
    positions : list of int
        How many records of each run have been given out.

    Raises
    ------
    DamagedRun
        A run has not the length that it should have; or, when it is read, not its checksums.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        dtype: np.dtype[Any],
        rows: int,
        key: KeyOf,
        tie: TieOf | None = None,
        positions: Sequence[int] | None = None,
    ) -> None:
        self._runs, self._dtype, self._rows = list(runs), dtype, max(rows, 1)
        self._readers = [RunReader(run, dtype) for run in self._runs]
        self._key, self._tie = key, tie
        self.positions = list(positions) if positions is not None else [0] * len(self._runs)

    def __iter__(self) -> Iterator[Array]:
        read = list(self.positions)
        held = [np.empty(0, self._dtype) for _ in self._runs]
        while True:
            for i, run in enumerate(self._runs):
                wanted = min(self._rows - len(held[i]), run.length - read[i])
                if wanted > 0:
                    held[i] = np.concatenate([held[i], self._readers[i].read(read[i], wanted)])
                    read[i] += wanted
            keys = [self._key(part) for part in held]
            ties = [self._tie(part) if self._tie else None for part in held]
            # What is not read yet comes after the last record held of its run, so whatever comes
            # before the first of these can be given out.
            limits = [
                (keys[i][-1], ties[i][-1] if ties[i] is not None else 0)  # type: ignore[index]
                for i, run in enumerate(self._runs)
                if read[i] < run.length
            ]
            counts = [len(part) for part in held]
            if limits:
                limit = min(limits)
                counts = [_before(*pair, limit) for pair in zip(keys, ties, strict=True)]
            if not sum(counts):
                return
            chosen = [i for i, count in enumerate(counts) if count]
            records = np.concatenate([held[i][: counts[i]] for i in chosen])
            key = np.concatenate([keys[i][: counts[i]] for i in chosen])
            tie = None
            if self._tie:
                tie = np.concatenate([ties[i][: counts[i]] for i in chosen])  # type: ignore[index]
            for i in chosen:
                held[i] = held[i][counts[i] :].copy()
                self.positions[i] += counts[i]
            del keys, ties
            yield np.take(records, ordered(key, tie))


def _before(key: Keys, tie: NDArray[np.int64] | None, limit: tuple[Any, Any]) -> int:
    """How many sorted records come no later than a limit."""
    if tie is None:
        return int(np.searchsorted(key, limit[0], side="right"))
    start, stop = (int(np.searchsorted(key, limit[0], side=side)) for side in ("left", "right"))
    return start + int(np.searchsorted(tie[start:stop], limit[1], side="right"))


class Sorted:
    """Numbers of a stream from the largest to the smallest, in bounded memory.

    Parameters
    ----------
    rows : int
        Numbers held at once; what is more goes to a temporary folder.

    Examples
    --------
    >>> with Sorted(rows=2) as numbers:
    ...     numbers.add(np.array([0.5, 2.0, 1.0]))
    ...     numbers.add(np.array([3.0]))
    ...     np.concatenate(list(numbers)).tolist()
    [3.0, 2.0, 1.0, 0.5]
    """

    def __init__(self, rows: int = 2**25) -> None:
        self._rows = rows
        self._waiting: list[NDArray[np.float64]] = []
        self._held = 0
        self._runs: list[Run] = []
        self._folder: Path | None = None

    def __len__(self) -> int:
        return self._held + sum(run.length for run in self._runs)

    def add(self, numbers: NDArray[np.float64]) -> None:
        """Take up numbers; none may be NaN."""
        self._waiting.append(numbers)
        self._held += len(numbers)
        if self._held > self._rows:
            self._close_run()

    def _close_run(self) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="bigcorr-"))
        numbers = self._descending()
        path = self._folder / f"{len(self._runs)}.run"
        self._runs.append(write_run(path, numbers, keep=False))

    def _descending(self) -> NDArray[np.float64]:
        numbers = np.concatenate(self._waiting) if self._waiting else np.empty(0)
        self._waiting, self._held = [], 0
        numbers.sort()
        return numbers[::-1]

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        if not self._runs:
            numbers = self._descending()
            self._waiting, self._held = [numbers], len(numbers)
            for start in range(0, len(numbers), _SLICE):
                yield numbers[start : start + _SLICE]
            return
        if self._held:
            self._close_run()
        rows = max(self._rows // (8 * len(self._runs)), 1)
        yield from Merge(
            self._runs, np.dtype(np.float64), rows, lambda x: sortable(x, descending=True)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
