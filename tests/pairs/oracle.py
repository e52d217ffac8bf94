"""Pair measures by their definitions: one pair at a time, float64, loops that can be read."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def blurred(stack, valid, sigma):
    """scipy's Gaussian of each channel, normalised over the valid pixels; 0 where not valid."""
    out = np.zeros(stack.shape)
    for c, channel in enumerate(np.asarray(stack, dtype=float)):
        values = np.where(valid[c], channel, 0.0)
        if sigma is not None:
            weight = ndimage.gaussian_filter(valid[c].astype(float), sigma)
            with np.errstate(invalid="ignore", divide="ignore"):
                values = ndimage.gaussian_filter(values, sigma) / weight
        out[c] = np.where(valid[c], values, 0.0)
    return out


def pearson(x, y, ok):
    a, b = x[ok], y[ok]
    if a.size < 2 or a.std() <= 1e-9 * abs(a).max() or b.std() <= 1e-9 * abs(b).max():
        return np.nan
    return np.corrcoef(a, b)[0, 1]


def cosine(x, y, ok):
    a, b = x[ok], y[ok]
    norm = np.sqrt((a @ a) * (b @ b))
    return a @ b / norm if norm > 0 else np.nan


def _window(x, ok, sd, floor):
    """A window's weighted unit vector, its k^2."""
    values = x[ok]
    centred = np.where(ok, x - values.mean(), 0.0)
    ss = float((centred**2).sum())
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return np.zeros_like(centred), 0.0
    k2 = ss / (ss + floor**2 * sd**2 * x.size)
    return centred * np.sqrt(k2 / ss), k2


def ncc(x, y, valid_x, valid_y, window, stride, floor, min_valid=0.5):
    sd_x, sd_y = x[valid_x].std(), y[valid_y].std()
    total = n_x = n_y = n_xy = 0.0
    least = max(2, np.ceil(min_valid * window**2))
    for i in range(0, x.shape[0] - window + 1, stride):
        for j in range(0, x.shape[1] - window + 1, stride):
            box = np.s_[i : i + window, j : j + window]
            if valid_x[box].sum() < least or valid_y[box].sum() < least:
                continue
            u, k_x = _window(x[box], valid_x[box], sd_x, floor)
            v, k_y = _window(y[box], valid_y[box], sd_y, floor)
            total += float((u * v).sum())
            n_x, n_y, n_xy = n_x + k_x, n_y + k_y, n_xy + k_x * k_y
    denominator = n_x + n_y - n_xy
    return total / denominator if denominator > 0 else 0.0


def matrices(stack, valid, sigma=None, window=8, stride=4, floor=1.0):
    """pearson, cosine and ncc of all pairs of a (channel, y, x) stack."""
    values = blurred(stack, valid, sigma)
    count = len(values)
    out = {name: np.empty((count, count)) for name in ("pearson", "cosine", "ncc")}
    for i in range(count):
        for j in range(count):
            ok = valid[i] & valid[j]
            out["pearson"][i, j] = pearson(values[i], values[j], ok)
            out["cosine"][i, j] = cosine(values[i], values[j], ok)
            out["ncc"][i, j] = ncc(values[i], values[j], valid[i], valid[j], window, stride, floor)
    return out
