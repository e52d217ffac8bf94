"""The stack store that ingest and simulate make: written by whole shards, finished by a rename.

A Zarr v3 group: ``raster`` (channel, y, x), the ``channel`` names, ``count``, ``occupancy`` and
``sums`` by block, an optional shared ``mask``, ``y`` and ``x`` where the pixel size is known.
How a shard is kept whole is `writer.py`'s part, reading a stack `zarr_.py`'s.
"""

from __future__ import annotations

import base64
import contextlib
import threading
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray

from bigcorr.errors import InputError
from bigcorr.raster import store
from bigcorr.raster.lock import LostLockError
from bigcorr.raster.occupancy import tally_blocks
from bigcorr.raster.writer import ShardWriter, Unit
from bigcorr.tiles import Box, grid

FORMAT = 1

Tables = tuple[NDArray[np.uint32], NDArray[np.float64]]


class StackWriter:
    """Writes a stack store shard by shard; nothing is at `path` until `finish`.

    Parameters
    ----------
    path : destination; built in ``path + ".partial"``, which an earlier run may have left.
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
    fingerprint : of all that the pixels depend on. With it, shards that an earlier run of the same
        fingerprint has written are kept, and so are those of this one if it ends early. Without
        it nothing is left of a run that does not reach its end.
    keep : names in ``path + ".partial"`` that are the caller's own.

    Attributes
    ----------
    found : int
        Shards that an earlier run had written.

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
        fingerprint: str | None = None,
        keep: Sequence[str] = (),
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
        self._resumable = fingerprint is not None
        self._fill = fill_value
        self.chunk, _ = store.clip_chunks(self.shape, chunk, shard)
        self.path = store.check_destination(path, overwrite)
        try:
            self._shards = ShardWriter(
                path,
                (len(self.channels), *self.shape),
                self.dtype,
                fingerprint=fingerprint or uuid.uuid4().hex,
                chunk=chunk,
                shard=shard,
                attrs={"kind": "stack", "format": FORMAT, **self._attrs},
                overwrite=overwrite,
                fill_value=fill_value,
                keep=keep,
            )
            with store.writing(self.path):
                store.remove(store.old_path(self.path))
        except BaseException:
            if not self._resumable:
                self.abort()
            raise
        self.depth = self._shards.shards[0]
        self.shard = (self._shards.shards[1], self._shards.shards[2])
        blocks = tuple(-(-n // c) for n, c in zip(self.shape, self.chunk, strict=True))
        self._filled = np.zeros((len(self.channels), *blocks), dtype=np.uint32)
        self._sums = np.zeros(self._filled.shape, dtype=np.float64)
        self._lock = threading.Lock()
        for unit, note in self._shards.notes():
            place = self._blocks(unit)
            self._filled[place], self._sums[place] = _unpack(note, self._filled[place].shape)
        self._pending = set(map(_key, self._shards.pending))
        self.found = self.total - len(self._pending)

    @property
    def total(self) -> int:
        """Number of shards."""
        return sum(1 for _ in self.shard_boxes)

    @property
    def shard_boxes(self) -> Iterator[tuple[slice, Box]]:
        """(channel slice, box) of every shard: what one call of `write` owns."""
        total = len(self.channels)
        for box in grid(self.shape, self.shard):
            for start in range(0, total, self.depth):
                yield slice(start, min(start + self.depth, total)), box

    @property
    def pending(self) -> list[tuple[slice, Box]]:
        """Those that are not done yet."""
        return [part for part in self.shard_boxes if _key(_unit(*part)) in self._pending]

    @property
    def totals(self) -> NDArray[Any]:
        """(channel,) sums of the pixels that were written."""
        totals = self._sums.sum(axis=(1, 2))
        return totals.astype(np.int64) if self.dtype.kind in "bui" else totals

    def write(self, channel_slice: slice, box: Box, data: NDArray[Any]) -> None:
        """Write one shard; calls from several threads may overlap in time, not in place.

        Parameters
        ----------
        channel_slice, box : one of `shard_boxes`.
        data : (channel, h, w) pixels of it.
        """
        unit = _unit(slice(*channel_slice.indices(len(self.channels))), box)
        if not self._is_shard(unit):
            raise InputError(
                f"a write must cover a whole shard of {(self.depth, *self.shard)}; got channels "
                f"{unit[0].start}:{unit[0].stop}, box {tuple(box)}"
            )
        if data.shape != (unit[0].stop - unit[0].start, *box.shape):
            raise InputError(
                f"data has shape {data.shape}, the shard takes "
                f"{(unit[0].stop - unit[0].start, *box.shape)}"
            )
        data = np.ascontiguousarray(data, dtype=self.dtype)
        filled, sums = tally_blocks(data, self.chunk)
        if filled.any() or self._fill != 0:
            self._shards.write(unit, data, _pack(filled, sums))
        else:
            self._shards.skip(unit)
        place = self._blocks(unit)
        with self._lock:
            self._filled[place] = filled
            self._sums[place] = sums

    def skip(self, channel_slice: slice, box: Box) -> None:
        """Say that a shard holds nothing but fill."""
        self._shards.skip(_unit(channel_slice, box))

    def _is_shard(self, unit: Unit) -> bool:
        ends = (len(self.channels), *self.shape)
        return all(
            part.step in (None, 1)
            and part.start % size == 0
            and part.stop == min(part.start + size, end)
            for part, size, end in zip(unit, self._shards.shards, ends, strict=True)
        )

    def _blocks(self, unit: Unit) -> Unit:
        """The place in the tables of a shard's blocks."""
        sizes = (1, *self.chunk)
        return tuple(
            slice(part.start // size, -(-part.stop // size))
            for part, size in zip(unit, sizes, strict=True)
        )

    def finish(self, counts: ArrayLike | None = None, attrs: dict[str, Any] | None = None) -> None:
        """Write the tables and give the store its name. Shards never written hold only fill.

        Parameters
        ----------
        counts : (channel,) totals to store; by default the sum of each channel's pixels.
        attrs : further attributes of the group.
        """
        count = self.totals if counts is None else np.asarray(counts)
        if count.shape != (len(self.channels),):
            raise InputError(f"counts has shape {count.shape}, takes ({len(self.channels)},)")

        def add(group: zarr.Group) -> None:
            for name in set(group) - {"raster"}:  # of a run that was killed right here
                del group[name]
            put = store.put_array
            put(group, "channel", np.array(self.channels), ("channel",))
            put(group, "count", count, ("channel",))
            blocks = ("channel", "block_y", "block_x")
            put(group, "occupancy", self._filled, blocks)
            put(group, "sums", self._sums, blocks)
            if self._mask is not None:
                store.create_array(
                    group,
                    "mask",
                    shape=self.shape,
                    dtype=bool,
                    chunks=self.chunk,
                    shards=self.shard,
                    dims=("y", "x"),
                    fill_value=False,
                )[...] = self._mask
            for axis, values in self._coordinates().items():
                put(group, axis, values, (axis,))
            beside = "count" if self._mask is None else "count mask"
            group["raster"].attrs["coordinates"] = beside
            group.attrs.update(attrs or {})

        if not self._resumable:
            for unit in self._shards.pending:
                self._shards.skip(unit)
        self._shards.finish(add=add)

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
            store.remove(store.partial_path(self.path))

    def __enter__(self) -> StackWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            # What can be gone on with is kept; after a lost lock it is another run's by now.
            if not self._resumable and not issubclass(kind, LostLockError):
                self.abort()
        elif not self._shards.finished:
            self.finish()


def _unit(channels: slice, box: Box) -> Unit:
    return channels, slice(box.y0, box.y1), slice(box.x0, box.x1)


def _key(unit: Unit) -> tuple[int, ...]:
    return tuple(part.start for part in unit)


def _pack(filled: NDArray[np.uint32], sums: NDArray[np.float64]) -> str:
    """The tables of a shard as text for its marker."""
    return base64.b64encode(zlib.compress(filled.tobytes() + sums.tobytes(), 1)).decode()


def _unpack(note: str, shape: tuple[int, ...]) -> Tables:
    raw = zlib.decompress(base64.b64decode(note))
    size = int(np.prod(shape))
    filled = np.frombuffer(raw, np.uint32, size).reshape(shape)
    return filled, np.frombuffer(raw, np.float64, size, 4 * size).reshape(shape)
