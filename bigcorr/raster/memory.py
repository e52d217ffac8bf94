"""Sources over arrays that are already in the process: NumPy and dask."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.raster.base import (
    BaseSource,
    Channels,
    channel_index,
    check_box,
    check_pixels,
    default_names,
    digest,
)
from bigcorr.tiles import Box


class _LabelledSource(BaseSource):
    """An array with the labels that a DataArray may carry."""

    _data: Any

    def __init__(
        self,
        data: Any,
        *,
        path: str,
        channels: Sequence[str] | None = None,
        nodata: float | None = None,
        attrs: dict[str, Any] | None = None,
        counts: NDArray[Any] | None = None,
        mask: Any = None,
    ) -> None:
        if data.ndim not in (2, 3):
            raise InputError(
                f"a raster has the dimensions (channel, y, x) or (y, x); got {data.ndim} "
                f"dimensions of shape {data.shape}"
            )
        self.dtype = check_pixels(data.dtype, data.shape, path)
        self.planar = data.ndim == 2
        self._data = data
        sizes = tuple(int(n) for n in data.shape)
        self.shape = (1 if self.planar else sizes[0], sizes[-2], sizes[-1])
        self.nodata = nodata
        self.path = path
        self._attrs = dict(attrs or {})
        self._counts = counts
        if channels is not None and len(channels) != self.shape[0]:
            raise InputError(f"{len(channels)} channel names for {self.shape[0]} channels")
        self._channels = tuple(channels) if channels is not None else None
        if mask is not None and tuple(mask.shape) != self.shape[1:]:
            raise InputError(f"mask has shape {tuple(mask.shape)}, the raster {self.shape[1:]}")
        self._mask = mask

    @property
    def channels(self) -> tuple[str, ...]:
        return self._channels or default_names(self.shape[0])

    @property
    def attrs(self) -> dict[str, Any]:
        return self._attrs

    @property
    def counts(self) -> NDArray[Any] | None:
        return self._counts

    def mask(self, box: Box) -> NDArray[np.bool_] | None:
        if self._mask is None:
            return None
        part = self._mask[box.slices]
        if not isinstance(part, np.ndarray):
            part = part.compute(scheduler="synchronous")
        return np.asarray(part, dtype=bool)

    def _mask_stamp(self) -> str:
        if self._mask is None:
            return ""
        name = getattr(self._mask, "name", None)
        return name if isinstance(name, str) else hash_array(np.asarray(self._mask))


class ArraySource(_LabelledSource):
    """A NumPy array (channel, y, x) or (y, x), not copied."""

    resident = True

    def __init__(self, data: NDArray[Any], *, path: str = "array", **labels: Any) -> None:
        super().__init__(np.asarray(data), path=path, **labels)
        self.chunk = (min(2048, self.shape[1]), min(2048, self.shape[2]))
        self._stamp: str | None = None

    def _read(self, index: NDArray[np.intp], box: Box) -> NDArray[Any]:
        rows, columns = box.slices
        data = self._data[None] if self.planar else self._data
        # Choosing by index copies: what is read may be changed by the reader.
        return data[:, rows, columns][index]

    def look(self, channels: Channels, box: Box) -> NDArray[Any]:
        index = channel_index(channels, self.shape[0])
        run = len(index) > 0 and bool((np.diff(index) == 1).all())
        if not run or self._data.dtype != self.dtype or not self._data.flags.writeable:
            return self.read(channels, box)
        check_box(box, self.shape)
        data = self._data[None] if self.planar else self._data
        return data[(slice(int(index[0]), int(index[-1]) + 1), *box.slices)]

    def _data_stamp(self) -> str:
        if self._stamp is None:
            self._stamp = hash_array(self._data)
        return self._stamp + self._mask_stamp()


class DaskSource(_LabelledSource):
    """A lazy dask array; each read computes its slice in the calling thread."""

    def __init__(self, data: Any, *, path: str = "dask array", **labels: Any) -> None:
        self._stamp = str(data.name)
        super().__init__(data, path=path, **labels)
        self.chunk = (max(data.chunks[-2]), max(data.chunks[-1]))

    def _read(self, index: NDArray[np.intp], box: Box) -> NDArray[Any]:
        rows, columns = box.slices
        if self.planar:
            image = self._data[rows, columns].compute(scheduler="synchronous")
            return np.asarray(image)[None][index]
        if index.size and np.array_equal(index, np.arange(index[0], index[0] + index.size)):
            part = self._data[int(index[0]) : int(index[-1]) + 1, rows, columns]
        else:
            part = self._data[index, rows, columns]
        # A copy: dask may hand out the very array that it holds.
        return np.array(part.compute(scheduler="synchronous"))

    def _data_stamp(self) -> str:
        return self._stamp + self._mask_stamp()


def hash_array(data: NDArray[Any]) -> str:
    """A hash of the values, taken in slices so that no second copy of them is made."""
    state = hashlib.blake2b(digest(data.shape, data.dtype.str).encode(), digest_size=16)
    if data.flags.c_contiguous:
        flat = data.reshape(-1).view(np.uint8)
        for start in range(0, flat.size, 2**26):
            state.update(flat[start : start + 2**26].data)
    else:
        for part in data:
            state.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return state.hexdigest()
