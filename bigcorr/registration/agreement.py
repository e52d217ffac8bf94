"""How alike two images are where they overlap after a shift: one correlation over all its pixels.

The moved image is made a strip of rows at a time and never held.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.operators import Layer, compute_box
from bigcorr.operators_shift import Shift
from bigcorr.tiles import Box

_ROWS = 512


def overlap_score(
    reference: NDArray[Any], moving: NDArray[Any], shift: tuple[float, float]
) -> float:
    """Correlation in [-1, 1] of `reference` and the moved image where both have pixels.

    0 where either is constant there, NaN where they do not overlap.
    """
    h, w = reference.shape
    op = Shift(shift).within((h, w))
    layer = Layer(moving)
    centre = float(reference[h // 2, w // 2]), float(moving[h // 2, w // 2])
    count, sums, products = 0, np.zeros(2), np.zeros(3)
    for y0 in range(0, h, _ROWS):
        box = Box(y0, min(y0 + _ROWS, h), 0, w)
        moved = compute_box(op, [layer], Box(0, h, 0, w), box, (h, w))
        valid = np.isfinite(moved)
        a = reference[box.slices][valid].astype(np.float64) - centre[0]
        b = moved[valid].astype(np.float64) - centre[1]
        count += a.size
        sums += a.sum(), b.sum()
        products += a @ a, a @ b, b @ b
    if count == 0:
        return math.nan
    ma, mb = sums / count
    aa, ab, bb = products / count
    va, vb = aa - ma * ma, bb - mb * mb
    if min(va, vb) <= 1e-14 * max(aa, bb):
        return 0.0
    return float(np.clip((ab - ma * mb) / math.sqrt(va * vb), -1, 1))
