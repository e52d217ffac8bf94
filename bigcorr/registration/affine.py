"""The affine map that lays one image on another, from the shifts of tiles of the moved image.

Each round moves `moving` by the map so far, tile by tile, looks how far each tile is still off, and
fits the map anew: on the smaller images first, where what is far off is still in reach, then at
full resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.kernels.affine import affine_tile
from bigcorr.kernels.cross_correlation import fine_peak, padded_shape, quadratic_step
from bigcorr.kernels.masked_correlation import LAGS, MaskedSums, fine_masked, masked_sums
from bigcorr.operators_move import Affine
from bigcorr.raster.memory import ArraySource
from bigcorr.registration.agreement import moved_box
from bigcorr.registration.coarse import Level
from bigcorr.registration.images import Image, Pair, each
from bigcorr.registration.noise import blur_by_scatter
from bigcorr.registration.result import matrix_of
from bigcorr.registration.robust import robust_affine
from bigcorr.registration.tiles import MOST_TILES, flat, middles, tiles_over
from bigcorr.registration.translation import Found, Search
from bigcorr.tiles import Box, Shape

_SMALLEST = 192
_TILES_ALONG = 5
_LEAST_TILE = 48
_ROUNDS = 6
_STILL = 0.01
_KNOWN = 0.3
_TOLERANCES = (12.0, 6.0, 3.0)
"""Shorter side at which images are not made smaller any more; tiles along the shorter side at
least, unless they would be smaller than this; rounds at each size at most; pixels that a corner
moves by in the last; least share of a tile that both images know; pixels that a tile may be off the
map, in the first rounds and after."""


@dataclass(frozen=True)
class _Nearest(Affine):
    """The moved image without pixels that are missing themselves, but with those beside them."""

    def _tile(
        self,
        pixels: NDArray[Any],
        missing: NDArray[np.bool_] | None,
        held: Box,
        box: Box,
        shape: Shape,
        out: NDArray[Any],
    ) -> None:
        matrix = np.array(self.matrix)
        affine_tile(pixels, missing, held, shape, matrix, self.order, box, out, nearest=True)


class _Peak(NamedTuple):
    """What a tile tells: its shift, its correlation there, and its sums for a finer look."""

    shift: tuple[float, float]
    height: float
    sums: MaskedSums


def find_affine(
    search: Search, start: Shape
) -> tuple[NDArray[np.float64], Found, tuple[float, float]]:
    """The matrix (3, 3) from `reference` to `moving`; the tiles; the spread about the map."""
    pair, level = search.pair, search.level
    matrix = matrix_of((float(start[0]), float(start[1])))
    sizes = list(_smaller(level))
    for number, (size, factors) in enumerate(sizes):
        scale = _to_full(factors)
        last = number == len(sizes) - 1 and factors == (1, 1)
        if last:
            break
        local = np.linalg.inv(scale) @ matrix @ scale
        local = _settled(search._replace(pair=size), local, number == 0)[0]
        matrix = scale @ local @ np.linalg.inv(scale)
    matrix, centres, own, used, sigma = _settled(search, matrix, len(sizes) == 1, fine=True)
    far = np.abs(own[used] - _shifts_of(matrix, centres)[used])
    dy, dx = 1.4826 * np.median(far, axis=0)
    middle = (np.array(pair.shape) - 1) / 2
    y, x = _shifts_of(matrix, middle[None])[0]
    found = Found((float(y), float(x)), centres, own, used, sigma)
    return matrix, found, (float(dy), float(dx))


def _to_full(factors: Shape) -> NDArray[np.float64]:
    """From (y, x, 1) in an image of means of blocks to the one of the pixels."""
    fy, fx = factors
    return np.array([[fy, 0, (fy - 1) / 2], [0, fx, (fx - 1) / 2], [0, 0, 1.0]])


def _smaller(level: Level) -> list[tuple[Pair, Shape]]:
    """The smaller images from the smallest on, with the pixels that one of theirs stands for."""
    images, weights, factors = list(level.images), list(level.weights), level.factors
    found = []
    while True:
        sources = []
        for image, weight in zip(images, weights, strict=True):
            known = np.where(weight >= 0.5, image, np.nan)
            sources.append(Image(ArraySource(known), None))
        found.append((Pair(*sources), factors))
        if min(images[0].shape) < 2 * _SMALLEST:
            return found[::-1]
        for k in range(2):
            sums, counts = _halved(images[k] * weights[k]), _halved(weights[k])
            images[k] = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
            weights[k] = counts / 4
        factors = 2 * factors[0], 2 * factors[1]


def _halved(x: NDArray[np.float64]) -> NDArray[np.float64]:
    h, w = x.shape[0] // 2, x.shape[1] // 2
    return np.asarray(x[: 2 * h, : 2 * w].reshape(h, 2, w, 2).sum(axis=(1, 3)))


def _shifts_of(matrix: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2): what to shift `moving` by to lay it on `reference` at each place."""
    there = np.column_stack([centres, np.ones(len(centres))]) @ matrix.T
    return np.asarray(centres - there[:, :2])


def _settled(
    search: Search, matrix: NDArray[np.float64], first: bool, fine: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], float]:
    """The map fitted anew until it stays, with the tiles' middles, own shifts and use, and blur."""
    pair = search.pair
    whole = Box(0, pair.shape[0], 0, pair.shape[1])
    side = max(min(search.tile, min(pair.shape) // _TILES_ALONG), min(_LEAST_TILE, *pair.shape))
    boxes = flat(tiles_over(whole, side, MOST_TILES))
    centres = middles(boxes)
    corners = np.array([(y, x, 1.0) for y in (0, pair.shape[0]) for x in (0, pair.shape[1])])
    sigma = 0.0
    for turn in range(_ROUNDS):
        peaks = list(each(search.pool, _peak_of, [(pair, box, matrix) for box in boxes]))
        known = np.array([peak is not None for peak in peaks])
        told = [peak for peak in peaks if peak is not None]
        residual, weight = np.zeros((len(boxes), 2)), np.zeros(len(boxes))
        if told:
            residual[known] = [peak.shift for peak in told]
            weight[known] = [max(peak.height, 0.0) ** 2 + 1e-6 for peak in told]
        near = known & (np.abs(residual).max(axis=1) < 1)
        if fine and near.any():
            close = [peak for peak, use in zip(peaks, near, strict=True) if use and peak]
            if search.sigma is None:
                sigma = blur_by_scatter([peak.sums for peak in close], search.upsample)
            else:
                sigma = search.sigma
            for k in np.flatnonzero(near):
                peak = peaks[k]
                if peak is not None:
                    y, x, inside = fine_peak(
                        fine_masked(peak.sums, search.upsample, sigma), search.upsample
                    )
                    residual[k] = (y, x) if inside else residual[k]
        # What is at c in `reference` is at c - residual in the moved image, and there is its place.
        at = np.column_stack([centres - residual, np.ones(len(boxes))]) @ matrix.T
        tolerance = _TOLERANCES[min(turn, len(_TOLERANCES) - 1) if first else -1]
        fit = robust_affine(centres[known], at[known, :2], weight[known], tolerance)
        if fit is None or not _sound(fit.matrix):
            raise InputError(
                "moving: got an image of which too few tiles match reference for an affine map, "
                "takes one that does, or model 'translation'"
            )
        before, follow = corners @ matrix.T, fit.used
        matrix = np.vstack([fit.matrix, [0, 0, 1.0]])
        if np.abs(corners @ matrix.T - before).max() < _STILL:
            break
    used = np.zeros(len(boxes), bool)
    used[known] = follow
    return matrix, centres, centres - at[:, :2], used, sigma


def _sound(matrix: NDArray[np.float64]) -> bool:
    """Whether a map stretches and shears no more than an image of the same place may."""
    scales = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(scales.min() > 0.5 and scales.max() < 2 and np.linalg.det(matrix[:, :2]) > 0)


def _peak_of(pair: Pair, box: Box, matrix: NDArray[np.float64]) -> _Peak | None:
    """How far a tile of the moved image is off; None where it does not tell."""
    pixels, missing = pair.reference.read(box)
    moved = moved_box(pair, _Nearest(matrix.tolist()), box)
    first = np.ones(box.shape, bool) if missing is None else ~missing
    second = np.isfinite(moved)
    if (first & second).mean() < _KNOWN:
        return None
    h, w = box.shape
    sums = masked_sums(pixels, moved, (first, second), padded_shape((h + LAGS, w + LAGS)), LAGS)
    found = sums.correlation(_KNOWN * float(sums.number.max()))
    i, j = (int(k) for k in np.unravel_index(int(found.argmax()), found.shape))
    height = float(found[i, j])
    if height <= 0 or not (0 < i < 2 * LAGS and 0 < j < 2 * LAGS):
        return None
    dy, dx = quadratic_step(found[i - 1 : i + 2, j - 1 : j + 2])
    return _Peak((i + dy - LAGS, j + dx - LAGS), height, sums)
