"""Maxima of a volume to a fraction of a voxel by quadratics: `conv_quad_interp3d` and its class.

Only what lies around strict maxima is computed: a few vectors as long as there are maxima, beside
the result. Each maximum's result depends on the voxels near it alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bigcorr.errors import InputError
from bigcorr.subpix.arguments import Whole, floats, whole_numbers
from bigcorr.subpix.maxima import strict_maxima

__all__ = ["ConvQuadInterp3d", "conv_quad_interp3d"]

_MOST_SHIFT = 1.5
_SINGULAR = 1e-7
"""A fit is given up if it ends farther than this from its voxel, in voxels, or if the determinant
of its Hessian is no larger than this times the cube of its largest entry."""


def conv_quad_interp3d(
    input: ArrayLike,
    n_iters: int = 5,
    strict_maxima_bonus: float | None = None,
    max_subpixel_shift: float = 0.6,
    precomputed_nms_mask: ArrayLike | None = None,
    dilation_radius: int = 1,
    allow_scale_steps: bool = True,
    *,
    origin: Whole = (0, 0, 0),
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Place and value of the maxima of a volume, by a quadratic fit to 3 x 3 x 3 voxels.

    Where a voxel is greater than its 26 neighbours, the gradient g and the Hessian H of central
    differences give the step ``s = -H^-1 g`` to the maximum of the quadratic and its value there,
    ``g.s / 2`` above the voxel. Where the step is longer than `max_subpixel_shift` along an axis,
    the fit is done again one voxel further on.

    Parameters
    ----------
    input : array_like, shape (B, C, D, H, W)
        Depth is the scale of a pyramid of responses.
    n_iters : int
        Fits to a maximum at most; one that would still move after the last is given up.
    strict_maxima_bonus : float, optional
        Added to the values at the strict maxima, refined or not. kornia 0.9.0 takes this argument
        and ignores it.
    max_subpixel_shift : float
        In voxels.
    precomputed_nms_mask : array_like of bool, shape (B, C, D, H, W), optional
        The voxels to refine, instead of ``nms3d(input, (3, 3, 3), mask_only=True)``.
    dilation_radius : int
        Voxels, along each axis, that a fit may move away from all maxima; one that goes farther is
        given up.
    allow_scale_steps : bool
        Whether a fit may be done again at another depth.
    origin : (int, int, int)
        The voxel of a whole raster, (depth, y, x), at which `input` as a tile of it begins. It is
        added before coordinates are rounded, so that a tile gives the bits of the whole.

    Returns
    -------
    coordinates : ndarray, shape (B, C, 3, D, H, W)
        (depth, x, y) in voxels: of the maximum where a fit was found, else the voxel's own.
    values : ndarray, shape (B, C, D, H, W)
        The quadratic's at its maximum, else those of `input`. float32 for float32, else float64.

    Raises
    ------
    InputError
        A `ValueError`: `input` has other dimensions or is not real, `n_iters` or `dilation_radius`
        is no whole number of at least 0, `precomputed_nms_mask` has another shape.

    Notes
    -----
    A fit is given up as well if it moves onto a face of the volume, ends more than 1.5 voxels from
    its centre, or if ``|det H| <= 1e-7 m**3``, m being the largest of ``|H|``. A tile needs a halo
    of ``n_iters + dilation_radius + 1`` voxels.

    References
    ----------
    M. Brown, D. Lowe, "Invariant features from interest point groups", BMVC 2002.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> z, y, x = np.mgrid[:5, :9, :9].astype(float)
    >>> x, y, z = x - 4.3, y - 3.8, z - 2.2
    >>> f = 1 - 0.05 * (z**2 + 1.5 * x**2 + y**2 + 0.3 * x * y)
    >>> at, value = bc.subpix.conv_quad_interp3d(f[None, None])
    >>> at[0, 0, :, 2, 4, 4].round(6).tolist(), float(value[0, 0, 2, 4, 4].round(6))
    ([2.2, 4.3, 3.8], 1.0)
    """
    x = floats("input", input, "BCDHW")
    shape = x.shape[2:]
    (iterations,) = whole_numbers("n_iters", n_iters, 1, 0)
    (radius,) = whole_numbers("dilation_radius", dilation_radius, 1, 0)
    start = whole_numbers("origin", origin, 3, None)
    mask = None if precomputed_nms_mask is None else np.asarray(precomputed_nms_mask)
    if mask is not None and (mask.shape != x.shape or mask.dtype != np.bool_):
        raise InputError(
            f"precomputed_nms_mask: got {mask.dtype} of shape {mask.shape}, takes bool of {x.shape}"
        )
    coordinates = np.empty((*x.shape[:2], 3, *shape), x.dtype)
    for place, axis in enumerate((0, 2, 1)):
        grid = (np.arange(shape[axis]) + start[axis]).astype(x.dtype)
        coordinates[:, :, place] = grid.reshape(-1, *[1] * (2 - axis))
    values = x.copy()
    if min(shape) < 3:
        return coordinates, values
    if mask is None:
        mask = strict_maxima(x, (3, 3, 3))
    volumes, maxima = x.reshape(-1, *shape), mask.reshape(-1, *shape)
    which, *voxel = np.nonzero(maxima)
    first = np.stack(voxel)
    centre, shift, rise, found = _refine(
        volumes, maxima, which, first, iterations, max_subpixel_shift, radius, allow_scale_steps
    )
    centre = np.where(found, centre, first)
    value = volumes[(which, *centre)] + np.where(found, rise, x.dtype.type(0))
    if strict_maxima_bonus is not None:
        value += x.dtype.type(strict_maxima_bonus)
    values.reshape(-1, *shape)[(which, *first)] = value
    at = (centre + np.array(start)[:, None]).astype(x.dtype) + np.where(
        found, shift, x.dtype.type(0)
    )
    flat = coordinates.reshape(-1, 3, *shape)
    for place, axis in enumerate((0, 2, 1)):
        flat[(which, place, *first)] = at[axis]
    return coordinates, values


@dataclass(frozen=True)
class ConvQuadInterp3d:
    """`conv_quad_interp3d` with its parameters: a callable for arrays (B, C, D, H, W).

    Parameters
    ----------
    n_iters, strict_maxima_bonus, max_subpixel_shift, dilation_radius, allow_scale_steps
        As for `conv_quad_interp3d`.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> at, value = bc.subpix.ConvQuadInterp3d(n_iters=3)(np.zeros((1, 1, 3, 6, 6)))
    >>> at.shape, value.shape
    ((1, 1, 3, 3, 6, 6), (1, 1, 3, 6, 6))
    """

    n_iters: int = 5
    strict_maxima_bonus: float | None = None
    max_subpixel_shift: float = 0.6
    dilation_radius: int = 1
    allow_scale_steps: bool = True

    def __call__(
        self, x: ArrayLike, precomputed_nms_mask: ArrayLike | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Coordinates and values of every voxel."""
        return conv_quad_interp3d(
            x,
            self.n_iters,
            self.strict_maxima_bonus,
            self.max_subpixel_shift,
            precomputed_nms_mask,
            self.dilation_radius,
            self.allow_scale_steps,
        )


def _refine(
    x: NDArray[Any],
    maxima: NDArray[np.bool_],
    which: NDArray[np.intp],
    first: NDArray[np.intp],
    iterations: int,
    threshold: float,
    radius: int,
    scale_steps: bool,
) -> tuple[NDArray[np.intp], NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Voxel, shift from it as (depth, y, x), rise above it, and whether a fit was found."""
    last = np.array(x.shape[1:])[:, None] - 2
    centre = first.copy()
    shift, rise = np.zeros(first.shape, x.dtype), np.zeros(which.shape, x.dtype)
    valid = np.ones(which.shape, np.bool_)
    moved = np.zeros(which.shape, np.bool_)
    near: NDArray[np.bool_] | None = None
    for _ in range(iterations):
        at = np.clip(centre, 1, last)  # a mask that was given may name voxels of a face
        strays = valid & (np.abs(at - first).max(axis=0, initial=0) > radius)
        if strays.any():
            if near is None:
                near = _dilated(maxima, radius)
            valid[strays] = near[(which[strays], *at[:, strays])]
        now = np.flatnonzero(valid)
        step, gain, solved = _fit(x, which[now], at[:, now])
        valid[now[~solved]] = False
        now, step = now[solved], step[:, solved]
        shift[:, now], rise[now] = step, gain[solved]
        move = (step > threshold).astype(np.intp) - (step < -threshold)
        if not scale_steps:
            move[0] = 0
        moved[:] = False
        moved[now] = move.any(axis=0)
        centre[:, now] += move
        held = (centre[:, now] >= 1) & (centre[:, now] <= last)
        if not scale_steps:
            held[0] = True
        valid[now] = held.all(axis=0)
        if not moved.any():
            break  # the same fits would be found again
    valid &= ~moved & (np.abs(shift) <= _MOST_SHIFT).all(axis=0)
    return centre, shift, rise, valid


def _dilated(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """What lies within so many voxels of the mask along each axis of its volumes."""
    for axis in (1, 2, 3):
        out = mask.copy()
        for k in range(1, min(radius, mask.shape[axis] - 1) + 1):
            low, high = [slice(None)] * 4, [slice(None)] * 4
            low[axis], high[axis] = slice(None, -k), slice(k, None)
            out[tuple(low)] |= mask[tuple(high)]
            out[tuple(high)] |= mask[tuple(low)]
        mask = out
    return mask


def _fit(
    x: NDArray[Any], which: NDArray[np.intp], at: NDArray[np.intp]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Step to the quadratic's maximum as (depth, y, x), its rise, and whether there is one."""
    z, y, w = at

    def p(dz: int, dy: int, dx: int) -> NDArray[Any]:
        return x[which, z + dz, y + dy, w + dx]

    def slope(dz: int, dy: int, dx: int) -> NDArray[Any]:
        return half * (p(dz, dy, dx) - p(-dz, -dy, -dx))

    def bend(dz: int, dy: int, dx: int) -> NDArray[Any]:
        return p(dz, dy, dx) - twice + p(-dz, -dy, -dx)

    half, quarter = x.dtype.type(0.5), x.dtype.type(0.25)
    twice = x.dtype.type(2) * p(0, 0, 0)
    g = np.stack([slope(0, 0, 1), slope(0, 1, 0), slope(1, 0, 0)])
    xy = quarter * (p(0, 1, 1) - p(0, 1, -1) - p(0, -1, 1) + p(0, -1, -1))
    xs = quarter * (p(1, 0, 1) - p(1, 0, -1) - p(-1, 0, 1) + p(-1, 0, -1))
    ys = quarter * (p(1, 1, 0) - p(1, -1, 0) - p(-1, 1, 0) + p(-1, -1, 0))
    h = np.stack([bend(0, 0, 1), bend(0, 1, 0), bend(1, 0, 0), xy, xs, ys])
    step, solved = _solve(h, -g)
    sx, sy, ss = step
    return np.stack([ss, sy, sx]), half * (g[0] * sx + g[1] * sy + g[2] * ss), solved


def _solve(h: NDArray[Any], r: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """``H^-1 r`` by Cramer's rule, H symmetric as (xx, yy, ss, xy, xs, ys), r as (x, y, s).

    Both are first scaled by the power of two that makes the largest entry of H about 1, which
    changes no bit of the solution but keeps the cubes of tiny responses from vanishing; a large
    right-hand side limits it, so that that does not overflow.
    """
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        exponent = np.maximum(_exponent(h, 0), np.minimum(_exponent(r, -(2**15)) - 63, 0))
        h, r = np.ldexp(h, -exponent), np.ldexp(r, -exponent)
        xx, yy, ss, xy, xs, ys = h
        a, b, c = r
        m00, m01, m02 = yy * ss - ys * ys, xy * ss - ys * xs, xy * ys - yy * xs
        det = xx * m00 - xy * m01 + xs * m02
        largest = np.abs(h).max(axis=0)
        solved = np.abs(det) > h.dtype.type(_SINGULAR) * largest * largest * largest
        bs, by, ba = b * ss - ys * c, b * ys - yy * c, xy * c - b * xs
        step = np.stack(
            [
                a * m00 - xy * bs + xs * by,
                xx * bs - a * m01 + xs * ba,
                -xx * by - xy * ba + a * m02,
            ]
        )
        step /= np.where(solved, det, h.dtype.type(1))
    return step, solved


def _exponent(entries: NDArray[Any], unusable: int) -> NDArray[np.int32]:
    """Of the largest entry's power of two; something else where that is 0 or not finite."""
    largest = np.abs(entries).max(axis=0)
    usable = np.isfinite(largest) & (largest > 0)
    return np.where(usable, np.frexp(largest)[1] - 1, unusable).astype(np.int32)
