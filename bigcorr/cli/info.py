"""``bigcorr info``: what a raster, a stack, a map, a result or a displacement holds.

Its metadata tell it, no pixel is read.
"""

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
    from bigcorr.motion.stored import displacement_at

    moved = displacement_at(path)
    if moved is not None:
        return _describe_displacement(path, moved)
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


def _describe_displacement(path: str, moved: xr.Dataset) -> tuple[dict[str, Any], list[Any]]:
    """A grid of vectors: how many, how they were searched, in which units they may be told."""
    from bigcorr.motion.result import MEANINGS
    from bigcorr.motion.stored import facts_of_found

    about = facts_of_found(moved)
    facts: dict[str, Any] = {"path": path, "kind": "displacement", **about}
    facts["variables"] = [name for name in MEANINGS if name in moved]
    rows, columns = about["nodes"]
    found = None
    if about["valid"] is not None:
        found = f"{about['valid']:,} of {rows * columns:,} nodes"
    size = about["pixel_size"]
    images = about["sources"] or [None, None]
    places = [
        None if values.size == 0 else f"{values[0]:g} to {values[-1]:g}"
        for values in (moved["y"].values, moved["x"].values)
    ]
    head = {
        "displacement": path,
        "reference": images[0],
        "moving": images[1],
        "nodes": f"({rows}, {columns})  (y, x)",
        "with a vector": found,
        "rows": f"{places[0]} pixels, every {about['step']}",
        "columns": f"{places[1]} pixels, every {about['step']}",
        "unit": "dy, dx in pixels (y down); what is at (y, x) in A is at (y + dy, x + dx) in B",
        "pixel": None if size is None else f"{size[0]:.6g} x {size[1]:.6g} of the raster's unit",
        "arrays": ", ".join(facts["variables"]),
        "started from": about["initial"],
        "subpixel": about["subpixel"],
        "weights": about["weights"],
        "smoothed": {True: "yes", False: "no"}.get(about["smooth"]),
        "way back": None
        if about["max_inconsistency"] is None
        else f"to within {about['max_inconsistency']:g} pixels",
        "bigcorr": about["version"],
    }
    passes = [
        (k, each["window"], each["search"], each["step"], 2 ** each["level"])
        for k, each in enumerate(about["passes"] or [], start=1)
    ]
    header = ("pass", "window", "search", "step", "pixels made one")
    return facts, [tables.facts(head), "", tables.grid(header, passes)]


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
