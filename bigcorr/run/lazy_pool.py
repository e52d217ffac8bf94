"""A pool whose cluster starts with the first task.

What is refused, planned only, or found done needs no processes; several steps of a job share
those of the first. Tasks themselves are `cluster`'s part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from bigcorr.run.cluster import Pool, open_pool, parse_memory, processors
from bigcorr.run.progress import Progress


class LazyPool:
    """A `Pool` that knows its width and memory before there is a process.

    Only of a local cluster are these known beforehand; any other is joined when they are asked
    for. The dashboard is announced when the cluster starts.
    """

    dashboard = None

    def __init__(
        self,
        cluster: str,
        workers: int | None,
        threads: int | None,
        memory: str | int | None,
        progress: Progress,
    ) -> None:
        self._asked: dict[str, Any] = {"workers": workers, "threads": threads, "memory": memory}
        self._cluster, self._progress = cluster, progress
        self._threads = threads or 1
        self._workers = workers or max(1, processors() // self._threads)
        self._memory = parse_memory(memory)
        self._pool: Pool | None = None
        self._stack = ExitStack()
        self.description = f"{cluster} cluster"

    @property
    def slots(self) -> int:
        if self._cluster == "local" and self._pool is None:
            return self._workers * self._threads
        return self._started().slots

    @property
    def processes(self) -> int:
        if self._cluster == "local" and self._pool is None:
            return self._workers
        return self._started().processes

    @property
    def memory_limit(self) -> int | None:
        if self._cluster != "local" or self._pool is not None:
            return self._started().memory_limit
        if self._memory is not None:
            return self._memory // self._threads
        import logging

        from distributed.worker_memory import parse_memory_limit

        share = parse_memory_limit("auto", self._threads, logger=logging.getLogger(__name__))
        return None if share is None else share // self._threads

    def imap(
        self, function: Callable[..., Any], tasks: Iterable[tuple], window: int | None = None
    ) -> Iterator[tuple[int, Any]]:
        tasks = iter(tasks)
        first = next(tasks, None)
        if first is None:
            return
        yield from self._started().imap(function, _chain(first, tasks), window)

    def _started(self) -> Pool:
        if self._pool is None:
            self._pool = self._stack.enter_context(open_pool(self._cluster, **self._asked))
            if self._pool.dashboard:
                self._progress.note(f"dashboard: {self._pool.dashboard}")
        return self._pool

    def close(self) -> None:
        """End the cluster, if it ever started."""
        self._stack.close()


def _chain(first: tuple, rest: Iterator[tuple]) -> Iterator[tuple]:
    yield first
    yield from rest


@contextmanager
def open_lazy_pool(
    cluster: str,
    workers: int | None,
    threads: int | None,
    memory: str | int | None,
    progress: Progress,
) -> Iterator[LazyPool]:
    """A `LazyPool` for the time of a command."""
    pool = LazyPool(cluster, workers, threads, memory, progress)
    try:
        yield pool
    finally:
        pool.close()
