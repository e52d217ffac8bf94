"""The shift that lays one image on another, from tiles at full resolution.

They are cut where the images match to the pixel. Only what is kept of a tile, its correlation about
that place, is combined. The arithmetic on a tile is `kernels.cross_correlation`, and
`kernels.masked_correlation` where pixels are missing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.kernels.cross_correlation import (
    blurred,
    fine_correlation,
    fine_peak,
    padded_shape,
    power,
    product,
    signed,
    tile_spectrum,
    whole_peak,
)
from bigcorr.kernels.masked_correlation import MaskedSums, fine_masked, lag_sums, masked_sums
from bigcorr.registration.coarse import Level
from bigcorr.registration.images import Pair, each
from bigcorr.registration.noise import Spectra, blur_by_scatter, blur_by_spectra
from bigcorr.registration.tiles import agreeing, flat, middles, overlap, shared, tiles_over
from bigcorr.run.cluster import Pool
from bigcorr.tiles import Box, Shape

_SAMPLE = 3
_ROUNDS = 5
_GROUP = 2
_NEAR = 32
_LEAST_SHARE = 0.25
"""Tiles along each axis that settle the shift to the pixel; times that tiles are cut anew at most;
tiles along each axis that are read together; the share of a tile's side, as one in so many, that
tiles may be off for the shift between them to be believed at once; least share of the pixels that
two tiles must have in common at a shift, of the most at any."""

Weights = tuple[NDArray[np.bool_], NDArray[np.bool_]]


class Found(NamedTuple):
    """Shift, and centres, own shifts and use of the tiles; the blur they were compared with."""

    shift: tuple[float, float]
    centres: NDArray[np.float64]
    shifts: NDArray[np.float64]
    used: NDArray[np.bool_]
    sigma: float


class Search(NamedTuple):
    """What a search needs: the images, where to run, how to look. `sigma` None: to be chosen."""

    pair: Pair
    pool: Pool
    level: Level
    tile: int
    upsample: int
    sigma: float | None


def find_shift(search: Search, start: Shape) -> Found:
    """The shift of the whole images, from one in whole pixels that may be a block off."""
    whole, sigma = _to_the_pixel(search, start)
    return _refined(search, whole, sigma)


def _read(pair: Pair, box: Box, shift: Shape) -> tuple[list[NDArray[Any]], Weights]:
    """A box of both images, the moving one's moved by whole pixels, and where pixels are known."""
    pixels, known = [], []
    other = box.shifted(-shift[0], -shift[1])
    for image, at in ((pair.reference, box), (pair.moving, other)):
        values, missing = image.read(at)
        pixels.append(values)
        known.append(np.ones(at.shape, bool) if missing is None else ~missing)
    return pixels, (known[0], known[1])


def _to_the_pixel(search: Search, shift: Shape) -> tuple[Shape, float]:
    """The shift in whole pixels, by a few tiles cut anew until they match, and the blur."""
    pair, masked = search.pair, search.level.missing
    seen: set[Shape] = set()
    sigma = search.sigma
    for _ in range(_ROUNDS):
        seen.add(shift)
        boxes = _telling(search.level, shared(pair.shape, shift), search.tile, shift)
        side = boxes[0].shape
        tasks = [(pair, box, shift, masked, sigma) for box in boxes]
        if masked:
            total: MaskedSums | None = None
            for part in each(search.pool, _all_lags, tasks):
                # 128 bytes a pixel of a tile each: they are added up as they come.
                if part is not None:
                    total = part if total is None else total.plus(part)
            if total is None:
                raise InputError(
                    "moving: got an image that has no known pixels in common with reference after "
                    f"a shift of {shift}, takes one that overlaps it"
                )
            size = total.number.shape
            found = total.correlation(_LEAST_SHARE * float(total.number.max()))
            y, x = np.unravel_index(int(found.argmax()), size)
            step = signed(int(y), size[0]), signed(int(x), size[1])
        else:
            size = padded_shape(side)
            spectra = list(each(search.pool, _tile_spectra, tasks))
            cross = np.sum([found.cross for found in spectra], axis=0)
            step = whole_peak(blurred(cross, size, sigma or 0.0), size)
        moved = shift[0] + step[0], shift[1] + step[1]
        if moved in seen or overlap(pair.shape, moved) is None:
            break
        shift = moved
        # Tiles that share nearly all of what they show are as sure of a shift as matching ones.
        if not masked and max(abs(step[0]), abs(step[1])) <= min(side) // _NEAR:
            break
    if sigma is None:
        sigma = 0.0 if masked else blur_by_spectra(spectra, side, step)
    return shift, sigma


def _telling(level: Level, box: Box, tile: int, shift: Shape) -> list[Box]:
    """Of the tiles over a box, those of most contrast in both images: one of each ninth."""
    rows = tiles_over(box, tile)
    thirds = [np.array_split(np.arange(n), min(_SAMPLE, n)) for n in (len(rows), len(rows[0]))]
    chosen = []
    for some_rows in thirds[0]:
        for some_columns in thirds[1]:
            here = [rows[i][j] for i in some_rows for j in some_columns]
            chosen.append(max(here, key=lambda each_box: _contrast(level, each_box, shift)))
    return chosen


def _contrast(level: Level, box: Box, shift: Shape) -> float:
    """How much a tile shows in both images made smaller; 0 where it is within one of their pixels,
    or holds nothing known."""
    found = 1.0
    for k, at in enumerate((box, box.shifted(-shift[0], -shift[1]))):
        fy, fx = level.factors
        part = slice(at.y0 // fy, -(-at.y1 // fy)), slice(at.x0 // fx, -(-at.x1 // fx))
        image, weight = level.images[k][part], level.weights[k][part]
        total = float(weight.sum())
        if total <= 0:
            return 0.0
        mean = float((image * weight).sum()) / total
        found *= float((weight * (image - mean) ** 2).sum())
    return found


def _all_lags(
    pair: Pair, box: Box, shift: Shape, masked: bool, sigma: float | None
) -> MaskedSums | None:
    """Masked sums of one tile at every shift; None where it has nothing known."""
    (a, b), known = _read(pair, box, shift)
    if not (known[0].any() and known[1].any()):
        return None
    return masked_sums(a, b, known, padded_shape((2 * box.shape[0], 2 * box.shape[1])))


def _tile_spectra(pair: Pair, box: Box, shift: Shape, masked: bool, sigma: float | None) -> Spectra:
    """Cross spectrum of one tile, and the powers that tell its noise from what is common."""
    (a, b), _ = _read(pair, box, shift)
    first, second = (tile_spectrum(part, padded_shape(box.shape)) for part in (a, b))
    return Spectra(power(first), power(second), product(first, second))


class _Tile(NamedTuple):
    """What is kept of a tile: its correlation on the fine grid, or its sums by whole shifts."""

    fine: NDArray[np.float64] | None
    sums: MaskedSums | None


def _refined(search: Search, whole: Shape, sigma: float) -> Found:
    pair, upsample, masked = search.pair, search.upsample, search.level.missing
    choose = masked and search.sigma is None
    for turn in range(_ROUNDS):
        rows = tiles_over(shared(pair.shape, whole), search.tile, halves=not masked)
        groups = [
            [box for row in rows[i : i + _GROUP] for box in row[j : j + _GROUP]]
            for i in range(0, len(rows), _GROUP)
            for j in range(0, len(rows[0]), _GROUP)
        ]
        boxes = flat(groups)
        tasks = [(pair, group, whole, masked, upsample, sigma) for group in groups]
        kept = [tile for group in each(search.pool, _tiles_of, tasks) for tile in group]
        if choose:
            sigma = blur_by_scatter([tile.sums for tile in kept if tile.sums], upsample)
        own, inside = _own_peaks(kept, upsample, sigma)
        if not inside.any() and all(tile.fine is None and tile.sums is None for tile in kept):
            raise InputError(
                "moving: got an image that has too few known pixels in common with reference "
                f"after a shift of {whole}, takes one that overlaps it"
            )
        used = agreeing(own, inside)
        dy, dx, _ = fine_peak(_together(kept, used, upsample, sigma), upsample)
        again = whole[0] + round(dy), whole[1] + round(dx)
        if max(abs(dy), abs(dx)) <= 0.75 or turn == _ROUNDS - 1:
            break
        if overlap(pair.shape, again) is None:
            break
        whole = again
    return Found((whole[0] + dy, whole[1] + dx), middles(boxes), own + whole, used, sigma)


def _tiles_of(
    pair: Pair, boxes: list[Box], shift: Shape, masked: bool, upsample: int, sigma: float
) -> list[_Tile]:
    """What is kept of tiles that lie side by side, read together."""
    around = Box(
        min(box.y0 for box in boxes),
        max(box.y1 for box in boxes),
        min(box.x0 for box in boxes),
        max(box.x1 for box in boxes),
    )
    (a, b), known = _read(pair, around, shift)
    found = []
    for box in boxes:
        at = box.relative_to(around).slices
        first, second = a[at], b[at]
        if masked:
            found.append(_Tile(None, lag_sums(first, second, (known[0][at], known[1][at]))))
        else:
            size = padded_shape(box.shape)
            tapered = (tile_spectrum(part, size) for part in (first, second))
            spectrum = blurred(product(*tapered), size, sigma)
            found.append(_Tile(fine_correlation(spectrum, size, box.shape, upsample), None))
    return found


def _own_peaks(
    kept: list[_Tile], upsample: int, sigma: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Each tile's own shift, and whether it is one: 0 and False where nothing is known."""
    own, inside = np.zeros((len(kept), 2)), np.zeros(len(kept), bool)
    for k, tile in enumerate(kept):
        fine = tile.fine if tile.sums is None else fine_masked(tile.sums, upsample, sigma)
        if fine is not None:
            *own[k], inside[k] = fine_peak(fine, upsample)
    return own, inside


def _together(
    kept: list[_Tile], used: NDArray[np.bool_], upsample: int, sigma: float
) -> NDArray[np.float64]:
    """The correlation of all used tiles on the fine grid."""
    chosen = [tile for tile, use in zip(kept, used, strict=True) if use]
    sums = [tile.sums for tile in chosen if tile.sums is not None]
    if not sums:
        return np.sum([tile.fine for tile in chosen if tile.fine is not None], axis=0)
    total = sums[0]
    for part in sums[1:]:
        total = total.plus(part)
    return fine_masked(total, upsample, sigma)
