"""How alike two images are after a move: correlations of cells and of the whole, box by box.

The moved image is made one box at a time and never held.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.operators_move import Move
from bigcorr.registration.images import Pair, each
from bigcorr.run.cluster import Pool
from bigcorr.tiles import Box, Shape, grid

BOX = 1024
"""Side of the boxes that are read at a time."""

_CONSTANT = 1e-14


class Moments(NamedTuple):
    """Number, means and sums of squares and products about them, of pixels that two images have."""

    number: int = 0
    mean_a: float = 0.0
    mean_b: float = 0.0
    aa: float = 0.0
    bb: float = 0.0
    ab: float = 0.0

    def plus(self, other: Moments) -> Moments:
        """The moments of the pixels of both."""
        if not other.number:
            return self
        n = self.number + other.number
        da, db = other.mean_a - self.mean_a, other.mean_b - self.mean_b
        share = other.number / n
        both = self.number * share
        return Moments(
            n,
            self.mean_a + da * share,
            self.mean_b + db * share,
            self.aa + other.aa + da * da * both,
            self.bb + other.bb + db * db * both,
            self.ab + other.ab + da * db * both,
        )

    @property
    def correlation(self) -> float:
        """In [-1, 1]; 0 where either is constant, NaN of no pixels."""
        if not self.number:
            return math.nan
        n = self.number
        low = self.aa <= _CONSTANT * (self.aa + n * self.mean_a**2)
        if low or self.bb <= _CONSTANT * (self.bb + n * self.mean_b**2):
            return 0.0
        r = self.ab / math.sqrt(self.aa) / math.sqrt(self.bb)
        return min(max(r, -1.0), 1.0)


def moments_of(a: NDArray[Any], b: NDArray[Any], valid: NDArray[np.bool_] | None) -> Moments:
    """The moments of two tiles of one shape where `valid`, or everywhere."""
    if valid is not None:
        a, b = a[valid], b[valid]
    if a.size == 0:
        return Moments()
    x, y = (np.array(part, np.float64).ravel() for part in (a, b))
    mx, my = float(x.mean()), float(y.mean())
    x -= mx
    y -= my
    return Moments(x.size, mx, my, float(x @ x), float(y @ y), float(x @ y))


def cell_side(shape: Shape) -> int:
    """Side of the cells whose correlations are told one by one."""
    return 256 if max(shape) > 1024 else 64


def scores_after(pair: Pair, move: Move, pool: Pool) -> tuple[float, NDArray[np.float64]]:
    """Correlation of the reference with the moved image: of all pixels, and of each cell."""
    boxes = list(grid(pair.shape, BOX))
    cell = cell_side(pair.shape)
    total = Moments()
    rows, columns = (-(-n // cell) for n in pair.shape)
    scores = np.full((rows, columns), np.nan)
    for box, cells in zip(
        boxes, each(pool, _cells_of, [(pair, move, box, cell) for box in boxes]), strict=True
    ):
        for part, moments in zip(grid(box.shape, cell), cells, strict=True):
            total = total.plus(moments)
            at = (box.y0 + part.y0) // cell, (box.x0 + part.x0) // cell
            scores[at] = moments.correlation
    return total.correlation, scores


def _cells_of(pair: Pair, move: Move, box: Box, cell: int) -> list[Moments]:
    pixels, missing = pair.reference.read(box)
    moved = moved_box(pair, move, box)
    valid = np.isfinite(moved)
    if missing is not None:
        valid &= ~missing
    found = []
    for part in grid(box.shape, cell):
        at = part.slices
        found.append(moments_of(pixels[at], moved[at], None if valid[at].all() else valid[at]))
    return found


def moved_box(pair: Pair, move: Move, box: Box) -> NDArray[Any]:
    """The moved image in a box; NaN where it has no pixels."""
    held = move.held(box, pair.shape)
    dtype = move.out_dtype(pair.moving.source.dtype)
    if held.size == 0:
        return np.full(box.shape, np.nan, dtype)
    return move.moved(pair.moving.layer(held), held, box, pair.shape)
