"""Tables of points and counts at spots: read, laid on a grid, counted, and written as a stack.

Each step keeps what it has done in the folder of the ingest, so that a killed one goes on there:
rows in files of 32 MiB, each sorted by cell, merged, and the shards of the stack. A small table is
held in memory, and only its shards are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.raster import store
from bigcorr.raster.markers import jsonable
from bigcorr.raster.points import GeneNames, Progress, read_points
from bigcorr.raster.rasterize import (
    MAX_PIXELS,
    CellKeys,
    PixelGrid,
    channel_counts,
    check_size,
    write_cells,
)
from bigcorr.raster.spill import RUN_ROWS, Accumulator, Cells, Spool
from bigcorr.raster.spots import read_spots
from bigcorr.raster.stack import StackWriter

ROW = np.dtype([("y", "f8"), ("x", "f8"), ("gene", "i4"), ("count", "i8")])

Done = tuple[StackWriter, NDArray[np.int64], dict[str, Any]]
"""A stack that wants its `finish`, the totals of its channels, and the summary."""


@dataclass(frozen=True)
class Table:
    """What is asked of a table.

    Attributes
    ----------
    size : side of a pixel in units of the table.
    origin : (y, x) of the raster's corner, if it is given.
    facts : what is kept with the stack.
    layout : path, chunk, shard and the like, as `StackWriter` takes them.
    folder : of the work under way.
    """

    paths: list[Path]
    size: float
    origin: tuple[float, float] | None
    rounded: bool
    normalize: str | None
    columns: dict[str, str] | None
    facts: dict[str, Any]
    layout: dict[str, Any]
    folder: Path
    progress: Progress | None

    def grid(self, low: Sequence[float], high: Sequence[float]) -> PixelGrid:
        """The pixels that hold positions from `low` to `high`, (y, x) both."""
        start, stop = ((float(value[0]), float(value[1])) for value in (low, high))
        return PixelGrid.spanning(start, stop, self.size, self.origin, self.rounded)

    def keys(self, channels: int, grid: PixelGrid) -> CellKeys:
        """Numbers for the cells of the grid; refuses too many."""
        check_size(channels, grid.shape, self.layout["chunk"])
        _, shards = store.clip_chunks(grid.shape, self.layout["chunk"], self.layout["shard"])
        return CellKeys(channels, grid.shape, shards)


@dataclass
class _Seen:
    """How far tables were read, and what was in them: the note of a file of rows."""

    file: int = 0
    position: int = 0
    rows: int = 0
    unplaced: int = 0
    unnamed: int = 0
    low: list[float] = field(default_factory=lambda: [math.inf, math.inf])
    high: list[float] = field(default_factory=lambda: [-math.inf, -math.inf])


def ingest_points(table: Table) -> Done:
    """Rows of transcripts, counted by gene and pixel."""
    genes, spool, seen = _read(table)
    if not math.isfinite(seen.low[0]):
        total = seen.rows
        why = f"none of its {total} rows has a position and a gene" if total else "it has no rows"
        raise InputError(f"{table.paths[0]}: {why}")
    grid = table.grid(seen.low, seen.high)
    names, order = genes.sorted_names()
    keys = table.keys(len(names), grid)
    adder = Accumulator(table.folder, spool.batches, table.progress)
    for number in adder.pending:
        rows = spool.batch(number)
        row, column, on = grid.locate(rows["y"], rows["x"])
        before = int(np.count_nonzero(~on))
        on &= rows["count"] > 0
        key = keys.of(order[rows["gene"][on]], row[on], column[on])
        adder.add(key, rows["count"][on], before)
    cells = adder.result()
    left_out = {
        "position is not finite": seen.unplaced,
        "no gene": seen.unnamed,
        "before the origin": adder.left_out,
    }
    mask = _counted_pixels(cells, keys) if table.normalize else None
    writer, counts, summary = _write(table, names, keys, grid, cells, mask, left_out)
    units = {
        "units": summary["units"] + len(spool.kept.notes) + adder.units,
        "units_done_before": summary["units_done_before"] + spool.kept.found + adder.found,
    }
    return writer, counts, summary | {"rows": seen.rows} | units


def _read(table: Table) -> tuple[GeneNames, Spool, _Seen]:
    """All rows of all tables, behind those that an earlier run has kept."""
    genes, spool, seen = GeneNames(), Spool(table.folder, ROW), _Seen()
    for note in spool.kept.notes:
        for name in note["genes"]:
            genes.numbers[name] = len(genes.numbers)
        seen = _Seen(**note["seen"])
    if spool.kept.ended:
        return genes, spool, seen
    known = len(genes.numbers)

    def keep(**more: Any) -> None:
        nonlocal known
        new = list(genes.numbers)[known:]
        known += len(new)
        spool.keep({"seen": jsonable(vars(seen)), "genes": new, **more})

    try:
        for number, path in enumerate(table.paths[seen.file :], seen.file):
            start = seen.position if number == seen.file else 0
            for points in read_points(path, genes, table.columns, start):
                placed = np.isfinite(points.y) & np.isfinite(points.x)
                named = placed & (points.gene >= 0)
                rows = np.empty(int(np.count_nonzero(named)), dtype=ROW)
                for name in ROW.names or ():
                    rows[name] = getattr(points, name)[named]
                if len(rows):
                    for axis, name in enumerate(("y", "x")):
                        seen.low[axis] = min(seen.low[axis], float(rows[name].min()))
                        seen.high[axis] = max(seen.high[axis], float(rows[name].max()))
                spool.add(rows)
                seen.file, seen.position = number, points.end
                seen.rows += len(named)
                seen.unplaced += int(np.count_nonzero(~placed))
                seen.unnamed += int(np.count_nonzero(placed)) - len(rows)
                if spool.full:
                    keep()
                if table.progress:
                    table.progress("read", seen.rows, None)
    except InputError as error:
        if isinstance(error.__cause__, OSError):
            # A checksum of compressed text is verified at its end: none of it can be trusted.
            whole = (note["seen"]["file"] < number for note in spool.kept.notes)
            spool.kept.drop(sum(whole))
        raise
    if spool.kept.notes:
        keep(end=True)
    return genes, spool, seen


def ingest_spots(table: Table) -> Done:
    """Counts at spots, laid on the pixels of the spots."""
    if len(table.paths) > 1:
        raise InputError(f"takes one counts file at a time, got {len(table.paths)}")
    spots = read_spots(table.paths[0])
    if not len(spots.y) or not spots.genes:
        raise InputError(f"{table.paths[0]} has {len(spots.genes)} genes and {len(spots.y)} spots")
    grid = table.grid((spots.y.min(), spots.x.min()), (spots.y.max(), spots.x.max()))
    keys = table.keys(len(spots.genes), grid)
    row, column, on = grid.locate(spots.y, spots.x)
    mask = np.zeros(grid.shape, dtype=bool)
    mask[row[on], column[on]] = True
    merged = int(np.count_nonzero(on)) - int(np.count_nonzero(mask))
    adder = Accumulator(table.folder, max(1, -(-len(spots.count) // RUN_ROWS)), table.progress)
    for number in adder.pending:
        part = slice(number * RUN_ROWS, (number + 1) * RUN_ROWS)
        spot, count, gene = spots.spot[part], spots.count[part], spots.gene[part]
        keep = on[spot] & (count > 0)
        spot = spot[keep]
        adder.add(keys.of(gene[keep], row[spot], column[spot]), count[keep])
    cells = adder.result()
    left_out = {"spot before the origin": int(np.count_nonzero(~on))}
    more = {"merged_spots": merged}
    writer, counts, summary = _write(table, spots.genes, keys, grid, cells, mask, left_out, more)
    if merged:
        summary["warnings"].append(
            f"{merged} spots fell in a cell with another and were added up"
            + ("" if table.rounded else "; with round=True (--round) positions are rounded")
        )
    summary["units"] += adder.units
    summary["units_done_before"] += adder.found
    return writer, counts, summary | {"spots": len(spots.y), "cells": int(mask.sum()), **more}


def _write(
    table: Table,
    names: Sequence[str],
    keys: CellKeys,
    grid: PixelGrid,
    cells: Cells,
    mask: NDArray[np.bool_] | None,
    left_out: dict[str, int],
    more: dict[str, Any] | None = None,
) -> Done:
    left_out = {reason: rows for reason, rows in left_out.items() if rows}
    attrs = {**table.facts, **(more or {}), "origin": list(grid.corner)}
    if left_out:
        attrs["left_out"] = left_out
    writer = write_cells(
        names=names,
        keys=keys,
        cells=cells,
        attrs=jsonable(attrs),
        mask=mask,
        normalize=table.normalize,
        progress=table.progress,
        **table.layout,
    )
    counts = channel_counts(cells, keys)
    return (
        writer,
        counts,
        {
            "channels": len(names),
            "shape": list(grid.shape),
            "dtype": str(writer.dtype),
            "origin": list(grid.corner),
            "total_count": int(counts.sum()),
            "largest_count": cells.largest,
            "left_out": left_out,
            "warnings": [f"{rows} left out: {reason}" for reason, rows in left_out.items()],
            "units": writer.total,
            "units_done_before": writer.found,
        },
    )


def _counted_pixels(cells: Cells, keys: CellKeys) -> NDArray[np.bool_]:
    """(y, x) True where any channel has a count."""
    if math.prod(keys.shape) > MAX_PIXELS // 32:
        raise InputError(f"normalize takes rasters up to 46 340 x 46 340 pixels, got {keys.shape}")
    mask = np.zeros(keys.shape, dtype=bool)
    for part in cells.pieces():
        row, column = keys.pixel(part.key)
        mask[row, column] = True
    return mask
