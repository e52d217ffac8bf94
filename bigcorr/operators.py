"""Per-pixel operators: parameters, what they ask of a tile, and one padded tile in, one tile out.

An operator knows nothing of where pixels come from. `wiring` calls it on arrays and `run.map_job`
on tiles read from storage, both through `compute_box`: so with the same bits. No dask, no files.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.kernels.pad import Boundary, gather, outside
from bigcorr.tiles import Box, Shape, grid

_LEAST_TILE, _MOST_TILE, _HALOS = (512, 1024), 2048, 16
"""Tiles are at least this large, so that a kernel's start is paid for seldom, and as flat, so that
what is read is still in a near cache when it is used; up to so many halos, but never larger than
the second, which bounds what a kernel holds."""

SIDE_OF_SIGMA = 3.5
"""Sides of a Gaussian-weighted window in units of its sigma."""

Weights = Literal["uniform", "gaussian"]

OFFSET_GRID = 5
"""An operator's offset is the median over this many positions along each axis of the raster."""


class Layer(NamedTuple):
    """One raster's pixels in some box, as an operator takes them.

    pixels : (h, w) as stored.
    nodata : value that means missing, beside what is not finite.
    valid : (h, w) bool, False where a mask says that pixels are missing; None: there is no mask.
    offset : a value near the level of the whole raster.
    origin : row and column of the first pixel in the raster; negative in a halo outside.
    raster : the raster's shape; None: not known, all these pixels lie on it.
    """

    pixels: NDArray[Any]
    nodata: float | None = None
    valid: NDArray[np.bool_] | None = None
    offset: float = 0.0
    origin: Shape = (0, 0)
    raster: Shape | None = None


class Operator(Protocol):
    """What the wirings need of a per-pixel map."""

    name: ClassVar[str]
    inputs: ClassVar[int]

    @property
    def halo(self) -> Shape:
        """Pixels that it looks beyond a tile, (y, x)."""

    @property
    def boundary(self) -> Boundary:
        """What stands outside the raster."""

    def check(self, *dtypes: Any, shape: Shape) -> None:
        """Raise `InputError` where rasters of these dtypes and this shape cannot be taken."""

    def needs_offset(self, *dtypes: Any) -> bool:
        """Whether `tile` wants the level of each raster."""

    def out_dtype(self, *dtypes: Any) -> np.dtype[Any]:
        """Dtype of the result."""

    def tile(self, *layers: Layer, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The result for one tile, from layers that are padded by `halo`; in `out` if given."""

    def tile_bytes(self, tile: Shape, *dtypes: Any) -> int:
        """Most bytes that `tile` holds at a time, for a result of shape `tile`."""


@dataclass(frozen=True)
class NCC:
    """Correlation of two rasters over the window around each pixel (see `bigcorr.ncc`)."""

    window: int = 7
    boundary: Boundary = "reflect"
    min_valid: float = 0.5
    weights: Weights = "uniform"

    name: ClassVar[str] = "ncc"
    inputs: ClassVar[int] = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", check_window(self.window))
        object.__setattr__(self, "min_valid", check_share("min_valid", self.min_valid))
        check_boundary(self.boundary)
        if self.weights not in ("uniform", "gaussian"):
            raise InputError(f"weights: got {self.weights!r}, takes 'uniform' or 'gaussian'")

    @property
    def halo(self) -> Shape:
        return self.window // 2, self.window // 2

    def check(self, *dtypes: Any, shape: Shape) -> None:
        for dtype in dtypes:
            check_dtype(dtype)
        check_window_fits(self.window, shape)

    def needs_offset(self, *dtypes: Any) -> bool:
        return self.weights == "gaussian" or not self._exact(*dtypes)

    def _exact(self, *dtypes: Any) -> bool:
        from bigcorr.kernels.ncc import exact_moments

        return exact_moments(self.window, *dtypes)

    def out_dtype(self, *dtypes: Any) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def taps(self) -> NDArray[np.float64]:
        """Weights along each axis; none where all pixels count alike."""
        from bigcorr.kernels.gaussian import gaussian_weights
        from bigcorr.kernels.moments import EQUAL

        if self.weights == "uniform":
            return EQUAL
        return gaussian_weights(self.window / SIDE_OF_SIGMA, self.window // 2)

    def tile(self, *layers: Layer, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        from bigcorr.kernels.ncc import ncc_tile

        a, b = layers
        return ncc_tile(
            missing_as_nan(a),
            missing_as_nan(b),
            self.window,
            a.offset,
            b.offset,
            self.min_valid,
            taps=self.taps(),
            exact=self._exact(a.pixels.dtype, b.pixels.dtype),
            origin=a.origin,
            out=out,
        )

    def tile_bytes(self, tile: Shape, *dtypes: Any) -> int:
        from bigcorr.kernels.ncc import work_bytes

        padded = (tile[0] + self.window - 1) * (tile[1] + self.window - 1)
        # Both tiles as gathered, as float and without what is missing; masks, weights; the result.
        item = sum(np.dtype(dtype).itemsize + 20 for dtype in dtypes) + 8
        work = work_bytes(tile, self.window, self.weights == "gaussian")
        return padded * (item + 4) + 4 * tile[0] * tile[1] + work


MOST_SIGMA = 100_000
"""Pixels: a blur that takes in more than any raster has would be all memory."""


@dataclass(frozen=True)
class GaussianBlur:
    """Gaussian blur of one raster (see `bigcorr.gaussian_blur`)."""

    sigma: float | tuple[float, float]
    truncate: float = 4.0
    fill: bool = False

    name: ClassVar[str] = "blur"
    inputs: ClassVar[int] = 1
    boundary: ClassVar[Boundary] = "reflect"

    def __post_init__(self) -> None:
        given = self.sigma
        pair = given if isinstance(given, tuple) else (given, given)
        takes = "one number > 0, or two of them as (y, x)"
        if len(pair) != 2:
            raise InputError(f"sigma: got {len(pair)} values, takes {takes}")
        sigmas = tuple(real_number("sigma", value, takes) for value in pair)
        if not all(0 < value < math.inf for value in sigmas):
            raise InputError(f"sigma: got {given}, takes {takes}")
        truncate = real_number("truncate", self.truncate, "a number > 0")
        if not 0 < truncate < math.inf:
            raise InputError(f"truncate: got {truncate:g}, takes a number > 0")
        if max(sigmas) > MOST_SIGMA:
            raise InputError(f"sigma: got {max(sigmas):g}, takes at most {MOST_SIGMA:,} pixels")
        most = 4 * MOST_SIGMA / max(sigmas)
        if truncate > most:
            raise InputError(f"truncate: got {truncate:g}, takes at most {most:g} with this sigma")
        object.__setattr__(self, "sigma", sigmas)
        object.__setattr__(self, "truncate", truncate)

    @property
    def sigmas(self) -> tuple[float, float]:
        """Standard deviations, (y, x)."""
        assert isinstance(self.sigma, tuple)
        return self.sigma

    @property
    def halo(self) -> Shape:
        y, x = self.sigmas
        return int(self.truncate * y + 0.5), int(self.truncate * x + 0.5)

    def check(self, *dtypes: Any, shape: Shape) -> None:
        check_dtype(dtypes[0])

    def needs_offset(self, *dtypes: Any) -> bool:
        return False

    def out_dtype(self, *dtypes: Any) -> np.dtype[Any]:
        dtype = np.dtype(dtypes[0])
        return np.dtype(np.float64 if dtype.kind == "f" and dtype.itemsize == 8 else np.float32)

    def taps(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights along y and x."""
        from bigcorr.kernels.gaussian import gaussian_taps

        y, x = self.sigmas
        return gaussian_taps(y, self.truncate), gaussian_taps(x, self.truncate)

    def tile(self, *layers: Layer, out: NDArray[Any] | None = None) -> NDArray[Any]:
        from bigcorr.kernels.gaussian import blur_finite, blur_tile, blur_tile_masked

        (layer,) = layers
        pixels = layer.pixels
        if out is None:
            shape = [n - 2 * r for n, r in zip(pixels.shape, self.halo, strict=True)]
            out = np.empty(shape, self.out_dtype(pixels.dtype))
        if layer.nodata is None and layer.valid is None and blur_finite(pixels, *self.taps(), out):
            return out
        missing = missing_pixels(layer)
        if missing is None:
            return blur_tile(pixels, *self.taps(), out=out)
        return blur_tile_masked(pixels, ~missing, *self.taps(), out=out, fill=self.fill)

    def whole(self, layer: Layer) -> NDArray[Any]:
        """A whole raster by Fourier transform, whose edges wrap around."""
        from bigcorr.kernels.fft_blur import blur_plane

        blurred = blur_plane(layer.pixels, missing_pixels(layer), *self.taps(), fill=self.fill)
        return blurred.astype(self.out_dtype(layer.pixels.dtype))

    def tile_bytes(self, tile: Shape, *dtypes: Any) -> int:
        from bigcorr.kernels.gaussian import work_bytes

        halo = self.halo
        padded = (tile[0] + 2 * halo[0]) * (tile[1] + 2 * halo[1])
        # As gathered, as float, with missing pixels cleared, two masks; three float64 results.
        item = 2 * np.dtype(dtypes[0]).itemsize + 8 + 3
        return padded * item + 32 * tile[0] * tile[1] + work_bytes(halo, tile[0] + 2 * halo[0])


def tile_shape(halo: Shape) -> Shape:
    """Shape of the tiles that a larger box is worked through in."""
    y, x = (
        min(max(least, _HALOS * radius), _MOST_TILE)
        for least, radius in zip(_LEAST_TILE, halo, strict=True)
    )
    return y, x


def compute_box(
    op: Operator,
    layers: Sequence[Layer],
    held: Box,
    box: Box,
    shape: Shape,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """An operator's result on a box of the raster.

    Parameters
    ----------
    op : Operator
    layers : of Layer
        Pixels in the box `held`, which holds the halo of `box` as far as it is on the raster.
    held, box : Box
    shape : (int, int)
        The raster's.
    out : ndarray, shape ``box.shape``, optional
        Written and returned.

    Returns
    -------
    ndarray, shape ``box.shape``
        The same bits whatever the box.
    """
    if out is None:
        out = np.empty(box.shape, op.out_dtype(*(layer.pixels.dtype for layer in layers)))
    for part in grid(box.shape, tile_shape(op.halo)):
        tile = Box(part.y0 + box.y0, part.y1 + box.y0, part.x0 + box.x0, part.x1 + box.x0)
        origin = tile.y0 - op.halo[0], tile.x0 - op.halo[1]
        beyond = outside(tile, op.halo, shape) if op.boundary == "nan" else None
        padded = []
        for k, layer in enumerate(layers):
            room = f"tile of layer {k}"
            pixels = gather(layer.pixels, held, tile, op.halo, shape, op.boundary, room)
            valid = layer.valid
            if valid is not None:
                valid = gather(valid, held, tile, op.halo, shape, op.boundary)
            if beyond is not None:
                valid = ~beyond if valid is None else valid & ~beyond
            padded.append(layer._replace(pixels=pixels, valid=valid, origin=origin, raster=shape))
        op.tile(*padded, out=out[part.slices])
    return out


def offset_positions(size: int) -> NDArray[np.intp]:
    """Where along an axis of the raster the values behind its offset are taken."""
    return (2 * np.arange(OFFSET_GRID) + 1) * size // (2 * OFFSET_GRID)


def offset_of(layer: Layer) -> float:
    """The (lower) median of the usable values among the few given; 0 where there is none.

    It only conditions sums, so that any value near the raster's level will do; what counts is
    that it is the same for every tile, and a pixel's own value, so that it cancels exactly.
    """
    missing = missing_pixels(layer)
    values = layer.pixels.ravel() if missing is None else layer.pixels[~missing]
    return float(np.sort(values)[(values.size - 1) // 2]) if values.size else 0.0


def missing_pixels(layer: Layer) -> NDArray[np.bool_] | None:
    """Where pixels are missing: not finite, nodata, or masked. None where none is."""
    pixels, nodata, valid = layer.pixels, layer.nodata, layer.valid
    from bigcorr.kernels.finite import all_finite

    missing = None if valid is None else ~valid
    if pixels.dtype.kind == "f" and not all_finite(pixels):
        unusable = ~np.isfinite(pixels)
        missing = unusable if missing is None else missing | unusable
    if nodata is not None and not math.isnan(nodata):
        value = pixels.dtype.type(nodata) if pixels.dtype.kind == "f" else nodata
        unusable = pixels == value
        missing = unusable if missing is None else missing | unusable
    return missing if missing is not None and missing.any() else None


def missing_as_nan(layer: Layer) -> NDArray[Any]:
    """The pixels, as floats that hold NaN where any is missing."""
    pixels = layer.pixels
    if layer.nodata is None and layer.valid is None:
        return pixels  # what is not finite is missing anyway
    missing = missing_pixels(layer)
    if missing is None:
        return pixels
    small = pixels.dtype.itemsize <= (4 if pixels.dtype.kind == "f" else 2)
    marked = pixels.astype(np.float32 if small else np.float64)
    marked[missing] = np.nan
    return marked


def check_dtype(dtype: Any, name: str = "dtype") -> np.dtype[Any]:
    """A dtype of real numbers, or an `InputError` that names the argument."""
    dtype = np.dtype(dtype)
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise InputError(
            f"{name}: got pixels of dtype {dtype}, takes booleans, integers or floats of up to "
            "64 bits"
        )
    return dtype


def check_window(window: Any) -> int:
    """An odd side of at least 3, or an `InputError`."""
    takes = "an odd whole number of at least 3"
    window = whole_number("window", window, takes)
    if window < 3 or window % 2 == 0:
        raise InputError(f"window: got {window}, takes {takes}")
    return window


def check_window_fits(window: int, shape: Shape, name: str = "window") -> None:
    """Raise `InputError` where a window reaches further than the reflection of the raster."""
    most = 2 * min(shape) - 1
    if window > most:
        got = f"got {window}" if name == "window" else f"makes a window of {window}"
        raise InputError(
            f"{name}: {got} for a raster of {shape[0]} x {shape[1]} pixels, takes "
            f"at most twice its shorter side less one, {most}"
        )


def check_boundary(boundary: Any) -> None:
    """Raise `InputError` unless it is one that `gather` knows."""
    if boundary not in ("reflect", "nearest", "nan"):
        raise InputError(f"boundary: got {boundary!r}, takes 'reflect', 'nearest' or 'nan'")


def check_share(name: str, value: Any) -> float:
    """A number from 0 to 1, or an `InputError`."""
    share = real_number(name, value, "a share from 0 to 1")
    if not 0 <= share <= 1:
        raise InputError(f"{name}: got {share:g}, takes a share from 0 to 1")
    return share


def whole_number(name: str, value: Any, takes: str) -> int:
    """An argument as an int, or an `InputError` that says what it takes."""
    if isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name}: got {value!r}, takes {takes}")
    try:
        return operator.index(value)
    except TypeError:
        raise InputError(f"{name}: got {value!r}, takes {takes}") from None


def real_number(name: str, value: Any, takes: str) -> float:
    """An argument as a float, or an `InputError` that says what it takes."""
    if isinstance(value, (str, bytes, bool, np.bool_)):
        raise InputError(f"{name}: got {value!r}, takes {takes}")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name}: got {value!r}, takes {takes}") from None
