"""How much blur makes a shift surest: none for clean images, some where both are noisy.

Nothing is read here: the spectra, or the sums, of tiles that were read before tell it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from bigcorr.kernels.cross_correlation import fine_correlation, fine_peak, padded_shape
from bigcorr.kernels.masked_correlation import MaskedSums, fine_masked
from bigcorr.tiles import Shape

SIGMAS = (0.0, 1.0, 1.5, 2.0, 3.0)
"""What is chosen from, in pixels."""

_GAIN = 0.8
_RINGS = 64
_FEW_TILES = 5
"""A blur must bring the error below this share of that without one; rings of equal frequency;
tiles from which on their scatter says something."""


class Spectra(NamedTuple):
    """Power of both images of a tile, and their cross spectrum."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    cross: NDArray[np.complex128]


def blur_by_spectra(tiles: Sequence[Spectra], shape: Shape, shift: Shape = (0, 0)) -> float:
    """The blur that makes the variance of the peak least, by what is common to both images.

    Parameters
    ----------
    tiles : their spectra.
    shape : of a tile.
    shift : (int, int)
        Pixels by which they are off each other.

    Notes
    -----
    The peak of a correlation with the weights H at the frequencies f has a variance of
    ``sum f**2 H**2 (A B - C**2) / (sum f**2 H C)**2`` in equal units, where A, B are the images'
    powers and C is the part of their cross spectrum that a shift explains; means over rings.
    """
    size = padded_shape(shape)
    cross = np.sum([tile.cross for tile in tiles], axis=0)
    if shift != (0, 0):
        cross *= np.exp(2j * np.pi * shift[0] * fft.fftfreq(size[0]))[:, None]
        cross *= np.exp(2j * np.pi * shift[1] * fft.rfftfreq(size[1]))
    smooth = cross * _low_pass(size, 2.0)
    dy, dx, _ = fine_peak(fine_correlation(smooth, size, shape, 10), 10)
    y, x = fft.fftfreq(size[0])[:, None], fft.rfftfreq(size[1])[None]
    common = (cross * np.exp(2j * np.pi * (y * dy + x * dx))).real
    frequency = np.hypot(y, x)
    ring = np.minimum((frequency * 2 * _RINGS).astype(np.intp), _RINGS - 1).ravel()
    count = np.bincount(ring, minlength=_RINGS).astype(np.float64)
    a, b, c = (
        np.bincount(ring, part.ravel(), _RINGS) / np.maximum(count, 1)
        for part in (
            np.sum([tile.first for tile in tiles], axis=0),
            np.sum([tile.second for tile in tiles], axis=0),
            common,
        )
    )
    f = (np.arange(_RINGS) + 0.5) / (2 * _RINGS)
    c = np.maximum(c, 0.0)
    noise = np.maximum(a * b - c * c, 0.0)
    errors = []
    for sigma in SIGMAS:
        h = np.exp(-((2 * np.pi * sigma * f) ** 2))
        slope = (count * f**2 * h * c).sum()
        spread = np.sqrt((count * f**2 * h**2 * noise).sum())
        errors.append(spread / slope if slope > 0 else np.inf)
    return _least(errors)


def _low_pass(size: Shape, sigma: float) -> NDArray[np.float64]:
    y, x = fft.fftfreq(size[0])[:, None], fft.rfftfreq(size[1])[None]
    return np.asarray(np.exp(-((2 * np.pi * sigma) ** 2) * (y * y + x * x)))


def blur_by_scatter(tiles: Sequence[MaskedSums], upsample: int) -> float:
    """The blur with which the tiles' own shifts lie closest together; none for a few tiles."""
    if len(tiles) < _FEW_TILES:
        return 0.0
    errors = []
    for sigma in SIGMAS:
        own = np.array([fine_peak(fine_masked(tile, upsample, sigma), upsample) for tile in tiles])
        far = np.abs(own[:, :2] - np.median(own[:, :2], axis=0))
        errors.append(float(np.hypot(*np.median(far, axis=0))))
    return _least(errors)


def _least(errors: Sequence[float]) -> float:
    """The blur of the least error, or none where none is hardly worse."""
    best = int(np.argmin(errors))
    return SIGMAS[best] if errors[best] < _GAIN * errors[0] else 0.0
