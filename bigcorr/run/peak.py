"""How much memory a run took at its worst: this process and its children together, by sampling."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import psutil


class PeakMemory:
    """Sample the resident memory of this process and its children while a block runs.

    Pages that processes share are counted in each, so the figure is never too low for that.

    Examples
    --------
    >>> with PeakMemory() as peak:
    ...     data = bytes(10_000_000)
    >>> peak.bytes > 10_000_000
    True
    """

    def __init__(self, every: float = 0.2) -> None:
        self.bytes = 0
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def sample(self) -> None:
        """Look once."""
        total = 0
        process = psutil.Process()
        try:
            processes = [process, *process.children(recursive=True)]
        except psutil.Error:
            processes = [process]
        for each in processes:
            try:
                total += each.memory_info().rss
            except psutil.Error:  # it ended between the list and the look
                continue
        self.bytes = max(self.bytes, total)

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            self.sample()

    def __enter__(self) -> Self:
        self.sample()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.sample()
