"""Images of any format into a stack store, shard by shard."""

from __future__ import annotations

from typing import Any

from bigcorr.raster.base import RasterSource
from bigcorr.raster.markers import jsonable
from bigcorr.raster.points import Progress
from bigcorr.raster.rasterize import check_size, write_shards
from bigcorr.raster.stack import StackWriter
from bigcorr.tiles import Box


def convert_images(
    source: RasterSource,
    facts: dict[str, Any],
    progress: Progress | None,
    **layout: Any,
) -> tuple[StackWriter, Any, dict[str, Any]]:
    """Write the channels of images as a stack, shard by shard, all but the `finish`.

    Returns the writer, the channels' totals where they are known, and the summary of `ingest`.
    """
    check_size(source.shape[0], source.shape[1:], layout["chunk"])
    own = {
        key: value
        for key, value in source.attrs.items()
        if key not in ("kind", "format", "fingerprint", "nodata")
    }
    if source.nodata is not None:
        own["nodata"] = source.nodata
    writer = StackWriter(
        channels=source.channels,
        shape=source.shape[1:],
        dtype=source.dtype,
        attrs=jsonable({**own, **facts}),
        mask=source.mask(Box(0, source.shape[1], 0, source.shape[2])),
        **layout,
    )

    def one(channels: slice, box: Box) -> None:
        known = source.occupied(box)
        if known is None or known[channels].any():
            writer.write(channels, box, source.read(channels, box))
        else:
            writer.skip(channels, box)

    write_shards(writer, one, progress)
    summary = {
        "channels": source.shape[0],
        "shape": list(source.shape[1:]),
        "dtype": str(source.dtype),
        "left_out": {},
        "warnings": [],
        "units": writer.total,
        "units_done_before": writer.found,
    }
    return writer, source.counts, summary
