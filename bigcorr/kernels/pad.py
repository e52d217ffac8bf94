"""A padded tile gathered from an array that holds its part of the raster.

What lies outside the raster is folded in by indices of the global grid, so every tile sees the
same pixels there, also where the halo is larger than the array, a chunk or the raster.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.scratch import kept_image
from bigcorr.tiles import Box, Shape, nearest_indices, reflect_indices

Boundary = Literal["reflect", "nearest", "nan"]


def halo_box(box: Box, halo: Shape, shape: Shape) -> Box:
    """The part of the raster that `gather` needs: the box and its halo, clipped to the raster.

    A reflected index never leaves it: a pixel k steps outside mirrors one less than k inside.
    """
    return box.padded(halo[0], halo[0], halo[1], halo[1]).clipped(shape)


def gather(
    array: NDArray[Any],
    held: Box,
    box: Box,
    halo: Shape,
    shape: Shape,
    boundary: Boundary,
    room: str | None = None,
) -> NDArray[Any]:
    """The tile `box` with its halo.

    Parameters
    ----------
    array : ndarray, shape ``held.shape``
        Pixels of the raster in the box `held`, which holds ``halo_box(box, halo, shape)``.
    box : Box
        The tile, on the raster.
    halo : (int, int)
        Pixels to add on each side, (y, x).
    shape : (int, int)
        The raster's.
    boundary : {"reflect", "nearest", "nan"}
        What stands outside the raster: the reflection of scipy's "reflect", or the nearest pixel.
        "nan" gives the nearest too; `outside` says where.
    room : str, optional
        Name of the thread's kept memory to gather in; it holds until the next tile.

    Returns
    -------
    ndarray, shape (h + 2 halo_y, w + 2 halo_x)
        A part of `array` itself where the padded tile lies inside the raster.

    Examples
    --------
    >>> row = np.array([[1, 2, 3]])
    >>> gather(row, Box(0, 1, 0, 3), Box(0, 1, 0, 3), (0, 2), (1, 3), "reflect")
    array([[2, 1, 1, 2, 3, 3, 2]])
    """
    padded = box.padded(halo[0], halo[0], halo[1], halo[1])
    inside = padded.clipped(shape)
    source = array[inside.relative_to(held).slices]
    if inside == padded:
        return source
    fold = nearest_indices if boundary == "nan" else _FOLDS[boundary]
    rows = fold(padded.y0, padded.y1, shape[0]) - inside.y0
    columns = fold(padded.x0, padded.x1, shape[1]) - inside.x0
    at = inside.relative_to(padded)
    if room is None:
        out = np.empty(padded.shape, array.dtype)
    else:
        out = kept_image(padded.shape, array.dtype, room)
    out[at.slices] = source
    for side in (slice(0, at.x0), slice(at.x1, None)):
        out[at.y0 : at.y1, side] = source[:, columns[side]]
    for side in (slice(0, at.y0), slice(at.y1, None)):
        out[side] = out[rows[side] + at.y0]
    return out


_FOLDS = {"reflect": reflect_indices, "nearest": nearest_indices}


def outside(box: Box, halo: Shape, shape: Shape) -> NDArray[np.bool_] | None:
    """Where the padded tile lies outside the raster; None where it does nowhere."""
    padded = box.padded(halo[0], halo[0], halo[1], halo[1])
    inside = padded.clipped(shape)
    if inside == padded:
        return None
    out = np.ones(padded.shape, bool)
    out[inside.relative_to(padded).slices] = False
    return out
