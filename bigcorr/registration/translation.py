"""`register`: the shift that lays one image on another, to a hundredth of a pixel.

First the whole images, made smaller, then tiles at full resolution, which are cut where the images
match to the pixel. Only what is kept of a tile, its correlation on a fine grid, is combined. The
arithmetic on a tile is `kernels.cross_correlation`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from bigcorr.errors import InputError
from bigcorr.kernels.cross_correlation import (
    cross_spectrum,
    fine_correlation,
    fine_peak,
    padded_shape,
    whole_peak,
)
from bigcorr.operators import check_dtype, real_number, whole_number
from bigcorr.registration.agreement import overlap_score
from bigcorr.registration.phase import phase_shift
from bigcorr.tiles import Box, Shape

__all__ = ["Registration", "register"]

_COARSE = 1024
_SAMPLE = 3
_ROUNDS = 5
_LEAST_TILE = 16
_LEAST_OVERLAP = 8
_STRAY = 0.1
"""Longest side of the images in which the shift is first looked for; tiles along each axis that
settle it to the pixel; times that tiles are cut anew at most; least side of an image and of
a tile, and of what two images share; how far, in pixels, a tile may always be from the median of
all."""

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Registration:
    """How one image lies on another.

    Attributes
    ----------
    shift : (float, float)
        (dy, dx) in pixels to apply to `moving` with `apply_shift`. What is at (y, x) in
        `reference` is at ``(y - dy, x - dx)`` in `moving`.
    score, score_before : float
        Correlation of `reference` with the moved and with the unmoved image over all pixels where
        they overlap, in [-1, 1].
    spread : (float, float)
        Standard deviation of the tiles' own shifts by the median of their distances from the
        median (1.4826 MAD), in pixels; NaN where there is but one tile.
    centres, shifts : ndarray, shape (n, 2)
        (y, x) of the middle of each tile on `reference`, and its own shift.
    used : ndarray of bool, shape (n,)
        Tiles that entered `shift`: not those that match nowhere near, or far from the median.
    """

    shift: tuple[float, float]
    score: float
    score_before: float
    spread: tuple[float, float]
    centres: NDArray[np.float64] = field(repr=False)
    shifts: NDArray[np.float64] = field(repr=False)
    used: NDArray[np.bool_] = field(repr=False)


def register(
    reference: ArrayLike,
    moving: ArrayLike,
    upsample: int = 10,
    *,
    normalization: Literal["phase"] | None = None,
    sigma: float | None = None,
    tile: int = 512,
) -> Registration:
    """Find the shift that lays `moving` on `reference`, to a small fraction of a pixel.

    Parameters
    ----------
    reference, moving : array_like, shape (y, x)
        Of one shape, of any real dtype, with no missing pixels.
    upsample : int
        The correlation is worked out at steps of ``1 / upsample`` pixels, then at the maximum of
        the quadratic through the greatest values.
    normalization : {None, "phase"}
        "phase" is scikit-image's ``phase_cross_correlation`` on the whole images: shifts are
        multiples of ``1 / upsample``, and lean towards whole pixels where images are smooth.
    sigma : float, optional
        Gaussian blur of both images in pixels, before they are compared: 2 to 4 where both are
        noisy. Not used with "phase".
    tile : int
        Side of the tiles in pixels, at least 16.

    Returns
    -------
    Registration
        Its `shift` is what to apply to `moving`: `apply_shift`.

    Raises
    ------
    InputError
        A `ValueError`: the shapes differ or are not two-dimensional, a side is shorter than 16
        pixels, pixels are missing, an image is constant, or a parameter is none that is taken.

    Notes
    -----
    The images are made smaller, to at most 1024 pixels a side, and the better of the peaks of
    their plain and of their phase correlation is the first guess. Then tiles are cut from
    `reference` and, moved by it, from `moving`, anew until they match to the pixel. Each has its
    mean removed, is tapered by a Hann window, and gives its cross-correlation within 1.5 pixels by
    an upsampled Fourier transform, divided by that of the windows. These are added up, but for
    tiles whose own peak is farther from the median than 3 of their standard deviations (and .1
    pixels), and the peak of the sum is refined by a quadratic.

    In an image of a single tile what enters and leaves it counts: on cuts of 64 x 64 pixels of a
    photograph errors of up to .05 pixels were seen, on 4946 x 6848 .0005 (docs/registration.md).

    References
    ----------
    M. Guizar-Sicairos, S. T. Thurman, J. R. Fienup, "Efficient subpixel image registration
    algorithms", Optics Letters 33(2), 2008.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> y, x = np.mgrid[:64, :64]
    >>> def spots(dy, dx):
    ...     return sum(np.exp(-((y - dy - p) ** 2 + (x - dx - q) ** 2) / 18)
    ...                for p, q in [(20, 15), (40, 45), (33, 25), (18, 44)])
    >>> reg = bc.register(spots(0, 0), spots(3.3, -5.6))
    >>> [round(d, 2) for d in reg.shift], round(reg.score, 3)
    ([-3.3, 5.6], 1.0)
    """
    a, b = _image("reference", reference), _image("moving", moving)
    if a.shape != b.shape:
        raise InputError(f"moving: got shape {b.shape}, takes that of reference, {a.shape}")
    takes = "a whole number of at least"
    upsample = whole_number("upsample", upsample, f"{takes} 1")
    tile = whole_number("tile", tile, f"{takes} {_LEAST_TILE}")
    if upsample < 1:
        raise InputError(f"upsample: got {upsample}, takes {takes} 1")
    if tile < _LEAST_TILE:
        raise InputError(f"tile: got {tile}, takes {takes} {_LEAST_TILE}")
    blur = 0.0 if sigma is None else real_number("sigma", sigma, "a number > 0, or None")
    if sigma is not None and not 0 < blur < np.inf:
        raise InputError(f"sigma: got {sigma}, takes a number > 0, or None")
    if normalization not in (None, "phase"):
        raise InputError(f"normalization: got {normalization!r}, takes None or 'phase'")
    # The products of a tile are too small to gain by several threads, and lose much by waiting.
    with threadpool_limits(1, user_api="blas"):
        if normalization == "phase":
            shift = phase_shift(a, b, upsample)
            centres, shifts = (np.array(a.shape)[None] - 1) / 2, np.array([shift])
            used = np.ones(1, bool)
        else:
            whole = _to_the_pixel(a, b, _coarse_shift(a, b), tile, blur)
            shift, centres, shifts, used = _refined(a, b, whole, tile, upsample, blur)
    return Registration(
        shift,
        overlap_score(a, b, shift),
        overlap_score(a, b, (0.0, 0.0)),
        _spread(shifts),
        centres,
        shifts,
        used,
    )


def _image(name: str, value: ArrayLike) -> Pixels:
    image = np.asarray(value)
    check_dtype(image.dtype, name)
    if image.ndim != 2:
        raise InputError(f"{name}: got shape {image.shape}, takes (y, x)")
    if min(image.shape) < _LEAST_TILE:
        raise InputError(
            f"{name}: got shape {image.shape}, takes at least {_LEAST_TILE} pixels a side"
        )
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise InputError(f"{name}: got missing pixels (not finite), takes an image without")
    if image.min() == image.max():
        raise InputError(f"{name}: got one value in all pixels, takes an image with structure")
    return image


def _coarse_shift(a: Pixels, b: Pixels) -> tuple[int, int]:
    """The shift of the whole images, to a pixel of smaller ones: the better of two guesses."""
    factors = -(-a.shape[0] // _COARSE), -(-a.shape[1] // _COARSE)
    x, y = _smaller(a, factors), _smaller(b, factors)
    size = padded_shape((2 * x.shape[0], 2 * x.shape[1]))
    spectrum = cross_spectrum(x, y, size)
    level = np.abs(spectrum)
    flat = spectrum / np.maximum(level, 1e-12 * level.max())
    guesses = {(0, 0), whole_peak(spectrum, size), whole_peak(flat, size)}
    scores = {guess: _score_of(x, y, guess) for guess in guesses}
    best = max(sorted(scores), key=scores.__getitem__)
    return best[0] * factors[0], best[1] * factors[1]


def _smaller(image: Pixels, factors: Shape) -> NDArray[np.float64]:
    """Means of blocks; what is left over at the far edges is not looked at."""
    fy, fx = factors
    h, w = image.shape[0] // fy, image.shape[1] // fx
    blocks = image[: h * fy, : w * fx].reshape(h, fy, w, fx)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float64))


def _score_of(a: NDArray[np.float64], b: NDArray[np.float64], shift: tuple[int, int]) -> float:
    """Correlation of the overlap; least where less than a sixteenth of an image is left."""
    box = _overlap(a.shape, shift)
    if box is None or 16 * box.size < a.size:
        return -2.0
    x, y = a[box.slices], b[box.shifted(-shift[0], -shift[1]).slices]
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / norm) if norm > 0 else -1.0


def _overlap(shape: tuple[int, ...], shift: tuple[int, int]) -> Box | None:
    """The pixels of the reference that the moved image covers."""
    (h, w), (dy, dx) = shape, shift
    box = Box(max(0, dy), min(h, h + dy), max(0, dx), min(w, w + dx))
    return box if min(box.shape) >= _LEAST_OVERLAP else None


def _tiles(
    shape: tuple[int, ...], shift: tuple[int, int], tile: int, most: int | None
) -> list[Box]:
    """Tiles of one shape, evenly over the overlap; at most so many along an axis."""
    box = _overlap(shape, shift)
    if box is None:
        raise InputError(
            f"moving: got an image that shares less than {_LEAST_OVERLAP} pixels with reference "
            f"after a shift of {shift}, takes one that overlaps it"
        )
    axes = []
    for start, length in ((box.y0, box.shape[0]), (box.x0, box.shape[1])):
        side = min(tile, length)
        count = -(-length // side) if most is None else min(most, -(-length // side))
        room = length - side
        axes.append([(start + k * room // max(count - 1, 1), side) for k in range(count)])
    rows, columns = axes
    return [Box(y, y + h, x, x + w) for y, h in rows for x, w in columns]


def _spectrum(
    a: Pixels, b: Pixels, box: Box, shift: tuple[int, int], size: Shape, sigma: float
) -> NDArray[np.complex128]:
    other = box.shifted(-shift[0], -shift[1])
    return cross_spectrum(a[box.slices], b[other.slices], size, sigma)


def _to_the_pixel(
    a: Pixels, b: Pixels, shift: tuple[int, int], tile: int, sigma: float
) -> tuple[int, int]:
    """The shift in whole pixels, by a few tiles that are cut anew until they match."""
    seen = set()
    for _ in range(_ROUNDS):
        seen.add(shift)
        boxes = _tiles(a.shape, shift, tile, _SAMPLE)
        size = padded_shape(boxes[0].shape)
        total = np.zeros((size[0], size[1] // 2 + 1), np.complex128)
        for box in boxes:
            total += _spectrum(a, b, box, shift, size, sigma)
        dy, dx = whole_peak(total, size)
        moved = shift[0] + dy, shift[1] + dx
        if moved in seen or _overlap(a.shape, moved) is None:
            break
        shift = moved
    return shift


def _refined(
    a: Pixels, b: Pixels, whole: tuple[int, int], tile: int, upsample: int, sigma: float
) -> tuple[tuple[float, float], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Shift, and centres, own shifts and use of the tiles."""
    for turn in range(_ROUNDS):
        boxes = _tiles(a.shape, whole, tile, None)
        shape = boxes[0].shape
        size = padded_shape(shape)
        fine = np.array(
            [
                fine_correlation(_spectrum(a, b, box, whole, size, sigma), size, shape, upsample)
                for box in boxes
            ]
        )
        peaks = [fine_peak(each, upsample) for each in fine]
        own = np.array([[dy, dx] for dy, dx, _ in peaks])
        used = _agreeing(own, np.array([inside for _, _, inside in peaks]))
        dy, dx, _ = fine_peak(fine[used].sum(axis=0), upsample)
        again = whole[0] + round(dy), whole[1] + round(dx)
        if max(abs(dy), abs(dx)) <= 0.75 or turn == _ROUNDS - 1:
            break
        if _overlap(a.shape, again) is None:
            break
        whole = again
    centres = np.array([[(box.y0 + box.y1 - 1) / 2, (box.x0 + box.x1 - 1) / 2] for box in boxes])
    return (whole[0] + dy, whole[1] + dx), centres, own + whole, used


def _agreeing(own: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tiles that match, and where most others do; all of them where these would be few."""
    if not inside.any():
        return np.ones(len(own), bool)
    middle = np.median(own[inside], axis=0)
    far = np.abs(own - middle)
    scale = 1.4826 * np.median(far[inside], axis=0)
    used = inside & (far <= np.maximum(3 * scale, _STRAY)).all(axis=1)
    return used if 2 * used.sum() >= inside.sum() else inside


def _spread(shifts: NDArray[np.float64]) -> tuple[float, float]:
    if len(shifts) < 2:
        return np.nan, np.nan
    far = np.abs(shifts - np.median(shifts, axis=0))
    dy, dx = 1.4826 * np.median(far, axis=0)
    return float(dy), float(dx)
