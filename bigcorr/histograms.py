"""Counting codes: over an array, over the tiles of a grid, over labelled regions.

Counts are whole numbers, so that they are the same however an array is chunked. A code beyond the
bins is the mark of what is missing and is left out. NumPy arrays are counted at once, dask arrays
block by block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.tiles import Shape

MOST_BINS = 2**24
"""Most bins of one histogram."""

_ROOM = 2**27  # cells of all histograms: 1 GiB
_BAND = 2**20  # pixels that are counted at a time


def check_room(name: str, lead: Shape | tuple[int, ...], regions: Sequence[int], bins: int) -> None:
    """Refuse more histograms than memory should hold."""
    number = math.prod(lead) * math.prod(regions)
    if number * bins > _ROOM:
        raise InputError(
            f"{name}: got {number:,} histograms of {bins:,} bins, {8 * number * bins / 2**30:.1f} "
            f"GiB; takes at most {_ROOM // bins:,} of them"
        )


def whole_counts(codes: Any, bins: int) -> Any:
    """Counts of an array (..., y, x) of codes: shape (..., bins)."""
    if not hasattr(codes, "dask"):
        return _whole(codes, bins=bins)[..., 0, 0, :]
    chunks = (*codes.chunks[:-2], *_ones(codes), (bins,))
    return _mapped(_whole, [codes], chunks, bins=bins).sum(axis=(-3, -2))


def tile_counts(codes: Any, tile: Shape, bins: int) -> Any:
    """Counts in each tile of a grid from the origin: shape (..., tile_y, tile_x, bins)."""
    if not hasattr(codes, "dask"):
        return _tiles(codes, tile=tile, bins=bins)
    sides = []
    for axis, side in zip(codes.chunks[-2:], tile, strict=True):
        step = max(1, max(axis) // side) * side
        sides.append(tuple(min(step, sum(axis) - at) for at in range(0, sum(axis), step)))
    codes = codes.rechunk((*codes.chunks[:-2], *sides))
    grid = [tuple(-(-n // t) for n in axis) for axis, t in zip(sides, tile, strict=True)]
    chunks = (*codes.chunks[:-2], *grid, (bins,))
    return _mapped(_tiles, [codes], chunks, tile=tile, bins=bins)


def label_counts(codes: Any, labels: Any, wanted: NDArray[np.int64], bins: int) -> Any:
    """Counts where `labels` (y, x) has each of the `wanted` values: shape (..., wanted, bins)."""
    row_of = np.full(int(wanted.max(initial=0)) + 3, wanted.size)  # below, 0 to the largest, above
    row_of[wanted + 1] = np.arange(wanted.size)
    options: dict[str, Any] = {"row_of": row_of, "rows": wanted.size, "bins": bins}
    if not hasattr(codes, "dask") and not hasattr(labels, "dask"):
        return _labelled(codes, labels, **options)[..., 0, 0, :, :]
    import dask.array as da

    codes = da.asarray(codes)
    labels = da.asarray(labels).rechunk(codes.chunks[-2:])
    chunks = (*codes.chunks[:-2], *_ones(codes), (wanted.size,), (bins,))
    return _mapped(_labelled, [codes, labels], chunks, **options).sum(axis=(-4, -3))


def density(counts: Any) -> Any:
    """Counts over their sum along the last axis, NaN where that is 0."""
    if not hasattr(counts, "dask"):
        return _density(counts)
    return counts.map_blocks(_density, dtype=np.float64)


def _density(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(axis=-1, keepdims=True)


def _ones(codes: Any) -> list[tuple[int, ...]]:
    """Chunks of one for each block along y and x."""
    return [(1,) * len(axis) for axis in codes.chunks[-2:]]


def _mapped(function: Any, blocks: list[Any], chunks: Any, **options: Any) -> Any:
    import dask.array as da

    dims = blocks[0].ndim
    return da.map_blocks(
        function,
        *blocks,
        chunks=chunks,
        new_axis=list(range(dims, len(chunks))),
        dtype=np.int64,
        meta=np.empty((0,) * len(chunks), np.int64),
        **options,
    )


def _whole(codes: NDArray[Any], *, bins: int) -> NDArray[np.int64]:
    out = np.zeros((*codes.shape[:-2], 1, 1, bins), np.int64)
    for index in np.ndindex(codes.shape[:-2]):
        for rows in _bands(codes.shape):
            out[(*index, 0, 0)] += _counted(codes[index][rows], 0, 1, bins)[0]
    return out


def _tiles(codes: NDArray[Any], *, tile: Shape, bins: int) -> NDArray[np.int64]:
    height, width = codes.shape[-2:]
    across = np.arange(width) // tile[1]
    ny, nx = -(-height // tile[0]), int(across[-1]) + 1
    out = np.empty((*codes.shape[:-2], ny, nx, bins), np.int64)
    for index in np.ndindex(*codes.shape[:-2], ny):
        rows = slice(index[-1] * tile[0], (index[-1] + 1) * tile[0])
        out[index] = _counted(codes[index[:-1]][rows], across, nx, bins)
    return out


def _labelled(
    codes: NDArray[Any],
    labels: NDArray[Any],
    *,
    row_of: NDArray[np.intp],
    rows: int,
    bins: int,
) -> NDArray[np.int64]:
    out = np.zeros((*codes.shape[:-2], 1, 1, rows, bins), np.int64)
    for band in _bands(codes.shape):
        place = row_of[np.clip(labels[band].astype(np.int64), -1, row_of.size - 2) + 1]
        for index in np.ndindex(codes.shape[:-2]):
            counts = _counted(codes[index][band], place, rows + 1, bins)
            out[(*index, 0, 0)] += counts[:rows]
    return out


def _bands(shape: tuple[int, ...]) -> list[slice]:
    """Rows that are counted at a time."""
    step = max(1, _BAND // shape[-1])
    return [slice(y, y + step) for y in range(0, shape[-2], step)]


def _counted(codes: NDArray[Any], row: Any, rows: int, bins: int) -> NDArray[np.int64]:
    """Counts of codes whose histogram is the given row, shape (rows, bins)."""
    key = np.minimum(codes.astype(np.intp), bins)
    key += np.asarray(row) * (bins + 1)
    counts = np.bincount(key.ravel(), minlength=rows * (bins + 1))
    return counts.reshape(rows, bins + 1)[:, :bins]
