"""The question on which the error of cells is measured: pieces of the raster, laid side by side.

They are compared twice, in pixels and in cells; what differs is told by `pairs.coarsening`.
Which pieces and channels follows from the shapes alone, so the figures are the same for every plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bigcorr.raster.mask import Mask
from bigcorr.run.coarse import CellMask, CellMeans, Mosaic, MosaicMask
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
    """The same question to pieces of the raster; measures are those of `cell`.

    cell : side in pixels of the cells in which they are compared; 1: pixels.
    """

    cell: int = 1

    @property
    def raster(self) -> Shape:
        y, x = pieces_of((self.source.shape[1], self.source.shape[2]), self.coarsen)[0][0].shape
        rows, columns = self._layout
        return rows * -(-y // self.cell), columns * -(-x // self.cell)

    @property
    def _places(self) -> list[list[Box]]:
        """The pieces in cells of `cell`."""
        raster = self.source.shape[1], self.source.shape[2]
        return [
            [_in_cells(place, self.cell) for place in row]
            for row in pieces_of(raster, self.coarsen)
        ]

    @property
    def _layout(self) -> Shape:
        places = self._places
        return len(places), len(places[0])

    def loader(self, sigma: tuple[float, float] | None) -> TileLoader:
        fine = TileLoader(self.source, sigma, self.nodata, self.mask)
        mask: Mask | None = None
        if self.mask is not None:
            mask = MosaicMask(CellMask(self.mask, self.cell), self._places)
        return TileLoader(Mosaic(CellMeans(fine, self.cell), self._places), mask=mask)


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
    fields = {
        **{name: getattr(asked, name) for name in PairsQuestion.__dataclass_fields__},
        "source": asked.source.select(kept),
        "counts": np.zeros(len(kept)),  # known: they are not counted
        "significance": False,
        "against": None,
        "warnings": (),
        "detrend": "none",
        "n_shifts": 0,
    }
    fine = PiecesQuestion(**(fields | {"measures": asked.stated}), cell=1)
    return fine, replace(fine, measures=asked.measures, cell=asked.coarsen)


def share_of(asked: PairsQuestion) -> float:
    """Part of the raster's pixels on which it is measured."""
    raster = asked.source.shape[1], asked.source.shape[2]
    places = pieces_of(raster, asked.coarsen)
    return sum(box.size for row in places for box in row) / (raster[0] * raster[1])
