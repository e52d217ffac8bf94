"""The softmax-weighted place and value of every window: `conv_soft_argmax2d`, `conv_soft_argmax3d`
and their classes.

Only names, parameters and their documentation live here; `windows` does the arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike, NDArray

from bigcorr.subpix.arguments import Whole, floats
from bigcorr.subpix.windows import window_means

__all__ = ["ConvSoftArgmax2d", "ConvSoftArgmax3d", "conv_soft_argmax2d", "conv_soft_argmax3d"]

Result = NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]


def conv_soft_argmax2d(
    input: ArrayLike,
    kernel_size: Whole = (3, 3),
    stride: Whole = (1, 1),
    padding: Whole = (1, 1),
    temperature: ArrayLike = 1.0,
    normalized_coordinates: bool = True,
    eps: float = 1e-8,
    output_value: bool = False,
    *,
    origin: Whole = (0, 0),
) -> Result:
    """Soft argmax of every window: the mean place of its pixels, weighted by ``exp(x / T)``.

    Parameters
    ----------
    input : array_like, shape (N, C, H, W)
    kernel_size, stride, padding : (int, int) or int
        In (y, x) order. Padding widens the map by pixels of no weight on each side, by at most
        half of `kernel_size`: a window at the border counts the pixels inside the map only.
    temperature : float or array_like
        T > 0: the smaller, the sharper. An array broadcasts with (N * C, 1, H, W).
    normalized_coordinates : bool
        Coordinates from -1 at the first pixel's centre to 1 at the last one's; else in pixels from
        0.
    eps : float
        Taken as kornia takes it and without effect: no denominator is below 1.
    output_value : bool
        Return the means of the windows' values, by the same weights, as well.
    origin : (int, int)
        The pixel of a whole raster, (y, x), at which `input` as a tile of it begins. It is added
        before coordinates are rounded, so that a tile gives the bits of the whole; for pixel
        coordinates only.

    Returns
    -------
    coordinates : ndarray, shape (N, C, 2, H_out, W_out)
        (x, y) of each window, with ``H_out = (H + 2 * padding - kernel_size) // stride + 1``;
        float32 for float32, else float64. A window with a NaN is NaN.
    values : ndarray, shape (N, C, H_out, W_out)
        Only if `output_value` is set.

    Raises
    ------
    InputError
        A `ValueError`: `input` has other dimensions or is not real, `temperature` is not positive,
        `padding` is more than half of `kernel_size`, no window fits, or `origin` is given for
        normalized coordinates.

    Notes
    -----
    Window (i, j) begins at pixel ``(i, j) * stride - padding``. A tile that begins at a multiple of
    the stride gives the windows of the whole wherever they lie inside the tile.

    References
    ----------
    E. Riba et al., "Kornia: an open source differentiable computer vision library for PyTorch",
    WACV 2020.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> x = np.zeros((1, 1, 11, 11))
    >>> x[0, 0, 5, 5:7] = 1
    >>> xy = bc.subpix.conv_soft_argmax2d(x, temperature=0.05, normalized_coordinates=False)
    >>> xy[0, 0, :, 5, 5].round(6).tolist()
    [5.5, 5.0]
    """
    coordinates, values = window_means(
        floats("input", input, "NCHW"),
        (kernel_size, stride, padding, origin),
        temperature,
        normalized_coordinates,
        output_value,
        None,
    )
    return coordinates if values is None else (coordinates, values)


def conv_soft_argmax3d(
    input: ArrayLike,
    kernel_size: Whole = (3, 3, 3),
    stride: Whole = (1, 1, 1),
    padding: Whole = (1, 1, 1),
    temperature: ArrayLike = 1.0,
    normalized_coordinates: bool = False,
    eps: float = 1e-8,
    output_value: bool = True,
    strict_maxima_bonus: float | None = None,
    *,
    origin: Whole = (0, 0, 0),
) -> Result:
    """Soft argmax of every window of a volume.

    Parameters
    ----------
    input : array_like, shape (N, C, D, H, W)
    kernel_size, stride, padding, origin : (int, int, int) or int
        As for `conv_soft_argmax2d`, in (depth, y, x) order.
    temperature, normalized_coordinates, eps, output_value
        As for `conv_soft_argmax2d`; a temperature broadcasts with (N * C, 1, D, H, W). Coordinates
        are in voxels and values returned by default.
    strict_maxima_bonus : float, optional
        The values of windows are multiplied by ``1 + strict_maxima_bonus`` where the voxel at
        ``(kernel_size - 1) // 2`` of the window is a strict maximum of it (`nms3d`). kornia 0.9.0
        takes this argument and ignores it.

    Returns
    -------
    coordinates : ndarray, shape (N, C, 3, D_out, H_out, W_out)
        (depth, x, y) of each window.
    values : ndarray, shape (N, C, D_out, H_out, W_out)
        Only if `output_value` is set.

    Raises
    ------
    InputError
        As for `conv_soft_argmax2d`.

    References
    ----------
    As for `conv_soft_argmax2d`.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> x = np.zeros((1, 1, 3, 5, 5))
    >>> x[0, 0, 1, 2, 3] = 1
    >>> dxy, value = bc.subpix.conv_soft_argmax3d(x, temperature=0.02, strict_maxima_bonus=0.5)
    >>> dxy[0, 0, :, 1, 2, 2].round(6).tolist(), value[0, 0, 1, 2, 2:4].round(6).tolist()
    ([1.0, 3.0, 2.0], [1.0, 1.5])
    """
    coordinates, values = window_means(
        floats("input", input, "NCDHW"),
        (kernel_size, stride, padding, origin),
        temperature,
        normalized_coordinates,
        output_value,
        strict_maxima_bonus,
    )
    return coordinates if values is None else (coordinates, values)


@dataclass(frozen=True)
class ConvSoftArgmax2d:
    """`conv_soft_argmax2d` with its parameters: a callable for arrays (N, C, H, W).

    Parameters
    ----------
    kernel_size, stride, padding, temperature, normalized_coordinates, eps, output_value
        As for `conv_soft_argmax2d`.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> bc.subpix.ConvSoftArgmax2d((5, 5), padding=(2, 2))(np.zeros((1, 1, 9, 9))).shape
    (1, 1, 2, 9, 9)
    """

    kernel_size: Whole = (3, 3)
    stride: Whole = (1, 1)
    padding: Whole = (1, 1)
    temperature: ArrayLike = 1.0
    normalized_coordinates: bool = True
    eps: float = 1e-8
    output_value: bool = False

    def __call__(self, x: ArrayLike) -> Result:
        """Coordinates of every window, and values if they are asked for."""
        return conv_soft_argmax2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.temperature,
            self.normalized_coordinates,
            self.eps,
            self.output_value,
        )


@dataclass(frozen=True)
class ConvSoftArgmax3d:
    """`conv_soft_argmax3d` with its parameters: a callable for arrays (N, C, D, H, W).

    Parameters
    ----------
    kernel_size, stride, padding, temperature, normalized_coordinates, eps, output_value
        As for `conv_soft_argmax3d`, as `strict_maxima_bonus`.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> dxy, value = bc.subpix.ConvSoftArgmax3d()(np.zeros((1, 1, 3, 9, 9)))
    >>> dxy.shape, value.shape
    ((1, 1, 3, 3, 9, 9), (1, 1, 3, 9, 9))
    """

    kernel_size: Whole = (3, 3, 3)
    stride: Whole = (1, 1, 1)
    padding: Whole = (1, 1, 1)
    temperature: ArrayLike = 1.0
    normalized_coordinates: bool = False
    eps: float = 1e-8
    output_value: bool = True
    strict_maxima_bonus: float | None = None

    def __call__(self, x: ArrayLike) -> Result:
        """Coordinates of every window, and values if they are asked for."""
        return conv_soft_argmax3d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.temperature,
            self.normalized_coordinates,
            self.eps,
            self.output_value,
            self.strict_maxima_bonus,
        )
