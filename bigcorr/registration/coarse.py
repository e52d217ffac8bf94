"""The first look: both images made smaller, tile by tile, and the shift of these.

It also finds what is to be known of the images before anything is searched: whether pixels are
missing, whether there is structure, how alike they are as they lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.kernels.cross_correlation import cross_spectrum, padded_shape, signed, whole_peak
from bigcorr.kernels.masked_correlation import masked_sums
from bigcorr.registration.agreement import BOX, Moments, moments_of
from bigcorr.registration.images import Pair, each
from bigcorr.run.cluster import Pool
from bigcorr.tiles import Box, Shape, grid

LONGEST = 1024
"""Longest side of the images in which the shift is first looked for."""

_SURE = 0.5
_LEAST_SHARES = (0.25, 0.0625)
"""Score above which a peak of the tapered images is not looked at twice; least shares of an image
that two of them must have in common where all shifts are tried."""


class Level(NamedTuple):
    """Both images made smaller.

    images : means of blocks of `factors` pixels, 0 where nothing is known.
    weights : share of each block's pixels that is there.
    missing : whether any pixel of either image is missing.
    before : moments of the images as they lie.
    """

    factors: Shape
    images: tuple[NDArray[np.float64], NDArray[np.float64]]
    weights: tuple[NDArray[np.float64], NDArray[np.float64]]
    missing: bool
    before: Moments


class _Part(NamedTuple):
    sums: NDArray[np.float64]
    counts: NDArray[np.float64] | None
    ranges: list[tuple[float, float] | None]
    moments: Moments


def coarse_level(pair: Pair, pool: Pool) -> Level:
    """Both images made smaller, in one pass over them; or an `InputError` if there is nothing."""
    h, w = pair.shape
    fy, fx = -(-h // LONGEST), -(-w // LONGEST)
    shape = h // fy, w // fx
    sums, counts = np.zeros((2, *shape)), np.full((2, *shape), float(fy * fx))
    before, missing = Moments(), False
    ranges: list[list[tuple[float, float]]] = [[], []]
    boxes = list(grid(pair.shape, (fy * (BOX // fy), fx * (BOX // fx))))
    parts = each(pool, _part, [(pair, box, (fy, fx)) for box in boxes])
    for box, part in zip(boxes, parts, strict=True):
        y, x = box.y0 // fy, box.x0 // fx
        at = (slice(None), slice(y, y + part.sums.shape[1]), slice(x, x + part.sums.shape[2]))
        sums[at] = part.sums
        if part.counts is not None:
            missing = True
            counts[at] = part.counts
        before = before.plus(part.moments)
        for found, span in zip(ranges, part.ranges, strict=True):
            if span is not None:
                found.append(span)
    for name, found in zip(("reference", "moving"), ranges, strict=True):
        if not found:
            raise InputError(
                f"{name}: got an image whose pixels are all missing, takes one with some"
            )
        if min(low for low, _ in found) == max(high for _, high in found):
            raise InputError(f"{name}: got one value in all pixels, takes an image with structure")
    a, b = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    share = counts / (fy * fx)
    return Level((fy, fx), (a, b), (share[0], share[1]), missing, before)


def _part(pair: Pair, box: Box, factors: Shape) -> _Part:
    """What one box adds: sums and numbers of the pixels of each block, and what is known of all."""
    fy, fx = factors
    h, w = box.shape[0] // fy, box.shape[1] // fx
    sums, counts = np.zeros((2, h, w)), np.full((2, h, w), float(fy * fx))
    ranges: list[tuple[float, float] | None] = []
    both: NDArray[np.bool_] | None = None
    images = []
    for k, image in enumerate((pair.reference, pair.moving)):
        pixels, missing = image.read(box)
        if missing is None:
            ranges.append((float(pixels.min()), float(pixels.max())))
        else:
            known = ~missing
            seen = pixels[known]
            ranges.append((float(seen.min()), float(seen.max())) if seen.size else None)
            pixels = np.where(known, pixels, 0)
            counts[k] = _block_sums(known, h, w, factors)
            both = known if both is None else both & known
        sums[k] = _block_sums(pixels, h, w, factors)
        images.append(pixels)
    moments = moments_of(images[0], images[1], both)
    return _Part(sums, None if both is None else counts, ranges, moments)


def _block_sums(pixels: NDArray[Any], h: int, w: int, factors: Shape) -> NDArray[np.float64]:
    """Sums of blocks; what is left over at the far edges is not looked at."""
    fy, fx = factors
    # Along y first: whole rows are added up, and the slow sums of a few neighbours are of fewer.
    rows = pixels[: h * fy, : w * fx].reshape(h, fy, w * fx).sum(axis=1, dtype=np.float64)
    return np.asarray(rows.reshape(h, w, fx).sum(axis=2))


def coarse_shift(level: Level) -> Shape:
    """The shift of the whole images, to a pixel of the smaller ones: the best of several guesses.

    Correlation and phase correlation of the tapered images see most shifts, and where neither does
    the masked correlation is taken at every one.
    """
    images, weights = level.images, level.weights
    x, y = images
    if level.missing:
        x, y = (_filled(image, weight) for image, weight in zip(images, weights, strict=True))
    size = padded_shape((2 * x.shape[0], 2 * x.shape[1]))
    spectrum = cross_spectrum(x, y, size)
    power = np.abs(spectrum)
    flat = spectrum / np.maximum(power, max(1e-12 * power.max(), np.finfo(float).tiny))
    guesses = {(0, 0), whole_peak(spectrum, size), whole_peak(flat, size)}
    del spectrum, power, flat
    scores = {guess: _score_of(level, guess) for guess in guesses}
    if max(scores.values()) < _SURE:
        scores |= {guess: _score_of(level, guess) for guess in _all_shifts(level, size)}
    best = max(sorted(scores), key=scores.__getitem__)
    return best[0] * level.factors[0], best[1] * level.factors[1]


def _filled(image: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """The image with its mean where nothing is known."""
    mean = (image * weight).sum() / weight.sum()
    return mean + weight * (image - mean)


def _all_shifts(level: Level, size: Shape) -> Iterator[Shape]:
    """Where the masked correlation is greatest, over large and over small overlaps."""
    sums = masked_sums(*level.images, level.weights, size)
    most = min(float(weight.sum()) for weight in level.weights)
    for share in _LEAST_SHARES:
        found = sums.correlation(share * most) * np.sqrt(np.maximum(sums.number, 0) / most)
        y, x = np.unravel_index(int(found.argmax()), found.shape)
        yield signed(int(y), size[0]), signed(int(x), size[1])


def _score_of(level: Level, shift: Shape) -> float:
    """Correlation of the overlap, less where it is small: by chance it is high in a small one."""
    h, w = level.images[0].shape
    dy, dx = shift
    box = Box(max(0, dy), min(h, h + dy), max(0, dx), min(w, w + dx))
    if min(box.shape) < 1:
        return -2.0
    here, there = box.slices, box.shifted(-dy, -dx).slices
    weight = level.weights[0][here] * level.weights[1][there]
    total = float(weight.sum())
    most = min(float(each_.sum()) for each_ in level.weights)
    if total < _LEAST_SHARES[-1] * most:
        return -2.0
    a, b = level.images[0][here], level.images[1][there]
    a, b = (part - float((part * weight).sum()) / total for part in (a, b))
    norm = np.sqrt((weight * a * a).sum() * (weight * b * b).sum())
    r = float((weight * a * b).sum() / norm) if norm > 0 else 0.0
    return r * float(np.sqrt(min(total / most, 1.0)))
