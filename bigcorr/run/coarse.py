"""A blurred stack in cells of several pixels, as a raster that the stages read like any other.

Only where pixels come from: what is lost by it is measured in `coarse_error`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.cell_means import cell_means
from bigcorr.kernels.cells import NO_MASK
from bigcorr.raster.base import BaseSource, RasterSource, digest
from bigcorr.raster.mask import Mask
from bigcorr.raster.source import as_source
from bigcorr.raster.store import CHUNK, SHARD, clip_chunks
from bigcorr.run.loader import TileLoader
from bigcorr.tiles import Box, Shape, grid

PIECE = 2048
"""Pixels along a side of what is blurred at once."""


class _Cells(BaseSource):
    """Cells of the channels of another source."""

    dtype = np.dtype(np.float32)
    base: RasterSource

    @property
    def channels(self) -> tuple[str, ...]:
        return self.base.channels

    @property
    def may_miss(self) -> bool:
        return self.base.may_miss


class CellMeans(_Cells):
    """The mean of each square cell of the blurred channels, (channel, y, x) float32.

    A cell of which fewer than half of the pixels are valid is missing. The last cells may be cut
    off by the raster's edge; they count as whole ones.

    Parameters
    ----------
    loader : TileLoader
        Of the pixels; its blur comes first.
    cell : int
        Side of a cell in pixels, >= 1.
    """

    timed_as = "read and blur"

    def __init__(self, loader: TileLoader, cell: int) -> None:
        self.loader = loader
        self.cell = cell
        self.base = source = loader.source
        self.shape = (source.shape[0], *coarsened(loader.raster, cell))
        y, x = (max(1, side // cell) for side in source.chunk)
        self.chunk = y, x
        self.path = source.path
        self._side = max(1, PIECE // cell)

    @property
    def may_miss(self) -> bool:
        return self.loader.may_miss

    @property
    def work_bytes(self) -> int:
        y, x = (min(self._side * self.cell, side) for side in self.loader.raster)
        return self.loader.peak_bytes((y, x)) + 2 * y * x

    @property
    def bytes_a_pixel(self) -> float:
        # Halos of whole pieces included.
        item = self.loader.source.dtype.itemsize
        area = 1.0
        for halo, raster in zip(self.loader.halo, self.loader.raster, strict=True):
            side = min(self._side * self.cell, raster)
            area *= self.cell * min(side + 2 * halo, raster) / side
        return item * area

    def _read(self, index: NDArray[np.intp], box: Box) -> NDArray[np.float32]:
        out = np.empty((len(index), *box.shape), np.float32)
        for part in grid(box.shape, self._side):
            cells = Box(box.y0 + part.y0, box.y0 + part.y1, box.x0 + part.x0, box.x0 + part.x1)
            pixels = self._pixels(cells)
            shared = self.loader.mask_tile(pixels)
            none = None if shared is None else ~enough(shared, self.cell)
            loaded = self.loader.channels(pixels, index.astype(np.int64), defaultdict(float))
            for place, channel in enumerate(loaded):
                means = out[place, part.y0 : part.y1, part.x0 : part.x1]
                if channel.values is None:
                    means[:] = 0
                    continue
                valid = shared if channel.valid is None else channel.valid
                values = np.empty(cells.shape)
                cell_means(channel.values, NO_MASK if valid is None else valid, self.cell, values)
                if none is not None:  # these are missing in all channels, as the mask says
                    values[none] = 0
                means[:] = values
        return out

    def _pixels(self, cells: Box) -> Box:
        return pixels_of(cells, self.cell, self.loader.raster)

    def occupied(self, box: Box) -> NDArray[np.bool_] | None:
        if self.loader.nodata == 0:
            return None
        y, x = self.loader.halo
        wide = self._pixels(box).padded(y, y, x, x).clipped(self.loader.raster)
        return self.loader.source.occupied(wide)

    def fingerprint(self) -> str:
        return digest(self.loader.source.fingerprint(), self.loader.sigma, self.cell)


class KeptCells(_Cells):
    """The same cells, written to a store that all read: what is opened when first read.

    Parameters
    ----------
    cells : CellMeans
        What the store holds.
    path : path
        Of the store; it need not be there yet.
    """

    base: CellMeans

    def __init__(self, cells: CellMeans, path: Path) -> None:
        self.base, self.store = cells, path
        self.shape, self.path = cells.shape, str(path)
        self.chunk = clip_chunks((self.shape[1], self.shape[2]), CHUNK, SHARD)[0]
        self._opened: RasterSource | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return KeptCells, (self.base, self.store)

    def _read(self, index: NDArray[np.intp], box: Box) -> NDArray[np.float32]:
        if self._opened is None:
            self._opened = as_source(self.store)
        return self._opened.read(index, box)

    def occupied(self, box: Box) -> NDArray[np.bool_] | None:
        return self.base.occupied(box)

    def fingerprint(self) -> str:
        return self.base.fingerprint()


class CellMask:
    """A mask in cells: those of which at least half of the pixels are valid."""

    def __init__(self, mask: Mask, cell: int) -> None:
        self.mask, self.cell = mask, cell
        self.shape = coarsened(mask.shape, cell)

    def read(self, box: Box) -> NDArray[np.bool_]:
        pixels = self.mask.read(pixels_of(box, self.cell, self.mask.shape))
        return enough(pixels, self.cell)

    def fingerprint(self) -> str:
        return digest(self.mask.fingerprint(), self.cell)


class Mosaic(_Cells):
    """Some pieces of a raster, all of one size, laid side by side in rows.

    Parameters
    ----------
    base : CellMeans
    places : (rows, columns) of boxes on it
    """

    timed_as = "read and blur"

    def __init__(self, base: CellMeans, places: Sequence[Sequence[Box]]) -> None:
        self.base, self.places = base, places
        self.shape = (base.shape[0], *mosaic_shape(places))
        self.path = base.path
        self.chunk = places[0][0].shape

    @property
    def work_bytes(self) -> int:
        return self.base.work_bytes

    @property
    def bytes_a_pixel(self) -> float:
        return self.base.bytes_a_pixel

    def _read(self, index: NDArray[np.intp], box: Box) -> NDArray[np.float64]:
        return gather(self.places, box, lambda part: self.base.read(index, part))

    def fingerprint(self) -> str:
        return digest(self.base.fingerprint(), [[tuple(p) for p in row] for row in self.places])


class MosaicMask:
    """A mask of the same pieces."""

    def __init__(self, mask: Mask, places: Sequence[Sequence[Box]]) -> None:
        self.mask, self.places = mask, places
        self.shape = mosaic_shape(places)

    def read(self, box: Box) -> NDArray[np.bool_]:
        return gather(self.places, box, self.mask.read)

    def fingerprint(self) -> str:
        return digest(self.mask.fingerprint(), [[tuple(p) for p in row] for row in self.places])


def coarsened(raster: Shape, cell: int) -> Shape:
    """Rows and columns of cells."""
    return -(-raster[0] // cell), -(-raster[1] // cell)


def pixels_of(cells: Box, cell: int, raster: Shape) -> Box:
    """The pixels that cells cover."""
    return Box(
        cells.y0 * cell,
        min(cells.y1 * cell, raster[0]),
        cells.x0 * cell,
        min(cells.x1 * cell, raster[1]),
    )


def enough(valid: NDArray[Any], cell: int) -> NDArray[np.bool_]:
    """Cells of which at least half of the pixels are valid; `valid` begins with a whole one."""
    rows, columns = (np.arange(0, side, cell) for side in valid.shape)
    number = np.add.reduceat(
        np.add.reduceat(valid != 0, rows, axis=0, dtype=np.int64), columns, axis=1
    )
    heights = np.diff(np.append(rows, valid.shape[0]))
    widths = np.diff(np.append(columns, valid.shape[1]))
    enough_: NDArray[np.bool_] = 2 * number >= heights[:, None] * widths
    return enough_


def mosaic_shape(places: Sequence[Sequence[Box]]) -> Shape:
    """Rows and columns of pixels of a mosaic."""
    y, x = places[0][0].shape
    return len(places) * y, len(places[0]) * x


def gather(
    places: Sequence[Sequence[Box]], box: Box, read: Callable[[Box], NDArray[Any]]
) -> NDArray[Any]:
    """What `read` gives of the pieces that a box of the mosaic lies on, put together."""

    def rows() -> Iterator[NDArray[Any]]:
        height, width = places[0][0].shape
        for i in range(box.y0 // height, -(-box.y1 // height)):
            parts = []
            for j in range(box.x0 // width, -(-box.x1 // width)):
                place = places[i][j]
                parts.append(
                    read(
                        Box(
                            place.y0 + max(box.y0 - i * height, 0),
                            place.y0 + min(box.y1 - i * height, height),
                            place.x0 + max(box.x0 - j * width, 0),
                            place.x0 + min(box.x1 - j * width, width),
                        )
                    )
                )
            yield np.concatenate(parts, axis=-1)

    return np.concatenate(list(rows()), axis=-2)
