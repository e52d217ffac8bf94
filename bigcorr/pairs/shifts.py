"""Null distributions by toroidal shifts: the vectors, and the moments of the shifted values.

A channel that is shifted round the edges of the raster keeps its own pattern and autocorrelation
and loses its place, so values between shifted channels are values under independence, for any
measure. In each draw every channel has a shift of its own: one pass gives a draw of all pairs.
No I/O.

References
----------
Lotwick, Silverman (1982), "Methods for analysing spatial processes of several types of points",
J. R. Stat. Soc. B 44. Upton, Fingleton (1985), "Spatial Data Analysis by Example", vol. 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bigcorr.tiles import Box, Shape

Floats = NDArray[np.float64]
Arrays = dict[str, Floats]

SAME = 1e-9
"""A spread below this part of the mean is rounding: the measure does not look at places."""


def shift_vectors(seed: int, draw: int, channels: int, raster: Shape) -> NDArray[np.int64]:
    """How far each channel is shifted in one draw, (channel, 2) pixels down and to the right.

    Uniform over all shifts of the raster; channel c becomes ``np.roll(c, vector, axis=(0, 1))``.

    >>> shift_vectors(0, 0, 2, (100, 200)).shape
    (2, 2)
    """
    rng = np.random.default_rng([seed, draw])
    return rng.integers(0, raster, size=(channels, 2), dtype=np.int64)


def pieces(box: Box, vector: NDArray[np.int64], raster: Shape) -> Iterator[tuple[Box, Box]]:
    """Where a box of a shifted channel comes from: (part of the box, box of the raster), up to 4.

    >>> for part, source in pieces(Box(0, 2, 0, 5), np.array([1, 0]), (4, 5)):
    ...     print(tuple(part), "from", tuple(source))
    (0, 1, 0, 5) from (3, 4, 0, 5)
    (1, 2, 0, 5) from (0, 1, 0, 5)
    """
    down = _runs(box.y0, box.y1, int(vector[0]), raster[0])
    right = _runs(box.x0, box.x1, int(vector[1]), raster[1])
    for to_y, y, height in down:
        for to_x, x, width in right:
            yield Box(to_y, to_y + height, to_x, to_x + width), Box(y, y + height, x, x + width)


def _runs(start: int, stop: int, shift: int, size: int) -> list[tuple[int, int, int]]:
    """Runs along an axis: (where in the box, where on the raster, how long)."""
    out = []
    position = start
    while position < stop:
        source = (position - shift) % size
        length = min(stop - position, size - source)
        out.append((position - start, source, length))
        position += length
    return out


def add_draw(moments: Arrays, name: str, rows: slice, values: Floats, shape: Shape) -> None:
    """Add some rows of the matrix of one draw to count, mean and squares (Welford); NaN is none."""
    for part in ("n", "mean", "squares"):
        if f"{name}.{part}" not in moments:
            moments[f"{name}.{part}"] = np.zeros(shape)
    n, mean, squares = (moments[f"{name}.{part}"][rows] for part in ("n", "mean", "squares"))
    known = ~np.isnan(values)
    n += known
    away = np.where(known, values - mean, 0.0)
    mean += away / np.maximum(n, 1.0)
    squares += away * np.where(known, values - mean, 0.0)


def null_moments(moments: Arrays, name: str, rows: slice, shape: Shape) -> tuple[Floats, Floats]:
    """Mean and standard deviation over the draws; NaN where there is none.

    Such as of a channel with itself, or by a measure that the place of a pattern does not change.
    `shape` is that of the rows.
    """
    if f"{name}.n" not in moments:  # Nothing of it is made from tiles: there was no draw.
        return np.full(shape, np.nan), np.full(shape, np.nan)
    n, mean, squares = (moments[f"{name}.{part}"][rows] for part in ("n", "mean", "squares"))
    sd = np.sqrt(squares / np.maximum(n - 1, 1.0))
    known = (n >= 2) & (sd > SAME * np.abs(mean))
    return np.where(known, mean, np.nan), np.where(known, sd, np.nan)
