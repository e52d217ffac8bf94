"""How much memory the workers of a cluster take, and how a death for want of it is told.

A worker that takes too much is killed from outside and tells nothing any more, so somebody has to
have looked before. No tasks are known here.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

import psutil

from bigcorr.errors import RunError
from bigcorr.run.memory import mebibytes

if TYPE_CHECKING:
    from distributed import Client

NEAR = 0.75
"""Part of a limit above which a worker that died is taken to have died of memory: between two
looks it may take a good deal more."""


class DeadWorkerError(RunError):
    """A task whose workers died, again and again.

    Parameters
    ----------
    index : of the task, in the order in which tasks were handed out.
    times : how often a worker died of it.
    seen : most bytes that any worker was seen with, 0 where nobody could look.
    limit : bytes that a worker may take, None where there is no limit.
    where : the task in words.
    projected : bytes that a worker should have needed.
    """

    def __init__(
        self,
        index: int,
        times: int,
        seen: int,
        limit: int | None,
        where: str = "",
        projected: int | None = None,
    ) -> None:
        self.index, self.times, self.seen, self.limit = index, times, seen, limit
        self.where, self.projected = where, projected
        often = "once" if times == 1 else f"{times} times"
        short = limit is not None and seen > NEAR * limit
        why = ", for want of memory" if short or not seen else ""
        facts = [f"a worker was seen with {mebibytes(seen)}"] if seen else []
        facts += [] if limit is None else [f"it may take {mebibytes(limit)}"]
        facts += [] if projected is None else [f"projected are {mebibytes(projected)}"]
        advice = "raise --memory or run fewer workers and threads"
        if not short and seen:
            advice = "that is not for want of memory: the logs of the workers say more"
        super().__init__(
            f"the worker of {where or f'task {index}'} died {often}{why} "
            f"({', '.join(facts) or 'its memory is not known'}): {advice}"
        )

    def told(self, where: str = "", projected: int | None = None) -> DeadWorkerError:
        """The same, with what a caller knows of it."""
        return DeadWorkerError(
            self.index,
            self.times,
            self.seen,
            self.limit,
            where or self.where,
            self.projected if projected is None else projected,
        )


@contextlib.contextmanager
def telling_projection(projected: int) -> Iterator[None]:
    """Workers that die inside are told of with the bytes that they should have needed."""
    try:
        yield
    except DeadWorkerError as error:
        raise error.told(projected=projected) from error


class WorkerMemory:
    """Look at the workers of a client now and then; `bytes` is the most that one of them had.

    Those that are processes of ours are looked at themselves, others through their scheduler.
    """

    def __init__(self, client: Client, every: float = 0.2) -> None:
        self.bytes = 0
        self._client, self._every = client, every
        self._local = getattr(client, "cluster", None) is not None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="worker-memory", daemon=True)

    def _watch(self) -> None:
        wait = self._every if self._local else 10 * self._every
        while True:
            # A worker or a scheduler that goes away while we look is what others tell of.
            with contextlib.suppress(Exception):
                self.bytes = max([self.bytes, *self._look()])
            if self._stop.wait(wait):
                return

    def _look(self) -> Iterator[int]:
        if not self._local:
            for worker in self._client.scheduler_info(n_workers=-1)["workers"].values():
                yield int(worker["metrics"]["memory"])
            return
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                yield process.memory_info().rss

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=1.0)
