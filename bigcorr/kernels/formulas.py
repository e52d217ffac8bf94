"""What is made of the five sums of a window: a correlation, or a structural similarity.

Eight windows at a time, as vectors, so that sums need not be put down in between. A formula has a
number, by which the kernel that takes the sums knows it, and `terms`, which it alone understands.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit
from bigcorr.kernels.vectors import fms, if_greater, root, splat

SUM, NCC, SSIM = 0, 1, 2
"""One of the five sums, the correlation and the index of structural similarity.

Terms of a sum: which one, of x, y, x y, x x and y y. Of the correlation: the centred over the raw
sum of squares down to which it is sound. Of the index: its two constants, of the comparison of
means and of the comparison of variances; the pixels of a window over the sum of its weights; 1
where variances are divided by the number of pixels less one, else 0; and the offsets of x and y.
"""

AGAIN = 2.0
"""Stands, in a map of correlations, for a window that has to be worked out in another way."""


@njit(cache=True, nogil=True, forceinline=True)
def evaluate(
    formula: int, terms: NDArray[np.float64], n: Any, x: Any, y: Any, xy: Any, xx: Any, yy: Any
) -> Any:
    """The value of windows of weight `n` from their sums, all vectors."""
    if formula == NCC:
        return _correlate(terms, n, x, y, xy, xx, yy)
    if formula == SSIM:
        return _compare(terms, n, x, y, xy, xx, yy)
    if terms[0] < 2:
        return x if terms[0] == 0 else y
    if terms[0] == 2:
        return xy
    return xx if terms[0] == 3 else yy


@njit(cache=True, nogil=True, forceinline=True)
def _centred(n: Any, sum_ab: Any, sum_a: Any, sum_b: Any) -> Any:
    """``n * sum_ab - sum_a * sum_b``, rounded once where the two terms are close."""
    p = n * sum_ab
    q = sum_a * sum_b
    return (p - q) + (fms(n, sum_ab, p) - fms(sum_a, sum_b, q))


@njit(cache=True, nogil=True, forceinline=True)
def _correlate(
    terms: NDArray[np.float64], n: Any, x: Any, y: Any, xy: Any, xx: Any, yy: Any
) -> Any:
    """0 where a sum of squares is 0; `AGAIN`, or 0 where `terms` is 0, where it is not sound."""
    nothing, one, floor = splat(0.0), splat(1.0), splat(terms[0])
    centred_x, centred_y = _centred(n, xx, x, x), _centred(n, yy, y, y)
    r = _centred(n, xy, x, y) / root(centred_x * centred_y)
    r = if_greater(r, one, one, r)
    r = if_greater(nothing - one, r, nothing - one, r)
    other = if_greater(floor, nothing, splat(AGAIN), nothing)
    other = if_greater(xx, nothing, other, nothing)
    other = if_greater(yy, nothing, other, nothing)
    r = if_greater(centred_x, floor * (n * xx), r, other)
    return if_greater(centred_y, floor * (n * yy), r, other)


@njit(cache=True, nogil=True, forceinline=True)
def _compare(terms: NDArray[np.float64], w: Any, x: Any, y: Any, xy: Any, xx: Any, yy: Any) -> Any:
    """Its two terms are 1, their limit, where both sides are 0; NaN where there is no variance."""
    c1, c2, sample = splat(terms[0]), splat(terms[1]), splat(terms[3])
    nothing, one, two = splat(0.0), splat(1.0), splat(2.0)
    n = w * splat(terms[2])
    mean_x, mean_y = splat(terms[4]) + x / w, splat(terms[5]) + y / w
    variance = if_greater(n, sample, n / ((n - sample) * (w * w)), splat(np.nan))
    # Twice the covariance and the sum of the variances: of an image with itself, the same bits.
    both = two * (w * xy - x * y) * variance
    each = (w * (xx + yy) - (x * x + y * y)) * variance
    each = if_greater(nothing, each, nothing, each)
    top, bottom = two * (mean_x * mean_y) + c1, (mean_x * mean_x + mean_y * mean_y) + c1
    top2, bottom2 = both + c2, each + c2
    top = if_greater(bottom, nothing, top, one) * if_greater(bottom2, nothing, top2, one)
    bottom = if_greater(bottom, nothing, bottom, one) * if_greater(bottom2, nothing, bottom2, one)
    return top / bottom
