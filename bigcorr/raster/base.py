"""What a worker reads pixels from: the `RasterSource` protocol and what all sources share.

Sources are cheap to pickle and open their file when first read in each process. No file format
lives here: each has a module of its own, and `source.py` chooses between them.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.retry import patiently
from bigcorr.tiles import Box

LAZY_SIDE = 2048
LAZY_BYTES = 4 * 2**20

Channels = Sequence[int] | slice | NDArray[np.integer]


@runtime_checkable
class RasterSource(Protocol):
    """A (channel, y, x) raster that is read by boxes.

    Attributes
    ----------
    shape : (channel, y, x); a single image has one channel.
    dtype : native-endian dtype of what `read` returns; bool is read as uint8.
    channels : a name for each channel; ``c0, c1, ...`` where the file has none.
    nodata : the declared nodata value, or None. NaN always means missing.
    chunk : natural (y, x) read unit of the storage.
    path : what to call the source in messages.
    planar : True if the file holds a (y, x) image without a channel axis.
    resident : True if the pixels are in memory, so that no part of them costs more than another.
    work_bytes : most bytes in use while pixels are read, beside what is handed over.
    may_miss : whether channels may miss different pixels.
    timed_as : what the seconds of reading count as.
    bytes_a_pixel : bytes that are read from storage for one pixel of one channel.
    attrs : JSON-like facts, e.g. ``pixel_size``, ``origin``, ``truth``.
    counts : (channel,) total of each channel where it is known, else None.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    nodata: float | None
    chunk: tuple[int, int]
    path: str
    planar: bool
    resident: bool
    timed_as: str

    @property
    def work_bytes(self) -> int: ...

    @property
    def may_miss(self) -> bool: ...

    @property
    def bytes_a_pixel(self) -> float: ...

    @property
    def channels(self) -> tuple[str, ...]: ...

    @property
    def attrs(self) -> dict[str, Any]: ...

    @property
    def counts(self) -> NDArray[Any] | None: ...

    def read(self, channels: Channels, box: Box) -> NDArray[Any]:
        """Pixels (k, h, w) of the chosen channels, C-contiguous; `box` lies on the raster."""

    def look(self, channels: Channels, box: Box) -> NDArray[Any]:
        """The same, but not to be written to: perhaps a part of the array in memory itself."""

    def occupied(self, box: Box) -> NDArray[np.bool_] | None:
        """(channel,) False where the box is known to be zero throughout; None: not known."""

    def mask(self, box: Box) -> NDArray[np.bool_] | None:
        """(h, w) True where pixels are valid in every channel; None: no mask is stored."""

    def fingerprint(self) -> str:
        """Changes when the path, shape, dtype, nodata value or the data change."""

    def select(self, channels: Channels) -> RasterSource:
        """The chosen channels as a source of their own; nothing is read."""


class BaseSource:
    """What most sources have in common; a format defines `_read` and `_data_stamp`."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    nodata: float | None = None
    chunk: tuple[int, int]
    path: str
    planar: bool = False
    resident: bool = False
    timed_as: str = "read"

    @property
    def work_bytes(self) -> int:
        return 0

    @property
    def may_miss(self) -> bool:
        return self.dtype.kind == "f" or self.nodata is not None

    @property
    def bytes_a_pixel(self) -> float:
        return float(self.dtype.itemsize)

    @property
    def channels(self) -> tuple[str, ...]:
        return default_names(self.shape[0])

    @property
    def attrs(self) -> dict[str, Any]:
        return {}

    @property
    def counts(self) -> NDArray[Any] | None:
        return None

    @property
    def coords(self) -> dict[str, NDArray[Any]]:
        """``y`` and ``x`` of the pixels' centres, where the file says so."""
        return {}

    def read(self, channels: Channels, box: Box) -> NDArray[Any]:
        index = channel_index(channels, self.shape[0])
        check_box(box, self.shape)
        out = patiently(f"reading {self.path}", self._read, index, box)
        if out.dtype == np.bool_:
            out = out.view(np.uint8)
        return np.ascontiguousarray(out, dtype=self.dtype)

    def look(self, channels: Channels, box: Box) -> NDArray[Any]:
        return self.read(channels, box)

    def _read(self, index: NDArray[np.intp], box: Box) -> NDArray[Any]:
        raise NotImplementedError

    def occupied(self, box: Box) -> NDArray[np.bool_] | None:
        return None

    def mask(self, box: Box) -> NDArray[np.bool_] | None:
        return None

    def _data_stamp(self) -> str:
        raise NotImplementedError

    def fingerprint(self) -> str:
        name = os.path.abspath(self.path) if os.path.exists(self.path) else self.path
        return digest(name, self.shape, self.dtype.str, self.nodata, self._data_stamp())

    def select(self, channels: Channels) -> RasterSource:
        return SelectedSource(self, channel_index(channels, self.shape[0]))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} {self.shape} {self.dtype}>"


class SelectedSource(BaseSource):
    """Some channels of another source."""

    def __init__(self, base: RasterSource, index: NDArray[np.intp], planar: bool = False) -> None:
        self.base = base
        self._index = index.astype(np.int32)  # it travels with every task
        self.shape = (len(index), *base.shape[1:])
        self.dtype = base.dtype
        self.nodata = base.nodata
        self.chunk, self.resident = base.chunk, base.resident
        self.path = base.path
        self.planar = planar

    @property
    def channels(self) -> tuple[str, ...]:
        names = self.base.channels
        return tuple(names[i] for i in self._index)

    @property
    def attrs(self) -> dict[str, Any]:
        return self.base.attrs

    @property
    def counts(self) -> NDArray[Any] | None:
        counts = self.base.counts
        return None if counts is None else counts[self._index]

    @property
    def coords(self) -> dict[str, NDArray[Any]]:
        return getattr(self.base, "coords", {})

    def _read(self, index: NDArray[np.intp], box: Box) -> NDArray[Any]:
        return self.base.read(self._index[index], box)

    def occupied(self, box: Box) -> NDArray[np.bool_] | None:
        known = self.base.occupied(box)
        return None if known is None else known[self._index]

    def mask(self, box: Box) -> NDArray[np.bool_] | None:
        return self.base.mask(box)

    def fingerprint(self) -> str:
        return digest(self.base.fingerprint(), self._index.tolist())

    def select(self, channels: Channels) -> RasterSource:
        picked = self._index[channel_index(channels, self.shape[0])]
        return SelectedSource(self.base, picked.astype(np.intp))


class ConcatSource(BaseSource):
    """The channels of several sources of one (y, x) shape, one after the other.

    Where the sources declare different nodata values, they are read as floats and their nodata
    pixels become NaN.
    """

    def __init__(self, parts: Sequence[RasterSource], names: Sequence[str]) -> None:
        first = parts[0]
        for part in parts[1:]:
            if part.shape[1:] != first.shape[1:]:
                raise InputError(
                    f"rasters given together must have one (y, x) shape: {first.path} is "
                    f"{first.shape[1:]}, {part.path} is {part.shape[1:]}"
                )
        self._parts = list(parts)
        self._names = tuple(names)
        self._starts = np.cumsum([0, *(part.shape[0] for part in parts)])
        self.shape = (int(self._starts[-1]), *first.shape[1:])
        self.dtype = np.result_type(*(part.dtype for part in parts))
        self._to_nan = len({part.nodata for part in parts}) > 1
        if self._to_nan:
            self.dtype = np.result_type(self.dtype, np.float32)
        self.nodata = None if self._to_nan else first.nodata
        self.chunk = max((part.chunk for part in parts), key=lambda chunk: chunk[0] * chunk[1])
        self.path = f"{first.path} and {len(parts) - 1} more" if len(parts) > 1 else first.path

    @property
    def channels(self) -> tuple[str, ...]:
        return self._names

    @property
    def attrs(self) -> dict[str, Any]:
        return self._parts[0].attrs

    @property
    def coords(self) -> dict[str, NDArray[Any]]:
        return getattr(self._parts[0], "coords", {})

    @property
    def counts(self) -> NDArray[Any] | None:
        counts = [part.counts for part in self._parts]
        known = [c for c in counts if c is not None]
        return np.concatenate(known) if len(known) == len(counts) else None

    def _read(self, index: NDArray[np.intp], box: Box) -> NDArray[Any]:
        out = np.empty((len(index), *box.shape), dtype=self.dtype)
        owner = np.searchsorted(self._starts, index, side="right") - 1
        for number in np.unique(owner):
            part = self._parts[number]
            where = np.flatnonzero(owner == number)
            pixels = part.read(index[where] - self._starts[number], box)
            missing = pixels == part.nodata if self._to_nan and part.nodata is not None else None
            out[where] = pixels
            if missing is not None:
                out[where] = np.where(missing, np.nan, out[where])
        return out

    def occupied(self, box: Box) -> NDArray[np.bool_] | None:
        if self._to_nan:
            return None
        known = [part.occupied(box) for part in self._parts]
        if all(k is None for k in known):
            return None
        return np.concatenate(
            [
                np.ones(part.shape[0], bool) if k is None else k
                for part, k in zip(self._parts, known, strict=True)
            ]
        )

    def mask(self, box: Box) -> NDArray[np.bool_] | None:
        masks = [m for part in self._parts if (m := part.mask(box)) is not None]
        return np.logical_and.reduce(masks) if masks else None

    def fingerprint(self) -> str:
        return digest(*(part.fingerprint() for part in self._parts), self._names)


def lazy_block(source: RasterSource) -> tuple[int, ...]:
    """Dask chunks of a source: whole chunks of its storage, up to 2048 pixels and 4 MiB."""
    sides = [
        min(max(LAZY_SIDE // chunk, 1) * chunk, size)
        for chunk, size in zip(source.chunk, source.shape[1:], strict=True)
    ]
    if source.planar:
        return tuple(sides)
    depth = LAZY_BYTES // (sides[0] * sides[1] * source.dtype.itemsize)
    return (max(1, min(depth, source.shape[0])), *sides)


def default_names(count: int) -> tuple[str, ...]:
    """``c0, c1, ...``: names of channels that have none."""
    return tuple(f"c{i}" for i in range(count))


def channel_index(channels: Channels, count: int) -> NDArray[np.intp]:
    """Integer channel numbers of a slice or a sequence; out of range is an `InputError`."""
    if isinstance(channels, slice):
        return np.arange(count, dtype=np.intp)[channels]
    index = np.asarray(channels, dtype=np.intp).reshape(-1)
    if index.size and (index.min() < 0 or index.max() >= count):
        raise InputError(f"channel numbers must lie in 0 .. {count - 1}, got {index.tolist()[:8]}")
    return index


def check_box(box: Box, shape: tuple[int, int, int]) -> None:
    """Refuse a box that is not wholly on the raster."""
    if not (0 <= box.y0 <= box.y1 <= shape[1] and 0 <= box.x0 <= box.x1 <= shape[2]):
        raise InputError(f"box {tuple(box)} is not wholly on a raster of shape {shape[1:]}")


def find_channel(name: str, channels: Sequence[str], path: str) -> int:
    """Number of the channel called `name`; else of ``name`` read as a number from 0."""
    if name in channels:
        return channels.index(name)
    if name.isdecimal() and int(name) < len(channels):
        return int(name)
    close = difflib.get_close_matches(name, channels, n=3, cutoff=0.5)
    if not close:
        lowered = {channel.lower(): channel for channel in channels}
        close = [lowered[name.lower()]] if name.lower() in lowered else []
    hint = f"; close: {', '.join(close)}" if close else f"; it has {_some(channels)}"
    raise InputError(f"{path} has no channel '{name}'{hint}")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{len(names)} channels: {shown}, ..."


def check_pixels(dtype: np.dtype[Any], shape: Sequence[int], path: str) -> np.dtype[Any]:
    """The native dtype that pixels of `dtype` are read as; refuse what is no raster."""
    if dtype.kind not in "buif":
        raise InputError(f"{path} holds {dtype} values; a raster holds integers or floats")
    if 0 in shape:
        raise InputError(f"{path} has no pixels: its shape is {tuple(shape)}")
    if math.prod(shape) >= 2**62 or max(shape) >= 2**31:
        raise InputError(f"{path} cannot be a raster: its shape is {tuple(shape)}")
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype.newbyteorder("=")


def file_stamp(path: str | Path) -> str:
    """Size and modification time of one file."""
    status = Path(path).stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def digest(*parts: Any) -> str:
    """A short stable hash of JSON-like values."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
