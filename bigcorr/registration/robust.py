"""An affine map from points that mostly follow one: random samples, then least squares.

Numbers only: no pixels, no files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_SAMPLES = 2000
_ROUNDS = 20
_LEAST_POINTS = 4
_FLAT = 0.05
"""Triples that are tried; rounds of least squares; least number of points; a triple whose points
lie in a line, to this share of the area of all, is not tried."""


class Fit(NamedTuple):
    """matrix : (2, 3), from (y, x, 1) of the first points to the second.
    used : (n,) bool, the points that follow it.
    """

    matrix: NDArray[np.float64]
    used: NDArray[np.bool_]


def robust_affine(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    weights: NDArray[np.float64],
    tolerance: float,
) -> Fit | None:
    """The affine map that most of the points follow, or None of fewer than four or a line of them.

    Parameters
    ----------
    first, second : ndarray, shape (n, 2)
    weights : ndarray, shape (n,)
        How much each is to be trusted, > 0.
    tolerance : float
        How far a point that follows the map may be from it, in pixels; less if most lie closer.

    Notes
    -----
    Of 2000 random triples (the same ones for the same number of points), that with the least
    truncated squares (MSAC); then least squares of the points within 3 standard deviations by the
    median, again until they stay.

    References
    ----------
    P. H. S. Torr, A. Zisserman, "MLESAC: a new robust estimator", Computer Vision and Image
    Understanding 78, 2000.
    """
    n = len(first)
    if n < _LEAST_POINTS:
        return None
    points = np.column_stack([first, np.ones(n)])
    chosen = _best_triple(points, second, weights, tolerance)
    if chosen is None:
        return None
    used = _distance(points, second, chosen) <= tolerance
    matrix = chosen
    for _ in range(_ROUNDS):
        if used.sum() < 3 or _area(first[used]) <= 0:
            return None
        root = np.sqrt(weights[used])[:, None]
        matrix = np.linalg.lstsq(points[used] * root, second[used] * root, rcond=None)[0].T
        far = _distance(points, second, matrix)
        scale = 1.4826 * np.median(far[used])
        again = far <= min(tolerance, max(3 * scale, 0.05 * tolerance))
        if np.array_equal(again, used):
            break
        used = again
    return Fit(matrix, used)


def _best_triple(
    points: NDArray[np.float64],
    second: NDArray[np.float64],
    weights: NDArray[np.float64],
    tolerance: float,
) -> NDArray[np.float64] | None:
    n = len(points)
    rng = np.random.default_rng(n)
    triples = np.argsort(rng.random((_SAMPLES, n)), axis=1)[:, :3] if n <= 64 else None
    if triples is None:
        triples = rng.integers(0, n, (_SAMPLES, 3))
    corners = points[triples]
    area = np.abs(np.linalg.det(corners))
    whole = np.ptp(points[:, 0]) * np.ptp(points[:, 1])
    triples = triples[area > _FLAT * whole]
    if not len(triples):
        return None
    maps = np.linalg.solve(points[triples], second[triples])
    places = points @ maps
    squares = ((places - second) ** 2).sum(axis=2)
    cost = (np.minimum(squares, tolerance**2) * weights).sum(axis=1)
    return np.asarray(maps[int(cost.argmin())].T)


def _distance(
    points: NDArray[np.float64], second: NDArray[np.float64], matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(np.hypot(*(points @ matrix.T - second).T))


def _area(points: NDArray[np.float64]) -> float:
    """Twice the area that points spread over, 0 in a line."""
    return float(np.linalg.det(np.cov(points.T))) if len(points) > 2 else 0.0
