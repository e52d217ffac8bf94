"""One tile of nodes of one pass: pixels in, seven numbers a node out.

The same bits wherever tiles are cut. What is read is `pixels`, how it is searched `search`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.peaks import lay_out
from bigcorr.motion.grids import Flow
from bigcorr.motion.pixels import Image, deformed, still
from bigcorr.motion.plan import Pass, Search
from bigcorr.motion.search import rows_at_once, search_bytes, search_tile
from bigcorr.motion.start import span_of
from bigcorr.tiles import Box, Shape, grid

UNIT = 1024
"""Pixels of the raster along each side that the nodes of a unit of work cover, about."""

PARTS = (512, 256, 128)
"""Pixels of a level along each side that may be searched at a time; the first if there is room."""

_LEAST_NODES = 16
_MOST_NODES = 512
"""Nodes along each side of a unit."""


@dataclass(frozen=True)
class Pair:
    """Two images, and values near the level of each."""

    reference: Image
    moving: Image
    offsets: tuple[float, float]

    @property
    def shape(self) -> Shape:
        return self.reference.shape

    def swapped(self) -> Pair:
        """The way back."""
        return Pair(self.moving, self.reference, (self.offsets[1], self.offsets[0]))


def make_pair(reference: Image, moving: Image) -> Pair:
    """Two images with their levels, for which a few pixels are read."""
    return Pair(reference, moving, (reference.offset(), moving.offset()))


def unit_side(spec: Pass) -> int:
    """Nodes along each side of a unit of work."""
    return int(min(max(UNIT // int(spec.spacing), _LEAST_NODES), _MOST_NODES))


def units(shape: Shape, spec: Pass) -> list[Box]:
    """The units of a pass over a raster: boxes of nodes."""
    return list(grid(spec.nodes(shape), unit_side(spec)))


def measure(
    pair: Pair,
    spec: Pass,
    search: Search,
    nodes: Box,
    flow: Flow | None,
    part: int = PARTS[0],
) -> NDArray[np.float32]:
    """What is found at the nodes of a box.

    Parameters
    ----------
    flow : Flow, optional
        Where the pass starts from; it may be the part for `pixels_of` this box.
    part : int
        Pixels of the level along each side that are searched at a time, about.

    Returns
    -------
    ndarray of float32, shape (7, *nodes.shape)
        As a `Grid` holds them, in pixels of the raster.
    """
    most = max(part // spec.step, 1)
    if max(nodes.shape) <= most:
        return _measure(pair, spec, search, nodes, flow)
    out = np.empty((7, *nodes.shape), np.float32)
    for piece in grid(nodes.shape, most):
        box = piece.shifted(nodes.y0, nodes.x0)
        out[(slice(None), *piece.slices)] = _measure(pair, spec, search, box, flow)
    return out


def pixels_of(spec: Pass, nodes: Box) -> Box:
    """The pixels of the raster that `measure` asks a flow for."""
    return Box(*(spec.scale * edge for edge in _searched(spec, nodes)))


def _searched(spec: Pass, nodes: Box) -> Box:
    return spec.reference_box(nodes).padded(*[spec.search] * 4)


def _measure(
    pair: Pair, spec: Pass, search: Search, nodes: Box, flow: Flow | None
) -> NDArray[np.float32]:
    box = _searched(spec, nodes)
    reference = pair.reference.read(spec.reference_box(nodes), spec.level)
    scale = spec.scale
    before = np.empty((2, 0, 0))
    if flow is None:
        moving = still(pair.moving, box, spec.level)
    else:
        ys, xs = (
            np.asarray((np.arange(start, stop) + 0.5) * scale - 0.5, np.float64)
            for start, stop in ((box.y0, box.y1), (box.x0, box.x1))
        )
        moving = deformed(pair.moving, box, spec.level, flow.at(ys, xs) / scale)
        before = flow.at(spec.centres(nodes.y0, nodes.y1), spec.centres(nodes.x0, nodes.x1))
    out = np.empty((7, *nodes.shape), np.float32)
    rows, columns = nodes.shape
    most = rows_at_once(spec, search, rows)
    for i in range(0, rows, most):
        count = min(most, rows - i)
        y0, y1 = i * spec.step, (i + count - 1) * spec.step + spec.window
        found = search_tile(
            reference[y0:y1],
            moving[y0 : y1 + 2 * spec.search],
            spec,
            search,
            (count, columns),
            pair.offsets,
            nodes.y0 + i,
        )
        lay_out(found, before[:, i : i + count], scale, out[:, i : i + count])
    return out


def task_bytes(
    pair: Pair,
    spec: Pass,
    search: Search,
    reach: float,
    part: int = PARTS[0],
    start: Flow | None = None,
) -> int:
    """Most bytes that `measure` holds for a unit, with a flow that leads `reach` pixels from that
    of the `start` at most."""
    reach += 0.5 * span_of(start)
    shape = pair.shape
    counts = spec.nodes(shape)
    side = min(unit_side(spec), max(counts))
    most = min(max(part // spec.step, 1), side)
    nodes = min(most, counts[0]), min(most, counts[1])
    window = [(n - 1) * spec.step + spec.window for n in nodes]
    grown = [n + 2 * spec.search for n in window]
    far = [n + 2 * (reach / spec.scale + 27) for n in grown]
    area = float(np.prod(far))
    read = area * spec.scale**2 * (2 * pair.moving.source.dtype.itemsize + 1 + 8 * 3)
    stays = spec is search.passes[0] and start is None
    deforming = 0.0 if stays else area * 8 * 5
    if spec is search.passes[0] and start is not None:  # seven numbers a node, and two in float64
        deforming += 44 * float(np.prod([n * spec.scale / start.spacing + 8 for n in grown]))
    flow = float(np.prod(grown)) * 8 * 4
    held = 8 * float(np.prod(window)) + read + deforming + flow
    # The numbers of a unit, a part of them in float64, and twice as much while they are encoded.
    values = 4 * 7 * side * side * 6
    rows = rows_at_once(spec, search, nodes[0])
    return int(held) + values + search_bytes(spec, search, (rows, nodes[1]))
