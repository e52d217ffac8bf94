"""Correlation of two tiles with missing pixels, at every shift over the pixels that both have.

Six transforms give the sums of Padfield's masked normalised cross-correlation; they are divided at
whole shifts, where they are exact, and what comes out is interpolated. No files, no dask.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from bigcorr.kernels.cross_correlation import fine_steps, padded_shape
from bigcorr.tiles import Shape

LAGS = 24
"""How far the shifts of `lag_sums` reach, in whole pixels."""

_CONSTANT = 1e-12
_LEAST = 64
_LEAST_SHARE = 0.02
"""A variance below this share of a tile's sum of squares is none, at whatever shift; least number
and least share of a tile's pixels that both images must have for the tile to count."""


class MaskedSums(NamedTuple):
    """Of the pixels that two tiles have in common, at each shift; may be added up over tiles.

    number : of pixels.
    covariance : sum of products about the means of these pixels.
    first, second : sums of squares about the means, of the reference and of the moved image.
    """

    number: NDArray[np.float64]
    covariance: NDArray[np.float64]
    first: NDArray[np.float64]
    second: NDArray[np.float64]

    def plus(self, other: MaskedSums) -> MaskedSums:
        """The sums of both."""
        return MaskedSums(*(a + b for a, b in zip(self, other, strict=True)))

    def correlation(self, least: float = 1.0) -> NDArray[np.float64]:
        """In [-1, 1]; 0 where either image is constant, -1 where fewer than `least` pixels are."""
        norm = np.sqrt(self.first * self.second)
        found = np.divide(self.covariance, norm, out=np.zeros_like(norm), where=norm > 0)
        return np.where(self.number >= least, np.clip(found, -1, 1), -1.0)


def masked_sums(
    reference: NDArray[Any],
    moving: NDArray[Any],
    weights: tuple[NDArray[Any], NDArray[Any]],
    size: Shape,
    lags: int | None = None,
) -> MaskedSums:
    """Sums over the pixels that two tiles have in common, at each shift in whole pixels.

    Parameters
    ----------
    reference, moving : ndarray, shape (h, w)
        Whatever stands where a weight is 0.
    weights : (ndarray, ndarray), shape (h, w)
        0 where a pixel is missing, else 1 or the share of it that is there.
    size : (int, int)
        Sides to widen to, at least ``h + lags``: shifts do not wrap around then.
    lags : int, optional
        Reach of the shifts that are wanted; by default all of them, in the order of `fft.ifft`.

    Returns
    -------
    MaskedSums of arrays of shape (2 lags + 1, 2 lags + 1), or `size`
    """
    spectra, squares = [], []
    for part, weight in zip((reference, moving), weights, strict=True):
        w = np.asarray(weight, np.float64)
        known = np.where(w > 0, part, 0).astype(np.float64)
        total = w.sum()
        known -= (known * w).sum() / total if total > 0 else 0.0
        known *= w > 0
        weighted = w * known
        spectra.append([fft.rfft2(x, size) for x in (w, weighted, weighted * known)])
        squares.append(float((weighted * known).sum()))
    (one, a, aa), (other, b, bb) = spectra

    def at_lags(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
        product = x * y.conj()
        if lags is None:
            return np.asarray(fft.irfft2(product, size))
        rows, columns = _waves(size, lags)
        return np.asarray((rows @ product @ columns).real)

    count = np.maximum(at_lags(one, other), 0.0)
    some = np.maximum(count, 1e-6)
    sum_a, sum_b = at_lags(a, other), at_lags(one, b)
    covariance = at_lags(a, b) - sum_a * sum_b / some
    first = at_lags(aa, other) - sum_a * sum_a / some
    second = at_lags(one, bb) - sum_b * sum_b / some
    for part, square in ((first, squares[0]), (second, squares[1])):
        part[part <= _CONSTANT * square] = 0.0
    return MaskedSums(count, covariance, first, second)


@lru_cache(maxsize=8)
def _waves(size: Shape, lags: int) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """What turns half a spectrum into the values at the shifts from -lags to lags."""
    at = np.arange(-lags, lags + 1)
    rows = np.exp(2j * np.pi * np.outer(at, fft.fftfreq(size[0])))
    twice = np.full(size[1] // 2 + 1, 2.0)
    twice[0] = 1
    if size[1] % 2 == 0:
        twice[-1] = 1
    columns = twice[:, None] * np.exp(2j * np.pi * np.outer(fft.rfftfreq(size[1]), at))
    return rows / (size[0] * size[1]), columns


def lag_sums(
    reference: NDArray[Any], moving: NDArray[Any], weights: tuple[NDArray[Any], NDArray[Any]]
) -> MaskedSums | None:
    """`masked_sums` at the shifts within `LAGS`; None where too few pixels are common at one."""
    h, w = reference.shape
    size = padded_shape((h + LAGS, w + LAGS))
    sums = masked_sums(reference, moving, weights, size, LAGS)
    if sums.number.min() < max(_LEAST, _LEAST_SHARE * h * w):
        return None
    return sums


def fine_masked(sums: MaskedSums, upsample: int, sigma: float = 0.0) -> NDArray[np.float64]:
    """Correlation at the shifts of `fine_steps` along y and x, from those within `LAGS`.

    Whole shifts are interpolated by a windowed sinc. To blur both images by `sigma` is to blur
    their correlation by its root-2-fold, which is done here.
    """
    kernel = _interpolation(upsample, sigma)
    return kernel @ sums.correlation() @ kernel.T


@lru_cache(maxsize=32)
def _interpolation(upsample: int, sigma: float) -> NDArray[np.float64]:
    """Weights of the whole shifts for each fine one, (fine, whole)."""
    steps = fine_steps(upsample)
    far = steps[:, None] - np.arange(-LAGS, LAGS + 1)
    reach = LAGS - np.abs(steps).max()
    window = np.where(np.abs(far) < reach, np.cos(np.pi * far / (2 * reach)) ** 2, 0)
    if sigma == 0:
        return np.sinc(far) * window
    waves = np.linspace(0, 0.5, 1025)
    shape = np.exp(-((2 * np.pi * sigma * waves) ** 2))
    shape[[0, -1]] /= 2
    blurred = np.cos(2 * np.pi * far[..., None] * waves) @ shape / (len(waves) - 1)
    return np.asarray(blurred * window)
