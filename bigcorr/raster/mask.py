"""Where a raster is valid in all channels: masks that are given, stored, or found (tissue).

A mask is read by boxes like a source and pickles cheaply. Missing pixels of single channels (NaN,
nodata) are not its part.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.raster.base import RasterSource, digest
from bigcorr.raster.memory import hash_array
from bigcorr.raster.rasterize import workers
from bigcorr.raster.source import as_source
from bigcorr.tiles import Box, grid

FINEST = 256
"""Cells along the longer side of the coarse grid on which tissue is looked for."""
COARSEST = 16
READ_BYTES = 2**26
SMALL = 2**28
"""Pixels (all channels) up to which `empty_fraction` looks at the data themselves."""


class Mask(Protocol):
    """Valid pixels (y, x) of a raster, read by boxes."""

    shape: tuple[int, int]

    def read(self, box: Box) -> NDArray[np.bool_]:
        """(h, w) True where pixels are valid."""

    def fingerprint(self) -> str:
        """Changes when the mask does."""


class ArrayMask:
    """A mask held in memory."""

    def __init__(self, valid: NDArray[np.bool_]) -> None:
        self._valid = valid
        self.shape = (int(valid.shape[0]), int(valid.shape[1]))

    def read(self, box: Box) -> NDArray[np.bool_]:
        return self._valid[box.slices]

    def fingerprint(self) -> str:
        return digest("array", hash_array(self._valid))


class CoarseMask:
    """A mask of square cells of `cell` pixels; the last ones may reach over the edge."""

    def __init__(self, cells: NDArray[np.bool_], cell: int, shape: tuple[int, int]) -> None:
        self.cells = cells
        self.cell = cell
        self.shape = shape

    def read(self, box: Box) -> NDArray[np.bool_]:
        rows = np.arange(box.y0, box.y1) // self.cell
        columns = np.arange(box.x0, box.x1) // self.cell
        return self.cells[np.ix_(rows, columns)]

    def count(self) -> int:
        """Valid pixels of the whole raster, which is not spread out for it."""
        down, across = (
            np.minimum(self.cell, size - self.cell * np.arange(cells))
            for size, cells in zip(self.shape, self.cells.shape, strict=True)
        )
        return int(down @ (self.cells @ across))

    def fingerprint(self) -> str:
        return digest("coarse", self.cell, self.shape, hash_array(self.cells))


class FileMask:
    """A raster as a mask: what is neither zero nor missing is valid."""

    def __init__(self, source: RasterSource) -> None:
        if source.shape[0] != 1:
            raise InputError(
                f"a mask has one channel, {source.path} has {source.shape[0]}: name one as "
                f"{source.path}#CHANNEL"
            )
        self._source = source
        self.shape = source.shape[1:]

    def read(self, box: Box) -> NDArray[np.bool_]:
        values = self._source.read(slice(None), box)[0]
        return _filled(values, self._source.nodata)

    def fingerprint(self) -> str:
        return digest("file", self._source.fingerprint())


class StoredMask:
    """The mask that a stack store carries."""

    def __init__(self, source: RasterSource) -> None:
        self._source = source
        self.shape = source.shape[1:]

    def read(self, box: Box) -> NDArray[np.bool_]:
        valid = self._source.mask(box)
        return np.ones(box.shape, dtype=bool) if valid is None else valid

    def fingerprint(self) -> str:
        return digest("stored", self._source.fingerprint())


class BothMasks:
    """What is valid in each of two masks."""

    def __init__(self, first: Mask, second: Mask) -> None:
        self._parts = (first, second)
        self.shape = first.shape

    def read(self, box: Box) -> NDArray[np.bool_]:
        return self._parts[0].read(box) & self._parts[1].read(box)

    def fingerprint(self) -> str:
        return digest(*(part.fingerprint() for part in self._parts))


def resolve_mask(mask: Any, source: RasterSource) -> Mask | None:
    """The mask of a run.

    Parameters
    ----------
    mask : None for the one that `source` carries, if any; "auto" for its tissue (`find_tissue`);
        a path, array or DataArray (y, x): valid where it is neither zero nor missing. A given
        mask and a stored one both count.
    source : the raster that it is for.

    Returns
    -------
    Mask or None
        None where every pixel is valid.

    Raises
    ------
    InputError : the mask is not of the raster's shape, has several channels, or nothing in it is
        valid.
    """
    stored: Mask | None = None
    if source.mask(Box(0, 1, 0, 1)) is not None:
        stored = StoredMask(source)
    if mask is None:
        return stored
    given: Mask
    if isinstance(mask, str) and mask == "auto":
        given = find_tissue(source)
        name = "mask 'auto'"
    else:
        name = f"mask {os.fspath(mask)}" if isinstance(mask, (str, os.PathLike)) else "mask"
        given = _given(mask)
    if tuple(given.shape) != tuple(source.shape[1:]):
        raise InputError(
            f"{name} has shape {tuple(given.shape)}, the raster {source.path} has "
            f"{source.shape[1:]} (y, x)"
        )
    both: Mask = given if stored is None else BothMasks(given, stored)
    if not any(both.read(box).any() for box in grid(both.shape, 2048)):
        raise InputError(f"{name} leaves no valid pixel")
    return both


def _given(mask: Any) -> Mask:
    if isinstance(mask, (ArrayMask, CoarseMask, FileMask, StoredMask, BothMasks)):
        return mask
    if isinstance(mask, np.ndarray):
        if mask.ndim != 2 or mask.dtype.kind not in "buif":
            raise InputError(f"mask takes a (y, x) array, got {mask.dtype} {mask.shape}")
        return ArrayMask(_filled(mask, None))
    return FileMask(as_source(mask))


def find_tissue(source: RasterSource) -> CoarseMask:
    """The region in which any channel has something, closed and without holes.

    Parameters
    ----------
    source : the raster; all of it is read once, but for the blocks known to be empty.

    Returns
    -------
    CoarseMask

    Notes
    -----
    On a grid of at most 256 cells a side, cells with a value other than zero in any channel are
    closed by a disc of two cells and holes are filled. While less than 60 % of the region's cells
    hold something, the counts being so sparse, the cells are doubled, down to 16 a side.
    """
    from scipy import ndimage

    disc = ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), 2)
    longest = max(source.shape[1:])
    cell = max(1, -(-longest // FINEST))
    held = _cells_held(source, cell)
    while True:
        padded = np.pad(held, 3)
        region = ndimage.binary_fill_holes(ndimage.binary_closing(padded, disc))[3:-3, 3:-3]
        region |= held
        sparse = held.sum() < 0.6 * region.sum() or (held.any() and _scattered(region))
        if not sparse or max(held.shape) // 2 < COARSEST:
            return CoarseMask(region, cell, (source.shape[1], source.shape[2]))
        held = _halved(held)
        cell *= 2


def _scattered(region: NDArray[np.bool_]) -> bool:
    """True if the region is mostly specks: its cells have hardly a neighbour in it."""
    padded = np.pad(region, 1)
    around = padded[:-2, 1:-1] + padded[2:, 1:-1].astype(np.uint8)
    around = around + padded[1:-1, :-2] + padded[1:-1, 2:]
    return bool(around[region].mean() < 2.0)


def _halved(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells of twice the size."""
    height, width = cells.shape
    padded = np.pad(cells, ((0, height % 2), (0, width % 2)))
    return np.asarray(padded.reshape(-(-height // 2), 2, -(-width // 2), 2).any(axis=(1, 3)))


def _cells_held(source: RasterSource, cell: int) -> NDArray[np.bool_]:
    """Which cells hold a value other than zero in any channel."""
    height, width = source.shape[1:]
    held = np.zeros((-(-height // cell), -(-width // cell)), dtype=bool)
    side = max(cell, 1024 // cell * cell)

    def one(box: Box) -> None:
        known = source.occupied(box)
        wanted = np.arange(source.shape[0]) if known is None else np.flatnonzero(known)
        depth = max(1, READ_BYTES // (box.size * source.dtype.itemsize))
        any_channel = np.zeros(box.shape, dtype=bool)
        for start in range(0, len(wanted), depth):
            values = source.read(wanted[start : start + depth], box)
            any_channel |= _filled(values, source.nodata).any(axis=0)
        valid = source.mask(box)
        if valid is not None:
            any_channel &= valid
        rows = np.logical_or.reduceat(any_channel, np.arange(0, box.shape[0], cell), axis=0)
        cells = np.logical_or.reduceat(rows, np.arange(0, box.shape[1], cell), axis=1)
        y, x = box.y0 // cell, box.x0 // cell
        held[y : y + cells.shape[0], x : x + cells.shape[1]] = cells

    with ThreadPoolExecutor(workers()) as pool:
        for _ in pool.map(one, grid((height, width), side)):
            pass
    return held


def _filled(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """True where a value is neither zero nor missing."""
    found = np.not_equal(values, 0)
    if values.dtype.kind == "f":
        found &= ~np.isnan(values)
    if nodata is not None:
        found &= np.not_equal(values, nodata)
    return np.asarray(found)


def empty_fraction(source: RasterSource) -> float:
    """Share of the raster, 0 to 1, that is empty in all channels, looked at coarsely.

    Parameters
    ----------
    source : a raster. Small ones are read; large ones are judged by their occupancy table, and
        where there is none by 64 boxes of 64 pixels and at most 16 channels.

    Returns
    -------
    float
    """
    height, width = source.shape[1:]
    if source.shape[0] * height * width <= SMALL:
        return 1.0 - find_tissue(source).count() / (height * width)
    if source.occupied(Box(0, 1, 0, 1)) is not None:
        boxes = list(grid((height, width), source.chunk))
        empty = sum(box.size for box in boxes if not _any_occupied(source, box))
        return empty / (height * width)
    channels = np.unique(np.linspace(0, source.shape[0] - 1, 16).astype(np.intp))
    corners = (np.linspace(0, max(0, size - 64), 8).astype(int) for size in (height, width))
    rows, columns = (part.tolist() for part in corners)
    empty = 0
    for y in rows:
        for x in columns:
            box = Box(y, y + 64, x, x + 64).clipped((height, width))
            empty += not _filled(source.read(channels, box), source.nodata).any()
    return empty / 64


def _any_occupied(source: RasterSource, box: Box) -> bool:
    known = source.occupied(box)
    return known is None or bool(known.any())
