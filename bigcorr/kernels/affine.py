"""One tile of an image under an affine map, by a spline of order 1 or 3.

Where a pixel comes from is told by its place on the raster, and the spline's coefficients are those
of `resample`: the same bits wherever tiles are cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.axis_sums import weighted_sums
from bigcorr.kernels.jit import njit
from bigcorr.kernels.resample import PREFILTER, filled, mirrored, prefilter
from bigcorr.tiles import Box, Shape


def affine_tile(
    pixels: NDArray[Any],
    missing: NDArray[np.bool_] | None,
    held: Box,
    raster: Shape,
    matrix: NDArray[np.float64],
    order: int,
    box: Box,
    out: NDArray[Any],
    nearest: bool = False,
) -> NDArray[Any]:
    """Write the tile `box` of the image under a map into `out`.

    Parameters
    ----------
    pixels : ndarray, shape ``held.shape``
        A part of the raster that holds all that the tile comes from, and `resample.REACH` about it.
    missing : ndarray of bool, same shape, or None
    held : Box
    raster : (int, int)
        Shape of the raster.
    matrix : ndarray, shape (2, 3)
        From (y, x, 1) of the result to (y, x) of the raster.
    order : {1, 3}
    box : Box
    out : ndarray, shape ``box.shape``, of floats
    nearest : bool
        Give up a result only where the pixel nearest to its place is missing, and take means of
        what is near for others: to compare images, not to keep them.

    Returns
    -------
    ndarray
        `out`; NaN where the pixel comes from outside the raster or from beside a missing one.
    """
    if missing is not None:
        origin = held.y0, held.x0
        pixels = filled(pixels, missing, origin, raster)
    # Coefficients two beyond what is held: mirrored there, and of no use inside the raster.
    margin = 2
    far = PREFILTER if order == 3 else 0
    rows, columns = (
        mirrored(start - margin - far, size + 2 * (margin + far), n, start, size)
        for start, size, n in zip((held.y0, held.x0), held.shape, raster, strict=True)
    )
    lost = np.zeros((1, 1), np.bool_)
    if missing is not None:
        inner = slice(far, -far) if far else slice(None)
        lost = missing[rows[inner]][:, columns[inner]]
    source = pixels[rows][:, columns].astype(np.float64)
    if order == 3:
        taps = prefilter()
        source = weighted_sums(weighted_sums(source, taps, 0), taps, 1)
    first = held.y0 - margin, held.x0 - margin
    m = np.ascontiguousarray(matrix[:2], np.float64)
    rule = 0 if missing is None else 2 if nearest else 1
    (_cubic if order == 3 else _linear)(source, lost, rule, first, raster, m, (box.y0, box.x0), out)
    return out


@njit(cache=True, nogil=True)
def _cubic(
    source: NDArray,
    lost: NDArray,
    rule: int,
    first: tuple[int, int],
    raster: tuple[int, int],
    m: NDArray,
    origin: tuple[int, int],
    out: NDArray,
) -> None:
    wy, wx = np.empty(4), np.empty(4)
    for i in range(out.shape[0]):
        y = float(origin[0] + i)
        for j in range(out.shape[1]):
            x = float(origin[1] + j)
            sy = m[0, 0] * y + m[0, 1] * x + m[0, 2]
            sx = m[1, 0] * y + m[1, 1] * x + m[1, 2]
            if not (0 <= sy <= raster[0] - 1 and 0 <= sx <= raster[1] - 1):
                out[i, j] = np.nan
                continue
            fy, fx = np.floor(sy), np.floor(sx)
            _basis(sy - fy, wy)
            _basis(sx - fx, wx)
            p, q = int(fy) - 1 - first[0], int(fx) - 1 - first[1]
            if rule == 2:
                gone = lost[p + 1 + int(sy - fy >= 0.5), q + 1 + int(sx - fx >= 0.5)]
            else:
                gone = rule == 1 and _any_lost(lost, p, q, sy == fy, sx == fx)
            if gone:
                out[i, j] = np.nan
                continue
            total = 0.0
            for k in range(4):
                total += wy[k] * (
                    wx[0] * source[p + k, q]
                    + wx[1] * source[p + k, q + 1]
                    + wx[2] * source[p + k, q + 2]
                    + wx[3] * source[p + k, q + 3]
                )
            out[i, j] = total


@njit(cache=True, nogil=True)
def _basis(t: float, w: NDArray) -> None:
    """The cubic B-spline at the four pixels around a place `t` beyond the second."""
    u = 1 - t
    w[0] = u * u * u / 6
    w[1] = (4 - 6 * t * t + 3 * t * t * t) / 6
    w[2] = (4 - 6 * u * u + 3 * u * u * u) / 6
    w[3] = t * t * t / 6


@njit(cache=True, nogil=True)
def _any_lost(lost: NDArray, p: int, q: int, whole_y: bool, whole_x: bool) -> bool:
    """Whether one of the 4 x 4 pixels is missing; of one row or column at a whole place."""
    for k in range(1 if whole_y else 0, 2 if whole_y else 4):
        for n in range(1 if whole_x else 0, 2 if whole_x else 4):
            if lost[p + k, q + n]:
                return True
    return False


@njit(cache=True, nogil=True)
def _linear(
    source: NDArray,
    lost: NDArray,
    rule: int,
    first: tuple[int, int],
    raster: tuple[int, int],
    m: NDArray,
    origin: tuple[int, int],
    out: NDArray,
) -> None:
    for i in range(out.shape[0]):
        y = float(origin[0] + i)
        for j in range(out.shape[1]):
            x = float(origin[1] + j)
            sy = m[0, 0] * y + m[0, 1] * x + m[0, 2]
            sx = m[1, 0] * y + m[1, 1] * x + m[1, 2]
            if not (0 <= sy <= raster[0] - 1 and 0 <= sx <= raster[1] - 1):
                out[i, j] = np.nan
                continue
            fy, fx = np.floor(sy), np.floor(sx)
            t, u = sy - fy, sx - fx
            p, q = int(fy) - first[0], int(fx) - first[1]
            if rule == 2:
                gone = lost[p + int(t >= 0.5), q + int(u >= 0.5)]
            else:
                gone = rule == 1 and (
                    lost[p, q]
                    or (u > 0 and lost[p, q + 1])
                    or (t > 0 and lost[p + 1, q])
                    or (u > 0 and t > 0 and lost[p + 1, q + 1])
                )
            if gone:
                out[i, j] = np.nan
                continue
            up = (1 - u) * source[p, q] + u * source[p, q + 1]
            down = (1 - u) * source[p + 1, q] + u * source[p + 1, q + 1]
            out[i, j] = (1 - t) * up + t * down
