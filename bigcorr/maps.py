"""Per-pixel maps of arrays that may be larger than memory: `ncc`, `ssim` and `gaussian_blur`.

Parameters are checked here, when a map is asked for; pixels flow when it is computed. A NumPy array
gives a NumPy array, a dask array a lazy one, a DataArray a DataArray. The arithmetic lives in
`operators` and `kernels`, the three kinds of arrays in `wiring`; reading tiles straight from
storage in `run.map_job`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.kernels.pad import Boundary
from bigcorr.operators import NCC, GaussianBlur, Weights
from bigcorr.operators_ssim import SSIM
from bigcorr.wiring import Raster as Taken
from bigcorr.wiring import apply, apply_to_planes, mean_inside, stack, unwrap, wrap

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

    Raster = TypeVar("Raster", NDArray[Any], da.Array, xr.DataArray)

__all__ = ["NCC", "SSIM", "GaussianBlur", "gaussian_blur", "mean_ssim", "ncc", "ssim"]


def ncc(
    a: Raster,
    b: Raster,
    window: int = 7,
    *,
    boundary: Boundary = "reflect",
    min_valid: float = 0.5,
    weights: Weights = "uniform",
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
        Share of the window's pixels (of its weight) that must be valid in both images, from 0
        to 1.
    weights : {"uniform", "gaussian"}
        Count all pixels of the window alike, or by a Gaussian about its centre whose sigma is
        ``window / 3.5``: all sums of the formula, those of the means too, are then weighted.
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
    Missing pixels of either image are left out of both. Sums are taken in float64, in an order that
    is fixed on the raster, so that chunks and workers change no bit of the result. A window is
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
    pair = _pair(a, b, nodata)
    op = NCC(window, boundary, min_valid, weights)
    op.check(*(raster.data.dtype for raster in pair), shape=pair[0].shape)
    return wrap(apply(op, pair), a if pair[0].labelled else b, "ncc")


def ssim(
    a: Raster,
    b: Raster,
    window: int = 7,
    data_range: float | None = None,
    *,
    gaussian_weights: bool = False,
    sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    use_sample_covariance: bool = True,
    min_valid: float = 0.5,
    nodata: float | None = None,
    boundary: Boundary = "reflect",
) -> Raster:
    """Structural similarity of two images of the same place, around every pixel.

    ``(2 mx my + c1) (2 cxy + c2) / ((mx**2 + my**2 + c1) (vx + vy + c2))`` with the means, the
    variances and the covariance of the two images over the window centred on the pixel,
    ``c1 = (k1 * data_range)**2`` and ``c2 = (k2 * data_range)**2``.

    Parameters
    ----------
    a, b : ndarray, dask array or DataArray, shape (y, x)
        Any real dtype of up to 64 bits. Pixels are compared by position, whatever coordinates
        they have. Three dimensions (channel, y, x) are taken channel by channel.
    window : int
        Odd side of the window in pixels, from 3 to twice the raster's shorter side less one. Not
        used with `gaussian_weights`.
    data_range : float
        The distance from the least to the greatest value that pixels may have. It must be given
        for floats; for integers it is that of the dtype of `a` by default.
    gaussian_weights : bool
        Weigh the window's pixels by a Gaussian that ends at 3.5 sigma: 11 x 11 pixels for the
        sigma of 1.5. Wang's index of 2004 has `use_sample_covariance` False as well.
    sigma : float
        Standard deviation of these weights in pixels.
    k1, k2 : float
        The two small constants, of at least 0.
    use_sample_covariance : bool
        Divide variances by the number of pixels in the window less one.
    min_valid : float
        Share of the window's pixels (of its weight) that must be valid in both images, from 0
        to 1.
    nodata : float, optional
        A value that means missing, beside what is not finite. By default what the attribute
        ``nodata`` of a DataArray declares; its coordinate ``mask`` is honoured as well.
    boundary : {"reflect", "nearest", "nan"}
        What stands outside the raster: its reflection (``d c b a | a b c d``), its nearest pixel,
        or missing data.

    Returns
    -------
    the same kind as `a` and `b`, shape (y, x), float32
        At most 1; NaN where too few pixels of the window are valid. Lazy for dask arrays and
        DataArrays that hold them.

    Raises
    ------
    InputError
        A `ValueError`: the shapes differ, there are fewer than two dimensions, the dtype is not
        one of real numbers, the window is even, too small or too large, or there is no
        `data_range` for floats.

    See Also
    --------
    mean_ssim : The mean of the map.

    Notes
    -----
    Equal to ``skimage.metrics.structural_similarity(full=True)`` in float64. Missing pixels of
    either image are left out of both, and the valid ones share the weight of the window
    (normalised convolution). Sums are taken in float64, so that the result does not depend on
    chunks or workers to the last bit.

    References
    ----------
    Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, "Image quality assessment: from error
    visibility to structural similarity", IEEE Transactions on Image Processing 13, 2004.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> a = np.arange(49, dtype="uint8").reshape(7, 7) * 5
    >>> bc.ssim(a, a + np.uint8(10))[3, 3].round(4)
    np.float32(0.9968)
    """
    op = SSIM(
        window,
        data_range,
        boundary,
        min_valid,
        gaussian_weights,
        sigma,
        k1,
        k2,
        use_sample_covariance,
    )
    pair = _pair(a, b, nodata)
    op.check(*(raster.data.dtype for raster in pair), shape=pair[0].shape)
    return wrap(apply(op, pair), a if pair[0].labelled else b, "ssim")


def mean_ssim(
    a: Raster, b: Raster, window: int = 7, data_range: float | None = None, **options: Any
) -> Any:
    """Mean structural similarity of two images: that of the map, without its border.

    Windows that reach beyond the raster, whose pixels are within ``(window - 1) // 2`` of its
    edge, are left out, and so are those with too few valid pixels.

    Parameters
    ----------
    a, b, window, data_range, **options
        As for `ssim`; the window may not be larger than the raster.

    Returns
    -------
    float, or array of float64 of shape (channel,)
        Lazy for dask arrays; a DataArray for DataArrays. NaN where no window is left.

    Raises
    ------
    InputError
        As for `ssim`.

    Notes
    -----
    Equal to ``skimage.metrics.structural_similarity``. The sum is exact over sums of fixed blocks,
    so that chunks do not change it.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> a = np.random.default_rng(0).random((40, 40))
    >>> bc.mean_ssim(a, a, data_range=1.0)
    1.0
    """
    similarity = ssim(a, b, window, data_range, **options)
    op = SSIM(
        window,
        gaussian_weights=options.get("gaussian_weights", False),
        sigma=options.get("sigma", 1.5),
    )
    labelled = hasattr(similarity, "dims")
    values = similarity.data if labelled else similarity
    if op.side > min(values.shape[-2:]):
        name = "sigma" if op.gaussian_weights else "window"
        raise InputError(
            f"{name}: a window of {op.side} is larger than the raster, {values.shape[-2]} x "
            f"{values.shape[-1]} pixels, and leaves none for the mean"
        )
    mean = mean_inside(values, op.side // 2)
    if labelled:
        return similarity.isel(dict.fromkeys(similarity.dims[-2:], 0), drop=True).copy(data=mean)
    return mean if hasattr(mean, "dask") or mean.ndim else float(mean)


def _pair(a: Any, b: Any, nodata: float | None) -> list[Taken]:
    """Two rasters of one shape, taken apart."""
    first, second = unwrap("a", a, nodata), unwrap("b", b, nodata)
    if first.data.shape != second.data.shape:
        raise InputError(f"b: got shape {second.data.shape}, takes that of a, {first.data.shape}")
    return [first, second]


def gaussian_blur(
    a: Raster,
    sigma: float | tuple[float, float] | list[Any],
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
    sigma : float, tuple (float, float), or list of these
        Standard deviation in pixels, > 0; a tuple is (y, x). A list gives all of its blurs along
        a new first dimension "sigma", for which `a` is read once.
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
    the same kind and shape as `a`; with the dimension "sigma" before it for a list
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
    several = isinstance(sigma, (list, np.ndarray))
    sigmas = list(sigma) if isinstance(sigma, (list, np.ndarray)) else [sigma]
    if not sigmas:
        raise InputError("sigma: got an empty list, takes at least one number > 0")
    ops = [GaussianBlur(each, truncate, fill) for each in sigmas]
    if method not in ("separable", "fft"):
        raise InputError(f"method: got {method!r}, takes 'separable' or 'fft'")
    blurred = []
    for op in ops:
        op.check(raster.data.dtype, shape=raster.shape)
        if method == "separable":
            blurred.append(apply(op, [raster]))
        else:
            blurred.append(apply_to_planes(op.whole, op.out_dtype(raster.data.dtype), raster))
    return stack(blurred, a, "sigma", sigmas) if several else wrap(blurred[0], a)
