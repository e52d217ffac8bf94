"""Operators made of operators: several blurs of one raster, and a map of blurred rasters.

Both read a tile once, with the halo that all of it needs, and have the bits of their parts done one
after the other on the whole. No dask, no files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.kernels.pad import Boundary, gather, outside
from bigcorr.operators import GaussianBlur, Layer, Operator
from bigcorr.tiles import Box, Shape


@dataclass(frozen=True)
class GaussianBlurs:
    """Blurs of one raster by several sigmas, each a plane along a new first dimension."""

    sigma: tuple[Any, ...]
    truncate: float = 4.0
    fill: bool = False

    name: ClassVar[str] = "blur"
    inputs: ClassVar[int] = 1
    boundary: ClassVar[Boundary] = "reflect"
    dim: ClassVar[str] = "sigma"

    def __post_init__(self) -> None:
        if not self.sigma:
            raise InputError("sigma: got an empty list, takes at least one number > 0")
        given = (tuple(s) if isinstance(s, list) else s for s in self.sigma)
        object.__setattr__(self, "sigma", tuple(given))
        object.__setattr__(self, "_each", tuple(self._one(sigma) for sigma in self.sigma))

    def _one(self, sigma: Any) -> GaussianBlur:
        return GaussianBlur(sigma, self.truncate, self.fill)

    @property
    def each(self) -> tuple[GaussianBlur, ...]:
        """The blurs one by one."""
        each: tuple[GaussianBlur, ...] = self.__dict__["_each"]
        return each

    @property
    def coords(self) -> dict[str, tuple[tuple[str, ...], Any]]:
        """Labels of the planes, as xarray takes them: one sigma, or two for (y, x)."""
        pairs = np.array([blur.sigmas for blur in self.each])
        if any(isinstance(sigma, tuple) for sigma in self.sigma):
            return {f"sigma_{axis}": (("sigma",), pairs[:, k]) for k, axis in enumerate("yx")}
        return {"sigma": (("sigma",), pairs[:, 0])}

    @property
    def halo(self) -> Shape:
        halos = [blur.halo for blur in self.each]
        return max(y for y, _ in halos), max(x for _, x in halos)

    def check(self, *dtypes: Any, shape: Shape) -> None:
        self.each[0].check(*dtypes, shape=shape)

    def needs_offset(self, *dtypes: Any) -> bool:
        return False

    def out_dtype(self, *dtypes: Any) -> np.dtype[Any]:
        return self.each[0].out_dtype(*dtypes)

    def tile_bytes(self, tile: Shape, *dtypes: Any) -> int:
        """Most bytes held at a time: the blurs are made one after the other."""
        return max(blur.tile_bytes(tile, *dtypes) for blur in self.each)


@dataclass(frozen=True)
class Blurred:
    """A map of rasters that are blurred before: the halos add up, and nothing is stored between."""

    then: Operator
    blur: GaussianBlur

    boundary: ClassVar[Boundary] = "reflect"

    @property
    def name(self) -> str:
        return self.then.name

    @property
    def inputs(self) -> int:
        return self.then.inputs

    @property
    def halo(self) -> Shape:
        (y, x), (more_y, more_x) = self.blur.halo, self.then.halo
        return y + more_y, x + more_x

    def _blurred(self, *dtypes: Any) -> list[np.dtype[Any]]:
        return [self.blur.out_dtype(dtype) for dtype in dtypes]

    def check(self, *dtypes: Any, shape: Shape) -> None:
        for dtype in dtypes:
            self.blur.check(dtype, shape=shape)
        self.then.check(*self._blurred(*dtypes), shape=shape)

    def needs_offset(self, *dtypes: Any) -> bool:
        return self.then.needs_offset(*self._blurred(*dtypes))

    def out_dtype(self, *dtypes: Any) -> np.dtype[Any]:
        return self.then.out_dtype(*self._blurred(*dtypes))

    def tile(self, *layers: Layer, out: NDArray[Any] | None = None) -> NDArray[Any]:
        return self.then.tile(*(self._blur(layer) for layer in layers), out=out)

    def _blur(self, layer: Layer) -> Layer:
        """What the map would see of the blurred raster: beyond its edge, what the map has there."""
        pixels = self.blur.tile(layer)
        if layer.raster is None:
            raise ValueError("a chain needs to know where its tiles lie on the raster")
        y, x = (start + radius for start, radius in zip(layer.origin, self.blur.halo, strict=True))
        made = Box(y, y + pixels.shape[0], x, x + pixels.shape[1])
        held, halo = made.clipped(layer.raster), self.then.halo
        box = Box(y + halo[0], made.y1 - halo[0], x + halo[1], made.x1 - halo[1])
        boundary, valid = self.then.boundary, None
        pixels = gather(
            pixels[held.relative_to(made).slices], held, box, halo, layer.raster, boundary
        )
        if boundary == "nan":
            beyond = outside(box, halo, layer.raster)
            valid = None if beyond is None else ~beyond
        return Layer(pixels, None, valid, layer.offset, (y, x), layer.raster)

    def tile_bytes(self, tile: Shape, *dtypes: Any) -> int:
        seen = tile[0] + 2 * self.then.halo[0], tile[1] + 2 * self.then.halo[1]
        blurred = self._blurred(*dtypes)
        # The blurred tiles, as made and as gathered, beside what either step holds.
        held = 2 * seen[0] * seen[1] * sum(dtype.itemsize for dtype in blurred)
        blurring = max(self.blur.tile_bytes(seen, dtype) for dtype in dtypes)
        return held + max(blurring, self.then.tile_bytes(tile, *blurred))
