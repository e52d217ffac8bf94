"""Trends of channels: polynomial surfaces fitted by least squares, and taken off.

A trend across the raster has no short correlation length, so two channels with trends of their own
look significantly alike. Pure arithmetic on tiles and their places: no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bigcorr.tiles import Box, Shape

Floats = NDArray[np.float64]

ORDERS = {"none": 0, "plane": 1, "quadratic": 2}
"""Orders of the surfaces by name."""
DUST = 1e-12
"""What is left of a surface counts as zero below this part of the surface itself."""


def exponents(order: int) -> list[tuple[int, int]]:
    """Powers (of y, of x) of the terms of a surface.

    >>> exponents(1)
    [(0, 0), (0, 1), (1, 0)]
    """
    return [(a, b) for a in range(order + 1) for b in range(order + 1 - a)]


def _powers(start: int, stop: int, size: int, most: int) -> Floats:
    """(stop - start, most + 1) powers of a coordinate that runs from -1 to 1 over the raster."""
    t = (2.0 * np.arange(start, stop) - (size - 1)) / max(size - 1, 1)
    return t[:, None] ** np.arange(most + 1)


def trend_moments(
    values: Floats, valid: NDArray[np.uint8] | None, box: Box, raster: Shape, order: int
) -> tuple[Floats, Floats]:
    """Sums of y^a x^b over the valid pixels of a box, and of these times the value.

    Returns
    -------
    weights : (2 order + 1, 2 order + 1), by a and b
    products : (order + 1, order + 1)
    """
    y = _powers(box.y0, box.y1, raster[0], 2 * order)
    x = _powers(box.x0, box.x1, raster[1], 2 * order)
    if valid is None:
        weights = np.outer(y.sum(axis=0), x.sum(axis=0))
    else:
        ok = valid != 0
        weights = y.T @ ok.astype(np.float64) @ x
        values = np.where(ok, values, 0.0)
    few = order + 1
    return weights, y[:, :few].T @ values @ x[:, :few]


def fit_trends(weights: Floats, products: Floats, order: int) -> Floats:
    """Coefficients (channel, terms) of the surfaces, of least norm where pixels are too few.

    weights, products : of `trend_moments`, summed over boxes, with a leading channel axis.
    """
    terms = exponents(order)
    normal = np.empty((len(weights), len(terms), len(terms)))
    right = np.empty((len(weights), len(terms)))
    for i, (a, b) in enumerate(terms):
        right[:, i] = products[:, a, b]
        for j, (c, d) in enumerate(terms):
            normal[:, i, j] = weights[:, a + c, b + d]
    inverse = np.linalg.pinv(normal, rcond=1e-12, hermitian=True)
    return np.einsum("cij,cj->ci", inverse, right)


@dataclass(frozen=True)
class Trends:
    """Surfaces of all channels of a raster.

    coefficients : (channel, terms), in the order of `exponents`.
    """

    coefficients: Floats
    order: int
    raster: Shape

    def flat(self, channel: int) -> bool:
        """Whether there is nothing to take off."""
        return not self.coefficients[channel].any()

    def remove(self, values: Floats, channel: int, box: Box) -> None:
        """Take the surface off the values of a box, in place; the same bits in any box."""
        c = self.coefficients[channel]
        y = _powers(box.y0, box.y1, self.raster[0], self.order)
        x = _powers(box.x0, box.x1, self.raster[1], self.order)
        for a in range(self.order + 1):
            # One polynomial of x for each power of y, added up in a fixed order.
            line = np.zeros(len(x))
            for (power, b), value in zip(exponents(self.order), c, strict=True):
                if power == a:
                    line += value * x[:, b]
            values -= y[:, a : a + 1] * line
        values[np.abs(values) <= DUST * np.abs(c).sum()] = 0.0
