"""The stage that makes cells of a blurred stack once, for all stages that read them.

They are written by whole shards like a map; a run that was killed goes on with those that are
missing. What a cell is lives in `coarse`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from bigcorr.raster.store import SHARD_BYTES
from bigcorr.raster.writer import ShardWriter, Unit
from bigcorr.retry import in_words, telling
from bigcorr.run.cluster import Pool
from bigcorr.run.coarse import CellMeans, KeptCells
from bigcorr.run.progress import Progress
from bigcorr.run.question import PairsQuestion
from bigcorr.run.shards import write_shards
from bigcorr.tiles import Box


class Kept(NamedTuple):
    """What the stage did: units, those of them that an earlier run had done, and seconds."""

    units: int
    found: int
    seconds: float


def kept_of(asked: PairsQuestion) -> Iterator[KeptCells]:
    """The cells that a run keeps, blur by blur."""
    for sigma in dict.fromkeys(asked.sigmas):
        source = asked.loader(sigma).source
        if isinstance(source, KeptCells):
            yield source


def keep_cells(asked: PairsQuestion, pool: Pool, progress: Progress, task: int) -> Kept:
    """Make what is not there yet.

    Parameters
    ----------
    task : int
        Projected bytes of a worker.

    Returns
    -------
    Kept
    """
    units = found = 0
    seconds = 0.0
    for kept in kept_of(asked):
        writer = ShardWriter(
            kept.store,
            kept.shape,
            kept.dtype,
            fingerprint=kept.fingerprint(),
            attrs={"kind": "cells"},
        )
        count, pending = sum(1 for _ in writer.units), writer.pending
        units, found = units + count, found + count - len(pending)
        if len(pending) < count:
            progress.note(f"cells: {count - len(pending)} of {count} shards are done already")
        spent = write_shards(
            pool,
            _keep_unit,
            ((kept.base, writer, unit) for unit in pending),
            pending,
            count,
            name="cells",
            named=_named,
            worker_bytes=task,
            progress=progress,
        )
        seconds += sum(spent)
        writer.finish()
    return Kept(units, found, seconds)


def stage_bytes(asked: PairsQuestion) -> int:
    """Most bytes of a task; 0 where nothing is kept."""
    # A shard, and as much again while it is encoded.
    return max((kept.base.work_bytes + 2 * SHARD_BYTES for kept in kept_of(asked)), default=0)


def read_bytes(asked: PairsQuestion) -> int:
    """About as many bytes are read from storage."""
    return sum(
        int(kept.base.bytes_a_pixel * kept.shape[0] * kept.shape[1] * kept.shape[2])
        for kept in kept_of(asked)
    )


def _named(unit: Unit) -> str:
    return f"cells of {in_words(_box_of(unit))}"


def _box_of(unit: Unit) -> Box:
    return Box(unit[1].start, unit[1].stop, unit[2].start, unit[2].stop)


def _keep_unit(cells: CellMeans, writer: ShardWriter, unit: Unit) -> float:
    """In the worker: make and write one shard; gives the seconds that it took."""
    started = time.perf_counter()
    telling(_named(unit), lambda: writer.write(unit, cells.read(unit[0], _box_of(unit))))
    return time.perf_counter() - started
