"""What a look at the disk finds: a damage with its place, and the outcome of a check.

Where to look is the part of `check.py` and `check_begun.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import zarr

from bigcorr.raster import chunks
from bigcorr.run.progress import Progress

READERS = 4
"""Shards that are decoded at the same time: each may take 64 MiB and more."""


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong.

    Attributes
    ----------
    kind : "missing", "torn" (another length), "damaged" (cannot be decoded, or another checksum),
        "marker" or "metadata".
    file : path of the file that is meant.
    where : chunk, channel, rows and columns in words; "" where it is not about pixels.
    reason : in words.
    array : path of the Zarr array, "" where there is none.
    chunk : index of the chunk.
    start, stop : the pixels of it, one number a dimension.
    """

    kind: str
    file: str
    where: str
    reason: str
    array: str = ""
    chunk: tuple[int, ...] | None = None
    start: tuple[int, ...] | None = None
    stop: tuple[int, ...] | None = None

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        return f"{self.kind}: {where}{self.file}: {self.reason}"


@dataclass(frozen=True)
class StoreCheck:
    """What `check_store` found.

    Attributes
    ----------
    path : what was looked at.
    kind : "stack", "map", "raster", "pairs", "ranking" or "zarr" (a store of somebody else).
    state : "finished", "unfinished" (the same command again goes on) or "in use" (a run holds the
        lock of the output).
    files : files of data that were read.
    units_done, units : shards of a map or stack under way; 0 for the others.
    damages : what is wrong.
    without_checksum : arrays whose chunks have no checksum: of these, damage is only seen where
        it keeps a chunk from being decoded.
    """

    path: str
    kind: str
    state: str
    files: int = 0
    units_done: int = 0
    units: int = 0
    damages: tuple[Damage, ...] = ()
    without_checksum: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damages

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {**asdict(self), "ok": self.ok, "damages": [asdict(d) for d in self.damages]}


Task = Callable[[], "list[Damage]"]


def damage_at(
    kind: str,
    array: zarr.Array[Any],
    chunk: tuple[int, ...],
    place: chunks.Place,
    file: Path,
    reason: str,
) -> Damage:
    """A damage of a chunk, or of the chunks of a shard, with its place in words."""
    return Damage(
        kind,
        str(file),
        f"chunk {chunk} ({chunks.describe_place(array, place)})",
        reason,
        chunks.store_root(array),
        chunk,
        tuple(part.start for part in place),
        tuple(part.stop for part in place),
    )


def run_tasks(tasks: list[Task], progress: Progress) -> list[Damage]:
    """What a list of looks at the disk finds, some at a time."""
    found: list[Damage] = []
    progress("check", 0, len(tasks))
    with ThreadPoolExecutor(READERS) as pool:
        try:
            for done, damages in enumerate(pool.map(lambda task: task(), tasks), 1):
                found += damages
                progress("check", done, len(tasks))
        finally:
            pool.shutdown(cancel_futures=True)
    return found
