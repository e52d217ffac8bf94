"""Small views of large rasters: block means, read tile by tile in bounded memory.

A view is for the eye; no number of a result comes from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.tiles import Box, grid

if TYPE_CHECKING:
    from bigcorr.raster import RasterSource

_TILE_BYTES = 32 * 2**20
_MIN_VALID = 0.5


class View(NamedTuple):
    """Channels seen from afar.

    ``grids`` is (channel, y, x) float64, NaN where less than half of a block is valid; ``factor``
    is the side of a block in pixels of the raster.
    """

    grids: NDArray[np.float64]
    factor: int


def block_means(source: RasterSource, channels: Sequence[int], longest: int = 320) -> View:
    """Means over square blocks, as small as a view of `longest` pixels a side allows.

    Parameters
    ----------
    source : what to look at.
    channels : numbers of its channels.
    longest : sides of the view at most.

    Returns
    -------
    View
        Missing pixels (NaN, nodata, outside the stored mask) are left out of the means.
    """
    height, width = source.shape[1:]
    factor = max(1, -(-max(height, width) // longest))
    shape = (len(channels), -(-height // factor), -(-width // factor))
    total, count = np.zeros(shape), np.zeros(shape)
    for box in _tiles(source, len(channels), factor):
        place = np.s_[:, box.y0 // factor :, box.x0 // factor :]
        sums, valid = _block_sums(source, channels, box, factor)
        _, h, w = sums.shape
        total[place][:, :h, :w] = sums
        count[place][:, :h, :w] = valid
    pixels = np.multiply.outer(*(_block_sides(n, factor) for n in (height, width)))
    enough = count >= _MIN_VALID * pixels
    return View(
        np.divide(total, count, out=np.full(shape, np.nan), where=enough & (count > 0)), factor
    )


def _tiles(source: RasterSource, channels: int, factor: int) -> list[Box]:
    """Boxes of whole blocks that cover the raster, each of a bounded number of bytes."""
    side = int(np.sqrt(_TILE_BYTES / (8 * max(channels, 1))))
    unit = max(source.chunk)
    side = max(side // unit * unit, min(side, unit))
    return list(grid(source.shape[1:], max(side // factor, 1) * factor))


def _block_sums(
    source: RasterSource, channels: Sequence[int], box: Box, factor: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and number of the valid pixels of each block of a box."""
    data = np.zeros((len(channels), *box.shape))
    occupied = source.occupied(box)
    read = [i for i, c in enumerate(channels) if occupied is None or occupied[c]]
    if read:
        data[read] = source.read([channels[i] for i in read], box)
    valid = np.isfinite(data)
    if source.nodata is not None:
        valid &= data != source.nodata
    mask = source.mask(box)
    if mask is not None:
        valid &= mask
    data[~valid] = 0
    return _reduce(data, factor), _reduce(valid.astype(np.float64), factor)


def _reduce(values: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    for axis in (1, 2):
        starts = np.arange(0, values.shape[axis], factor)
        values = np.add.reduceat(values, starts, axis=axis)
    return values


def _block_sides(size: int, factor: int) -> NDArray[np.int64]:
    starts = np.arange(0, size, factor)
    return np.minimum(starts + factor, size) - starts
