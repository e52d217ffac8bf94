"""Phase correlation of two whole images, as scikit-image's ``phase_cross_correlation`` has it.

It is kept to compare with: on images without the finest structure its shifts lean towards whole
pixels, which `translation` does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft


def phase_shift(
    reference: NDArray[Any], moving: NDArray[Any], upsample: int
) -> tuple[float, float]:
    """Shift (dy, dx) on a grid of ``1 / upsample`` pixels; both images are held with transforms."""
    shape = reference.shape
    product = fft.fft2(np.asarray(reference, np.float64))
    product *= fft.fft2(np.asarray(moving, np.float64)).conj()
    product /= np.maximum(np.abs(product), 100 * np.finfo(np.float64).eps)
    peak = np.unravel_index(int(np.abs(fft.ifft2(product)).argmax()), shape)
    shift = [float(k - n if k > n // 2 else k) for k, n in zip(peak, shape, strict=True)]
    if upsample > 1:
        size = int(np.ceil(1.5 * upsample))
        steps = (np.arange(size) - size // 2) / upsample
        places = [steps + at for at in shift]
        y, x = (
            np.exp(2j * np.pi * np.outer(place, fft.fftfreq(n)))
            for place, n in zip(places, shape, strict=True)
        )
        fine = np.abs(y @ product @ x.T)
        peak = np.unravel_index(int(fine.argmax()), fine.shape)
        shift = [float(place[k]) for place, k in zip(places, peak, strict=True)]
    dy, dx = (0.0 if n == 1 else at for at, n in zip(shift, shape, strict=True))
    return dy, dx
