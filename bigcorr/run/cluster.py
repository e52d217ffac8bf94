"""Where work runs: threads of this process, a local cluster of processes, or any dask cluster.

A `Pool` does one thing: call a function on many argument tuples with a bounded number in flight
and hand back the results as they come. Which function, in which order results are merged and what
is kept on disk is the caller's business. The thread settings of workers are said here, once: one
task a thread, one BLAS thread a task, numba kernels serial inside a task.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bigcorr.errors import InputError, MissingFileError, RunError
from bigcorr.run.heap import HEAP
from bigcorr.run.worker_memory import DeadWorkerError, WorkerMemory
from bigcorr.run.workspace import release

if TYPE_CHECKING:
    from distributed import Client

# Set before NumPy is loaded in every worker process: a dask thread is the unit of parallelism.
THREAD_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    **{name: str(value) for name, value in HEAP.items()},
}


CONNECT_SECONDS = 10.0
"""How long a scheduler has to answer."""


class Pool(Protocol):
    """Somewhere to run tasks."""

    slots: int
    """Tasks that run at the same time."""
    processes: int
    """Worker processes; 0: tasks run in threads of this one."""
    dashboard: str | None
    """Address of the Dask dashboard, where there is one."""
    memory_limit: int | None
    """Bytes that one task slot may use, where a limit is set."""
    description: str
    """For messages and the plan: what kind of pool this is."""

    def imap(
        self, function: Callable[..., Any], tasks: Iterable[tuple], window: int | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Yield ``(index, function(*task))`` as completed, at most `window` in flight."""
        ...


class ThreadPool:
    """Threads of this process. Kernels release the GIL; nothing is ever pickled."""

    dashboard: str | None = None
    processes = 0

    def __init__(self, threads: int, memory_limit: int | None = None) -> None:
        self.slots = threads
        self.memory_limit = memory_limit
        self.description = f"{threads} thread{'s' * (threads != 1)} of this process"

    def imap(
        self, function: Callable[..., Any], tasks: Iterable[tuple], window: int | None = None
    ) -> Iterator[tuple[int, Any]]:
        # BLAS is limited for the time of the call, since the user's own code may want its threads.
        from threadpoolctl import threadpool_limits

        window = window or 2 * self.slots
        numbered = enumerate(tasks)
        executor = ThreadPoolExecutor(self.slots, thread_name_prefix="bigcorr")
        with threadpool_limits(1, user_api="blas"):
            try:
                flying: dict[Future, int] = {}
                for index, task in islice(numbered, window):
                    flying[executor.submit(function, *task)] = index
                while flying:
                    done, _ = wait(flying, return_when=FIRST_COMPLETED)
                    for future in done:
                        index = flying.pop(future)
                        result = future.result()
                        del future
                        for next_index, task in islice(numbered, 1):
                            flying[executor.submit(function, *task)] = next_index
                        yield index, result
            finally:
                executor.shutdown(wait=True, cancel_futures=True)
                release()


class DaskPool:
    """A dask cluster through its client."""

    def __init__(self, client: Client, description: str | None = None) -> None:
        self.client = client
        self.slots = sum(client.nthreads().values()) or 1
        self.processes = len(client.nthreads()) or 1
        workers = client.scheduler_info()["workers"].values()
        limits = [w["memory_limit"] // max(w["nthreads"], 1) for w in workers if w["memory_limit"]]
        self.memory_limit = min(limits) if limits else None
        whole = [w["memory_limit"] for w in workers if w["memory_limit"]]
        self._worker_limit = min(whole) if whole else None
        self.dashboard = client.dashboard_link
        self.description = description or f"dask cluster with {self.slots} slots"

    def imap(
        self, function: Callable[..., Any], tasks: Iterable[tuple], window: int | None = None
    ) -> Iterator[tuple[int, Any]]:
        from distributed import as_completed
        from distributed.scheduler import KilledWorker

        numbered = enumerate(tasks)
        indices: dict[str, int] = {}

        def submit(index: int, task: tuple) -> Any:
            # Results are consumed once and may be large: never reuse one by its key.
            future = self.client.submit(
                _call_with_one_blas_thread, function, *task, pure=False, priority=-index
            )
            indices[future.key] = index
            return future

        with self._reached():
            completed = as_completed(
                [submit(*item) for item in islice(numbered, window or 2 * self.slots)]
            )
        try:
            with WorkerMemory(self.client) as memory:
                while not completed.is_empty():
                    with self._reached():
                        future = next(completed)
                        index = indices.pop(future.key)
                        try:
                            result = future.result()
                        except KilledWorker as error:
                            times = error.allowed_failures + 1
                            # Tasks that waited in the same worker are told dead as well, and may
                            # be told first: it was at the one that was handed out first.
                            time.sleep(0.5)
                            dead = [f.key for f in completed.futures if f.status == "error"]
                            index = min([index, *(indices[key] for key in dead if key in indices)])
                            raise DeadWorkerError(
                                index, times, memory.bytes, self._worker_limit
                            ) from error
                        future.release()
                        for item in islice(numbered, 1):
                            completed.add(submit(*item))
                    yield index, result
        finally:
            # A cluster that has gone has nothing left to drop.
            if self.client.status == "running":
                self.client.cancel(list(completed.futures))
                # Their memory is not ours to keep.
                with suppress(Exception):
                    self.client.run(_release, wait=False, on_error="ignore")

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Say in one line that the scheduler is gone, whichever of its calls finds that out."""
        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError

        try:
            yield
        except Exception as error:
            gone = isinstance(error, (FutureCancelledError, CommClosedError))
            if gone or self.client.status != "running":
                raise RunError(
                    f"the scheduler{self._address} is gone or does not answer any more: what is "
                    "done is kept; start a scheduler and run the same command again"
                ) from error
            raise

    @property
    def _address(self) -> str:
        scheduler = self.client.scheduler
        return "" if scheduler is None else f" at {scheduler.address}"


async def _release() -> None:
    """`release` as a worker carries it out without being waited for: only coroutines may be."""
    release()


def _call_with_one_blas_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Workers that we did not start may hold a multi-threaded BLAS: limit it for each task."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        return function(*args)


def active_client() -> Client | None:
    """The dask client that the caller has open, if any, without importing distributed."""
    import sys

    if "distributed" not in sys.modules:
        return None
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


def connect(
    cluster: str = "local",
    *,
    workers: int | None = None,
    threads: int = 1,
    memory: str | int | None = None,
) -> Client:
    """Start or reach a dask cluster and make it the active client.

    Library calls such as `bigcorr.pairwise` then run on it. Without a client they run on threads
    of the calling process and never start another.

    Parameters
    ----------
    cluster : str
        ``"local"`` starts worker processes on this machine, on loopback;
        ``"tcp://host:8786"`` joins a running scheduler.
    workers : int, optional
        Worker processes of a local cluster; default: the processors this process may use.
    threads : int
        Threads a worker.
    memory : str or int, optional
        Memory limit of one worker, such as ``"2GiB"``; default: an equal share of the machine's.

    Returns
    -------
    distributed.Client

    Raises
    ------
    InputError
        If `cluster` is none of the above, or no scheduler answers there.

    Examples
    --------
    >>> import bigcorr as bc
    >>> client = bc.connect("local", workers=2, memory="1GiB")  # doctest: +SKIP
    """
    from distributed import Client

    if cluster == "local":
        return Client(_local_cluster(workers, threads, memory))
    if "://" in cluster:
        try:
            return Client(cluster, timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError) as error:
            raise InputError(f"cluster: no scheduler answers at {cluster} ({error})") from error
    if cluster.endswith((".yaml", ".yml")):
        if not Path(cluster).exists():
            raise MissingFileError(f"cluster: no such file: {cluster}")
        raise InputError(
            f"cluster: {cluster}: cluster files are not supported yet; start the cluster and give "
            "its address as tcp://host:port"
        )
    raise InputError(f"cluster: got {cluster!r}, takes 'local' or tcp://host:port")


def processors() -> int:
    """The processors that this process may use (not those of the whole machine)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_memory(memory: str | int | None, name: str = "memory") -> int | None:
    """Bytes from ``"2GiB"``, ``"500MB"`` or a number; an `InputError` that names the argument."""
    if memory is None:
        return None
    from dask.utils import parse_bytes

    try:
        value = int(parse_bytes(memory))
    except ValueError as error:
        raise InputError(f"{name}: got {memory!r}, takes bytes such as 2GiB or 500MB") from error
    if value <= 0:
        raise InputError(f"{name}: got {memory!r}, takes a positive number of bytes")
    return value


def _spare_memory() -> int:
    """Half of what the machine has free: the process belongs to the caller."""
    import psutil

    return int(psutil.virtual_memory().available // 2)


def _local_cluster(workers: int | None, threads: int, memory: str | int | None) -> Any:
    import dask
    from distributed import LocalCluster

    count = workers or max(1, processors() // threads)
    limit = parse_memory(memory)
    # The nanny applies this before the worker's interpreter starts; spawned, never forked.
    dask.config.set({"distributed.nanny.pre-spawn-environ": THREAD_ENVIRONMENT})
    dask.config.set({"distributed.worker.multiprocessing-method": "spawn"})
    return LocalCluster(
        n_workers=count,
        threads_per_worker=threads,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit=limit if limit is not None else "auto",
        silence_logs=40,
    )


@contextmanager
def open_pool(
    cluster: str | Client | Pool | None = None,
    *,
    workers: int | None = None,
    threads: int | None = None,
    memory: str | int | None = None,
) -> Iterator[Pool]:
    """A pool for the time of a job.

    Parameters
    ----------
    cluster : str, Client, Pool or None
        None: the active dask client if there is one, else threads of this process. A string: as
        `connect` takes it, closed at the end. A client or a pool: used and left open.
    workers, threads, memory
        As in `connect`; `memory` is the limit of one worker.
    """
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None and value < 1:
            raise InputError(f"{name}: got {value}, takes a whole number of at least 1")
    if cluster is None:
        client = active_client()
        if client is not None:
            yield DaskPool(client)
            return
        count = threads or workers or processors()
        yield ThreadPool(count, (parse_memory(memory) or _spare_memory()) // count)
    elif isinstance(cluster, str):
        client = connect(cluster, workers=workers, threads=threads or 1, memory=memory)
        owned = client.cluster
        try:
            yield DaskPool(client, f"{cluster} cluster")
        finally:
            client.close()
            if owned is not None:
                owned.close()
    elif hasattr(cluster, "imap"):
        yield cluster
    else:
        yield DaskPool(cluster)
