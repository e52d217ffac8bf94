"""Whether a store was made by this very step: a fingerprint and a summary kept in its attributes.

For steps that write their output in one go (ingest, simulate): the same command again finds its
work done, and a job that was cut short goes on behind it. The runs over tiles keep finer records
of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bigcorr import __version__

KEY = "bigcorr_step"


def fingerprint(command: str, options: Mapping[str, Any], sources: Sequence[str] = ()) -> str:
    """A hash of the step: what it is called with, its files as they are now, and our version."""
    from bigcorr.raster.base import digest

    return digest(command, __version__, dict(options), [_stamp(path) for path in sources])


def _stamp(path: str) -> list[str]:
    from bigcorr.raster.base import file_stamp
    from bigcorr.raster.source import open_source

    if Path(path).is_file():
        return [str(Path(path).resolve()), file_stamp(path)]
    return [open_source(path).fingerprint()]


def read(store: str, stamp: str) -> dict[str, Any] | None:
    """The summary that was left in `store` by the step of this fingerprint, else None."""
    import zarr

    from bigcorr.raster.store import is_zarr

    if not is_zarr(store):
        return None
    node = zarr.open(store, mode="r")
    left = node.attrs.get(KEY)
    if not isinstance(left, dict) or left.get("fingerprint") != stamp:
        return None
    return dict(left["summary"])


def leave(store: str, stamp: str, summary: Mapping[str, Any]) -> None:
    """Note in a finished store which step made it."""
    import zarr

    from bigcorr.raster.store import consolidate, writing
    from bigcorr.raster.writer import jsonable

    with writing(store):
        group = zarr.open_group(store, mode="r+")
        group.attrs[KEY] = jsonable({"fingerprint": stamp, "summary": dict(summary)})
        consolidate(Path(store))
