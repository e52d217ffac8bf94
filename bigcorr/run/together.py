"""One reading for several blurs: units that look at the same place go step by step together.

A unit of work is written as steps, one for each piece of the raster that it looks at. Units of
several blurs take each step one after the other, and what one has read is kept for the others until
all have taken it. What a unit computes is not known here; nor is how a file is read.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any, ParamSpec, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from bigcorr.pairs.measure import Timer
from bigcorr.raster.base import RasterSource
from bigcorr.tiles import Box, Shape

Arrays = dict[str, NDArray[Any]]
Steps = Generator[None, None, Arrays]
"""Yields before each piece of the raster; returns what the unit found."""

P = ParamSpec("P")


class Unit(Protocol[P]):
    """A unit of work in steps; called, it takes them all at once."""

    steps: Callable[P, Steps]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Arrays: ...


def in_steps(function: Callable[P, Steps]) -> Unit[P]:
    """A generator function as a function that gives what the generator returns.

    Examples
    --------
    >>> @in_steps
    ... def unit(loader, pieces):
    ...     total = 0
    ...     for piece in pieces:
    ...         yield
    ...         total += piece
    ...     return {"total": np.array(total)}
    >>> int(unit(None, [1, 2])["total"])
    3
    """

    @functools.wraps(function)
    def whole(*args: P.args, **kwargs: P.kwargs) -> Arrays:
        steps = function(*args, **kwargs)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return dict(stop.value)

    unit = cast(Unit[P], whole)
    unit.steps = function
    return unit


class HeldPixels:
    """Pixels as stored that all blurs want, kept until all have had them.

    What is read is read for the widest blur; the others take the middle of it. Not for several
    threads, and never pickled: it lives as long as a unit.

    Parameters
    ----------
    halo : (int, int)
        The widest of the blurs, in pixels along y and x.
    nbytes : int
        Most bytes of pixels that are kept; those beyond are read by each blur for itself.
    """

    def __init__(self, halo: Shape, nbytes: int) -> None:
        self.halo, self.nbytes = halo, nbytes
        self._used = 0
        self._kept: dict[tuple[int, Box], NDArray[Any]] = {}

    def drop(self) -> None:
        """Forget all pixels: the next piece of the raster comes."""
        self._kept.clear()
        self._used = 0

    def read(
        self,
        source: RasterSource,
        channels: NDArray[np.int64],
        box: Box,
        halo: Shape,
        read_bytes: int,
        timer: Timer,
    ) -> Iterator[NDArray[Any]]:
        """Pixels of the channels in a box, one channel after the other, not to be written to.

        Parameters
        ----------
        source : RasterSource
        channels : (n,) int
        box : Box
            What is wanted with the halo around it, clipped to the raster.
        halo : (int, int)
            That halo.
        read_bytes : int
            About as many are read at once.
        timer : Timer
            Seconds are added under ``read``.
        """
        y, x = (most - own for most, own in zip(self.halo, halo, strict=True))
        wide = box.padded(y, y, x, x).clipped((source.shape[1], source.shape[2]))
        inside = box.relative_to(wide).slices
        each = max(1, wide.size * source.dtype.itemsize)
        group = max(1, read_bytes // each)
        for first in range(0, len(channels), group):
            start = time.perf_counter()
            part = channels[first : first + group]
            lacking = [c for c in part.tolist() if (c, wide) not in self._kept]
            room = max(0, self.nbytes - self._used) // each
            own: dict[int, NDArray[Any]] = {}
            if lacking[:room]:
                self._used += len(lacking[:room]) * each
                block = source.look(np.array(lacking[:room]), wide)
                self._kept |= {
                    (c, wide): plane for c, plane in zip(lacking[:room], block, strict=True)
                }
            if lacking[room:]:
                own = dict(
                    zip(lacking[room:], source.look(np.array(lacking[room:]), box), strict=True)
                )
            timer["read"] += time.perf_counter() - start
            for c in part.tolist():
                yield own[c] if c in own else self._kept[c, wide][inside]


def run_together(parts: Sequence[tuple[Any, tuple]], nbytes: int) -> list[Arrays]:
    """What units of several blurs find at one place, each as it would by itself.

    Parameters
    ----------
    parts : (unit function, arguments), the first argument the loader of its blur.
        They look at the same pieces of the raster, in the same order.
    nbytes : int
        Most bytes of pixels that are kept for each other.
    """
    halos = [unit[0].halo for _, unit in parts]
    held = HeldPixels((max(y for y, _ in halos), max(x for _, x in halos)), nbytes)
    running = {
        index: function.steps(replace(unit[0], held=held), *unit[1:])
        for index, (function, unit) in enumerate(parts)
    }
    found: dict[int, Arrays] = {}
    while running:
        held.drop()
        for index, steps in list(running.items()):
            try:
                next(steps)
            except StopIteration as stop:
                found[index] = stop.value
                del running[index]
    return [found[index] for index in range(len(parts))]
