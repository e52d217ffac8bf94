"""Zarr as a source: bare arrays of format 2 and 3, groups written by xarray, OME-Zarr, and our
own stack store with its occupancy table and mask.

How chunks are decoded is `store.py`'s part, how metadata are understood `zarr_metadata.py`'s, how a
stack is written `stack.py`'s.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from bigcorr.errors import InputError, RunError
from bigcorr.raster import store
from bigcorr.raster.base import BaseSource, check_pixels, default_names, digest, file_stamp
from bigcorr.raster.zarr_metadata import (
    axes_of,
    declared_nodata,
    dimension_names,
    may_be_raster,
    ome_first,
    ome_labels,
    text,
)
from bigcorr.tiles import Box

GAP_BYTES = 2**20
"""Channels between two wanted ones are read along when they cost less than a call of their own."""


class ZarrSource(BaseSource):
    """One Zarr array of two dimensions, or three with channels first.

    Parameters
    ----------
    path : the array's folder, or that of the group that holds it.
    component : name of the array in the group; "" for a bare array.

    Notes
    -----
    What is pickled is the path: a worker opens the store once, whatever the number of tasks.
    Leading dimensions of length 1 are dropped. Named dimensions may come in any order.
    """

    def __init__(self, path: str, component: str = "") -> None:
        self._location = (os.path.abspath(path), component)  # workers may run elsewhere
        self.path = path
        self._array = store.open_array(path, component=component)
        self._group = zarr.open_group(path, mode="r") if component else None
        self._facts = self._read_facts()
        array = self._array
        self._axes = axes_of(array, path)
        sizes = [array.shape[axis] for axis in self._axes[-2:]]
        self.planar = len(self._axes) == 2
        count = 1 if self.planar else array.shape[self._axes[0]]
        self.shape = (int(count), int(sizes[0]), int(sizes[1]))
        attributes = dict(array.attrs)
        self._scale = float(attributes.get("scale_factor", 1.0))
        self._offset = float(attributes.get("add_offset", 0.0))
        self.dtype = check_pixels(np.dtype(array.dtype), array.shape, path)
        self._raw_nodata = declared_nodata(array, attributes, self._facts)
        self.nodata = self._raw_nodata
        if self._packed:
            self.dtype = np.dtype(np.float32 if self.dtype.itemsize <= 2 else np.float64)
            self.nodata = None
        self.chunk = (
            min(array.chunks[self._axes[-2]], self.shape[1]),
            min(array.chunks[self._axes[-1]], self.shape[2]),
        )

    @property
    def _packed(self) -> bool:
        return self._scale != 1.0 or self._offset != 0.0

    def _read_facts(self) -> dict[str, Any]:
        facts = {} if self._group is None else self._group.attrs.get("bigcorr")
        return dict(facts) if isinstance(facts, dict) else {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, *self._location, self._metadata_stamp)

    @functools.cached_property
    def _metadata_stamp(self) -> str:
        return _metadata_stamp(*self._location)

    @functools.cached_property
    def channels(self) -> tuple[str, ...]:
        """Names from a ``channel`` (or ``band``) coordinate, OME labels, else c0, c1, ..."""
        names: Sequence[str] = ()
        if self._group is not None and not self.planar:
            dims = dimension_names(self._array)
            wanted = dims[self._axes[0]] if dims else None
            values = self._beside(wanted or "", self.shape[:1])
            if values is not None:
                names = [text(value) for value in self._values(values)]
            else:
                names = ome_labels(self._group)
        if self.planar and self._location[1] not in ("", "raster"):
            names = [self._location[1].rsplit("/", 1)[-1]]
        fits = len(names) == self.shape[0] and len(set(names)) == len(names)
        return tuple(names) if fits else default_names(self.shape[0])

    @functools.cached_property
    def attrs(self) -> dict[str, Any]:
        keep = {"scale_factor", "add_offset", "_FillValue", "_ARRAY_DIMENSIONS", "coordinates"}
        own = {key: value for key, value in self._array.attrs.items() if key not in keep}
        return {**own, **self._facts}

    @functools.cached_property
    def counts(self) -> NDArray[Any] | None:
        values = self._beside("count", self.shape[:1])
        return None if values is None else self._values(values)

    @functools.cached_property
    def coords(self) -> dict[str, NDArray[Any]]:
        """The ``y`` and ``x`` coordinates that the group holds."""
        dims = dimension_names(self._array)
        found = {}
        for name, axis in zip(("y", "x"), self._axes[-2:], strict=True):
            size = self._array.shape[axis]
            values = self._beside(dims[axis] or "", (size,)) if dims else None
            if values is not None and values.dtype.kind in "iuf":
                found[name] = self._values(values)
        return found

    @functools.cached_property
    def _blocks(self) -> NDArray[np.bool_] | None:
        """(channel, block_y, block_x) True where a chunk of our own stack has something."""
        if self._facts.get("kind") != "stack":
            return None
        blocks = (-(-n // c) for n, c in zip(self.shape[1:], self.chunk, strict=True))
        table = self._beside("occupancy", (self.shape[0], *blocks))
        return None if table is None else np.not_equal(self._values(table), 0)

    @functools.cached_property
    def _mask(self) -> zarr.Array[Any] | None:
        return self._beside("mask", self.shape[1:]) if self._facts else None

    def _beside(self, name: str, shape: tuple[int, ...]) -> zarr.Array[Any] | None:
        """A companion array of the group, if it is there and of the right shape."""
        if self._group is None or not name or name == self._location[1]:
            return None
        try:
            if name not in self._group:
                return None
        except Exception as error:
            raise store.not_zarr(self.path, error) from error
        found = store.open_array(self._location[0], component=name)
        return found if found.shape == shape else None

    def _values(self, array: zarr.Array[Any]) -> NDArray[Any]:
        """All of a small companion array."""
        try:
            return np.asarray(array[...])
        except Exception as error:
            raise RunError(
                f"cannot read {store.store_root(array)}: {store.one_line(error)}"
            ) from error

    def occupied(self, box: Box) -> NDArray[np.bool_] | None:
        if self._blocks is None or box.size == 0:
            return None
        y, x = self.chunk
        part = self._blocks[:, box.y0 // y : -(-box.y1 // y), box.x0 // x : -(-box.x1 // x)]
        return np.asarray(part.any(axis=(1, 2)))

    def mask(self, box: Box) -> NDArray[np.bool_] | None:
        if self._mask is None:
            return None
        out = np.empty(box.shape, dtype=bool)
        store.read_into(self._mask, box.slices, out)
        return out

    def _read(self, index: NDArray[np.intp], box: Box) -> NDArray[Any]:
        raw = np.empty((len(index), *box.shape), dtype=self._array.dtype)
        gap = max(1, GAP_BYTES // max(1, box.size * raw.itemsize))
        for first, last in runs(index, gap):
            wanted = index[first:last]
            start, stop = int(wanted[0]), int(wanted[-1]) + 1
            if stop - start == last - first:
                self._read_channels(start, stop, box, raw[first:last])
            else:
                span = np.empty((stop - start, *box.shape), dtype=raw.dtype)
                self._read_channels(start, stop, box, span)
                raw[first:last] = span[wanted - start]
        return self._unpack(raw) if self._packed else raw

    def _read_channels(self, start: int, stop: int, box: Box, out: NDArray[Any]) -> None:
        selection = [slice(0, 1)] * self._array.ndim
        selection[self._axes[-2]], selection[self._axes[-1]] = box.slices
        if not self.planar:
            selection[self._axes[0]] = slice(start, stop)
        if self._axes == tuple(range(3)):
            store.read_into(self._array, tuple(selection), out)
            return
        sizes = [part.stop - part.start for part in selection]
        found = np.empty(sizes, dtype=out.dtype)
        store.read_into(self._array, tuple(selection), found)
        order = [axis for axis in range(self._array.ndim) if axis not in self._axes]
        out[...] = found.transpose(*order, *self._axes).reshape(out.shape)

    def _unpack(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Packed values as numbers: CF's scale_factor and add_offset, nodata as NaN."""
        values = raw.astype(self.dtype) * self.dtype.type(self._scale)
        values += self.dtype.type(self._offset)
        if self._raw_nodata is not None:
            values[raw == self._raw_nodata] = np.nan
        return values

    def _data_stamp(self) -> str:
        root = os.path.join(*self._location) if self._location[1] else self._location[0]
        stamps = [_tree_stamp(root)]
        if self._mask is not None:
            stamps.append(_tree_stamp(os.path.join(self._location[0], "mask")))
        return digest(self._location, stamps)


def open_zarr(path: str) -> ZarrSource | list[ZarrSource]:
    """The raster of a Zarr store; several (y, x) variables of a group come as a list."""
    try:
        return _choose(path, zarr.open(path, mode="r"))
    except (InputError, RunError, MemoryError):
        raise
    except Exception as error:  # damaged metadata make the parser fail in any way
        raise store.not_zarr(path, error) from error


def _choose(path: str, node: zarr.Array[Any] | zarr.Group) -> ZarrSource | list[ZarrSource]:
    if isinstance(node, zarr.Array):
        return ZarrSource(path)
    ome = ome_first(node)
    if ome is not None:
        return ZarrSource(path, ome)
    members = dict(node.members())
    found = {
        name: array
        for name, array in sorted(members.items())
        if isinstance(array, zarr.Array) and may_be_raster(name, array)
    }
    if not found:
        held = ", ".join(sorted(members)) or "nothing"
        raise InputError(
            f"{path} holds no raster, a (channel, y, x) or (y, x) array: it has {held}"
        )
    if len(found) == 1 or "raster" in found:
        return ZarrSource(path, "raster" if "raster" in found else next(iter(found)))
    images = [name for name, array in found.items() if array.ndim == 2]
    if len(images) == len(found) and len({a.shape for a in found.values()}) == 1:
        return [ZarrSource(path, name) for name in images]
    listed = ", ".join(f"{name} {array.shape}" for name, array in found.items())
    raise InputError(f"{path} holds several rasters; name one as {path}/NAME: {listed}")


def runs(index: NDArray[np.intp], gap: int) -> list[tuple[int, int]]:
    """Cut increasing channel numbers where more than `gap` lie between two: (first, last + 1)."""
    if not len(index):
        return []
    steps = np.diff(index)
    cuts = np.flatnonzero((steps < 1) | (steps > gap)) + 1
    edges = [0, *cuts.tolist(), len(index)]
    return list(itertools.pairwise(edges))


def _metadata_stamp(path: str, component: str) -> str:
    folder = Path(path) / component
    stamps = [file_stamp(folder / n) for n in store.METADATA if (folder / n).is_file()]
    return "".join(stamps)


def _tree_stamp(root: str) -> str:
    """Name, size and time of every file below `root`: no pixel is read."""
    if not os.path.isdir(root):
        return ""
    lines = []
    for folder, names, files in os.walk(root):
        names.sort()
        for name in sorted(files):
            path = os.path.join(folder, name)
            lines.append(f"{os.path.relpath(path, root)} {file_stamp(path)}")
    return digest(lines)


@functools.lru_cache(maxsize=64)
def _reopen(name: str, path: str, component: str, stamp: str) -> ZarrSource:
    """A source in another process: opened once for all its tasks."""
    try:
        now = _metadata_stamp(path, component)
    except OSError:
        now = ""
    if not now:
        raise RunError(f"{path} is not there any more, or cannot be seen from this machine")
    if now != stamp:
        raise RunError(f"{path} changed while it was in use")
    source = ZarrSource(path, component)
    source.path = name
    return source
