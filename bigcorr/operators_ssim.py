"""The operator of structural similarity: parameters, and two padded tiles in, one tile out.

As in `operators`: no dask, no files. The arithmetic lives in `kernels.ssim`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.kernels.pad import Boundary
from bigcorr.operators import (
    Layer,
    check_boundary,
    check_dtype,
    check_share,
    check_window,
    check_window_fits,
    missing_as_nan,
    real_number,
)
from bigcorr.tiles import Shape

TRUNCATE = 3.5
"""Where the weights of a Gaussian window end, in sigmas: 11 x 11 pixels for the usual 1.5."""


@dataclass(frozen=True)
class SSIM:
    """Structural similarity of two rasters around each pixel (see `bigcorr.ssim`)."""

    window: int = 7
    data_range: float | None = None
    boundary: Boundary = "reflect"
    min_valid: float = 0.5
    gaussian_weights: bool = False
    sigma: float = 1.5
    k1: float = 0.01
    k2: float = 0.03
    use_sample_covariance: bool = True

    name: ClassVar[str] = "ssim"
    inputs: ClassVar[int] = 2

    def __post_init__(self) -> None:
        sigma = real_number("sigma", self.sigma, "a number > 0")
        if not 0 < sigma < math.inf:
            raise InputError(f"sigma: got {sigma:g}, takes a number > 0")
        object.__setattr__(self, "sigma", sigma)
        for name in ("k1", "k2"):
            value = real_number(name, getattr(self, name), "a number of at least 0")
            if not 0 <= value < math.inf:
                raise InputError(f"{name}: got {value:g}, takes a number of at least 0")
            object.__setattr__(self, name, value)
        if self.data_range is not None:
            span = real_number("data_range", self.data_range, "a number > 0")
            if not 0 < span < math.inf:
                raise InputError(f"data_range: got {span:g}, takes a number > 0")
            object.__setattr__(self, "data_range", span)
        object.__setattr__(self, "window", check_window(self.window))
        object.__setattr__(self, "min_valid", check_share("min_valid", self.min_valid))
        check_boundary(self.boundary)

    @property
    def side(self) -> int:
        """Side of the window: with Gaussian weights their support, else as given."""
        return 2 * int(TRUNCATE * self.sigma + 0.5) + 1 if self.gaussian_weights else self.window

    @property
    def halo(self) -> Shape:
        return self.side // 2, self.side // 2

    def check(self, *dtypes: Any, shape: Shape) -> None:
        for dtype in dtypes:
            check_dtype(dtype)
        check_window_fits(self.side, shape, "sigma" if self.gaussian_weights else "window")
        self._range_of(*dtypes)

    def _range_of(self, *dtypes: Any) -> float:
        """The range as given, else that of the first raster's integers."""
        if self.data_range is not None:
            return self.data_range
        for dtype in map(np.dtype, dtypes):
            if dtype.kind == "f":
                raise InputError(
                    f"data_range: got None for pixels of dtype {dtype}, takes the distance from "
                    "the least to the greatest value that they may have"
                )
        first = np.dtype(dtypes[0])
        if first.kind == "b":
            return 1.0
        limits = np.iinfo(first)
        return float(int(limits.max) - int(limits.min))

    def needs_offset(self, *dtypes: Any) -> bool:
        return True

    def out_dtype(self, *dtypes: Any) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def tile(self, *layers: Layer, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        from bigcorr.kernels.gaussian import gaussian_taps
        from bigcorr.kernels.moments import EQUAL
        from bigcorr.kernels.ssim import ssim_tile

        a, b = layers
        span = self._range_of(a.pixels.dtype, b.pixels.dtype)
        return ssim_tile(
            missing_as_nan(a),
            missing_as_nan(b),
            self.side,
            (self.k1 * span) ** 2,
            (self.k2 * span) ** 2,
            a.offset,
            b.offset,
            self.min_valid,
            taps=gaussian_taps(self.sigma, TRUNCATE) if self.gaussian_weights else EQUAL,
            sample=self.use_sample_covariance,
            origin=a.origin,
            out=out,
        )

    def tile_bytes(self, tile: Shape, *dtypes: Any) -> int:
        from bigcorr.kernels.ssim import work_bytes

        padded = (tile[0] + self.side - 1) * (tile[1] + self.side - 1)
        # Both tiles as gathered, as float and without what is missing; masks, weights; the result.
        item = sum(np.dtype(dtype).itemsize + 20 for dtype in dtypes) + 8
        work = work_bytes(tile, self.side, self.gaussian_weights)
        return padded * (item + 4) + 4 * tile[0] * tile[1] + work
