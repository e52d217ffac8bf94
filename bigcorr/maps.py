"""Per-pixel maps of arrays that may be larger than memory: `ncc` and `gaussian_blur`.

Parameters are checked here, when a map is asked for; pixels flow when it is computed. A NumPy array
gives a NumPy array, a dask array a lazy one, a DataArray a DataArray. The arithmetic lives in
`operators` and `kernels`, the three kinds of arrays in `wiring`; reading tiles straight from
storage in `run.map_job`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.kernels.pad import Boundary
from bigcorr.operators import NCC, GaussianBlur
from bigcorr.wiring import apply, apply_to_planes, unwrap, wrap

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

    Raster = TypeVar("Raster", NDArray[Any], da.Array, xr.DataArray)

__all__ = ["NCC", "GaussianBlur", "gaussian_blur", "ncc"]


def ncc(
    a: Raster,
    b: Raster,
    window: int = 7,
    *,
    boundary: Boundary = "reflect",
    min_valid: float = 0.5,
    nodata: float | None = None,
) -> Raster:
    """Normalised cross-correlation of two images of the same place, around every pixel.

    Pearson's correlation of the two images over the window centred on the pixel, at zero shift:
    ``sum((x - mx) (y - my)) / sqrt(sum((x - mx)**2) sum((y - my)**2))``.

    Parameters
    ----------
    a, b : ndarray, dask array or DataArray, shape (y, x)
        Any real dtype of up to 64 bits. Pixels are compared by position, whatever coordinates
        they have. Three dimensions (channel, y, x) are taken channel by channel.
    window : int
        Odd side of the window in pixels, from 3 to twice the raster's shorter side less one.
    boundary : {"reflect", "nearest", "nan"}
        What stands outside the raster: its reflection (``d c b a | a b c d``), its nearest pixel,
        or missing data.
    min_valid : float
        Share of the window's pixels that must be valid in both images, from 0 to 1.
    nodata : float, optional
        A value that means missing, beside what is not finite. By default what the attribute
        ``nodata`` of a DataArray declares; its coordinate ``mask`` is honoured as well.

    Returns
    -------
    the same kind as `a` and `b`, shape (y, x), float32
        In [-1, 1]; 0 where the window is constant in either image; NaN where too few of its
        pixels are valid. Lazy for dask arrays and DataArrays that hold them.

    Raises
    ------
    InputError
        A `ValueError`: the shapes differ, there are fewer than two dimensions, the dtype is not
        one of real numbers, the window is even, too small or too large.

    Notes
    -----
    Missing pixels of either image are left out of both. Sums are taken in float64 by a fixed
    tree, so that the result does not depend on chunks or workers to the last bit. A window is
    constant if its valid pixels are all equal; where a window of floats varies by less than
    about 1e-4 of its distance from the raster's general level (centred over raw sum of squares
    below 1e-8) its moments are computed again about its own mean.

    References
    ----------
    J. P. Lewis, "Fast normalized cross-correlation", Vision Interface, 1995.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> a = np.arange(25.0).reshape(5, 5) ** 2
    >>> bc.ncc(a, 100 - a, window=3)[2, 2]
    np.float32(-1.0)
    """
    first, second = unwrap("a", a, nodata), unwrap("b", b, nodata)
    if first.data.shape != second.data.shape:
        raise InputError(f"b: got shape {second.data.shape}, takes that of a, {first.data.shape}")
    op = NCC(window, boundary, min_valid)
    op.check(first.data.dtype, second.data.dtype, shape=first.shape)
    data = apply(op, [first, second])
    return wrap(data, a if first.labelled else b, "ncc")


def gaussian_blur(
    a: Raster,
    sigma: float | Sequence[float],
    *,
    truncate: float = 4.0,
    method: Literal["separable", "fft"] = "separable",
    fill: bool = False,
    nodata: float | None = None,
) -> Raster:
    """Gaussian blur that knows missing data.

    Parameters
    ----------
    a : ndarray, dask array or DataArray, shape (y, x) or (channel, y, x)
        Any real dtype of up to 64 bits; channels are blurred one by one.
    sigma : float or (float, float)
        Standard deviation in pixels, > 0; two numbers are (y, x).
    truncate : float
        The kernel ends at ``int(truncate * sigma + 0.5)`` pixels.
    method : {"separable", "fft"}
        "separable" works tile by tile, reflects at the edge and has the same bits whatever the
        chunks. "fft" multiplies the spectra of the whole image and of the kernel, padded to the
        image's size and rolled so that its peak lies at (0, 0): its edges wrap around and it
        holds the whole image in memory.
    fill : bool
        Give missing pixels the weighted mean of the valid ones in reach. By default they stay
        missing; where nothing valid is in reach they do so anyway.
    nodata : float, optional
        As for `ncc`.

    Returns
    -------
    the same kind and shape as `a`
        float64 for float64, else float32; missing pixels are NaN.

    Raises
    ------
    InputError
        A `ValueError`: `sigma` is not > 0, there are fewer than two dimensions, the dtype is not
        one of real numbers.

    Notes
    -----
    The kernel is that of ``scipy.ndimage.gaussian_filter``. Missing pixels have no weight and
    the valid ones in reach share it (normalised convolution).

    References
    ----------
    H. Knutsson and C.-F. Westin, "Normalized and differential convolution", CVPR 1993.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> a = np.zeros((7, 7), "float32")
    >>> a[3, 3] = 1
    >>> bc.gaussian_blur(a, sigma=1.0)[3, 2:5].round(4)
    array([0.0965, 0.1592, 0.0965], dtype=float32)
    """
    raster = unwrap("a", a, nodata)
    op = GaussianBlur(sigma, truncate, fill)  # type: ignore[arg-type]
    op.check(raster.data.dtype, shape=raster.shape)
    if method not in ("separable", "fft"):
        raise InputError(f"method: got {method!r}, takes 'separable' or 'fft'")
    if method == "separable":
        return wrap(apply(op, [raster]), a)
    return wrap(apply_to_planes(op.whole, op.out_dtype(raster.data.dtype), raster), a)
