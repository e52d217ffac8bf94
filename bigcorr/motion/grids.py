"""What a pass has found, node by node, and the flow that the next one starts from.

A `Grid` holds seven numbers a node (see `kernels.peaks.find_peak`): dy and dx are finite in all of
them, and what a node had before where nothing was found; the others are then NaN. Here it lies in
memory; `run.displacement_job` has one that lies in a store.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bigcorr.motion.plan import Pass, Search
from bigcorr.tiles import Box, Shape, grid

_SAMPLE = 64
_SAMPLES = 8
_DRIFT = 2.0
_LEAST_DRIFT = 0.005
"""Side in nodes of the parts of a grid that its typical change is taken from, and how many of them
along each axis at most; drift in units of that change, and its least, in pixels a pixel."""


class Grid(Protocol):
    """The nodes of a pass."""

    @property
    def shape(self) -> Shape:
        """How many nodes there are."""

    def read(self, box: Box) -> NDArray[np.float32]:
        """(7, h, w) of a box of nodes."""

    def part(self, box: Box) -> Grid:
        """What a task needs to read that box: as little as can be told."""


@dataclass
class ArrayGrid:
    """A grid in memory, or the part of it that begins at node `origin`."""

    values: NDArray[np.float32]
    shape: Shape
    origin: Shape = (0, 0)

    def read(self, box: Box) -> NDArray[np.float32]:
        y, x = self.origin
        return self.values[(slice(None), *box.shifted(-y, -x).slices)]

    def part(self, box: Box) -> ArrayGrid:
        return ArrayGrid(self.read(box), self.shape, (box.y0, box.x0))


@dataclass(frozen=True)
class Flow:
    """A flow on a grid of nodes, as it is looked up at pixels.

    grid : what was found there.
    shape : of the grid.
    first, spacing : row and column of the first node, and pixels from node to node.
    spec, search : of the pass that found it; None: the values are taken as they are.
    drift : pixels by which it is taken to change from node to node.
    """

    grid: Grid
    first: tuple[float, float]
    spacing: float
    spec: Pass | None = None
    search: Search | None = None
    drift: float = 0.0

    @property
    def shape(self) -> Shape:
        return self.grid.shape

    @property
    def halo(self) -> int:
        """Nodes that `values` looks at beyond a box."""
        from bigcorr.kernels.flow import REACH

        return 0 if self.spec is None else REACH + 1

    def part(self, pixels: Box) -> Flow:
        """What a task needs of it for the pixels of a box."""
        from dataclasses import replace

        return replace(self, grid=self.grid.part(self._grown(self._needed(pixels))))

    def at(self, ys: NDArray[np.float64], xs: NDArray[np.float64]) -> NDArray[np.float64]:
        """(2, len(ys), len(xs)) at rows `ys` and columns `xs` of the raster, which ascend."""
        from bigcorr.kernels.deform import Nodes, flow_at

        pixels = Box(
            math.floor(ys[0]), math.ceil(ys[-1]) + 1, math.floor(xs[0]), math.ceil(xs[-1]) + 1
        )
        box = self._needed(pixels)
        nodes = Nodes(self.values(box), (box.y0, box.x0), self.shape, self.first, self.spacing)
        return flow_at(nodes, ys, xs)

    def values(self, box: Box) -> NDArray[np.float64]:
        """(2, h, w) of a box of nodes, tested and smoothed."""
        from bigcorr.kernels.flow import agreeing, smooth_flow

        grown = self._grown(box)
        raw = self.grid.read(grown).astype(np.float64)
        if self.spec is None or self.search is None:
            return np.ascontiguousarray(raw[:2])
        agree = np.empty(grown.shape, bool)
        agreeing(
            raw[0], raw[1], np.isfinite(raw[2]), self.search.threshold, self.search.tolerance, agree
        )
        out = np.empty((2, *grown.shape))
        smooth_flow(raw, agree, self.search.pixels(self.spec.window), self.drift, out)
        return np.ascontiguousarray(out[(slice(None), *box.relative_to(grown).slices)])

    def _needed(self, pixels: Box) -> Box:
        from bigcorr.kernels.deform import needed_nodes

        return needed_nodes(pixels, self.shape, self.first, self.spacing)

    def _grown(self, nodes: Box) -> Box:
        return nodes.padded(*[self.halo] * 4).clipped(self.shape)


def found_flow(grid: Grid, spec: Pass, search: Search) -> Flow:
    """The flow that a pass has found."""
    drift = 0.0
    if search.smooth or spec is not search.passes[-1]:  # else nothing is smoothed
        drift = max(typical_change(grid) * _DRIFT, _LEAST_DRIFT * spec.spacing)
    return Flow(grid, spec.first, spec.spacing, spec, search, drift)


def typical_change(found: Grid) -> float:
    """Pixels by which the flow changes from node to node, of parts that are the same always.

    Taken from how much farther vectors two nodes apart are from each other than neighbours are:
    their errors add the same to both distances (in the mean of squares; medians are taken, for the
    sake of borders of motion and false vectors).
    """
    near: list[NDArray[np.float64]] = []
    far: list[NDArray[np.float64]] = []
    for box in _samples(found.shape):
        values = found.read(box).astype(np.float64)
        flow = np.where(np.isfinite(values[2]), values[:2], np.nan)
        for lines in (flow, flow.transpose(0, 2, 1)):
            for distances, apart in ((near, 1), (far, 2)):
                change = np.hypot(*(lines[:, apart:] - lines[:, :-apart])).ravel()
                distances.append(change[np.isfinite(change)])
    one, two = (np.concatenate(each) for each in (near, far))
    if not two.size:
        return float(np.median(one)) if one.size else 0.0
    return math.sqrt(max(float(np.median(two)) ** 2 - float(np.median(one)) ** 2, 0.0) / 3)


def _samples(shape: Shape) -> list[Box]:
    """Parts that lie evenly over a grid; all of it where it is small."""
    boxes = list(grid(shape, _SAMPLE))
    across = -(-shape[1] // _SAMPLE)
    chosen = []
    for k, box in enumerate(boxes):
        rows = -(-shape[0] // _SAMPLE)
        if _is_chosen(k // across, rows) and _is_chosen(k % across, across):
            chosen.append(box)
    return chosen


def _is_chosen(index: int, count: int) -> bool:
    picked = {i * count // _SAMPLES for i in range(_SAMPLES)} if count > _SAMPLES else None
    return picked is None or index in picked


def constant_flow(dy: float, dx: float) -> Flow:
    """One vector everywhere."""
    values = np.full((7, 1, 1), np.nan, np.float32)
    values[0], values[1] = dy, dx
    return Flow(ArrayGrid(values, (1, 1)), (0.0, 0.0), 1.0)


def given_flow(
    dy: NDArray[Any], dx: NDArray[Any], first: tuple[float, float], spacing: float
) -> Flow:
    """A flow that is known beforehand; nodes that are not take the nearest that are."""
    from scipy import ndimage

    values = np.full((7, *dy.shape), np.nan, np.float32)
    known = np.isfinite(dy) & np.isfinite(dx)
    if known.any():
        _, at = ndimage.distance_transform_edt(~known, return_indices=True)
        values[0], values[1] = dy[tuple(at)], dx[tuple(at)]
    else:
        values[:2] = 0
    return Flow(ArrayGrid(values, dy.shape), first, spacing)
