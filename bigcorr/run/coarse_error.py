"""The question on which the error of cells is measured: pieces of the raster, laid side by side.

They are compared twice, in pixels and in cells; what differs is told by `pairs.coarsening`.
Which pieces and channels follows from the shapes alone, so the figures are the same for every plan.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from bigcorr.pairs.measure import Measure
from bigcorr.raster.mask import Mask
from bigcorr.run.coarse import CellMask, CellMeans, Mosaic, MosaicMask, mosaic_shape
from bigcorr.run.loader import TileLoader
from bigcorr.run.question import PairsQuestion
from bigcorr.tiles import Box, Shape

SIDE = 256
"""About as many pixels has a piece along a side."""
ACROSS = 5
"""Most pieces along a side of the raster."""
CHANNELS = 256
"""Most channels whose pairs are compared twice."""


@dataclass(frozen=True)
class PiecesQuestion(PairsQuestion):
    """The same question to pieces of the raster; it has no cells of its own to make or to judge.

    cell : side in pixels of the cells in which they are compared; 1: pixels.
    places : the pieces, rows of boxes in cells.
    """

    cell: int = 1
    places: tuple[tuple[Box, ...], ...] = ()

    @property
    def raster(self) -> Shape:
        return mosaic_shape(self.places)

    def loader(self, sigma: tuple[float, float] | None) -> TileLoader:
        fine = TileLoader(self.source, sigma, self.nodata, self.mask)
        mask: Mask | None = None
        if self.mask is not None:
            mask = MosaicMask(CellMask(self.mask, self.cell), self.places)
        return TileLoader(Mosaic(CellMeans(fine, self.cell), self.places), mask=mask)


def pieces_of(raster: Shape, cell: int) -> list[list[Box]]:
    """Where it is measured: rows of boxes of one size, in pixels, of whole cells.

    The whole raster where it is small; else pieces spread evenly over it.
    """
    sides = []
    for size in raster:
        length = -(-SIDE // cell) * cell
        if size <= ACROSS * length:
            sides.append([(0, size)])
            continue
        # Even gaps before, between and behind, each piece at a whole cell.
        gap = (size - ACROSS * length) / (ACROSS + 1)
        starts = [int(gap + i * (length + gap)) // cell * cell for i in range(ACROSS)]
        sides.append([(start, start + length) for start in starts])
    return [[Box(*y, *x) for x in sides[1]] for y in sides[0]]


def _in_cells(box: Box, cell: int) -> Box:
    return Box(box.y0 // cell, -(-box.y1 // cell), box.x0 // cell, -(-box.x1 // cell))


def both_questions(asked: PairsQuestion) -> tuple[PiecesQuestion, PiecesQuestion]:
    """The question to the pieces, in pixels and in cells, without significance."""
    count = asked.channels
    kept = np.unique(np.linspace(0, count - 1, min(count, CHANNELS)).astype(np.intp))
    places = pieces_of((asked.source.shape[1], asked.source.shape[2]), asked.coarsen)
    plain = {
        **{field.name: getattr(asked, field.name) for field in fields(PairsQuestion)},
        "source": asked.source.select(kept),
        "counts": np.zeros(len(kept)),  # known: they are not counted
        "significance": False,
        "against": None,
        "warnings": (),
        "detrend": "none",
        "n_shifts": 0,
        "coarsen": 1,
        "cells_in": None,
    }

    def question(measures: tuple[Measure, ...], cell: int) -> PiecesQuestion:
        cells = tuple(tuple(_in_cells(box, cell) for box in row) for row in places)
        return PiecesQuestion(**(plain | {"measures": measures}), cell=cell, places=cells)

    return question(asked.stated, 1), question(asked.measures, asked.coarsen)


def share_of(asked: PairsQuestion) -> float:
    """Part of the raster's pixels on which it is measured."""
    raster = asked.source.shape[1], asked.source.shape[2]
    places = pieces_of(raster, asked.coarsen)
    return sum(box.size for row in places for box in row) / (raster[0] * raster[1])
