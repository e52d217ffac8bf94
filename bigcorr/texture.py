"""Texture of arrays that may be larger than memory: `local_binary_pattern` and `lbp_histogram`.

Parameters are checked here, when a result is asked for. The arithmetic lives in `operators_lbp` and
`kernels.lbp`, counting in `histograms`, the three kinds of arrays in `wiring`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.histograms import (
    MOST_BINS,
    check_room,
    density,
    label_counts,
    tile_counts,
    whole_counts,
)
from bigcorr.kernels.lbp_circle import Method
from bigcorr.operators import whole_number
from bigcorr.operators_lbp import LocalBinaryPattern
from bigcorr.wiring import Raster as Taken
from bigcorr.wiring import apply, unwrap, wrap

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

    Raster = TypeVar("Raster", NDArray[Any], da.Array, xr.DataArray)

__all__ = ["lbp_histogram", "local_binary_pattern"]


def local_binary_pattern(
    a: Raster,
    points: int = 8,
    radius: float = 1.0,
    method: Method = "uniform",
    *,
    nodata: float | None = None,
) -> Raster:
    """Local binary pattern of every pixel: which samples on a circle are not below its centre.

    Equal to ``skimage.feature.local_binary_pattern`` of the whole image in every pixel, whatever
    the chunks.

    Parameters
    ----------
    a : ndarray, dask array or DataArray, shape (y, x) or (channel, y, x)
        Any real dtype of up to 64 bits; channels are taken one by one.
    points : int
        Samples on the circle, counter-clockwise from the right: 1 to 64, for "default" and "ror"
        at most 63 (scikit-image's overflow beyond 31), for "var" any number.
    radius : float
        Of the circle in pixels, > 0, at most 1024.
    method : {"default", "ror", "uniform", "nri_uniform", "var"}
        "default": the sum of ``2**i`` over the samples that are not below the centre. "ror": the
        least of its rotations. "uniform": the number of such samples where they are neighbours
        (at most two changes around the circle), else ``points + 1``. "nri_uniform": each pattern
        of neighbours by itself, ``points * (points - 1) + 3`` codes. "var": the variance of the
        samples, NaN where it is 0.
    nodata : float, optional
        A value that means missing, beside what is not finite. By default what the attribute
        ``nodata`` of a DataArray declares; its coordinate ``mask`` is honoured as well.

    Returns
    -------
    the same kind and shape as `a`
        float64 for "var", else the smallest unsigned type that holds the codes and, where pixels
        may be missing (floats, a nodata value or a mask), the mark of what is missing. Lazy for
        dask arrays and DataArrays that hold them.

    Raises
    ------
    InputError
        A `ValueError`: `points`, `radius` or `method` is none that is taken, there are fewer than
        two dimensions, the dtype is not one of real numbers.

    Notes
    -----
    A pixel is missing if it is itself or if any of the pixels that its samples are interpolated
    between is: it gets the largest value of the type (255 for up to 253 points of "uniform"), NaN
    for "var". A DataArray declares that value as its ``nodata``.

    Samples are interpolated bilinearly in float64, with 0 outside the raster. Rounding counts:
    inside a constant region a sample may come out below the centre by its last bit, in the same
    places as in scikit-image.

    References
    ----------
    T. Ojala, M. Pietikäinen, T. Mäenpää, "Multiresolution gray-scale and rotation invariant texture
    classification with local binary patterns", IEEE PAMI 24(7), 2002.

    T. Ahonen, A. Hadid, M. Pietikäinen, "Face description with local binary patterns", IEEE PAMI
    28(12), 2006.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> bc.local_binary_pattern(np.full((5, 5), 7, "uint8"), method="default")[:2]
    array([[193, 241, 241, 241, 112],
           [199, 255, 255, 255, 124]], dtype=uint8)
    """
    raster, op = _take(a, points, radius, method, nodata)
    codes = wrap(apply(op, [raster]), a, "lbp")
    missing = op.nodata(raster.data.dtype)
    if raster.labelled and missing is not None:
        codes.attrs["nodata"] = missing
    return codes


def lbp_histogram(
    a: Raster,
    points: int = 8,
    radius: float = 1.0,
    method: Method = "uniform",
    *,
    tile: int | tuple[int, int] | None = None,
    labels: Any = None,
    index: Sequence[int] | None = None,
    nodata: float | None = None,
) -> Raster:
    """How often each local binary pattern occurs: in the image, in each tile or in each region.

    Parameters
    ----------
    a : ndarray, dask array or DataArray, shape (y, x) or (channel, y, x)
    points, radius, method, nodata
        As for `local_binary_pattern`; "var" has no codes to count.
    tile : int or (int, int), optional
        A histogram for each tile of this size, (y, x), on a grid from the raster's origin; the last
        ones may be smaller. Samples reach over the seams.
    labels : ndarray, dask array or DataArray of integers, shape (y, x), optional
        A histogram for each region, as ``dask_image.ndmeasure.label``, ``scipy.ndimage.label`` or
        `peak_regions` number them.
    index : sequence of int, optional
        Which labels, in this order. By default 1 to the largest, for which lazy labels are
        computed at once.

    Returns
    -------
    the same kind as `a`, float64, shape ([channel,] [tile_y, tile_x | label,] code)
        Densities over the codes, ``points + 2`` of them for "uniform": each histogram sums to 1.
        Missing pixels (see `local_binary_pattern`) are left out; NaN where nothing is left.

    Raises
    ------
    InputError
        A `ValueError`: as for `local_binary_pattern`, or `labels` have another shape or are no
        integers, both `tile` and `labels` are given, or the histograms would take more than 1 GiB.

    References
    ----------
    As for `local_binary_pattern`.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> a = np.arange(64, dtype="uint8").reshape(8, 8) % 7
    >>> bc.lbp_histogram(a).round(3)
    array([0.141, 0.   , 0.125, 0.016, 0.109, 0.234, 0.   , 0.   , 0.156,
           0.219])
    >>> bc.lbp_histogram(a, tile=4).shape
    (2, 2, 10)
    """
    if method == "var":
        raise InputError("method: got 'var', which has no codes to count; takes another")
    raster, op = _take(a, points, radius, method, nodata)
    if op.codes > MOST_BINS:
        raise InputError(
            f"points: got {op.points} for {method!r}, 2**{op.points} codes; histograms take at "
            f"most 2**{MOST_BINS.bit_length() - 1}"
        )
    if labels is None and index is not None:
        raise InputError("index: got labels to count and no `labels`; takes both or neither")
    if labels is not None and tile is not None:
        raise InputError("labels: got both `tile` and `labels`; takes one of them")
    dims: tuple[str, ...] = ("code",)
    coords: dict[str, Any] = {"code": np.arange(op.codes)}
    lead = raster.data.shape[:-2]
    if tile is not None:
        sides = _tile(tile, raster.shape)
        grid = [-(-n // side) for n, side in zip(raster.shape, sides, strict=True)]
        check_room("tile", lead, grid, op.codes)
        counts = tile_counts(apply(op, [raster]), sides, op.codes)
        dims = ("tile_y", "tile_x", *dims)
    elif labels is not None:
        regions = _labels(labels, raster.shape)
        wanted = _wanted(index, regions)
        check_room("labels", lead, [wanted.size], op.codes)
        counts = label_counts(apply(op, [raster]), regions, wanted, op.codes)
        dims, coords = ("label", *dims), {"label": wanted, **coords}
    else:
        counts = whole_counts(apply(op, [raster]), op.codes)
    result = density(counts)
    return _named(result, a, dims, coords) if raster.labelled else result


def _named(result: Any, like: Any, dims: tuple[str, ...], coords: dict[str, Any]) -> Any:
    """Histograms as a DataArray that keeps the names of the channels."""
    import xarray as xr

    lead = like.dims[:-2]
    kept = {k: v for k, v in like.coords.items() if v.dims and set(v.dims) <= set(lead)}
    return xr.DataArray(result, {**kept, **coords}, (*lead, *dims), "lbp_histogram")


def _take(
    a: Any, points: int, radius: float, method: Method, nodata: float | None
) -> tuple[Taken, LocalBinaryPattern]:
    raster = unwrap("a", a, nodata)
    may_miss = raster.nodata is not None or raster.mask is not None
    op = LocalBinaryPattern(points, radius, method, may_miss)
    op.check(raster.data.dtype, shape=raster.shape)
    return raster, op


def _tile(tile: Any, shape: tuple[int, int]) -> tuple[int, int]:
    """The sides of a tile, no longer than the raster's."""
    takes = "a whole number of pixels of at least 1, or two of them as (y, x)"
    pair = tile if isinstance(tile, (tuple, list, np.ndarray)) else (tile, tile)
    if len(pair) != 2:
        raise InputError(f"tile: got {len(pair)} values, takes {takes}")
    y, x = (whole_number("tile", side, takes) for side in pair)
    if min(y, x) < 1:
        raise InputError(f"tile: got {tile}, takes {takes}")
    return min(y, shape[0]), min(x, shape[1])


def _labels(labels: Any, shape: tuple[int, int]) -> Any:
    """Labels as a NumPy or dask array of integers of the raster's shape."""
    if hasattr(labels, "dims") and hasattr(labels, "data"):
        labels = labels.data
    if not hasattr(labels, "dask"):
        labels = np.asarray(labels)
    if labels.shape != shape:
        raise InputError(f"labels: got shape {labels.shape}, takes that of the raster, {shape}")
    if labels.dtype.kind not in "bui":
        raise InputError(f"labels: got dtype {labels.dtype}, takes integers")
    return labels


def _wanted(index: Sequence[int] | None, labels: Any) -> NDArray[np.int64]:
    """The labels to count, each once."""
    if index is None:
        return np.arange(1, max(int(labels.max()), 0) + 1)
    takes = "different whole numbers from 0 to 2**24"
    wanted = [whole_number("index", label, takes) for label in index]
    if len(set(wanted)) != len(wanted) or not all(0 <= label <= 2**24 for label in wanted):
        raise InputError(f"index: got {wanted}, takes {takes}")
    return np.array(wanted, np.int64)
