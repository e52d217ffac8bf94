"""What a look at the disk finds: a damage with its place, and the outcome of a check. No I/O."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


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
    units_done, units : of a map under way; 0 for the others.
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
