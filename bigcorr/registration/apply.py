"""`apply_shift` and `apply_affine`: a raster moved by fractions of pixels.

Parameters are checked here; the arithmetic is `operators_move` and the kernels behind it. A lazy
result takes each of its blocks from the place that it comes from, however far it is moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bigcorr.operators import Layer
from bigcorr.operators_move import Affine, Shift
from bigcorr.tiles import Box, Shape
from bigcorr.wiring import Raster as Taken
from bigcorr.wiring import unwrap, wrap

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

    Raster = TypeVar("Raster", NDArray[Any], da.Array, xr.DataArray)

__all__ = ["apply_affine", "apply_shift"]


def apply_shift(
    moving: Raster,
    shift: tuple[float, float],
    order: int = 3,
    *,
    nodata: float | None = None,
) -> Raster:
    """Move an image by a fraction of a pixel, by a spline.

    ``out[y, x] = moving[y - dy, x - dx]``: with the shift that `register` found it lies on the
    reference.

    Parameters
    ----------
    moving : ndarray, dask array or DataArray, shape (y, x) or (channel, y, x)
        Any real dtype of up to 64 bits; channels are taken one by one.
    shift : (float, float)
        (dy, dx) in pixels.
    order : {3, 1}
        Of the spline: cubic, which keeps fine structure, or linear.
    nodata : float, optional
        A value that means missing, beside what is not finite. By default what the attribute
        ``nodata`` of a DataArray declares; its coordinate ``mask`` is honoured as well.

    Returns
    -------
    the same kind and shape as `moving`
        float64 for float64, else float32. NaN where the place lies outside `moving`, or where one
        of the pixels around it is missing: of 4 x 4 for the cubic spline, of 2 x 2 for the linear
        one, the pixel itself along an axis moved by whole pixels. Lazy for dask arrays and
        DataArrays that hold them.

    Raises
    ------
    InputError
        A `ValueError`: `shift` is not two finite numbers, `order` is neither 1 nor 3, there are
        fewer than two dimensions, the dtype is not one of real numbers.

    Notes
    -----
    Equal to ``scipy.ndimage.shift(moving, shift, order=order, cval=numpy.nan)`` to 1e-10 of the
    largest value, and the same bits whatever the chunks: scipy's recursive prefilter is replaced by
    its impulse response, cut at 20 pixels.

    References
    ----------
    M. Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Processing
    Magazine 16(6), 1999.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> a = np.array([[0.0, 10.0, 20.0, 30.0]])
    >>> bc.apply_shift(a, (0, 0.5), order=1)
    array([[nan,  5., 15., 25.]])
    """
    return _apply(Shift(shift, order), moving, nodata, "shifted")


def apply_affine(
    moving: Raster,
    matrix: ArrayLike,
    order: int = 3,
    *,
    nodata: float | None = None,
) -> Raster:
    """Lay an image on another by an affine map, by a spline.

    ``out[y, x] = moving[matrix @ (y, x, 1)]``: with the matrix that
    ``register(..., model="affine")`` found it lies on the reference.

    Parameters
    ----------
    moving : ndarray, dask array or DataArray, shape (y, x) or (channel, y, x)
        Any real dtype of up to 64 bits; channels are taken one by one.
    matrix : array_like, shape (3, 3) or (2, 3)
        From (y, x, 1) of the result to (y, x, 1) of `moving`, in pixels: as
        ``scipy.ndimage.affine_transform`` takes it.
    order : {3, 1}
        Of the spline: cubic, which keeps fine structure, or linear.
    nodata : float, optional
        As for `apply_shift`.

    Returns
    -------
    the same kind and shape as `moving`
        float64 for float64, else float32. NaN where the place lies outside `moving`, or where one
        of the pixels around it is missing, as for `apply_shift`. Lazy for dask arrays and
        DataArrays that hold them.

    Raises
    ------
    InputError
        A `ValueError`: `matrix` is no affine map of finite numbers that stretches by 0.1 to 10,
        `order` is neither 1 nor 3, there are fewer than two dimensions, the dtype is not one of
        real numbers.

    Notes
    -----
    Equal to ``scipy.ndimage.affine_transform(moving, matrix, order=order, cval=numpy.nan)`` to
    1e-10 of the largest value, and the same bits whatever the chunks.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> a = np.arange(16.0).reshape(4, 4)
    >>> bc.apply_affine(a, [[0, 1, 0], [1, 0, 0]], order=1)[0]
    array([ 0.,  4.,  8., 12.])
    """
    rows = np.asarray(matrix).tolist()
    return _apply(Affine(rows, order), moving, nodata, "transformed")


def _apply(op: Shift | Affine, moving: Any, nodata: float | None, name: str) -> Any:
    raster = unwrap("moving", moving, nodata)
    op.check(raster.data.dtype, shape=raster.shape)
    moved = wrap(_lazily(op, raster) if raster.lazy else _at_once(op, raster), moving, name)
    # What the mask left out is NaN now; the mask itself lies where the pixels were.
    return moved.drop_vars("mask", errors="ignore") if raster.labelled else moved


def _at_once(op: Shift | Affine, raster: Taken) -> NDArray[Any]:
    whole = Box(0, raster.shape[0], 0, raster.shape[1])
    return _moved(raster.data, raster.mask, op, raster.nodata, whole, whole, raster.shape)


def _moved(
    data: NDArray[Any],
    mask: NDArray[np.bool_] | None,
    op: Shift | Affine,
    nodata: float | None,
    held: Box,
    box: Box,
    shape: Shape,
) -> NDArray[Any]:
    """A box of the moved raster, of each channel, from pixels in the box `held`."""
    lead = data.shape[:-2]
    out = np.empty((*lead, *box.shape), op.out_dtype(data.dtype))
    for index in np.ndindex(lead):
        op.moved(Layer(data[index], nodata, mask), held, box, shape, out[index])
    return out


def _lazily(op: Shift | Affine, raster: Taken) -> da.Array:
    """Each block of the result from the part of the raster that it comes from."""
    import dask.array as da
    from dask import delayed

    data = da.asarray(raster.data)
    mask = None if raster.mask is None else da.asarray(raster.mask)
    dtype, shape = op.out_dtype(data.dtype), raster.shape
    *lead, rows, columns = (_starts(axis) for axis in data.chunks)
    move = delayed(_moved, pure=True)

    def block(channels: tuple[slice, ...], box: Box) -> da.Array:
        size = (*(part.stop - part.start for part in channels), *box.shape)
        held = op.held(box, shape)
        if held.size == 0:
            return da.full(size, np.nan, dtype=dtype, chunks=size)
        piece = data[(*channels, *held.slices)]
        covered = None if mask is None else mask[held.slices]
        made = move(piece, covered, op, raster.nodata, held, box, shape)
        return da.from_delayed(made, size, dtype)

    def image(channels: tuple[slice, ...]) -> Any:
        return [
            [block(channels, Box(y.start, y.stop, x.start, x.stop)) for x in columns] for y in rows
        ]

    if lead:
        return da.block([image((part,)) for part in lead[0]])
    return da.block(image(()))


def _starts(axis: tuple[int, ...]) -> list[slice]:
    """The chunks along an axis as slices."""
    ends = np.cumsum(axis).tolist()
    return [slice(end - size, end) for end, size in zip(ends, axis, strict=True)]
