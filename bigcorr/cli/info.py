"""``bigcorr info``: what a raster, a stack, a map or a result holds, from its metadata alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bigcorr.cli import tables
from bigcorr.cli.results import measures_in, result_at

if TYPE_CHECKING:
    import xarray as xr

    from bigcorr.raster.base import RasterSource

SHOWN_CHANNELS = 10


def describe(path: str) -> tuple[dict[str, Any], list[Any]]:
    """Facts for ``--json``, and the same as tables."""
    result = result_at(path)
    if result is not None:
        return _describe_result(path, result)
    from bigcorr.raster.source import open_source

    return _describe_raster(path, open_source(path))


def _describe_result(path: str, result: xr.Dataset) -> tuple[dict[str, Any], list[Any]]:

    measures = {
        name: dict(result[name].attrs) | {"significance": f"{name}_sd" in result}
        for name in measures_in(result)
    }
    facts: dict[str, Any] = {
        "path": path,
        "kind": "result",
        "channels": result.sizes["channel"],
        "others": result.sizes["other"],
        "measures": measures,
        "attrs": dict(result.attrs),
    }
    head = {
        "result": path,
        "channels": f"{facts['channels']} x {facts['others']}",
        **{key: value for key, value in result.attrs.items() if _is_short(value)},
    }
    rows = [
        (
            name,
            about.get("kind", ""),
            "yes" if about["significance"] else "no",
            ", ".join(f"{k}={v}" for k, v in (about.get("parameters") or {}).items()),
        )
        for name, about in measures.items()
    ]
    header = ("measure", "kind", "significance", "parameters")
    return facts, [tables.facts(head), "", tables.grid(header, rows, left=header)]


def _describe_raster(path: str, source: RasterSource) -> tuple[dict[str, Any], list[Any]]:
    from bigcorr.tiles import Box

    shape = source.shape[1:] if source.planar else source.shape
    occupancy = occupied_share(source)
    masked = source.mask(Box(0, 1, 0, 1)) is not None
    raw = source.shape[0] * source.shape[1] * source.shape[2] * source.dtype.itemsize
    facts: dict[str, Any] = {
        "path": path,
        "kind": source.attrs.get("kind", "image" if source.planar else "raster"),
        "shape": list(shape),
        "dtype": str(source.dtype),
        "chunk": list(source.chunk),
        "nodata": source.nodata,
        "mask": masked,
        "occupied_blocks": occupancy,
        "bytes": raw,
        "channels": list(source.channels),
        "counts": None if source.counts is None else source.counts.tolist(),
        "attrs": source.attrs,
    }
    dims = "(y, x)" if source.planar else "(channel, y, x)"
    head = {
        facts["kind"]: path,
        "shape": f"{tuple(shape)}  {dims}",
        "dtype": facts["dtype"],
        "chunk": f"{source.chunk[0]} x {source.chunk[1]}",
        "size": f"{tables.size(raw)} uncompressed",
        "nodata": source.nodata,
        "mask": "stored" if masked else None,
        "occupied": None if occupancy is None else f"{occupancy:.1%} of the blocks",
        "total": None if source.counts is None else tables.plain(float(source.counts.sum())),
        **{
            k: v
            for k, v in source.attrs.items()
            if k not in ("kind", "nodata", "fingerprint") and _is_short(v)
        },
    }
    shown: list[Any] = [tables.facts(head)]
    if not source.planar:
        shown += ["", *_channel_table(source)]
    return facts, shown


def _channel_table(source: RasterSource) -> list[Any]:
    """The first channels; with their counts, the largest first, where these are known."""
    counts, names = source.counts, source.channels
    more = len(names) - SHOWN_CHANNELS
    note = [f"... and {more} more"] if more > 0 else []
    if counts is None:
        rows = [(name,) for name in names[:SHOWN_CHANNELS]]
        return [tables.grid(("channel",), rows, left=("channel",)), *note]
    order = sorted(range(len(names)), key=lambda i: -float(counts[i]))[:SHOWN_CHANNELS]
    counted = [(names[i], tables.plain(float(counts[i]))) for i in order]
    return [tables.grid(("channel", "count"), counted, left=("channel",)), *note]


def occupied_share(source: RasterSource) -> float | None:
    """Share of (channel, block) chunks that hold anything; None where it is not recorded."""
    from bigcorr.tiles import grid

    filled = total = 0
    for box in grid((source.shape[1], source.shape[2]), source.chunk):
        known = source.occupied(box)
        if known is None:
            return None
        filled += int(known.sum())
        total += known.size
    return filled / total


def _is_short(value: Any) -> bool:
    return value is not None and len(str(value)) <= 100
