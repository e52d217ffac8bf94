"""One tile moved by a fraction of a pixel: a spline of order 1 or 3 as weights along each axis.

The spline's prefilter is no recursion here, which would carry the tile's edge along, but its
impulse response, cut where it is below 1e-11 of its peak: every pixel is the same sum in the same
order, wherever tiles are cut. Values in and out; what is missing is told by a mask.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.axis_sums import weighted_sums
from bigcorr.tiles import Shape

_POLE = math.sqrt(3) - 2
PREFILTER = 20
_FILL = 8
_ROWS = 128
"""Pole of the cubic prefilter and the reach of its impulse response; how far pixels are looked for
that stand in for a missing one; rows worked out at a time, so that they stay in a near cache."""


class Taps(NamedTuple):
    """What an axis is summed with: ``out[i] = sum_k weights[k] x[i + first + k]``.

    A result is missing where any of the pixels ``i + near[0]`` to ``i + near[1]`` is.
    """

    first: int
    weights: NDArray[np.float64]
    near: tuple[int, int]


def spline_taps(shift: float, order: int) -> Taps:
    """Weights that move an axis by `shift` pixels, order 1 or 3.

    Examples
    --------
    >>> spline_taps(-2.25, 1)
    Taps(first=2, weights=array([0.75, 0.25]), near=(2, 3))
    """
    whole = math.floor(-shift)
    t = -shift - whole
    if t == 0:
        return Taps(whole, np.ones(1), (whole, whole))
    if order == 1:
        return Taps(whole, np.array([1 - t, t]), (whole, whole + 1))
    u = 1 - t
    basis = np.array([u**3, 4 - 6 * t**2 + 3 * t**3, 4 - 6 * u**2 + 3 * u**3, t**3])
    weights = np.convolve(basis, prefilter())
    return Taps(whole - 1 - PREFILTER, weights / weights.sum(), (whole - 1, whole + 2))


def prefilter() -> NDArray[np.float64]:
    """What makes the coefficients of a cubic spline of pixels, as weights along an axis."""
    response = _POLE ** np.abs(np.arange(-PREFILTER, PREFILTER + 1))
    return np.asarray(response / response.sum())


REACH = PREFILTER + 2 + _FILL
"""Pixels that the functions here look beyond those that a result comes from, along an axis."""


def shift_tile(
    pixels: NDArray[Any],
    missing: NDArray[np.bool_] | None,
    origin: Shape,
    raster: Shape,
    taps: tuple[Taps, Taps],
    halo: Shape,
    out: NDArray[Any],
) -> NDArray[Any]:
    """Write the moved tile into `out`.

    Parameters
    ----------
    pixels : ndarray
        A part of the raster that holds the pixels that the tile comes from and `REACH` about them,
        as far as they are on the raster. Beyond it the mirror image of the raster about its
        outermost pixels is taken.
    missing : ndarray of bool, same shape, or None
    origin : (int, int)
        Row and column of the first of `pixels` on the raster.
    raster : (int, int)
        Its shape.
    taps : (Taps, Taps)
        Along y and x.
    halo : (int, int)
        Row and column of the tile's first pixel, from `origin`.
    out : ndarray, shape (h, w), of floats

    Returns
    -------
    ndarray
        `out`; NaN where the pixel comes from outside the raster or from beside a missing one.
    """
    if missing is not None:
        pixels = filled(pixels, missing, origin, raster)
    starts = [at + far for at, far in zip(origin, halo, strict=True)]
    rows, columns = (
        mirrored(start + each.first, size + each.weights.size - 1, n, at, held)
        for start, each, size, n, at, held in zip(
            starts, taps, out.shape, raster, origin, pixels.shape, strict=True
        )
    )
    y, x = (each.weights for each in taps)
    for top in range(0, out.shape[0], _ROWS):
        strip = out[top : top + _ROWS]
        source = pixels[rows[top : top + len(strip) + y.size - 1]][:, columns].astype(np.float64)
        strip[...] = weighted_sums(weighted_sums(source, y, 0), x, 1)
    inside = []
    for start, each, size, n in zip(starts, taps, out.shape, raster, strict=True):
        at = np.arange(start, start + size) + each.first
        low = at - each.first + _floor_of(each)
        inside.append((low >= 0) & (low + (each.weights.size > 1) <= n - 1))
    out[~inside[0]] = np.nan
    out[:, ~inside[1]] = np.nan
    if missing is not None:
        out[_near(missing, starts, origin, raster, taps, out.shape)] = np.nan
    return out


def _floor_of(taps: Taps) -> int:
    """The pixel at or before the place that a result comes from, from the result's own."""
    low, high = taps.near
    return low + (high - low) // 2


def mirrored(start: int, count: int, n: int, origin: int, held: int) -> NDArray[np.intp]:
    """Where the pixels from `start` on stand in a tile, those beyond the raster mirrored.

    What a tile does not hold belongs to no pixel inside the raster: any index will do for it.
    """
    at = np.arange(start, start + count)
    if n > 1:
        at %= 2 * (n - 1)
        at = np.where(at < n, at, 2 * (n - 1) - at)
    else:
        at[:] = 0
    return np.clip(at - origin, 0, held - 1)


def filled(
    pixels: NDArray[Any], missing: NDArray[np.bool_], origin: Shape, raster: Shape
) -> NDArray[np.float64]:
    """The pixels with means of what is near in place of what is missing, 0 where nothing is.

    No result beside a missing pixel is kept; this only bounds what others see of it through the
    prefilter.
    """
    known = ~missing
    for axis, (at, n) in enumerate(zip(origin, raster, strict=True)):
        g = np.arange(at, at + pixels.shape[axis])
        off = (g < 0) | (g >= n)
        known[(slice(None),) * axis + (off,)] = False
    weights = 0.5 ** np.abs(np.arange(-_FILL, _FILL + 1.0))
    kept = np.where(known, pixels, 0).astype(np.float64)
    total, weight = (
        weighted_sums(weighted_sums(np.pad(part, _FILL), weights, 0), weights, 1)
        for part in (kept, known.astype(np.float64))
    )
    return np.where(known, kept, total / np.maximum(weight, np.finfo(float).tiny))


def _near(
    missing: NDArray[np.bool_],
    starts: list[int],
    origin: Shape,
    raster: Shape,
    taps: tuple[Taps, Taps],
    shape: Shape,
) -> NDArray[np.bool_]:
    """Where a result has a missing pixel among those around the place that it comes from."""
    found = missing
    for axis, (start, each, size, n, at) in enumerate(
        zip(starts, taps, shape, raster, origin, strict=True)
    ):
        low, high = each.near
        where = mirrored(start + low, size + high - low, n, at, missing.shape[axis])
        wide = found.take(where, axis)
        found = np.zeros((*wide.shape[:axis], size, *wide.shape[axis + 1 :]), bool)
        for k in range(high - low + 1):
            found |= wide[k : k + size] if axis == 0 else wide[:, k : k + size]
    return found
