"""The stack store that ingest and simulate make: written by whole shards, finished by a rename.

A Zarr v3 group: ``raster`` (channel, y, x), the ``channel`` names, ``count``, ``occupancy`` and
``sums`` by block, an optional shared ``mask``, ``y`` and ``x`` where the pixel size is known.
Reading it is `zarr_.py`'s part.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray

from bigcorr.errors import InputError
from bigcorr.raster import chunks, store
from bigcorr.raster.lock import LostLockError
from bigcorr.raster.occupancy import tally_blocks
from bigcorr.tiles import Box, grid

FORMAT = 1


class StackWriter:
    """Writes a stack store shard by shard; nothing is at `path` until `finish`.

    Parameters
    ----------
    path : destination; built as ``path + ".partial"``, which an earlier run may have left.
    channels : unique names.
    shape : (y, x).
    dtype : of the pixels.
    chunk, shard : (y, x) sizes in pixels; shard is a multiple of chunk. Both shrink to what a
        small raster needs.
    attrs : JSON-like facts kept under the group's ``bigcorr`` attribute, e.g. ``pixel_size``,
        ``origin`` (y, x of the raster's corner), ``nodata``, ``truth``.
    mask : optional (y, x) bool array, True where pixels are valid in every channel.
    overwrite : replace a store that is already at `path`.
    fill_value : of pixels that are never written; NaN where missing is the rule.

    Raises
    ------
    InputError : names that are not unique, a shape without pixels, a destination that exists.
    RunError : the disk is full or refuses.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from bigcorr.raster.stack import StackWriter
    >>> path = tempfile.mkdtemp() + "/stack.zarr"
    >>> with StackWriter(path, ["a", "b"], (100, 80), "uint8", attrs={}) as writer:
    ...     for channels, box in writer.shard_boxes:
    ...         writer.write(channels, box, np.ones((2, *box.shape), "uint8"))
    """

    def __init__(
        self,
        path: str | Path,
        channels: Sequence[str],
        shape: tuple[int, int],
        dtype: Any,
        *,
        chunk: int = store.CHUNK,
        shard: int = store.SHARD,
        attrs: dict[str, Any] | None = None,
        mask: ArrayLike | None = None,
        overwrite: bool = False,
        fill_value: float = 0,
    ) -> None:
        self.channels = [str(name) for name in channels]
        self.shape = (int(shape[0]), int(shape[1]))
        self.dtype = np.dtype(dtype)
        if not self.channels or min(self.shape) < 1:
            raise InputError(
                f"a stack needs channels and pixels, got {len(self.channels)} channels of "
                f"shape {self.shape}"
            )
        if len(set(self.channels)) < len(self.channels):
            twice = sorted(name for name, n in Counter(self.channels).items() if n > 1)
            raise InputError(f"channel names must be unique; given twice: {', '.join(twice[:5])}")
        self._mask = None if mask is None else np.asarray(mask, dtype=bool)
        if self._mask is not None and self._mask.shape != self.shape:
            raise InputError(f"mask has shape {self._mask.shape}, the stack {self.shape}")
        self._attrs = dict(attrs or {})
        self.chunk, self.shard = store.clip_chunks(self.shape, chunk, shard)
        shard_pixels = self.shard[0] * self.shard[1] * self.dtype.itemsize
        self.depth = max(1, min(len(self.channels), store.SHARD_BYTES // shard_pixels))
        self.path = store.check_destination(path, overwrite)
        blocks = tuple(-(-n // c) for n, c in zip(self.shape, self.chunk, strict=True))
        self._filled = np.zeros((len(self.channels), *blocks), dtype=np.uint32)
        self._sums = np.zeros(self._filled.shape, dtype=np.float64)
        self._lock = threading.Lock()
        self._root = store.start_partial(self.path)
        try:
            with store.writing(self.path):
                self._group = zarr.open_group(str(self._root), mode="w", zarr_format=3)
                self._raster = store.create_array(
                    self._group,
                    "raster",
                    shape=(len(self.channels), *self.shape),
                    dtype=self.dtype,
                    chunks=(1, *self.chunk),
                    shards=(self.depth, *self.shard),
                    dims=("channel", "y", "x"),
                    fill_value=fill_value,
                    attributes={"coordinates": "count mask" if mask is not None else "count"},
                )
        except BaseException:
            self.abort()
            raise

    @property
    def shard_boxes(self) -> Iterator[tuple[slice, Box]]:
        """(channel slice, box) of every shard: what one call of `write` owns."""
        total = len(self.channels)
        for box in grid(self.shape, self.shard):
            for start in range(0, total, self.depth):
                yield slice(start, min(start + self.depth, total)), box

    def write(self, channel_slice: slice, box: Box, data: NDArray[Any]) -> None:
        """Write whole shards; calls from several threads may overlap in time, not in place.

        Parameters
        ----------
        channel_slice, box : one of `shard_boxes`, or several that touch.
        data : (channel, h, w) pixels of them.
        """
        first, last, step = channel_slice.indices(len(self.channels))
        starts = (first, box.y0, box.x0)
        stops = (last, box.y1, box.x1)
        units = (self.depth, *self.shard)
        ends = (len(self.channels), *self.shape)
        for start, stop, unit, end in zip(starts, stops, units, ends, strict=True):
            if step != 1 or start % unit or (stop % unit and stop != end):
                raise InputError(
                    f"a write must cover whole shards of {units}; got channels {first}:{last}, "
                    f"box {tuple(box)}"
                )
        if data.shape != (last - first, *box.shape):
            raise InputError(
                f"data has shape {data.shape}, the shards take {(last - first, *box.shape)}"
            )
        data = np.ascontiguousarray(data, dtype=self.dtype)
        filled, sums = tally_blocks(data, self.chunk)
        if filled.any() or self._raster.fill_value != 0:
            with store.writing(self.path):
                self._raster[first:last, box.y0 : box.y1, box.x0 : box.x1] = data
        y, x = box.y0 // self.chunk[0], box.x0 // self.chunk[1]
        place = np.s_[first:last, y : y + filled.shape[1], x : x + filled.shape[2]]
        with self._lock:
            self._filled[place] = filled
            self._sums[place] = sums

    def finish(self, counts: ArrayLike | None = None) -> None:
        """Write the tables and give the store its name.

        Parameters
        ----------
        counts : (channel,) totals to store; by default the sum of each channel's pixels.
        """
        totals = self._sums.sum(axis=(1, 2))
        if self.dtype.kind in "bui":
            totals = totals.astype(np.int64)
        count = totals if counts is None else np.asarray(counts)
        if count.shape != (len(self.channels),):
            raise InputError(f"counts has shape {count.shape}, takes ({len(self.channels)},)")
        with store.writing(self.path):
            put = store.put_array
            put(self._group, "channel", np.array(self.channels), ("channel",))
            put(self._group, "count", count, ("channel",))
            blocks = ("channel", "block_y", "block_x")
            put(self._group, "occupancy", self._filled, blocks)
            put(self._group, "sums", self._sums, blocks)
            if self._mask is not None:
                store.create_array(
                    self._group,
                    "mask",
                    shape=self.shape,
                    dtype=bool,
                    chunks=self.chunk,
                    shards=self.shard,
                    dims=("y", "x"),
                    fill_value=False,
                )[...] = self._mask
            for axis, values in self._coordinates().items():
                put(self._group, axis, values, (axis,))
            self._group.attrs["bigcorr"] = {"kind": "stack", "format": FORMAT, **self._attrs}
            chunks.write_file_lists(self._root)
            store.consolidate(self._root)
        store.finish_partial(self.path)

    def _coordinates(self) -> dict[str, NDArray[np.float64]]:
        """Centres of the pixels in the units of the pixel size, or of the bins of a table."""
        size = self._attrs.get("pixel_size") or self._attrs.get("bin")
        if size is None:
            return {}
        origin = self._attrs.get("origin") or (0.0, 0.0)
        return {
            axis: start + (np.arange(count) + 0.5) * size
            for axis, start, count in zip(("y", "x"), origin, self.shape, strict=True)
        }

    def abort(self) -> None:
        """Take away what was written, if the disk lets us."""
        with contextlib.suppress(OSError):
            store.remove(self._root)

    def __enter__(self) -> StackWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            if not issubclass(kind, LostLockError):  # else it is another run's by now
                self.abort()
        elif self._root.exists():
            self.finish()
