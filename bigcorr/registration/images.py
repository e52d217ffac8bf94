"""The two images of a registration as boxes of pixels, wherever they lie: `Pair`.

Arrays in memory, dask arrays, labelled arrays and files are read through `raster.source`, so that
nothing but the boxes asked for is ever held. What is searched in them is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.operators import Layer, missing_pixels
from bigcorr.raster.base import BaseSource, RasterSource
from bigcorr.raster.memory import ArraySource
from bigcorr.raster.source import as_source
from bigcorr.run.cluster import Pool, ThreadPool, open_pool, processors
from bigcorr.tiles import Box, Shape
from bigcorr.wiring import unwrap

LEAST_SIDE = 16
"""Least side of an image, and of a tile."""

T = TypeVar("T")


@dataclass(frozen=True)
class Image:
    """One channel of a source, and what says that a pixel is missing."""

    source: RasterSource
    nodata: float | None

    @property
    def shape(self) -> Shape:
        return self.source.shape[1:]

    def layer(self, box: Box) -> Layer:
        """Pixels of a box on the image, and its mask."""
        pixels = self.source.read([0], box)[0]
        return Layer(pixels, self.nodata, self.source.mask(box))

    def read(self, box: Box) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Pixels of a box, and where they are missing; None where none is."""
        layer = self.layer(box)
        return layer.pixels, missing_pixels(layer)


@dataclass(frozen=True)
class Pair:
    """Two images of one shape."""

    reference: Image
    moving: Image

    @property
    def shape(self) -> Shape:
        return self.reference.shape

    @property
    def in_memory(self) -> bool:
        """Whether a pixel of it lies in the memory of this process, so that it would travel."""
        return any(isinstance(image.source, ArraySource) for image in (self.reference, self.moving))


def open_pair(reference: Any, moving: Any, nodata: float | None) -> Pair:
    """The two arguments of `register` as images, or an `InputError` that names the one at fault."""
    pair = Pair(_image("reference", reference, nodata), _image("moving", moving, nodata))
    if pair.moving.shape != pair.shape:
        raise InputError(
            f"moving: got shape {pair.moving.shape}, takes that of reference, {pair.shape}"
        )
    return pair


def _image(name: str, value: Any, nodata: float | None) -> Image:
    if isinstance(value, BaseSource):
        source: RasterSource = value
        if source.shape[0] != 1:
            raise InputError(
                f"{name}: got {source.path} with {source.shape[0]} channels, takes one of them, "
                f"as {source.path}#CHANNEL"
            )
        shape: tuple[int, ...] = source.shape[1:]
        declared = source.nodata if nodata is None else nodata
    else:
        raster = unwrap(name, value, nodata)
        shape, declared = raster.data.shape, raster.nodata
        if len(shape) != 2:
            raise InputError(f"{name}: got shape {shape}, takes (y, x)")
        source = as_source(value if raster.labelled else raster.data)
    if min(shape) < LEAST_SIDE:
        raise InputError(f"{name}: got shape {shape}, takes at least {LEAST_SIDE} pixels a side")
    return Image(source, declared)


@contextmanager
def pool_for(pair: Pair, pool: Pool | None = None) -> Iterator[Pool]:
    """Where the tiles of a pair are worked on: the active client, else threads of this process.

    Pixels that lie in this process's memory stay there: on threads, whatever client is active.
    """
    if pool is not None and not pair.in_memory:
        yield pool
    elif pair.in_memory:
        yield ThreadPool(processors())
    else:
        with open_pool() as opened:
            yield opened


def each(pool: Pool, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]]) -> Iterator[T]:
    """Results in the order of the tasks, a bounded number at a time."""
    waiting: dict[int, T] = {}
    wanted = 0
    for index, result in pool.imap(function, tasks):
        waiting[index] = result
        while wanted in waiting:
            yield waiting.pop(wanted)
            wanted += 1
