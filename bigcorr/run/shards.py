"""A stage that writes a raster by whole shards: those that are missing, through a pool.

How shards are kept is in `raster.writer`; what a shard holds is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bigcorr.raster.writer import Unit
from bigcorr.run.cluster import Pool
from bigcorr.run.progress import Progress
from bigcorr.run.worker_memory import DeadWorkerError


def write_shards(
    pool: Pool,
    function: Callable[..., Any],
    tasks: Iterable[tuple[Any, ...]],
    pending: Sequence[Unit],
    total: int,
    *,
    name: str,
    named: Callable[[Unit], str],
    worker_bytes: int,
    progress: Progress,
) -> list[Any]:
    """Carry out a task for each shard that is missing; what each gave.

    Parameters
    ----------
    function, tasks : what writes a shard, and its arguments for each of the pending ones.
    pending, total : the shards, and how many there are with those that are done.
    name : of the stage.
    named : a shard in words.
    worker_bytes : projected bytes of a worker.
    """
    found: list[Any] = []
    before = total - len(pending)
    progress(name, before, total)
    try:
        for _, result in pool.imap(function, tasks):
            found.append(result)
            progress(name, before + len(found), total)
    except DeadWorkerError as error:
        raise error.told(named(pending[error.index]), worker_bytes) from error
    return found
