"""Comparison of histograms of pairs of channels, bin by bin in a fixed order.

The sum of a pair runs over the bins alone, so that its bits do not depend on the channels beside
it, and is the same both ways. Arrays in, arrays out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit

KINDS = ("product", "chi2", "least", "entropy", "square")


@njit(cache=True, nogil=True, error_model="numpy")
def compare_histograms(
    a: NDArray[np.float64], b: NDArray[np.float64], kind: int, out: NDArray[np.float64]
) -> None:
    """Sums over bins of a term of two densities.

    Parameters
    ----------
    a : (n, bins) float64
    b : (bins, m) float64
    kind : its place in `KINDS`: ``p q``; ``(p - q)^2 / (p + q)``; ``min(p, q)``;
        ``p log(p / m) + q log(q / m)`` with m their mean; ``(p - q)^2``
    out : (n, m)
    """
    out[:] = 0.0
    for i in range(a.shape[0]):
        line = out[i]
        for k in range(a.shape[1]):
            p, other = a[i, k], b[k]
            if kind == 0:
                for j in range(line.size):
                    line[j] += p * other[j]
            elif kind == 1:
                for j in range(line.size):
                    both = p + other[j]
                    line[j] += (p - other[j]) ** 2 / (both if both > 0 else 1.0)
            elif kind == 2:
                for j in range(line.size):
                    line[j] += min(p, other[j])
            elif kind == 3:
                for j in range(line.size):
                    q = other[j]
                    mean = (p + q) / 2
                    own = p * np.log(p / mean) if p > 0 else 0.0
                    line[j] += own + (q * np.log(q / mean) if q > 0 else 0.0)
            else:
                for j in range(line.size):
                    line[j] += (p - other[j]) ** 2
