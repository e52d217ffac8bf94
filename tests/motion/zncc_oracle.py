"""The zero-mean normalised correlation of windows by its formula, one shift at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def surface(
    reference: Array,
    moving: Array,
    corner: tuple[int, int],
    window: int,
    search: int,
    taps: Array | None = None,
    min_valid: float = 0.5,
) -> Array:
    """Correlation of the window that begins at `corner` at every shift; NaN where too few count."""
    weights = np.ones((window, window)) if taps is None else np.outer(taps, taps)
    y, x = corner
    chip = reference[y : y + window, x : x + window]
    far = np.pad(moving, search, constant_values=np.nan)
    side = 2 * search + 1
    out = np.full((side, side), np.nan)
    for i in range(side):
        for j in range(side):
            other = far[y + i : y + i + window, x + j : x + j + window]
            w = np.where(np.isfinite(chip) & np.isfinite(other), weights, 0.0)
            if w.sum() < (min_valid - 1e-9) * weights.sum() or w.sum() == 0:
                continue
            a, b = (np.where(w > 0, part, 0.0) for part in (chip, other))
            a = a - (w * a).sum() / w.sum()
            b = b - (w * b).sum() / w.sum()
            aa, bb, ab = (w * a * a).sum(), (w * b * b).sum(), (w * a * b).sum()
            flat = np.ptp(chip[w > 0]) == 0 or np.ptp(other[w > 0]) == 0
            out[i, j] = 0.0 if flat else ab / np.sqrt(aa * bb)
    return out


def peak(scores: Array, subpixel: str = "quadratic") -> tuple[float, float, float, float]:
    """(dy, dx, score, ratio) of a surface; NaN where its peak is on the border or beside NaN."""
    nothing = (np.nan,) * 4
    if not np.isfinite(scores).any():
        return nothing
    side = len(scores)
    i, j = np.unravel_index(np.nanargmax(scores), scores.shape)
    if min(i, j) < 1 or max(i, j) > side - 2 or scores[i, j] <= 0:
        return nothing
    near = scores[i - 1 : i + 2, j - 1 : j + 2]
    if not np.isfinite(near).all():
        return nothing
    rest = scores.copy()
    rest[i - 1 : i + 2, j - 1 : j + 2] = np.nan
    second = np.nan if not np.isfinite(rest).any() else np.nanmax(rest)
    ratio = scores[i, j] / second if second > 0 else np.where(np.isnan(second), np.nan, np.inf)
    dy = dx = 0.0
    if subpixel != "none":
        if subpixel == "gaussian" and near.min() > 0:
            near = np.log(near)
        gradient = np.array([near[2, 1] - near[0, 1], near[1, 2] - near[1, 0]]) / 2
        xy = (near[2, 2] - near[2, 0] - near[0, 2] + near[0, 0]) / 4
        yy, xx = near[2, 1] - 2 * near[1, 1] + near[0, 1], near[1, 2] - 2 * near[1, 1] + near[1, 0]
        hessian = np.array([[yy, xy], [xy, xx]])
        if np.linalg.det(hessian) > 1e-7 * np.abs(hessian).max() ** 2:
            step = -np.linalg.solve(hessian, gradient)
        else:
            step = np.full(2, np.inf)
        if np.abs(step).max() > 1:
            step = np.array(
                [-g / h if h < 0 else 0.0 for g, h in zip(gradient, (yy, xx), strict=True)]
            )
        dy, dx = step
    return i - side // 2 + dy, j - side // 2 + dx, scores[i, j], float(ratio)


def displacement(
    reference: Array,
    moving: Array,
    window: int,
    search: int,
    step: int,
    taps: Array | None = None,
    min_valid: float = 0.5,
    subpixel: str = "quadratic",
) -> Array:
    """(4, n, m): dy, dx, score and ratio at all nodes."""
    rows, columns = ((size - window) // step + 1 for size in reference.shape)
    out = np.empty((4, rows, columns))
    for i in range(rows):
        for j in range(columns):
            scores = surface(
                reference, moving, (i * step, j * step), window, search, taps, min_valid
            )
            out[:, i, j] = peak(scores, subpixel)
    return out
