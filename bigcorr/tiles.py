"""Tile geometry: pure integers.

Boxes, grids, halos and the reflection of indices at the raster's edge. No I/O, no arrays of
pixels, no dask, zarr or xarray: whatever moves pixels takes a `Box` from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int]


class Box(NamedTuple):
    """A half-open rectangle of the global pixel grid, ``[y0, y1) x [x0, x1)``."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def shape(self) -> Shape:
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def size(self) -> int:
        return (self.y1 - self.y0) * (self.x1 - self.x0)

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def padded(self, top: int, bottom: int, left: int, right: int) -> Box:
        """The box grown by a halo; it may reach outside the raster."""
        return Box(self.y0 - top, self.y1 + bottom, self.x0 - left, self.x1 + right)

    def clipped(self, shape: Shape) -> Box:
        """The part of the box that lies on a raster of `shape`."""
        return Box(max(self.y0, 0), min(self.y1, shape[0]), max(self.x0, 0), min(self.x1, shape[1]))

    def shifted(self, down: int, right: int) -> Box:
        """The same rectangle moved."""
        return Box(self.y0 + down, self.y1 + down, self.x0 + right, self.x1 + right)

    def relative_to(self, other: Box) -> Box:
        """The same rectangle in the coordinates of `other`'s top-left corner."""
        return self.shifted(-other.y0, -other.x0)


def grid(shape: Shape, size: int | Shape) -> Iterator[Box]:
    """The boxes of a regular grid over `shape`, row by row; the last ones may be smaller."""
    size_y, size_x = (size, size) if isinstance(size, int) else size
    for y0 in range(0, shape[0], size_y):
        for x0 in range(0, shape[1], size_x):
            yield Box(y0, min(y0 + size_y, shape[0]), x0, min(x0 + size_x, shape[1]))


def reflect_indices(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Indices ``start .. stop - 1`` folded into ``0 .. size - 1`` by scipy's "reflect".

    ``d c b a | a b c d | d c b a``, repeated as often as needed: a halo may be larger than the
    raster. Because the fold is of global indices, every tile sees the same pixels there.
    """
    period = 2 * size
    index = np.arange(start, stop, dtype=np.intp) % period
    return np.where(index < size, index, period - 1 - index)


def nearest_indices(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Indices ``start .. stop - 1`` clamped to ``0 .. size - 1``."""
    return np.clip(np.arange(start, stop, dtype=np.intp), 0, size - 1)


def lattice(start: int, stop: int, window: int, stride: int, size: int) -> tuple[int, int]:
    """First corner and number of the stride windows whose corner lies in ``[start, stop)``.

    Corners are at multiples of `stride` from the raster's origin and a window of `window` pixels
    must lie wholly inside a raster axis of `size` pixels.
    """
    first = -(-start // stride) * stride
    last = min(stop - 1, size - window)
    return first, max(0, (last - first) // stride + 1) if last >= first else 0
