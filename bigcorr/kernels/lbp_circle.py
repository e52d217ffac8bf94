"""Local binary patterns on paper: the methods, how many codes they have, where samples lie.

Nothing is compiled here, so that parameters can be checked before anything is computed.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.tiles import Shape

Method = Literal["default", "ror", "uniform", "nri_uniform", "var"]
METHODS: tuple[Method, ...] = ("default", "ror", "uniform", "nri_uniform", "var")


def number_of_codes(points: int, method: Method) -> int:
    """Codes run from 0 to one less; "var" has none.

    >>> number_of_codes(8, "uniform"), number_of_codes(8, "nri_uniform"), number_of_codes(8, "ror")
    (10, 59, 256)
    """
    if method == "var":
        return 0
    if method == "uniform":
        return points + 2
    return points * (points - 1) + 3 if method == "nri_uniform" else 2**points


class Circle(NamedTuple):
    """Where the samples lie about a pixel.

    dy, dx : float64[points]
        Offsets of each point, rounded as scikit-image does.
    columns : float64[k]
        The different values among `dx`.
    column : int64[points]
        Which of them is a point's.
    """

    dy: NDArray[np.float64]
    dx: NDArray[np.float64]
    columns: NDArray[np.float64]
    column: NDArray[np.int64]

    @property
    def halo(self) -> Shape:
        """Pixels that the samples take up beyond the centre, (y, x)."""
        y, x = (int(np.ceil(np.abs(offsets).max())) for offsets in (self.dy, self.dx))
        return y, x

    @property
    def footprint(self) -> list[tuple[int, int]]:
        """Offsets (y, x) of all pixels that have a part in the centre's pattern, and its own."""
        found = {(0, 0)}
        for dy, dx in zip(self.dy, self.dx, strict=True):
            rows, columns = ({int(np.floor(d)), int(np.ceil(d))} for d in (dy, dx))
            found |= {(y, x) for y in rows for x in columns}
        return sorted(found)


@functools.lru_cache(maxsize=64)
def circle(points: int, radius: float) -> Circle:
    """Points on a circle, the first to the right of the centre, then counter-clockwise.

    >>> circle(4, 2.0).dy.tolist(), circle(4, 2.0).dx.tolist()
    ([-0.0, -2.0, -0.0, 2.0], [2.0, 0.0, -2.0, -0.0])
    """
    turns = np.arange(points, dtype=np.float64)
    dy = np.round(-radius * np.sin(2 * np.pi * turns / points), 5)
    dx = np.round(radius * np.cos(2 * np.pi * turns / points), 5)
    columns, column = np.unique(dx, return_inverse=True)
    return Circle(dy, dx, columns, column.astype(np.int64))
