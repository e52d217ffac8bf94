"""Maps of two rasters of which the second is moved first: nothing is stored between.

Made of a move (`operators_move`) and a map; both read what they need once. No dask, no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.pad import Boundary, halo_box
from bigcorr.operators import Layer, Operator, compute_box, tile_shape
from bigcorr.operators_move import Affine, Shift
from bigcorr.tiles import Box, Shape


@dataclass(frozen=True)
class Registered:
    """A map of two rasters, the second of which is moved before: nothing is stored between.

    It has the bits of the move and the map done one after the other on the whole.
    """

    then: Operator
    move: Shift | Affine

    inputs: ClassVar[int] = 2

    @property
    def name(self) -> str:
        return self.then.name

    @property
    def boundary(self) -> Boundary:
        return self.then.boundary

    def _dtypes(self, *dtypes: Any) -> tuple[Any, np.dtype[Any]]:
        return dtypes[0], self.move.out_dtype(dtypes[1])

    def check(self, *dtypes: Any, shape: Shape) -> None:
        self.move.check(dtypes[1], shape=shape)
        self.then.check(*self._dtypes(*dtypes), shape=shape)

    def needs_offset(self, *dtypes: Any) -> bool:
        return self.then.needs_offset(*self._dtypes(*dtypes))

    def out_dtype(self, *dtypes: Any) -> np.dtype[Any]:
        return self.then.out_dtype(*self._dtypes(*dtypes))

    def reads(self, box: Box, shape: Shape) -> tuple[Box, ...]:
        around = halo_box(box, self.then.halo, shape)
        return around, self.move.held(around, shape)

    def compute(
        self,
        layers: Sequence[Layer],
        held: Sequence[Box],
        box: Box,
        shape: Shape,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        around = halo_box(box, self.then.halo, shape)
        moved = self.moved(layers[1], held[1], around, shape)
        # A mask and a nodata value have become NaN.
        second = Layer(moved, None, None, layers[1].offset)
        return compute_box(self.then, [layers[0], second], around, box, shape, out)

    def moved(self, layer: Layer, held: Box, box: Box, shape: Shape) -> NDArray[Any]:
        """A box of the moved raster."""
        if held.size == 0:
            return np.full(box.shape, np.nan, self.move.out_dtype(layer.pixels.dtype))
        return self.move.moved(layer, held, box, shape)

    def box_bytes(self, side: Shape, *dtypes: Any) -> int:
        around = tuple(n + 2 * far for n, far in zip(side, self.then.halo, strict=True))
        size = around[0] * around[1]
        first, second = self._dtypes(*dtypes)
        most = tile_shape(self.then.halo)
        tile = min(side[0], most[0]), min(side[1], most[1])
        reading = size * (2 * np.dtype(first).itemsize + 1 + second.itemsize)
        moving = self.move.box_bytes((around[0], around[1]), dtypes[1])
        return reading + moving + self.then.tile_bytes(tile, first, second)
