"""`apply_shift`: a raster moved by a fraction of a pixel.

Parameters are checked here; the arithmetic is `operators_shift` and `kernels.resample`, the three
kinds of arrays are `wiring`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import NDArray

from bigcorr.operators_shift import Shift
from bigcorr.wiring import apply, unwrap, wrap

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

    Raster = TypeVar("Raster", NDArray[Any], da.Array, xr.DataArray)

__all__ = ["apply_shift"]


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
    raster = unwrap("moving", moving, nodata)
    op = Shift(shift, order).within(raster.shape)
    op.check(raster.data.dtype, shape=raster.shape)
    return wrap(apply(op, [raster]), moving, "shifted")
