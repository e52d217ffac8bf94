"""Gaussian blur of a whole plane by Fourier transform: edges wrap around, memory is not bounded.

The kernel is padded to the plane's size and rolled so that its peak lies at (0, 0); otherwise the
result would come out shifted. NumPy and SciPy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

DUST = 1e-12
"""Weights below this are the rounding of the transforms, not a valid pixel in reach."""


def blur_plane(
    plane: NDArray[Any],
    missing: NDArray[np.bool_] | None,
    taps_y: NDArray[np.float64],
    taps_x: NDArray[np.float64],
    *,
    fill: bool = False,
) -> NDArray[np.float64]:
    """Circular convolution of a plane with separable weights.

    Parameters
    ----------
    plane : ndarray, shape (h, w)
    missing : ndarray of bool, shape (h, w), or None
        Pixels without weight; NaN in the result unless `fill` and a valid one is in reach.
    taps_y, taps_x : ndarray of float64
        Weights along each axis, of odd length; what is longer than the plane wraps around it.

    Returns
    -------
    ndarray of float64, shape (h, w)
    """
    spectrum = _kernel_spectrum(plane.shape, taps_y, taps_x)
    if missing is None:
        return _convolve(plane, spectrum)
    total = _convolve(np.where(missing, 0, plane), spectrum)
    weight = _convolve(~missing, spectrum)
    out = np.full(total.shape, np.nan)
    np.divide(total, weight, out=out, where=weight > DUST)
    if not fill:
        out[missing] = np.nan
    return out


def _convolve(plane: NDArray[Any], spectrum: NDArray[np.complex128]) -> NDArray[np.float64]:
    return fft.irfft2(fft.rfft2(plane.astype(np.float64)) * spectrum, s=plane.shape)


def _kernel_spectrum(
    shape: tuple[int, ...], taps_y: NDArray[np.float64], taps_x: NDArray[np.float64]
) -> NDArray[np.complex128]:
    lines = []
    for taps, size in zip((taps_y, taps_x), shape, strict=True):
        line = np.zeros(size)
        np.add.at(line, (np.arange(taps.size) - taps.size // 2) % size, taps)
        lines.append(line)
    return fft.fft(lines[0])[:, None] * fft.rfft(lines[1])
