"""What a registration found: `Registration`. Nothing is computed here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Registration:
    """How one image lies on another.

    Attributes
    ----------
    shift : (float, float)
        (dy, dx) in pixels to apply to `moving` with `apply_shift`. What is at (y, x) in
        `reference` is at ``(y - dy, x - dx)`` in `moving`. With the affine model, that of the
        middle of the image.
    score, score_before : float
        Correlation of `reference` with the moved and with the unmoved image over all pixels that
        both have, in [-1, 1].
    spread : (float, float)
        Standard deviation of the tiles' own shifts by the median of their distances from the
        median, or from the affine map (1.4826 MAD), in pixels; NaN where there is but one tile.
    centres, shifts : ndarray, shape (n, 2)
        (y, x) of the middle of each tile on `reference`, and its own shift.
    used : ndarray of bool, shape (n,)
        Tiles that entered the result: not those that match nowhere near, or far from the others.
    model : {"translation", "affine"}
    matrix : ndarray, shape (3, 3)
        From (y, x, 1) in `reference` to (y, x, 1) in `moving`: what `apply_affine` takes.
    sigma : float
        The Gaussian blur in pixels with which the images were compared; 0: none.
    scores : ndarray, shape (rows, columns)
        Correlation after the move by square cells of `cell` pixels; NaN where a cell has none.
    cell : int
        Their side.
    """

    shift: tuple[float, float]
    score: float
    score_before: float
    spread: tuple[float, float]
    centres: NDArray[np.float64] = field(repr=False)
    shifts: NDArray[np.float64] = field(repr=False)
    used: NDArray[np.bool_] = field(repr=False)
    model: str = "translation"
    matrix: NDArray[np.float64] = field(default_factory=lambda: np.eye(3), repr=False)
    sigma: float = 0.0
    scores: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)), repr=False)
    cell: int = 0

    @property
    def residuals(self) -> NDArray[np.float64]:
        """(n, 2): how far each tile's own shift is from what the result says of its middle."""
        y, x = self.centres.T
        there = np.stack([y, x, np.ones_like(y)]).T @ self.matrix.T
        return np.asarray(self.shifts - (self.centres - there[:, :2]))

    def summary(self) -> dict[str, Any]:
        """The result without what belongs to single tiles, as JSON has it."""
        return {
            "model": self.model,
            "shift": list(self.shift),
            "spread": list(self.spread),
            "score": self.score,
            "score_before": self.score_before,
            "sigma": self.sigma,
            "matrix": self.matrix.tolist(),
            "tiles": len(self.used),
            "tiles_used": int(self.used.sum()),
        }


def matrix_of(shift: tuple[float, float]) -> NDArray[np.float64]:
    """The matrix of a shift.

    >>> matrix_of((2.0, -1.0)).tolist()
    [[1.0, 0.0, -2.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]
    """
    matrix = np.eye(3)
    matrix[:2, 2] = -np.asarray(shift, np.float64)
    return matrix
