"""From the last pass to what a user gets: the vectors of a box of nodes, and if they lead back.

Also the coordinates of nodes, and what to say where nothing at all was found.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.motion.grids import Flow
from bigcorr.motion.pixels import nanrange
from bigcorr.motion.plan import Pass
from bigcorr.motion.tile import Pair
from bigcorr.tiles import Box

NAMES = ("dy", "dx", "score", "peak_ratio")

MEANINGS = {
    "dy": "rows from a place in reference to where moving shows it",
    "dx": "columns from a place in reference to where moving shows it",
    "score": "correlation of the window with the best match in moving",
    "peak_ratio": "best correlation over the best outside the 3 x 3 shifts about it",
    "inconsistency": "pixels between a node and where going there and back again ends",
}


def vectors(flow: Flow, box: Box) -> NDArray[np.float32]:
    """(4, h, w): dy, dx, score and peak ratio at a box of the last pass's nodes."""
    out = flow.grid.read(box)[:4].copy()
    if flow.search is not None and flow.search.smooth:
        out[:2] = flow.values(box)
    out[:, np.isnan(out[2])] = np.nan
    return out


def with_way_back(flow: Flow, back: Flow, box: Box, most: float) -> NDArray[np.float32]:
    """The same with the inconsistency as a fifth number; vectors that exceed `most` are NaN."""
    found = vectors(flow, box)
    assert flow.spec is not None
    ys, xs = flow.spec.centres(box.y0, box.y1), flow.spec.centres(box.x0, box.x1)
    y = ys[:, None] + found[0].astype(np.float64)
    x = xs[None] + found[1].astype(np.float64)
    dy, dx = _at_places(back, y, x)
    distance = np.hypot(found[0] + dy, found[1] + dx).astype(np.float32)
    # Where there is no way back nothing is known against a vector, nor for it.
    found[:2, ~(distance <= most)] = np.nan
    return np.concatenate([found, distance[None]])


def _at_places(
    flow: Flow, y: NDArray[np.float64], x: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The vectors at places between nodes, bilinear; NaN where one of the four is."""
    spots = []
    for place, first, n in ((y, flow.first[0], flow.shape[0]), (x, flow.first[1], flow.shape[1])):
        at = (place - first) / flow.spacing
        at[~((at >= -0.5) & (at <= n - 0.5))] = np.nan
        spots.append(np.clip(at, 0, n - 1))
    known = np.isfinite(spots[0]) & np.isfinite(spots[1])
    nothing = np.full(y.shape, np.nan)
    if not known.any():
        return nothing, nothing.copy()
    low = [np.floor(np.where(known, at, 0.0)).astype(int) for at in spots]
    box = Box(
        *(int(edge) for at in low for edge in (at[known].min(), at[known].max() + 2))
    ).clipped(flow.shape)
    held = vectors(flow, box)[:2].astype(np.float64)
    total = np.zeros((2, *y.shape))
    for i in range(2):
        for j in range(2):
            p = np.clip(low[0] + i, box.y0, box.y1 - 1) - box.y0
            q = np.clip(low[1] + j, box.x0, box.x1 - 1) - box.x0
            part = [
                np.abs(1 - k - (at - low_)) for k, at, low_ in zip((i, j), spots, low, strict=True)
            ]
            weight = part[0] * part[1]
            total += np.where(weight > 0, weight * held[:, p, q], 0.0)
    dy, dx = np.where(known, total, np.nan)
    return dy, dx


def coordinates(
    spec: Pass, shape: tuple[int, int], stored: dict[str, NDArray[Any]]
) -> dict[str, tuple[str, NDArray[np.float64]]]:
    """``y`` and ``x`` of the nodes in pixels, and in the raster's own unit where it has one.

    Parameters
    ----------
    shape : (int, int)
        Of the raster.
    stored : dict
        ``y`` and ``x`` of the centres of the raster's pixels, as far as there are any.
    """
    found = {}
    for axis, n, nodes in zip("yx", shape, spec.nodes(shape), strict=True):
        places = spec.centres(0, nodes)
        found[axis] = (axis, places)
        values = np.asarray(stored.get(axis, ()))
        if values.shape == (n,) and values.dtype.kind in "iuf":
            found[f"{axis}_raster"] = (axis, np.interp(places, np.arange(n), values))
    return found


def explain_nothing(pair: Pair) -> None:
    """Raise an `InputError` if one of the images explains why nothing was found."""
    for name, image in (("reference", pair.reference), ("moving", pair.moving)):
        low, high = nanrange(image)
        if math.isnan(low):
            raise InputError(f"{name}: got missing pixels only, takes an image")
        if low == high:
            raise InputError(f"{name}: got one value in all pixels, takes an image with structure")
