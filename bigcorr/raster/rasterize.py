"""Points and spots onto a pixel grid, and the grid into a stack, shard by shard.

Where a position falls (`PixelGrid`), and how counted cells become a stack store (`write_cells`).
Where the positions come from is the part of `points.py` and `spots.py`.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.raster.points import Progress
from bigcorr.raster.spill import Cells
from bigcorr.raster.stack import StackWriter
from bigcorr.tiles import Box

MAX_PIXELS = 2**36
"""Pixels of one channel: 262 144 x 262 144."""
MAX_BLOCKS = 2**27
"""Entries of the occupancy table, which is held in memory while a stack is written."""


@dataclass(frozen=True)
class PixelGrid:
    """A regular grid in the coordinates of a table.

    Attributes
    ----------
    size : side of a pixel in table units.
    start : (y, x) of the first pixel's corner; with `rounded`, of its centre.
    shape : (y, x) in pixels.
    rounded : positions go to the nearest pixel centre instead of the pixel they lie in.
    """

    size: float
    start: tuple[float, float]
    shape: tuple[int, int]
    rounded: bool = False

    @classmethod
    def spanning(
        cls,
        low: tuple[float, float],
        high: tuple[float, float],
        size: float,
        origin: tuple[float, float] | None,
        rounded: bool,
    ) -> PixelGrid:
        """The grid that holds positions from `low` to `high`, from `origin` or from `low` on."""
        if origin is not None:
            start = origin
        elif rounded:  # whole multiples of the pixel size
            start = (_nearest(low[0] / size) * size, _nearest(low[1] / size) * size)
        else:
            start = low
        bare = cls(size, start, (1, 1), rounded)
        last = [float(bare._steps(np.array([h]), s)[0]) for h, s in zip(high, start, strict=True)]
        if max(last) >= 2**31 or (last[0] + 1) * (last[1] + 1) > MAX_PIXELS:
            raise InputError(
                f"the raster would have {last[0] + 1:.0f} x {last[1] + 1:.0f} pixels (y, x) at "
                f"{size:g} a pixel: choose a larger pixel, or look for stray positions (they go "
                f"from y {low[0]:g} to {high[0]:g}, x {low[1]:g} to {high[1]:g})"
            )
        if min(last) < 0:
            raise InputError(f"origin {origin} lies beyond every position: nothing would be left")
        return cls(size, start, (int(last[0]) + 1, int(last[1]) + 1), rounded)

    def _steps(self, values: NDArray[np.float64], start: float) -> NDArray[np.float64]:
        steps = (values - start) / self.size
        return np.floor(steps + 0.5 if self.rounded else steps)

    def locate(
        self, y: NDArray[np.float64], x: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Row and column of each position, and which of them lie on the grid."""
        row = self._steps(y, self.start[0])
        column = self._steps(x, self.start[1])
        on = (row >= 0) & (row < self.shape[0]) & (column >= 0) & (column < self.shape[1])
        return row.astype(np.int64), column.astype(np.int64), on

    @property
    def corner(self) -> tuple[float, float]:
        """(y, x) of the raster's corner in table units."""
        shift = self.size / 2 if self.rounded else 0.0
        return self.start[0] - shift, self.start[1] - shift


def _nearest(value: float) -> int:
    return math.floor(value + 0.5)


@dataclass(frozen=True)
class CellKeys:
    """Numbers cells (channel, row, column) so that a shard of any depth is a range of them.

    The order is shard row, shard column, channel, row and column within the shard.
    """

    channels: int
    shape: tuple[int, int]
    shard: tuple[int, int]

    @property
    def _across(self) -> int:
        return -(-self.shape[1] // self.shard[1])

    @property
    def _pixels(self) -> int:
        return self.shard[0] * self.shard[1]

    def of(
        self, channel: NDArray[np.integer], row: NDArray[np.int64], column: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        shard_row, y = np.divmod(row, self.shard[0])
        shard_column, x = np.divmod(column, self.shard[1])
        plane = (shard_row * self._across + shard_column) * self.channels + channel
        return plane * self._pixels + y * self.shard[1] + x

    def pixel(self, key: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column of keys."""
        plane, inside = np.divmod(key, self._pixels)
        shard_row, shard_column = np.divmod(plane // self.channels, self._across)
        y, x = np.divmod(inside, self.shard[1])
        return shard_row * self.shard[0] + y, shard_column * self.shard[1] + x

    def inside(self, offset: NDArray[np.int64], box: Box) -> NDArray[np.int64]:
        """Flat index into the pixels (channel, h, w) of a shard's box, from keys less its first.

        Shards at the raster's far edges hold fewer pixels than keys.
        """
        if box.shape == self.shard:
            return offset
        channel, place = np.divmod(offset, self._pixels)
        y, x = np.divmod(place, self.shard[1])
        return (channel * box.shape[0] + y) * box.shape[1] + x

    def range(self, channels: slice, box: Box) -> tuple[int, int]:
        """Keys of the shards (channels, box): first and one past the last."""
        place = box.y0 // self.shard[0] * self._across + box.x0 // self.shard[1]
        first = (place * self.channels + channels.start) * self._pixels
        return first, first + (channels.stop - channels.start) * self._pixels


def write_cells(
    path: str | Path,
    names: Sequence[str],
    keys: CellKeys,
    cells: Cells,
    *,
    mask: NDArray[np.bool_] | None,
    normalize: str | None,
    progress: Progress | None = None,
    **layout: Any,
) -> StackWriter:
    """Write counted cells as a stack, several shards at a time, all but the `finish`.

    Parameters
    ----------
    cells : counts by key, sorted, as `CellKeys` numbers them. The largest decides the dtype.
    mask : (y, x) bool, valid pixels; needed with `normalize`.
    normalize : None or "log1p-cp10k".
    **layout : as `StackWriter` takes it. Shards that it knows to be done are left as they are.
    """
    dtype = np.dtype(np.float32) if normalize else np.min_scalar_type(cells.largest)
    fill = float("nan") if normalize else 0
    writer = StackWriter(path, names, keys.shape, dtype, mask=mask, fill_value=fill, **layout)
    local = threading.local()

    def one(channels: slice, box: Box) -> None:
        low, high = keys.range(channels, box)
        if not normalize and not cells.any(low, high):
            writer.skip(channels, box)
            return
        size = (channels.stop - channels.start) * box.size
        flat = _blank(local, size, dtype)
        scale = _totals(cells, keys, box) if normalize else None
        for part in cells.pieces(low, high):
            place = keys.inside(part.key - low, box)
            if scale is None:
                flat[place] = part.amount
            else:
                flat[place] = np.log1p(1e4 * part.amount / scale[place % box.size])
        data = flat.reshape(-1, *box.shape)
        if normalize and mask is not None:
            data[:, ~mask[box.slices]] = np.nan
        writer.write(channels, box, data)
        if normalize:
            flat[:] = 0
        else:
            for part in cells.pieces(low, high):
                flat[keys.inside(part.key - low, box)] = 0

    write_shards(writer, one, progress)
    return writer


def write_shards(
    writer: StackWriter, one: Callable[[slice, Box], None], progress: Progress | None
) -> None:
    """Call ``one(channels, box)`` for every shard that is not written yet, on some threads."""
    total, done = writer.total, writer.found
    if progress:
        progress("write", done, total)
    with ThreadPoolExecutor(workers()) as pool:
        running: set[Future[None]] = set()
        try:
            for part in writer.pending:
                if len(running) >= workers():
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        future.result()
                        done += 1
                        if progress:
                            progress("write", done, total)
                running.add(pool.submit(one, *part))
            for future in running:
                future.result()
                done += 1
                if progress:
                    progress("write", done, total)
        finally:
            pool.shutdown(cancel_futures=True)


def _blank(local: threading.local, size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The thread's own zeros, `size` of them; whoever writes into them clears them again.

    Fresh pages for every shard cost more than filling them does.
    """
    held = getattr(local, "flat", None)
    if held is None or len(held) < size:
        held = local.flat = np.zeros(size, dtype=dtype)
    return held[:size]


def _totals(cells: Cells, keys: CellKeys, box: Box) -> NDArray[np.int64]:
    """Total over all channels of each pixel of a box."""
    low, high = keys.range(slice(0, keys.channels), box)
    totals = np.zeros(box.size, dtype=np.int64)
    for part in cells.pieces(low, high):
        np.add.at(totals, keys.inside(part.key - low, box) % box.size, part.amount)
    return totals


def channel_counts(cells: Cells, keys: CellKeys) -> NDArray[np.int64]:
    """Total of each channel."""
    counts = np.zeros(keys.channels, dtype=np.int64)
    pixels = keys.shard[0] * keys.shard[1]
    for part in cells.pieces():
        np.add.at(counts, part.key // pixels % keys.channels, part.amount)
    return counts


def check_size(channels: int, shape: tuple[int, int], chunk: int) -> None:
    """Refuse a stack whose occupancy table would not fit in memory."""
    blocks = math.prod(-(-n // min(chunk, n)) for n in shape)
    if channels * blocks > MAX_BLOCKS:
        raise InputError(
            f"the raster would have {channels} channels of {shape[0]} x {shape[1]} pixels in "
            f"{channels * blocks} chunks: choose a larger pixel or a larger chunk"
        )


def workers() -> int:
    """Shards written at once: each holds its raw pixels, so not more than four."""
    return max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2))
