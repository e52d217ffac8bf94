"""The pixels that a tile of nodes needs: read by boxes, made smaller, and deformed by a flow.

Missing pixels are NaN from here on. What is searched in them is `search`'s part.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.cell_means import cell_means
from bigcorr.kernels.finite import all_finite
from bigcorr.kernels.pad import gather, halo_box
from bigcorr.operators import Layer, missing_as_nan, missing_pixels, offset_of, offset_positions
from bigcorr.raster.base import RasterSource
from bigcorr.tiles import Box, Shape


class Image(NamedTuple):
    """One channel of a source, and the value that means missing in it."""

    source: RasterSource
    nodata: float | None

    @property
    def shape(self) -> Shape:
        return self.source.shape[1], self.source.shape[2]

    def layer(self, box: Box) -> Layer:
        """The pixels of a box as they are stored."""
        return Layer(self.source.read([0], box)[0], self.nodata, self.source.mask(box))

    def offset(self) -> float:
        """A value near the level of the whole raster, from the places that maps take too."""
        rows, columns = (offset_positions(size).tolist() for size in self.shape)
        values = []
        for y in rows:
            for x in columns:
                layer = self.layer(Box(y, y + 1, x, x + 1))
                if missing_pixels(layer) is None:
                    values.append(float(layer.pixels[0, 0]))
        return offset_of(Layer(np.array(values))) if values else 0.0

    def read(self, box: Box, level: int = 0) -> NDArray[np.float64]:
        """Pixels of a box of a level, NaN where missing.

        A pixel of level k is the mean of the valid ones of 2**k x 2**k, and missing where less
        than half of them are valid; what is left over at the end of an axis is dropped.
        """
        scale = 2**level
        layer = self.layer(Box(*(scale * edge for edge in box)))
        pixels = missing_as_nan(layer).astype(np.float64)
        if layer.pixels.dtype.kind == "f" and not all_finite(pixels):
            pixels[~np.isfinite(pixels)] = np.nan
        if level == 0:
            return pixels
        out = np.empty(box.shape)
        cell_means(pixels, np.isfinite(pixels).view(np.uint8), scale, out)
        return out


def level_shape(shape: Shape, level: int) -> Shape:
    """Pixels of a level of a raster."""
    return shape[0] // 2**level, shape[1] // 2**level


def still(image: Image, box: Box, level: int) -> NDArray[np.float64]:
    """The pixels of a box that may reach outside the raster, NaN there."""
    inside = box.clipped(level_shape(image.shape, level))
    if inside == box:
        return image.read(box, level)
    out = np.full(box.shape, np.nan)
    if inside.y0 < inside.y1 and inside.x0 < inside.x1:
        out[inside.relative_to(box).slices] = image.read(inside, level)
    return out


def deformed(image: Image, box: Box, level: int, flow: NDArray[np.float64]) -> NDArray[np.float64]:
    """``moving[y + dy, x + dx]`` for the pixels of a box that may reach outside the raster.

    Parameters
    ----------
    flow : ndarray of float64, shape (2, *box.shape)
        In pixels of the level.
    """
    from bigcorr.kernels.deform import FILL, REACH, deform, spline_coefficients

    shape = level_shape(image.shape, level)
    held = reached(box, flow, shape)
    if held is None:
        return np.full(box.shape, np.nan)
    halo = (REACH + FILL, REACH + FILL)
    source = halo_box(held, halo, shape)
    pixels = image.read(source, level)
    padded = gather(pixels, source, held, halo, shape, "reflect")
    missing = np.isnan(padded)
    if not missing.any():
        return deform(spline_coefficients(padded, None), None, held, shape, flow, box)
    inner = (slice(REACH + FILL, -REACH - FILL),) * 2
    return deform(spline_coefficients(padded, missing), ~missing[inner], held, shape, flow, box)


def reached(box: Box, flow: NDArray[np.float64], shape: Shape) -> Box | None:
    """The pixels that a deformed box comes from; they may lie a little outside the raster."""
    from bigcorr.kernels.deform import SUPPORT

    spans = []
    for start, stop, by, n in (
        (box.y0, box.y1, flow[0], shape[0]),
        (box.x0, box.x1, flow[1], shape[1]),
    ):
        # Places outside the raster are NaN: no pixel is wanted for them.
        low = max(math.floor(start + float(by.min())), 0)
        high = min(math.floor(stop - 1 + float(by.max())), n - 1)
        if high < low:
            return None
        spans += [low - SUPPORT, high + SUPPORT + 1]
    return Box(*spans)


def nanrange(image: Image, side: int = 1024) -> tuple[float, float]:
    """Least and greatest value of a raster, read by boxes; NaN where there is none."""
    from bigcorr.tiles import grid

    low, high = math.nan, math.nan
    for box in grid(image.shape, side):
        pixels = image.read(box)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            low = float(np.fmin(low, np.nanmin(pixels)))
            high = float(np.fmax(high, np.nanmax(pixels)))
        if low < high:
            break
    return low, high
