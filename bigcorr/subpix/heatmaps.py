"""Whole maps as probabilities: `spatial_softmax2d`, `spatial_expectation2d`,
`spatial_soft_argmax2d` with its class, and `render_gaussian2d`.

Nothing here looks at windows: these are functions of one small map, not of a raster's tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bigcorr.errors import InputError
from bigcorr.subpix.arguments import floats, positive, whole_numbers

__all__ = [
    "SpatialSoftArgmax2d",
    "render_gaussian2d",
    "spatial_expectation2d",
    "spatial_soft_argmax2d",
    "spatial_softmax2d",
]


def spatial_softmax2d(input: ArrayLike, temperature: ArrayLike | None = None) -> NDArray[Any]:
    """Softmax over the pixels of each map: ``exp(x / T)``, scaled to sum to 1.

    Parameters
    ----------
    input : array_like, shape (B, N, H, W)
    temperature : float or array_like, optional
        T > 0: the smaller, the sharper. 1 by default; an array broadcasts with (B, N, H * W).

    Returns
    -------
    ndarray, shape (B, N, H, W)
        float32 for float32, else float64. A map with a NaN is NaN.

    Raises
    ------
    InputError
        A `ValueError`: `input` has other dimensions or is not real, `temperature` is not positive.

    Examples
    --------
    >>> import bigcorr as bc
    >>> bc.subpix.spatial_softmax2d([[[[0.0, 0.0], [1.0, 2.0]]]]).round(4)
    array([[[[0.0826, 0.0826],
             [0.2245, 0.6103]]]])
    """
    x = floats("input", input, "BNHW")
    flat = x.reshape(*x.shape[:2], -1)
    logits = flat / positive(1.0 if temperature is None else temperature, flat)
    return _softmax(logits).reshape(x.shape)


def spatial_expectation2d(input: ArrayLike, normalized_coordinates: bool = True) -> NDArray[Any]:
    """Expected coordinates of maps of probabilities.

    Parameters
    ----------
    input : array_like, shape (B, N, H, W)
        Taken as it is: a map that sums to s gives s times the coordinates.
    normalized_coordinates : bool
        Coordinates from -1 at the first pixel's centre to 1 at the last one's; else in pixels from
        0. An axis of one pixel is at 0.

    Returns
    -------
    ndarray, shape (B, N, 2)
        In (x, y) order; float32 for float32, else float64.

    Raises
    ------
    InputError
        A `ValueError`: `input` has other dimensions or is not real.

    Examples
    --------
    >>> import bigcorr as bc
    >>> bc.subpix.spatial_expectation2d([[[[0.0, 0.0], [0.25, 0.75]]]], False)
    array([[[0.75, 1.  ]]])
    """
    p = floats("input", input, "BNHW")
    # The marginals first, in float64: no product of the map's size is made, nor rounded.
    x, y = (
        p.sum(axis=other, dtype=np.float64) @ _grid(p.shape[axis], normalized_coordinates)
        for other, axis in ((-2, -1), (-1, -2))
    )
    return np.stack([x, y], axis=-1).astype(p.dtype)


def spatial_soft_argmax2d(
    input: ArrayLike, temperature: ArrayLike | None = None, normalized_coordinates: bool = True
) -> NDArray[Any]:
    """Expected coordinates under the softmax of each map, a smooth argmax.

    Parameters
    ----------
    input : array_like, shape (B, N, H, W)
    temperature : float or array_like, optional
        As for `spatial_softmax2d`.
    normalized_coordinates : bool
        As for `spatial_expectation2d`.

    Returns
    -------
    ndarray, shape (B, N, 2)
        In (x, y) order. Of two equal peaks it is the point midway.

    Raises
    ------
    InputError
        As for `spatial_softmax2d`.

    References
    ----------
    A. Nibali, Z. He, S. Morgan, L. Prendergast, "Numerical coordinate regression with convolutional
    neural networks", arXiv:1801.07372, 2018.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> x = np.zeros((1, 1, 5, 5))
    >>> x[0, 0, 2, 3] = 50
    >>> bc.subpix.spatial_soft_argmax2d(x, normalized_coordinates=False)
    array([[[3., 2.]]])
    """
    return spatial_expectation2d(spatial_softmax2d(input, temperature), normalized_coordinates)


def render_gaussian2d(
    mean: ArrayLike,
    std: ArrayLike,
    size: tuple[int, int],
    normalized_coordinates: bool = True,
) -> NDArray[Any]:
    """Maps of Gaussians, each scaled to sum to 1.

    Parameters
    ----------
    mean, std : array_like, shape (..., 2)
        Centre and standard deviation in (x, y) order; they broadcast with each other.
    size : (int, int)
        Height and width of a map.
    normalized_coordinates : bool
        Whether `mean` and `std` are in coordinates from -1 to 1, else in pixels from 0.

    Returns
    -------
    ndarray, shape (..., H, W)
        float32 where both are float32, else float64.

    Raises
    ------
    InputError
        A `ValueError`: the last axis of `mean` or `std` is not 2, they do not broadcast, `std` is
        not positive, `size` is no pair of whole numbers of at least 1.

    Examples
    --------
    >>> import bigcorr as bc
    >>> bc.subpix.render_gaussian2d([2.0, 1.0], [1.0, 0.5], (3, 5), False).round(4)
    array([[0.0058, 0.026 , 0.0429, 0.026 , 0.0058],
           [0.0429, 0.1922, 0.3169, 0.1922, 0.0429],
           [0.0058, 0.026 , 0.0429, 0.026 , 0.0058]])
    """
    m, s = floats("mean", mean), floats("std", std)
    for name, array in (("mean", m), ("std", s)):
        if array.ndim == 0 or array.shape[-1] != 2:
            raise InputError(f"{name}: got shape {array.shape}, takes (..., 2) as (x, y)")
    if not (s > 0).all():
        raise InputError("std: got a value that is not positive, takes positive ones")
    try:
        m, s = np.broadcast_arrays(m, s)
    except ValueError:
        raise InputError(f"std: got shape {s.shape}, takes one that fits mean, {m.shape}") from None
    height, width = whole_numbers("size", size, 2, 1)
    x, y = (
        _softmax(
            -0.5 * ((_grid(n, normalized_coordinates) - m[..., i, None]) / s[..., i, None]) ** 2
        )
        for i, n in enumerate((width, height))
    )
    return (y[..., :, None] * x[..., None, :]).astype(np.result_type(m, s))


@dataclass(frozen=True)
class SpatialSoftArgmax2d:
    """`spatial_soft_argmax2d` with its parameters: a callable for arrays (B, N, H, W).

    Parameters
    ----------
    temperature, normalized_coordinates
        As for `spatial_soft_argmax2d`.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> bc.subpix.SpatialSoftArgmax2d(normalized_coordinates=False)(np.zeros((1, 1, 3, 5)))
    array([[[2., 1.]]])
    """

    temperature: ArrayLike | None = None
    normalized_coordinates: bool = True

    def __call__(self, input: ArrayLike) -> NDArray[Any]:
        """Expected coordinates of each map, shape (B, N, 2)."""
        return spatial_soft_argmax2d(input, self.temperature, self.normalized_coordinates)


def _grid(n: int, normalized: bool) -> NDArray[np.float64]:
    """Coordinates of the pixels of an axis."""
    return np.linspace(-1.0, 1.0, n) if normalized and n > 1 else np.arange(n, dtype=np.float64)


def _softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Softmax along the last axis; the greatest exponent is 0, so that nothing overflows."""
    with np.errstate(invalid="ignore"):  # inf - inf is the NaN that is meant
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True, dtype=np.float64).astype(weights.dtype)
    return weights
