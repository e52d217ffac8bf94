"""The operator that moves a raster by a fraction of a pixel (see `bigcorr.apply_shift`).

Parameters and what it asks of a tile; the arithmetic is `kernels.resample`. No dask, no files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.kernels.pad import Boundary
from bigcorr.operators import Layer, check_dtype, missing_pixels, real_number
from bigcorr.tiles import Shape

_MOST_SHIFT = 2**20


@dataclass(frozen=True)
class Shift:
    """A raster moved by (dy, dx) pixels, by a spline of order 1 or 3."""

    shift: tuple[float, float]
    order: int = 3

    name: ClassVar[str] = "shift"
    inputs: ClassVar[int] = 1
    boundary: ClassVar[Boundary] = "nearest"

    def __post_init__(self) -> None:
        takes = f"two finite numbers (dy, dx) of at most {_MOST_SHIFT}"
        try:
            pair = tuple(real_number("shift", value, takes) for value in self.shift)
        except TypeError:
            raise InputError(f"shift: got {self.shift!r}, takes {takes}") from None
        if len(pair) != 2 or not all(abs(value) <= _MOST_SHIFT for value in pair):
            raise InputError(f"shift: got {self.shift!r}, takes {takes}")
        if self.order not in (1, 3) or isinstance(self.order, bool):
            raise InputError(f"order: got {self.order!r}, takes 1 or 3")
        object.__setattr__(self, "shift", pair)

    @property
    def halo(self) -> Shape:
        from bigcorr.kernels.resample import reach

        dy, dx = self.shift
        return reach(dy), reach(dx)

    def within(self, shape: Shape) -> Shift:
        """The same on a raster of `shape`, with a halo that is not larger than it need be."""
        far = (math.copysign(min(abs(d), n), d) for d, n in zip(self.shift, shape, strict=True))
        dy, dx = far
        return Shift((dy, dx), self.order)

    def check(self, *dtypes: Any, shape: Shape) -> None:
        check_dtype(dtypes[0])

    def needs_offset(self, *dtypes: Any) -> bool:
        return False

    def out_dtype(self, *dtypes: Any) -> np.dtype[Any]:
        dtype = np.dtype(dtypes[0])
        return np.dtype(np.float64 if dtype.kind == "f" and dtype.itemsize == 8 else np.float32)

    def tile(self, *layers: Layer, out: NDArray[Any] | None = None) -> NDArray[Any]:
        from bigcorr.kernels.resample import shift_tile, spline_taps

        (layer,) = layers
        pixels, halo = layer.pixels, self.halo
        h, w = (n - 2 * far for n, far in zip(pixels.shape, halo, strict=True))
        if out is None:
            out = np.empty((h, w), self.out_dtype(pixels.dtype))
        raster = layer.raster
        if raster is None:
            raster = layer.origin[0] + pixels.shape[0], layer.origin[1] + pixels.shape[1]
        dy, dx = self.shift
        taps = spline_taps(dy, self.order), spline_taps(dx, self.order)
        return shift_tile(pixels, missing_pixels(layer), layer.origin, raster, taps, halo, out)

    def tile_bytes(self, tile: Shape, *dtypes: Any) -> int:
        halo = self.halo
        padded = (tile[0] + 2 * halo[0]) * (tile[1] + 2 * halo[1])
        # As gathered; where pixels are missing, filled ones with their sums and weights, and masks.
        item = np.dtype(dtypes[0]).itemsize + 8 * 6 + 6
        # Strips of rows with what is summed along y and x, and the result.
        strips = 8 * 3 * (128 + 2 * halo[0]) * (tile[1] + 2 * halo[1])
        return padded * item + strips + 9 * tile[0] * tile[1]
