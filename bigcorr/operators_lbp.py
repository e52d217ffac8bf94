"""The operator of local binary patterns: parameters, and one padded tile in, one tile out.

As in `operators`: no dask, no files. The arithmetic lives in `kernels.lbp`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.kernels.lbp_circle import METHODS, Circle, Method, circle, number_of_codes
from bigcorr.kernels.pad import Boundary
from bigcorr.kernels.scratch import kept
from bigcorr.operators import Layer, check_dtype, missing_pixels, real_number, whole_number
from bigcorr.tiles import Box, Shape

MOST_POINTS: dict[str, int] = {"default": 63, "ror": 63, "uniform": 64, "nri_uniform": 64}
"""Patterns are words of 64 bits, and one value is kept for missing pixels; "var" has no codes."""

MOST_RADIUS = 1024.0
"""A halo beyond this would cost more than any tile."""


@dataclass(frozen=True)
class LocalBinaryPattern:
    """Local binary pattern of each pixel of one raster (see `bigcorr.local_binary_pattern`).

    Where `may_miss`, or the pixels are floats, the codes' type has room for the mark of missing
    pixels: its largest value.
    """

    points: int = 8
    radius: float = 1.0
    method: Method = "uniform"
    may_miss: bool = False

    name: ClassVar[str] = "lbp"
    inputs: ClassVar[int] = 1
    boundary: ClassVar[Boundary] = "nearest"
    """Whatever it is: `tile` puts zeros there."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            takes = ", ".join(map(repr, METHODS))
            raise InputError(f"method: got {self.method!r}, takes one of {takes}")
        most = MOST_POINTS.get(self.method)
        takes = f"from 1 to {most} for {self.method!r}" if most else "of at least 1"
        takes = f"a whole number {takes}"
        points = whole_number("points", self.points, takes)
        if points < 1 or (most is not None and points > most):
            raise InputError(f"points: got {points}, takes {takes}")
        takes = f"a number of pixels > 0, at most {MOST_RADIUS:g}"
        radius = real_number("radius", self.radius, takes)
        if not 0 < radius <= MOST_RADIUS:
            raise InputError(f"radius: got {radius:g}, takes {takes}")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "radius", radius)

    @property
    def _circle(self) -> Circle:
        return circle(self.points, self.radius)

    @property
    def halo(self) -> Shape:
        return self._circle.halo

    def check(self, *dtypes: Any, shape: Shape) -> None:
        check_dtype(dtypes[0])

    def needs_offset(self, *dtypes: Any) -> bool:
        return False

    @property
    def codes(self) -> int:
        """How many codes there are, from 0 upward; none for "var"."""
        return number_of_codes(self.points, self.method)

    def out_dtype(self, *dtypes: Any) -> np.dtype[Any]:
        if self.method == "var":
            return np.dtype(np.float64)
        return np.min_scalar_type(self.codes - (0 if self._marked(*dtypes) else 1))

    def _marked(self, *dtypes: Any) -> bool:
        return self.may_miss or np.dtype(dtypes[0]).kind == "f"

    def nodata(self, *dtypes: Any) -> int | None:
        """What the result declares as missing; None where nothing is, or where it is NaN."""
        if self.method == "var" or not self._marked(*dtypes):
            return None
        return int(np.iinfo(self.out_dtype(*dtypes)).max)

    def tile(self, *layers: Layer, out: NDArray[Any] | None = None) -> NDArray[Any]:
        from bigcorr.kernels.lbp import lbp_tile

        (layer,) = layers
        halo = self.halo
        missing = missing_pixels(layer)
        pixels = kept(layer.pixels.size, "lbp tile").reshape(layer.pixels.shape)
        pixels[...] = layer.pixels
        if layer.raster is not None:
            for strip in _beyond(layer.pixels.shape, layer.origin, layer.raster):
                pixels[strip] = 0.0
                if missing is not None:
                    missing[strip] = False
        if out is None:
            shape = [n - 2 * r for n, r in zip(layer.pixels.shape, halo, strict=True)]
            out = np.empty(shape, self.out_dtype(layer.pixels.dtype))
        if missing is not None:
            pixels[missing] = 0.0
        first = layer.origin[0] + halo[0], layer.origin[1] + halo[1]
        lbp_tile(pixels, self.points, self.radius, self.method, first, out)
        if missing is not None and missing.any():
            self._put_mark(missing, out)
        return out

    def _put_mark(self, missing: NDArray[np.bool_], result: NDArray[Any]) -> None:
        """Mark what has a missing pixel in its footprint; `missing` is padded by `halo`."""
        mark = np.nan if self.method == "var" else np.iinfo(result.dtype).max
        if self.method != "var" and mark < self.codes:
            raise InputError(
                f"may_miss: got False for pixels of which some are missing, and {result.dtype} "
                "has no value left for them: takes True"
            )
        height, width = result.shape
        touched = np.zeros(result.shape, bool)
        for dy, dx in self._circle.footprint:
            y, x = self.halo[0] + dy, self.halo[1] + dx
            touched |= missing[y : y + height, x : x + width]
        result[touched] = mark

    def tile_bytes(self, tile: Shape, *dtypes: Any) -> int:
        from bigcorr.kernels.lbp import work_bytes

        halo = self.halo
        padded = (tile[0] + 2 * halo[0]) * (tile[1] + 2 * halo[1])
        # As gathered, as float64, three masks; the result and where it is marked.
        result = self.out_dtype(*dtypes).itemsize + 1
        return (
            padded * (np.dtype(dtypes[0]).itemsize + 8 + 3)
            + tile[0] * tile[1] * result
            + work_bytes(self.points, self.radius, tile[1])
        )


def _beyond(shape: Shape, origin: Shape, raster: Shape) -> list[tuple[slice, slice]]:
    """The strips of a padded tile that lie outside the raster."""
    padded = Box(origin[0], origin[0] + shape[0], origin[1], origin[1] + shape[1])
    inside = padded.clipped(raster).relative_to(padded)
    everything = slice(None)
    return [
        (slice(0, inside.y0), everything),
        (slice(inside.y1, None), everything),
        (everything, slice(0, inside.x0)),
        (everything, slice(inside.x1, None)),
    ]
