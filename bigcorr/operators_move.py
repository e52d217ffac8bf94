"""Operators that move a raster (see `bigcorr.apply_shift`, `bigcorr.apply_affine`).

They take a tile from another place of the raster. Parameters and what they ask of a tile; the
arithmetic is `kernels.resample` and `kernels.affine`. Maps of moved rasters are
`operators_registered`. No dask, no files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.operators import Layer, check_dtype, missing_pixels, real_number
from bigcorr.tiles import Box, Shape, grid

_MOST_SHIFT = 2**20
_TILE = 512
_LEAST_SCALE, _MOST_SCALE = 0.1, 10.0
"""Longest shift; side of the tiles that a box is moved by; how far a map may shrink or stretch."""


@runtime_checkable
class Distant(Protocol):
    """An operator whose tiles come from other places of its rasters, which are read as it says."""

    @property
    def name(self) -> str:
        """Of the result."""

    @property
    def inputs(self) -> int:
        """Number of rasters."""

    def needs_offset(self, *dtypes: Any) -> bool:
        """Whether `compute` wants the level of each raster."""

    def check(self, *dtypes: Any, shape: Shape) -> None:
        """Raise `InputError` where rasters of these dtypes and this shape cannot be taken."""

    def out_dtype(self, *dtypes: Any) -> np.dtype[Any]:
        """Dtype of the result."""

    def reads(self, box: Box, shape: Shape) -> tuple[Box, ...]:
        """What a box of the result needs of each raster of `shape`; empty where it needs none."""

    def compute(
        self,
        layers: Sequence[Layer],
        held: Sequence[Box],
        box: Box,
        shape: Shape,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """The result on a box, from layers that hold what it `reads`; in `out` if given."""

    def box_bytes(self, side: Shape, *dtypes: Any) -> int:
        """Most bytes held for a box of the result, with what is read for it, without the result."""


class Move(Distant, Protocol):
    """A raster moved: one that `Registered` may compare."""

    def held(self, box: Box, shape: Shape) -> Box:
        """The part of the raster that a box of the moved one comes from."""

    def moved(
        self, layer: Layer, held: Box, box: Box, shape: Shape, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """A box of the moved raster, NaN where it has no pixels."""


class _Moving:
    """What both moves have in common; each defines `held` and `_tile`."""

    name: ClassVar[str]
    inputs: ClassVar[int] = 1
    order: int

    def held(self, box: Box, shape: Shape) -> Box:
        raise NotImplementedError

    def _extent(self, side: Shape) -> Shape:
        """Most pixels along each axis that a box of the result comes from."""
        raise NotImplementedError

    def _tile(
        self,
        pixels: NDArray[Any],
        missing: NDArray[np.bool_] | None,
        held: Box,
        box: Box,
        shape: Shape,
        out: NDArray[Any],
    ) -> None:
        raise NotImplementedError

    def _check_order(self) -> None:
        if self.order not in (1, 3) or isinstance(self.order, bool):
            raise InputError(f"order: got {self.order!r}, takes 1 or 3")

    def check(self, *dtypes: Any, shape: Shape) -> None:
        check_dtype(dtypes[0])

    def out_dtype(self, *dtypes: Any) -> np.dtype[Any]:
        dtype = np.dtype(dtypes[0])
        return np.dtype(np.float64 if dtype.kind == "f" and dtype.itemsize == 8 else np.float32)

    def needs_offset(self, *dtypes: Any) -> bool:
        return False

    def reads(self, box: Box, shape: Shape) -> tuple[Box, ...]:
        return (self.held(box, shape),)

    def compute(
        self,
        layers: Sequence[Layer],
        held: Sequence[Box],
        box: Box,
        shape: Shape,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        return self.moved(layers[0], held[0], box, shape, out)

    def moved(
        self, layer: Layer, held: Box, box: Box, shape: Shape, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        if out is None:
            out = np.empty(box.shape, self.out_dtype(layer.pixels.dtype))
        for part in grid(box.shape, _TILE):
            tile = part.shifted(box.y0, box.x0)
            need = self.held(tile, shape)
            if need.size == 0:
                out[part.slices] = np.nan
                continue
            at = need.relative_to(held).slices
            valid = None if layer.valid is None else layer.valid[at]
            piece = layer._replace(pixels=layer.pixels[at], valid=valid)
            self._tile(piece.pixels, missing_pixels(piece), need, tile, shape, out[part.slices])
        return out

    def box_bytes(self, side: Shape, *dtypes: Any) -> int:
        item = np.dtype(dtypes[0]).itemsize
        small = (min(side[0], _TILE), min(side[1], _TILE))
        # As read, twice while it is decoded, and its mask; then tile by tile: filled pixels with
        # their sums and weights, masks, gathered pixels, their sums along each axis.
        reading = math.prod(self._extent(side)) * (2 * item + 1)
        return reading + math.prod(self._extent(small)) * 90 + 16 * small[0] * small[1]


def _on(box: Box, shape: Shape) -> Box:
    """The part of a box that lies on a raster; an empty box at its corner where none does."""
    part = box.clipped(shape)
    return part if min(part.shape) > 0 else Box(0, 0, 0, 0)


@dataclass(frozen=True)
class Shift(_Moving):
    """A raster moved by (dy, dx) pixels, by a spline of order 1 or 3."""

    shift: tuple[float, float]
    order: int = 3

    name: ClassVar[str] = "shift"

    def __post_init__(self) -> None:
        takes = f"two finite numbers (dy, dx) of at most {_MOST_SHIFT}"
        try:
            pair = tuple(real_number("shift", value, takes) for value in self.shift)
        except TypeError:
            raise InputError(f"shift: got {self.shift!r}, takes {takes}") from None
        if len(pair) != 2 or not all(abs(value) <= _MOST_SHIFT for value in pair):
            raise InputError(f"shift: got {self.shift!r}, takes {takes}")
        object.__setattr__(self, "shift", pair)
        self._check_order()

    def held(self, box: Box, shape: Shape) -> Box:
        from bigcorr.kernels.resample import REACH

        dy, dx = self.shift
        around = Box(
            box.y0 + math.floor(-dy) - REACH,
            box.y1 + math.ceil(-dy) + REACH,
            box.x0 + math.floor(-dx) - REACH,
            box.x1 + math.ceil(-dx) + REACH,
        )
        return _on(around, shape)

    def _extent(self, side: Shape) -> Shape:
        from bigcorr.kernels.resample import REACH

        return side[0] + 2 * REACH + 1, side[1] + 2 * REACH + 1

    def _tile(
        self,
        pixels: NDArray[Any],
        missing: NDArray[np.bool_] | None,
        held: Box,
        box: Box,
        shape: Shape,
        out: NDArray[Any],
    ) -> None:
        from bigcorr.kernels.resample import shift_tile, spline_taps

        taps = spline_taps(self.shift[0], self.order), spline_taps(self.shift[1], self.order)
        start = box.y0 - held.y0, box.x0 - held.x0
        shift_tile(pixels, missing, (held.y0, held.x0), shape, taps, start, out)


@dataclass(frozen=True)
class Affine(_Moving):
    """A raster under an affine map, by a spline of order 1 or 3.

    ``matrix`` leads from (y, x, 1) of the result to (y, x) of the raster: two rows of three.
    """

    matrix: Sequence[Sequence[float]]
    order: int = 3

    name: ClassVar[str] = "affine"

    def __post_init__(self) -> None:
        takes = (
            "3 x 3 finite numbers with the last row (0, 0, 1), or 2 x 3, of a map that stretches "
            f"by {_LEAST_SCALE:g} to {_MOST_SCALE:g} and shifts by at most {_MOST_SHIFT}"
        )
        try:
            m = np.array(self.matrix, np.float64)
        except (TypeError, ValueError):
            raise InputError(f"matrix: got {self.matrix!r}, takes {takes}") from None
        good = m.shape in ((2, 3), (3, 3)) and bool(np.isfinite(m).all())
        if good and len(m) == 3:
            good = not np.any(m[2] - (0, 0, 1))
        if good:
            scales = np.linalg.svd(m[:2, :2], compute_uv=False)
            good = bool(scales.min() >= _LEAST_SCALE and scales.max() <= _MOST_SCALE)
            good = good and bool(np.abs(m[:2, 2]).max() <= _MOST_SHIFT)
        if not good:
            raise InputError(f"matrix: got {m.tolist()}, takes {takes}")
        rows = tuple(tuple(float(value) for value in row) for row in m[:2])
        object.__setattr__(self, "matrix", rows)
        self._check_order()

    def held(self, box: Box, shape: Shape) -> Box:
        from bigcorr.kernels.resample import REACH

        corners = [(y, x, 1.0) for y in (box.y0, box.y1 - 1) for x in (box.x0, box.x1 - 1)]
        places = np.array(corners) @ np.array(self.matrix).T
        low, high = np.floor(places.min(axis=0)), np.ceil(places.max(axis=0))
        # One more for what rounding may do to a corner.
        around = Box(
            int(low[0]) - REACH - 1,
            int(high[0]) + REACH + 2,
            int(low[1]) - REACH - 1,
            int(high[1]) + REACH + 2,
        )
        return _on(around, shape)

    def _extent(self, side: Shape) -> Shape:
        from bigcorr.kernels.resample import REACH

        y, x = np.abs(np.array(self.matrix)[:, :2]) @ np.array(side)
        return math.ceil(y) + 2 * REACH + 5, math.ceil(x) + 2 * REACH + 5

    def _tile(
        self,
        pixels: NDArray[Any],
        missing: NDArray[np.bool_] | None,
        held: Box,
        box: Box,
        shape: Shape,
        out: NDArray[Any],
    ) -> None:
        from bigcorr.kernels.affine import affine_tile

        affine_tile(pixels, missing, held, shape, np.array(self.matrix), self.order, box, out)
