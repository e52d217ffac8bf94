"""`ingest`: tables of points, counts at spots and images into a stack store.

Which kind a source is, what may be asked of it, and the summary. The work of each step lives in
`points.py`, `spots.py`, `rasterize.py` and `stack.py`.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.raster import store
from bigcorr.raster.convert import convert_images
from bigcorr.raster.ingest_checks import Source, as_paths, check_parameters, kind_of_all
from bigcorr.raster.lock import locked
from bigcorr.raster.points import GeneNames, Progress, read_points
from bigcorr.raster.rasterize import (
    MAX_PIXELS,
    CellKeys,
    PixelGrid,
    check_size,
    spill_folder,
    write_cells,
)
from bigcorr.raster.spill import RUN_ROWS, Accumulator, Run, Spool
from bigcorr.raster.spots import read_spots
from bigcorr.raster.writer import jsonable

ROW = np.dtype([("y", "f8"), ("x", "f8"), ("gene", "i4"), ("count", "i8")])


def ingest(
    sources: Source | Sequence[Source],
    dest: Source,
    *,
    bin: float | None = None,
    pixel_size: float | None = None,
    origin: tuple[float, float] | None = None,
    round: bool = False,
    normalize: str | None = None,
    chunk: int = store.CHUNK,
    shard: int = store.SHARD,
    columns: dict[str, str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make a stack store of tables of points, of counts at spots, or of images.

    Parameters
    ----------
    sources : one or several of a kind. *Points*: CSV, TSV, Stereo-seq GEM or Parquet with a row a
        transcript, plain or compressed; one channel a gene, in the order of the names. *Spots*:
        .npz with a CSR matrix (genes, spots) and ``pos`` (x, y). *Images*: Zarr, TIFF, .npy, PNG,
        JPEG; several give one channel each.
    dest : the store to make; nothing is there until all of it is done.
    bin : side of a pixel in units of the table where these are no lengths (Stereo-seq bins).
    pixel_size : side of a pixel in the table's unit of length, e.g. micrometres. Points and spots
        take exactly one of `bin` and `pixel_size`; for images it is only recorded.
    origin : (y, x) of the raster's corner, by default the least y and x of the table. Rows before
        it are left out, and counted.
    round : lay positions on the nearest whole multiple of the pixel size, which is then the
        centre of a pixel; else a pixel holds what lies in it.
    normalize : "log1p-cp10k": float32 log(1 + 10 000 count / total of the pixel over all genes);
        pixels without a spot (or without any count) are NaN.
    chunk, shard : (y, x) sizes in pixels.
    columns : names of the columns for ``x``, ``y``, ``gene``, ``count``, where they are not the
        usual ones of MERSCOPE, Xenium, CosMx, Stereo-seq (the gene's name before its id) or
        x, y, gene, count.
    overwrite : replace a store that is already at `dest`.
    progress : called with (stage, done, total or None).

    Returns
    -------
    dict
        ``kind``, ``channels``, ``shape`` (y, x), ``dtype``, ``total_count``, ``rows`` read,
        ``left_out`` (reason -> rows), ``warnings`` and the parameters, all JSON-like.

    Raises
    ------
    MissingFileError
        A source is not there.
    InputError
        A source is of no known kind, a parameter does not fit it, or `dest` exists.
    RunError
        The disk is full or refuses.

    Notes
    -----
    Memory does not grow with the table: rows wait in a file beside `dest` once they take more than
    64 MiB, are counted by sorting runs of 2 million, and each shard (64 MiB at most) is filled
    and written once. Counts are stored in the smallest unsigned type that holds the largest.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from bigcorr.raster.ingest import ingest
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> text = "x,y,gene\\n0,0,a\\n3,1,b\\n3,1,b\\n"
    >>> table = folder / "points.csv"
    >>> _ = table.write_text(text)
    >>> done = ingest(table, folder / "stack.zarr", pixel_size=1)
    >>> done["shape"], done["channels"], done["total_count"]
    ([2, 4], 2, 3)
    """
    started = time.perf_counter()
    paths = as_paths(sources)
    kind = kind_of_all(paths)
    target = Path(dest)
    check_parameters(kind, bin, pixel_size, origin, round, normalize, columns)
    store.clip_chunks((1, 1), chunk, shard)
    store.check_destination(target, overwrite)
    facts = {
        "source": [path.name for path in paths],
        "pixel_size": None if pixel_size is None else float(pixel_size),
        "bin": None if bin is None else float(bin),
        "normalize": normalize,
        "round": bool(round) or None,
    }
    facts = {key: value for key, value in facts.items() if value is not None}
    folder = spill_folder(target)
    with locked(target, progress) as lock:
        watched = lock.watch(progress)
        layout = {"chunk": chunk, "shard": shard, "overwrite": overwrite, "progress": watched}
        store.remove(folder)
        try:
            if kind == "image":
                summary = convert_images(paths, target, facts, layout)
            else:
                size = float(bin if bin is not None else pixel_size or 0.0)
                place = {"size": size, "origin": origin, "rounded": bool(round)}
                common = (target, folder, facts, place, normalize, layout)
                if kind == "points":
                    summary = _ingest_points(paths, columns, *common)
                else:
                    summary = _ingest_spots(paths, *common)
        finally:
            if not lock.lost:
                with contextlib.suppress(OSError):  # a disk that refuses has said so by now
                    store.remove(folder)
    summary = {"kind": kind, "path": str(target), **facts, **summary}
    return jsonable({**summary, "wall_seconds": time.perf_counter() - started})


def _ingest_points(
    paths: list[Path],
    columns: dict[str, str] | None,
    target: Path,
    folder: Path,
    facts: dict[str, Any],
    place: dict[str, Any],
    normalize: str | None,
    layout: dict[str, Any],
) -> dict[str, Any]:
    progress = layout["progress"]
    genes = GeneNames()
    spool = Spool(folder, ROW)
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    total = unplaced = unnamed = 0
    for path in paths:
        for points in read_points(path, genes, columns):
            placed = np.isfinite(points.y) & np.isfinite(points.x)
            keep = placed & (points.gene >= 0)
            total += len(keep)
            unplaced += int(np.count_nonzero(~placed))
            unnamed += int(np.count_nonzero(placed & (points.gene < 0)))
            rows = np.empty(int(np.count_nonzero(keep)), dtype=ROW)
            for name in ("y", "x", "gene", "count"):
                rows[name] = getattr(points, name)[keep]
            if len(rows):
                for axis, name in enumerate(("y", "x")):
                    low[axis] = min(low[axis], rows[name].min())
                    high[axis] = max(high[axis], rows[name].max())
                spool.add(rows)
            if progress:
                progress("read", total, None)
    if not np.isfinite(low).all():
        why = f"none of its {total} rows has a position and a gene" if total else "it has no rows"
        raise InputError(f"{paths[0]}: {why}")
    grid = _grid(low, high, place)
    check_size(len(genes.numbers), grid.shape, layout["chunk"])
    names, order = genes.sorted_names()
    keys = _keys(len(names), grid, layout)
    cells = Accumulator(folder)
    before = 0
    for rows in spool:
        row, column, on = grid.locate(rows["y"], rows["x"])
        before += len(on) - int(np.count_nonzero(on))
        on &= rows["count"] > 0
        cells.add(keys.of(order[rows["gene"][on]], row[on], column[on]), rows["count"][on])
    left_out = {
        "position is not finite": unplaced,
        "no gene": unnamed,
        "before the origin": before,
    }
    mask = None
    counted = cells.result()
    if normalize:
        mask = _counted_pixels(counted[0], keys)
    return _write(target, names, keys, grid, counted, mask, facts, left_out, normalize, layout) | {
        "rows": total
    }


def _ingest_spots(
    paths: list[Path],
    target: Path,
    folder: Path,
    facts: dict[str, Any],
    place: dict[str, Any],
    normalize: str | None,
    layout: dict[str, Any],
) -> dict[str, Any]:
    if len(paths) > 1:
        raise InputError(f"takes one counts file at a time, got {len(paths)}")
    spots = read_spots(paths[0])
    if not len(spots.y) or not spots.genes:
        raise InputError(f"{paths[0]} has {len(spots.genes)} genes and {len(spots.y)} spots")
    low = np.array([spots.y.min(), spots.x.min()])
    high = np.array([spots.y.max(), spots.x.max()])
    grid = _grid(low, high, place)
    check_size(len(spots.genes), grid.shape, layout["chunk"])
    keys = _keys(len(spots.genes), grid, layout)
    row, column, on = grid.locate(spots.y, spots.x)
    mask = np.zeros(grid.shape, dtype=bool)
    mask[row[on], column[on]] = True
    merged = int(np.count_nonzero(on)) - int(np.count_nonzero(mask))
    cells = Accumulator(folder)
    for start in range(0, len(spots.count), RUN_ROWS):
        part = slice(start, start + RUN_ROWS)
        spot, count, gene = spots.spot[part], spots.count[part], spots.gene[part]
        keep = on[spot] & (count > 0)
        spot = spot[keep]
        cells.add(keys.of(gene[keep], row[spot], column[spot]), count[keep])
    left_out = {"spot before the origin": int(np.count_nonzero(~on))}
    summary = _write(
        target,
        spots.genes,
        keys,
        grid,
        cells.result(),
        mask,
        {**facts, "merged_spots": merged},
        left_out,
        normalize,
        layout,
    )
    if merged:
        summary["warnings"].append(
            f"{merged} spots fell in a cell with another and were added up"
            + ("" if place["rounded"] else "; with round=True (--round) positions are rounded")
        )
    return summary | {"spots": len(spots.y), "cells": int(mask.sum()), "merged_spots": merged}


def _write(
    target: Path,
    names: Sequence[str],
    keys: CellKeys,
    grid: PixelGrid,
    counted: tuple[Run, int],
    mask: NDArray[np.bool_] | None,
    facts: dict[str, Any],
    left_out: dict[str, int],
    normalize: str | None,
    layout: dict[str, Any],
) -> dict[str, Any]:
    cells, largest = counted
    left_out = {reason: rows for reason, rows in left_out.items() if rows}
    attrs = {**facts, "origin": list(grid.corner)}
    if left_out:
        attrs["left_out"] = left_out
    write_cells(
        target,
        names,
        keys,
        cells,
        largest,
        attrs=jsonable(attrs),
        mask=mask,
        normalize=normalize,
        **layout,
    )
    dtype = np.dtype(np.float32) if normalize else np.min_scalar_type(largest)
    return {
        "channels": len(names),
        "shape": list(grid.shape),
        "dtype": str(dtype),
        "origin": list(grid.corner),
        "total_count": sum(int(part.amount.sum()) for part in cells.pieces()),
        "largest_count": largest,
        "left_out": left_out,
        "warnings": [f"{rows} left out: {reason}" for reason, rows in left_out.items()],
    }


def _grid(low: NDArray[np.float64], high: NDArray[np.float64], place: dict[str, Any]) -> PixelGrid:
    bounds = [(float(value[0]), float(value[1])) for value in (low, high)]
    return PixelGrid.spanning(
        bounds[0], bounds[1], place["size"], place["origin"], place["rounded"]
    )


def _keys(channels: int, grid: PixelGrid, layout: dict[str, Any]) -> CellKeys:
    _, shards = store.clip_chunks(grid.shape, layout["chunk"], layout["shard"])
    return CellKeys(channels, grid.shape, shards)


def _counted_pixels(cells: Run, keys: CellKeys) -> NDArray[np.bool_]:
    """(y, x) True where any channel has a count."""
    if math.prod(keys.shape) > MAX_PIXELS // 32:
        raise InputError(f"normalize takes rasters up to 46 340 x 46 340 pixels, got {keys.shape}")
    mask = np.zeros(keys.shape, dtype=bool)
    for part in cells.pieces():
        row, column = keys.pixel(part.key)
        mask[row, column] = True
    return mask
