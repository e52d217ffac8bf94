"""Arrays of three kinds through a per-pixel operator: NumPy at once, dask lazily, labels kept.

Which operator and what its parameters mean lives in `maps` and `operators`; tiles that are read
straight from storage in `run.map_job`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.kernels.pad import halo_box
from bigcorr.operators import (
    Layer,
    Operator,
    check_dtype,
    compute_box,
    offset_of,
    offset_positions,
)
from bigcorr.tiles import Box, Shape, grid

if TYPE_CHECKING:
    import dask.array as da

_BLOCK = 1024
"""Side of the blocks by which the pixels of a map are summed."""


class Raster(NamedTuple):
    """A raster as a user passed it, taken apart.

    data : NumPy or dask array, (y, x) or (channel, y, x).
    nodata : declared value of missing pixels, or None.
    mask : (y, x) bool array, True where pixels are valid, or None.
    labelled : whether it came as a DataArray.
    """

    data: Any
    nodata: float | None
    mask: Any
    labelled: bool

    @property
    def shape(self) -> Shape:
        return self.data.shape[-2], self.data.shape[-1]

    @property
    def lazy(self) -> bool:
        return any(hasattr(x, "dask") for x in (self.data, self.mask))


def unwrap(name: str, x: Any, nodata: float | None) -> Raster:
    """Take an argument apart, or raise an `InputError` that names it."""
    mask, labelled = None, hasattr(x, "dims") and hasattr(x, "coords")
    if labelled:
        if not hasattr(x, "data"):
            raise InputError(f"{name}: got a Dataset with {list(x)}, takes one DataArray of them")
        if nodata is None:
            nodata = x.attrs.get("nodata", x.attrs.get("_FillValue", x.encoding.get("_FillValue")))
        stored = x.coords.get("mask")
        if stored is not None and stored.dims == x.dims[-2:]:
            mask = stored.data.astype(bool)
        x = x.data
    if not hasattr(x, "dask"):
        x = np.asarray(x)
    check_dtype(x.dtype, name)
    if x.ndim not in (2, 3):
        raise InputError(
            f"{name}: got {x.ndim} dimensions of shape {x.shape}, takes (y, x) or (channel, y, x)"
        )
    if any(size == 0 or size != size for size in x.shape):
        raise InputError(f"{name}: got shape {x.shape}, takes a raster with a known size")
    if nodata is not None:
        try:
            nodata = float(nodata)
        except (TypeError, ValueError):
            raise InputError(f"nodata: got {nodata!r}, takes a number") from None
    return Raster(x, nodata, mask, labelled)


def wrap(data: Any, like: Any, name: str | None = None) -> Any:
    """The result as what came in: a DataArray keeps its coordinates and attributes."""
    if not hasattr(like, "dims"):
        return data
    import xarray as xr

    attrs = {key: like.attrs[key] for key in like.attrs if key not in ("nodata", "_FillValue")}
    return xr.DataArray(data, like.coords, like.dims, name or like.name, attrs)


def stack(planes: Sequence[Any], like: Any, dim: str, values: Sequence[Any]) -> Any:
    """Results for several values of a parameter along a new first dimension, labelled as `wrap`.

    A DataArray's new dimension has the values as its coordinate; where they are pairs (y, x), the
    two coordinates ``<dim>_y`` and ``<dim>_x``.
    """
    if any(hasattr(plane, "dask") for plane in planes):
        import dask.array as da

        data = da.stack(planes)
    else:
        data = np.stack(planes)
    if not hasattr(like, "dims"):
        return data
    labelled = wrap(planes[0], like).expand_dims(dim).isel({dim: [0] * len(planes)})
    if any(isinstance(value, tuple) for value in values):
        pairs = [value if isinstance(value, tuple) else (value, value) for value in values]
        coords = {
            f"{dim}_{axis}": (dim, [pair[k] for pair in pairs]) for k, axis in enumerate("yx")
        }
    else:
        coords = {dim: (dim, list(values))}
    return labelled.copy(data=data).assign_coords(coords)


def apply(op: Operator, rasters: Sequence[Raster]) -> Any:
    """The operator's result on rasters of one shape, channel by channel where there are several."""
    if any(raster.lazy for raster in rasters):
        return _apply_lazily(op, rasters)
    shape = rasters[0].shape
    whole = Box(0, shape[0], 0, shape[1])
    offsets = None
    if op.needs_offset(*(raster.data.dtype for raster in rasters)):
        at = np.ix_(offset_positions(shape[0]), offset_positions(shape[1]))
        offsets = [
            _offsets(r.data[(..., *at)], None if r.mask is None else r.mask[at], nodata=r.nodata)
            for r in rasters
        ]
    return _apply_to_box(op, rasters, offsets, whole, whole, shape)


def apply_to_planes(
    function: Callable[[Layer], NDArray[Any]], dtype: np.dtype[Any], raster: Raster
) -> Any:
    """A function of whole planes on each channel; for a dask array, each channel as one block."""

    def planes(data: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> NDArray[Any]:
        out = np.empty(data.shape, dtype)
        for index in np.ndindex(data.shape[:-2]):
            out[index] = function(Layer(data[index], raster.nodata, mask))
        return out

    parts = [raster.data] if raster.mask is None else [raster.data, raster.mask]
    if not raster.lazy:
        return planes(*parts)
    import dask.array as da

    data = da.asarray(parts[0])
    whole = data.rechunk((*[1] * (data.ndim - 2), -1, -1))
    others = [da.asarray(part).rechunk(-1) for part in parts[1:]]
    return da.map_blocks(planes, whole, *others, dtype=dtype).rechunk(data.chunks)


def mean_inside(data: Any, border: int) -> Any:
    """Mean of each plane without a border, leaving NaN out; lazy for a dask array.

    Sums are taken over blocks of a fixed size and added exactly, so that chunks do not matter.
    """
    h, w = data.shape[-2:]
    inner = data[..., border : h - border, border : w - border]
    if hasattr(data, "dask"):
        import dask
        import dask.array as da

        blocks = inner.rechunk((*[-1] * (data.ndim - 2), _BLOCK, _BLOCK)).to_delayed().ravel()
        sums = [dask.delayed(_sum_and_count)(block) for block in blocks]
        return da.from_delayed(dask.delayed(_mean_of)(sums), data.shape[:-2], np.float64)
    return _mean_of(
        [_sum_and_count(inner[..., *part.slices]) for part in grid(inner.shape[-2:], _BLOCK)]
    )


def _sum_and_count(block: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    valid = np.isfinite(block)
    known = np.where(valid, block, 0).reshape(*block.shape[:-2], -1)
    return known.sum(axis=-1, dtype=np.float64), valid.sum(axis=(-2, -1))


def _mean_of(
    sums: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]],
) -> NDArray[np.float64]:
    totals, counts = (np.array(part) for part in zip(*sums, strict=True))
    count = counts.sum(axis=0)
    out = np.full(count.shape, np.nan)
    for index in np.ndindex(count.shape):
        if count[index]:
            out[index] = math.fsum(totals[:, *index]) / count[index]
    return out


def _apply_lazily(op: Operator, rasters: Sequence[Raster]) -> da.Array:
    """Each block of the result from a block and its neighbours, by the parts of `map_overlap`.

    `overlap` without a boundary hands each block the halo that lies on the raster. What lies
    beyond it is folded in by global indices when the block is computed.
    """
    import dask.array as da

    shape = rasters[0].shape
    first = da.asarray(rasters[0].data)
    lead = first.chunks[:-2]
    chunks = [
        _wide_enough(axis, radius) for axis, radius in zip(first.chunks[-2:], op.halo, strict=True)
    ]
    depth = [radius if len(axis) > 1 else 0 for axis, radius in zip(chunks, op.halo, strict=True)]
    needs_offset = op.needs_offset(*(raster.data.dtype for raster in rasters))
    blocks: list[da.Array] = []
    for raster in rasters:
        parts = [da.asarray(part) for part in (raster.data, raster.mask) if part is not None]
        for part in parts:
            before = lead if part.ndim == first.ndim else ()
            part = part.rechunk((*before, *chunks))
            width = (*[0] * len(before), *depth)
            blocks.append(da.overlap.overlap(part, width, "none", allow_rechunk=False))
        if needs_offset:
            few = [_few(part, lead if part.ndim == first.ndim else ()) for part in parts]
            blocks.append(
                da.map_blocks(
                    _offsets,
                    *few,
                    nodata=raster.nodata,
                    dtype=np.float64,
                    chunks=(*lead, (1,), (1,)),
                    meta=np.empty((0,) * first.ndim),
                )
            )
    dtype = op.out_dtype(*(raster.data.dtype for raster in rasters))
    mapped = da.map_blocks(
        _block,
        *blocks,
        op=op,
        kinds=tuple((r.nodata, r.mask is not None, needs_offset) for r in rasters),
        starts=tuple(tuple(accumulate(axis, initial=0)) for axis in chunks),
        shape=shape,
        chunks=(*lead, *chunks),
        dtype=dtype,
        meta=np.empty((0,) * first.ndim, dtype),
    )
    return mapped.rechunk(first.chunks)


def _wide_enough(axis: tuple[int, ...], radius: int) -> tuple[int, ...]:
    """Chunks along an axis, merged where they are narrower than the halo."""
    from dask.array.overlap import ensure_minimum_chunksize

    return ensure_minimum_chunksize(radius, axis) if sum(axis) > radius else (sum(axis),)


def _few(data: da.Array, lead: tuple[tuple[int, ...], ...]) -> da.Array:
    """The pixels behind the offsets, of all places in one chunk."""
    y, x = (offset_positions(size) for size in data.shape[-2:])
    return data[..., y, :][..., x].rechunk((*lead, -1, -1))


def _offsets(
    pixels: NDArray[Any], mask: NDArray[np.bool_] | None = None, *, nodata: float | None
) -> NDArray[np.float64]:
    """One offset a channel, shape (channel, 1, 1) or (1, 1)."""
    lead = pixels.shape[:-2]
    values = [offset_of(Layer(pixels[index], nodata, mask)) for index in np.ndindex(lead)]
    return np.array(values, np.float64).reshape(*lead, 1, 1)


def _block(
    *parts: Any,
    op: Operator,
    kinds: tuple[tuple[float | None, bool, bool], ...],
    starts: tuple[tuple[int, ...], tuple[int, ...]],
    shape: Shape,
    block_id: tuple[int, ...],
) -> NDArray[Any]:
    """One block of the result, from its parts in the order that `_apply_lazily` put them in."""
    (i, j), (rows, columns) = block_id[-2:], starts
    box = Box(rows[i], rows[i + 1], columns[j], columns[j + 1])
    rest = iter(parts)
    rasters, offsets = [], []
    for nodata, has_mask, has_offset in kinds:
        data = next(rest)
        rasters.append(Raster(data, nodata, next(rest) if has_mask else None, False))
        if has_offset:
            offsets.append(next(rest))
    # The blocks hold the halo on the raster, and whole axes that were too short to cut.
    held = Box(*_span(rows, i, op.halo[0], shape[0]), *_span(columns, j, op.halo[1], shape[1]))
    return _apply_to_box(op, rasters, offsets or None, held, box, shape)


def _span(starts: tuple[int, ...], index: int, radius: int, size: int) -> tuple[int, int]:
    box = halo_box(Box(starts[index], starts[index + 1], 0, 1), (radius, 0), (size, 1))
    return box.y0, box.y1


def _apply_to_box(
    op: Operator,
    rasters: Sequence[Raster],
    offsets: Sequence[NDArray[np.float64]] | None,
    held: Box,
    box: Box,
    shape: Shape,
) -> NDArray[Any]:
    lead = rasters[0].data.shape[:-2]
    dtype = op.out_dtype(*(raster.data.dtype for raster in rasters))
    out = np.empty((*lead, *box.shape), dtype)
    for index in np.ndindex(lead):
        layers = [
            Layer(
                raster.data[index],
                raster.nodata,
                raster.mask,
                0.0 if offsets is None else float(offsets[k][index].item()),
            )
            for k, raster in enumerate(rasters)
        ]
        compute_box(op, layers, held, box, shape, out=out[index])
    return out
