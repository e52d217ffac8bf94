"""Images of any format into a stack store, shard by shard."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bigcorr.raster.rasterize import check_size, workers
from bigcorr.raster.source import open_source
from bigcorr.raster.stack import StackWriter
from bigcorr.raster.writer import jsonable
from bigcorr.tiles import Box


def convert_images(
    paths: list[Path], target: Path, facts: dict[str, Any], layout: dict[str, Any]
) -> dict[str, Any]:
    """Write the channels of images as a stack, shard by shard; see `ingest` for the summary."""
    source = open_source([str(path) for path in paths])
    progress = layout["progress"]
    check_size(source.shape[0], source.shape[1:], layout["chunk"])
    own = {
        key: value
        for key, value in source.attrs.items()
        if key not in ("kind", "format", "fingerprint", "nodata")
    }
    if source.nodata is not None:
        own["nodata"] = source.nodata
    writer = StackWriter(
        target,
        source.channels,
        source.shape[1:],
        source.dtype,
        chunk=layout["chunk"],
        shard=layout["shard"],
        attrs=jsonable({**own, **facts}),
        mask=source.mask(Box(0, source.shape[1], 0, source.shape[2])),
        overwrite=layout["overwrite"],
    )
    units = list(writer.shard_boxes)

    def one(unit: tuple[slice, Box]) -> None:
        known = source.occupied(unit[1])
        if known is None or known[unit[0]].any():
            writer.write(*unit, source.read(*unit))

    try:
        with ThreadPoolExecutor(workers()) as pool:
            for done, _ in enumerate(pool.map(one, units), start=1):
                if progress:
                    progress("write", done, len(units))
        writer.finish(source.counts)
    except BaseException:
        writer.abort()
        raise
    return {
        "channels": source.shape[0],
        "shape": list(source.shape[1:]),
        "dtype": str(source.dtype),
        "left_out": {},
        "warnings": [],
    }
