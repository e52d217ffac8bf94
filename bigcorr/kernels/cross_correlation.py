"""Where two tiles match to a fraction of a pixel: cross-correlation by Fourier transform.

A tile is a pair of images of one shape; what comes out is their correlation on a fine grid about
zero shift, which may be added up over tiles, and the place of its peak. Values only: no missing
pixels, no files, no dask.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from bigcorr.tiles import Shape

REACH = 1.5
"""How far a fine grid looks from zero shift, in pixels."""

_MOST_EXPONENT = 480
"""Of the powers of two that tiles are scaled by: squares of two of them are still finite."""


@lru_cache(maxsize=16)
def hann(n: int) -> NDArray[np.float64]:
    """Hann window of n pixels, symmetric and nowhere 0."""
    return np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2


def padded_shape(shape: Shape) -> Shape:
    """Sides of at least a tile's for which Fourier transforms are fast."""
    y, x = (fft.next_fast_len(n, real=True) for n in shape)
    return y, x


def cross_spectrum(
    reference: NDArray[Any], moving: NDArray[Any], size: Shape, sigma: float = 0.0
) -> NDArray[np.complex128]:
    """Spectrum of the correlation of two tiles, means off and tapered by a Hann window.

    Parameters
    ----------
    reference, moving : ndarray, shape (h, w)
    size : (int, int)
        Sides that the tiles are widened to by zeros: twice their own where shifts of any length
        are looked for.
    sigma : float
        Gaussian blur of both, in pixels.

    Returns
    -------
    ndarray of complex128, shape (size_y, size_x // 2 + 1)
        The transform of a correlation that peaks at the shift to apply to `moving`.
    """
    first, second = (fft.rfft2(_tapered(part), size) for part in (reference, moving))
    second = np.conjugate(second, out=second)
    return blurred(np.multiply(first, second, out=first), size, sigma)


class TileSpectrum(NamedTuple):
    """The transform of a tapered tile in single precision, which takes half the time.

    It is that of the tile divided by ``scale``, a power of two that brings it to the order of one:
    what is lost is a share of 6e-8 of the tile's own largest value. The tile's mean is taken off
    before, and all sums over frequencies are in double precision again.
    """

    values: NDArray[np.complex64]
    scale: float


def tile_spectrum(part: NDArray[Any], size: Shape) -> TileSpectrum:
    """The transform of one tile, its mean off and tapered by a Hann window.

    Examples
    --------
    >>> found = tile_spectrum(np.eye(8), (8, 8))
    >>> exact = np.fft.rfft2(_tapered(np.eye(8)))
    >>> bool(np.allclose(found.values * found.scale, exact, atol=1e-6))
    True
    """
    tile = _tapered(part)
    most = max(float(tile.max()), -float(tile.min()))
    scale = math.ldexp(1.0, min(max(math.frexp(most)[1], -_MOST_EXPONENT), _MOST_EXPONENT))
    single = np.multiply(tile, 1.0 / scale, out=np.empty(tile.shape, np.float32), casting="unsafe")
    return TileSpectrum(np.asarray(fft.rfft2(single, size), np.complex64), scale)


def product(first: TileSpectrum, second: TileSpectrum) -> NDArray[np.complex128]:
    """The spectrum of the correlation of two tiles, as `cross_spectrum` has it."""
    turned = np.conjugate(second.values)
    spectrum = np.multiply(first.values, turned, dtype=np.complex128)
    spectrum *= first.scale * second.scale
    return spectrum


def power(found: TileSpectrum) -> NDArray[np.float64]:
    """The squares of the amplitudes of a tile."""
    values = found.values
    out = np.multiply(values.real, values.real, dtype=np.float64)
    out += np.multiply(values.imag, values.imag, dtype=np.float64)
    out *= found.scale**2
    return out


def blurred(spectrum: NDArray[np.complex128], size: Shape, sigma: float) -> NDArray[np.complex128]:
    """A correlation's spectrum as if both images had been blurred; the same array."""
    if sigma:
        y, x = (
            np.exp(-((2 * np.pi * sigma * fft.fftfreq(size[0])) ** 2)),
            np.exp(-((2 * np.pi * sigma * fft.rfftfreq(size[1])) ** 2)),
        )
        spectrum *= y[:, None]
        spectrum *= x
    return spectrum


def _tapered(part: NDArray[Any]) -> NDArray[np.float64]:
    """A tile without its mean under the window, times the window."""
    pixels = np.asarray(part, np.float64)
    y, x = (hann(n) for n in pixels.shape)
    mean = float(y @ (pixels @ x)) / float(y.sum() * x.sum())
    tile = pixels - mean
    tile *= y[:, None]
    tile *= x
    return tile


def whole_peak(spectrum: NDArray[np.complex128], size: Shape) -> tuple[int, int]:
    """The shift in whole pixels at which a correlation is greatest."""
    correlation = fft.irfft2(spectrum, size)
    y, x = np.unravel_index(int(correlation.argmax()), size)
    return signed(int(y), size[0]), signed(int(x), size[1])


def signed(index: int, n: int) -> int:
    """The shift that an index of an inverse transform of n stands for."""
    return index - n if index > n // 2 else index


def fine_steps(upsample: int) -> NDArray[np.float64]:
    """Shifts along an axis of the fine grid, in pixels."""
    reach = max(math.ceil(REACH * upsample), 2)
    return np.arange(-reach, reach + 1) / upsample


def fine_correlation(
    spectrum: NDArray[np.complex128], size: Shape, shape: Shape, upsample: int
) -> NDArray[np.float64]:
    """Correlation at the shifts of `fine_steps` along y and x.

    It is divided by the correlation of the two windows: else it would lean towards zero shift, at
    which the windows match best.
    """
    cosine, sine, waves = _waves(size, upsample)
    # Real numbers times the real and imaginary parts side by side: a shift and its negative have
    # the same cosines, and sines of opposite sign.
    both = np.ascontiguousarray(spectrum, np.complex128).view(np.float64)
    even, odd = ((each @ both).view(np.complex128) for each in (cosine, sine))
    odd *= 1j
    turned = np.concatenate([(even - odd)[:0:-1], even + odd])
    fine = (turned @ waves).real
    own = [_own(n, shape_n, upsample) for n, shape_n in zip(size, shape, strict=True)]
    return np.asarray(fine / np.outer(*own))


@lru_cache(maxsize=4)
def _waves(
    size: Shape, upsample: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.complex128]]:
    """Cosines and sines along y of the shifts that are not negative, and the waves along x."""
    steps = fine_steps(upsample)
    y = 2 * np.pi * np.outer(steps[len(steps) // 2 :], fft.fftfreq(size[0]))
    x = np.exp(2j * np.pi * np.outer(fft.rfftfreq(size[1]), steps))
    # A real image's transform is given by half of its columns: all but the outermost count twice.
    x[1 : len(x) - (size[1] % 2 == 0)] *= 2
    return np.cos(y), np.sin(y), x


@lru_cache(maxsize=16)
def _own(size: int, n: int, upsample: int) -> NDArray[np.float64]:
    """Correlation of a window with itself at the shifts of `fine_steps`, 1 at none."""
    power = np.abs(fft.fft(hann(n), size)) ** 2
    waves = np.cos(2 * np.pi * np.outer(fine_steps(upsample), fft.fftfreq(size)))
    return waves @ power / power.sum()


def fine_peak(fine: NDArray[np.float64], upsample: int) -> tuple[float, float, bool]:
    """Shift (dy, dx) at which the quadratic through the greatest of `fine` has its maximum, and
    whether that lies inside the grid."""
    n = len(fine)
    i, j = (int(k) for k in np.unravel_index(int(fine.argmax()), fine.shape))
    inside = 0 < i < n - 1 and 0 < j < n - 1
    i, j = min(max(i, 1), n - 2), min(max(j, 1), n - 2)
    dy, dx = quadratic_step(fine[i - 1 : i + 2, j - 1 : j + 2])
    return (i + dy - n // 2) / upsample, (j + dx - n // 2) / upsample, inside


def quadratic_step(near: NDArray[np.float64]) -> tuple[float, float]:
    """From the middle of 3 x 3 values to the maximum of the quadratic that fits them best, at most
    one step along each axis; none where they have no maximum."""
    near = near - near[1, 1]
    near /= max(float(np.abs(near).max()), np.finfo(np.float64).tiny)  # products stay finite
    rows, columns = near.sum(axis=1), near.sum(axis=0)
    gy, gx = (rows[2] - rows[0]) / 6, (columns[2] - columns[0]) / 6
    hyy = (rows[0] - 2 * rows[1] + rows[2]) / 3
    hxx = (columns[0] - 2 * columns[1] + columns[2]) / 3
    hxy = (near[0, 0] - near[0, 2] - near[2, 0] + near[2, 2]) / 4
    det = hyy * hxx - hxy * hxy
    if not (hyy < 0 and det > 0):
        return 0.0, 0.0
    dy, dx = (hxy * gx - hxx * gy) / det, (hxy * gy - hyy * gx) / det
    return float(np.clip(dy, -1, 1)), float(np.clip(dx, -1, 1))
