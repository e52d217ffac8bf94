"""Strict local maxima: `nms2d` and `nms3d`, non-maximum suppression over a window.

Only comparisons live here; nothing is interpolated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bigcorr.subpix.arguments import Whole, real, whole_numbers

__all__ = ["nms2d", "nms3d"]


def nms2d(input: ArrayLike, kernel_size: Whole, mask_only: bool = False) -> NDArray[Any]:
    """Keep the pixels that are greater than every other one of the window around them.

    Parameters
    ----------
    input : array_like, shape (B, C, H, W)
        Any real dtype.
    kernel_size : (int, int) or int
        Height and width of the window. It reaches ``(k - 1) // 2`` pixels before its centre and
        ``k // 2`` after it.
    mask_only : bool
        Return where the maxima are instead of their values.

    Returns
    -------
    ndarray, shape (B, C, H, W)
        `input` at the maxima and 0 elsewhere, or a mask of bool. A pixel whose window does not lie
        wholly inside the map is no maximum, nor is one of a plateau, nor one beside NaN.

    Raises
    ------
    InputError
        A `ValueError`: `input` has other dimensions or is not real, `kernel_size` is no pair of
        whole numbers of at least 1.

    References
    ----------
    E. Riba et al., "Kornia: an open source differentiable computer vision library for PyTorch",
    WACV 2020.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> x = np.zeros((1, 1, 4, 5))
    >>> x[0, 0, 1, 1:4] = 2, 1, 2
    >>> bc.subpix.nms2d(x, (3, 3))[0, 0, 1]
    array([0., 2., 0., 2., 0.])
    """
    return _suppressed(real("input", input, "BCHW"), kernel_size, 2, mask_only)


def nms3d(input: ArrayLike, kernel_size: Whole, mask_only: bool = False) -> NDArray[Any]:
    """Keep the voxels that are greater than every other one of the window around them.

    Parameters
    ----------
    input : array_like, shape (B, C, D, H, W)
    kernel_size : (int, int, int) or int
        Depth, height and width of the window.
    mask_only : bool
        As for `nms2d`, as all else.

    Returns
    -------
    ndarray, shape (B, C, D, H, W)

    Raises
    ------
    InputError
        As for `nms2d`.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> x = np.zeros((1, 1, 3, 3, 3))
    >>> x[0, 0, 1, 1, 1] = 1
    >>> np.argwhere(bc.subpix.nms3d(x, (3, 3, 3), mask_only=True)).tolist()
    [[0, 0, 1, 1, 1]]
    """
    return _suppressed(real("input", input, "BCDHW"), kernel_size, 3, mask_only)


def _suppressed(x: NDArray[Any], kernel_size: Whole, axes: int, mask_only: bool) -> NDArray[Any]:
    mask = strict_maxima(x, whole_numbers("kernel_size", kernel_size, axes, 1))
    return mask if mask_only else np.where(mask, x, x.dtype.type(0))


def strict_maxima(x: NDArray[Any], kernel: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where the last axes hold a maximum that no other pixel of its window reaches.

    The window less its centre falls into slabs, two an axis: what lies before and after the centre
    along that axis, at the centre along the axes ahead of it, anywhere along those behind it. Each
    slab's maximum is separable, so a window of k x k costs about 4 log2 k comparisons a pixel.
    """
    first = x.ndim - len(kernel)
    mask = np.zeros(x.shape, np.bool_)
    inside = [slice(None)] * x.ndim
    for axis, k in enumerate(kernel, first):
        if x.shape[axis] < k:
            return mask
        inside[axis] = slice((k - 1) // 2, x.shape[axis] - k // 2)
    centre = x[tuple(inside)]
    wins = mask[tuple(inside)]
    wins[...] = True
    behind = x
    for axis in reversed(range(first, x.ndim)):
        k = kernel[axis - first]
        before, n = (k - 1) // 2, x.shape[axis] - k + 1
        line = behind[tuple(inside[:axis])]
        if before:
            wins &= centre > _along(_sliding_max(line, before, axis), axis, 0, n)
        if k > 1:
            wins &= centre > _along(_sliding_max(line, k // 2, axis), axis, before + 1, n)
        behind = _sliding_max(behind, k, axis)
    return mask


def _along(x: NDArray[Any], axis: int, start: int, n: int) -> NDArray[Any]:
    return x[(*[slice(None)] * axis, slice(start, start + n))]


def _sliding_max(x: NDArray[Any], k: int, axis: int) -> NDArray[Any]:
    """Maximum of every run of k along an axis, by runs of doubled length; NaN wins."""
    length = 1
    while length < k:
        step = min(length, k - length)
        n = x.shape[axis] - step
        x = np.maximum(_along(x, axis, 0, n), _along(x, axis, step, n))
        length += step
    return x
