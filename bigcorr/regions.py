"""`peak_regions`: where an image is brightest, as numbered regions; the same whatever the chunks.

The level is an exact order statistic and numbers follow the regions' first pixels, so that
neither depends on how the array is cut.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.operators import Layer, missing_pixels, real_number
from bigcorr.wiring import unwrap, wrap

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

    Raster = TypeVar("Raster", NDArray[Any], da.Array, xr.DataArray)

_DIGIT = 16  # bits of a value that one pass over the pixels settles


def peak_regions(
    a: Raster,
    q: float = 0.95,
    *,
    nonzero: bool = False,
    connectivity: int = 1,
    nodata: float | None = None,
) -> Raster:
    """Connected regions of the pixels that are not below a quantile of the image.

    Parameters
    ----------
    a : ndarray, dask array or DataArray, shape (y, x)
    q : float
        The quantile, from 0 to 1, of the valid pixels.
    nonzero : bool
        Of those that are not 0, which suits sparse counts; the others are in no region.
    connectivity : {1, 2}
        1: pixels that share an edge are connected; 2: or a corner.
    nodata : float, optional
        As for `bigcorr.ncc`. Missing pixels are in no region.

    Returns
    -------
    the same kind and shape as `a`, int32
        1, 2 ... in the order of the regions' first pixels, row by row; 0 elsewhere. Lazy for dask
        arrays, but for the quantile: it is found at once, in a pass over the pixels for every 16
        bits of their dtype.

    Raises
    ------
    InputError
        A `ValueError`: there are not two dimensions, the dtype is not one of real numbers, `q` or
        `connectivity` is none that is taken.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> bc.peak_regions(np.array([[9, 0, 0], [8, 0, 7], [0, 0, 9]]), 0.6)
    array([[1, 0, 0],
           [1, 0, 2],
           [0, 0, 2]], dtype=int32)
    """
    raster = unwrap("a", a, nodata)
    if raster.data.ndim != 2:
        raise InputError(f"a: got shape {raster.data.shape}, takes one image (y, x)")
    share = real_number("q", q, "a quantile from 0 to 1")
    if not 0 <= share <= 1:
        raise InputError(f"q: got {share:g}, takes a quantile from 0 to 1")
    if connectivity not in (1, 2):
        raise InputError(f"connectivity: got {connectivity!r}, takes 1 or 2")
    structure = np.ones((3, 3), int) if connectivity == 2 else None
    options: dict[str, Any] = {"nodata": raster.nodata, "nonzero": nonzero}
    if not raster.lazy:
        from scipy import ndimage

        usable = _usable(raster.data, raster.mask, **options)
        values = raster.data[usable]
        if values.size:
            k = math.ceil(share * (values.size - 1))
            usable &= raster.data >= np.partition(values, k)[k]
        labels = _renumbered(ndimage.label(usable, structure)[0])
        return wrap(labels, a, "peak_regions")
    import dask.array as da
    from dask_image.ndmeasure import label

    data = da.asarray(raster.data)
    parts = [data]
    if raster.mask is not None:
        parts.append(da.asarray(raster.mask).rechunk(data.chunks))
    level = _order_statistic(parts, share, options)
    peaks = da.map_blocks(_peaks, *parts, level=level, **options, dtype=bool)
    labels, _ = label(peaks, structure)
    return wrap(_renumbered_lazily(labels), a, "peak_regions")


def _usable(
    pixels: NDArray[Any],
    mask: NDArray[np.bool_] | None = None,
    *,
    nodata: float | None,
    nonzero: bool,
) -> NDArray[np.bool_]:
    missing = missing_pixels(Layer(pixels, nodata, mask))
    usable = np.ones(pixels.shape, bool) if missing is None else ~missing
    return usable & (pixels != 0) if nonzero else usable


def _peaks(
    pixels: NDArray[Any], mask: NDArray[np.bool_] | None = None, *, level: Any, **options: Any
) -> NDArray[np.bool_]:
    usable = _usable(pixels, mask, **options)
    return usable & (pixels >= level) if level is not None else usable


def _order_statistic(parts: list[da.Array], share: float, options: dict[str, Any]) -> Any:
    """The value that `share` of the usable ones lie below, digit by digit; None of none."""
    import dask.array as da

    dtype = parts[0].dtype
    digit = min(_DIGIT, 8 * dtype.itemsize)
    prefix, k = 0, -1
    for shift in range(8 * dtype.itemsize - digit, -1, -digit):
        chunks = tuple((1,) * n for n in parts[0].numblocks)
        counts = da.map_blocks(
            _digits,
            *parts,
            prefix=prefix,
            shift=shift,
            digit=digit,
            **options,
            new_axis=2,
            chunks=(*chunks, (2**digit,)),
            dtype=np.int64,
            meta=np.empty((0, 0, 0), np.int64),
        )
        below = np.cumsum(counts.sum(axis=(0, 1)).compute())
        if k < 0:
            if below[-1] == 0:
                return None
            k = math.ceil(share * (int(below[-1]) - 1))
        found = int(np.searchsorted(below, k, side="right"))
        k -= int(below[found - 1]) if found else 0
        prefix = (prefix << digit) | found
    return _value(prefix, dtype)


def _digits(
    *parts: NDArray[Any], prefix: int, shift: int, digit: int, **options: Any
) -> NDArray[np.int64]:
    """How often each digit follows the prefix among the keys of a block."""
    keys = _keys(parts[0][_usable(*parts, **options)])
    keys = keys >> np.uint64(shift)
    keys = keys[keys >> np.uint64(digit) == prefix] & np.uint64(2**digit - 1)
    return np.bincount(keys.astype(np.intp), minlength=2**digit)[None, None]


def _keys(values: NDArray[Any]) -> NDArray[np.uint64]:
    """Unsigned numbers in the order of the values."""
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    bits = 8 * values.dtype.itemsize
    keys = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}").astype(np.uint64)
    top = np.uint64(1 << (bits - 1))
    if values.dtype.kind == "i":
        return keys ^ top
    if values.dtype.kind == "f":
        return np.where(keys & top, ~keys & np.uint64(2**bits - 1), keys | top)
    return keys


def _value(key: int, dtype: np.dtype[Any]) -> Any:
    """The value of a key."""
    bits = 8 * dtype.itemsize
    top = 1 << (bits - 1)
    if dtype.kind == "i":
        key ^= top
    elif dtype.kind == "f":
        key = key ^ top if key & top else ~key & (2**bits - 1)
    return np.array(key, f"u{dtype.itemsize}").view(dtype.newbyteorder("="))[()]


def _renumbered(labels: NDArray[Any]) -> NDArray[np.int32]:
    return _lookup(labels, _order([_firsts(labels, (0, 0), labels.shape[1])]))


def _renumbered_lazily(labels: da.Array) -> da.Array:
    """Labels in the order of their first pixels."""
    import dask

    starts = [np.cumsum([0, *axis[:-1]]).tolist() for axis in labels.chunks]
    firsts = [
        dask.delayed(_firsts)(block, (starts[0][i], starts[1][j]), labels.shape[1])
        for (i, j), block in np.ndenumerate(labels.to_delayed())
    ]
    number = dask.delayed(_order)(firsts)
    return labels.map_blocks(_lookup, number=number, meta=np.empty((0, 0), np.int32))


def _firsts(
    labels: NDArray[Any], start: tuple[int, int], width: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Labels in a block, and where on the raster each is first met."""
    found, at = np.unique(labels, return_index=True)
    y, x = np.divmod(at, labels.shape[1])
    return found, (y + start[0]) * width + x + start[1]


def _order(firsts: list[tuple[NDArray[Any], NDArray[np.int64]]]) -> NDArray[np.int32]:
    """New numbers by old ones."""
    found = np.concatenate([labels for labels, _ in firsts])
    at = np.concatenate([places for _, places in firsts])
    first = np.full(int(found.max(initial=0)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, found, at)
    first[0] = -1  # what is in no region stays so
    number = np.empty(first.size, np.int32)
    number[np.argsort(first, kind="stable")] = np.arange(first.size)
    return number


def _lookup(labels: NDArray[Any], number: NDArray[np.int32]) -> NDArray[np.int32]:
    return number[labels]
