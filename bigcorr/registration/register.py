"""`register`: how one image lies on another, to a small fraction of a pixel.

Parameters are checked here, and the steps are put in order: the images made smaller, tiles at full
resolution, the agreement after the move. Only the tiles in work are ever held.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from bigcorr.errors import InputError
from bigcorr.operators import real_number, whole_number
from bigcorr.operators_move import Affine, Shift
from bigcorr.registration.agreement import cell_side, scores_after
from bigcorr.registration.coarse import Level, coarse_level, coarse_shift
from bigcorr.registration.images import LEAST_SIDE, Pair, open_pair, pool_for
from bigcorr.registration.phase import phase_shift
from bigcorr.registration.result import Registration, matrix_of
from bigcorr.registration.tiles import default_tile, spread_of
from bigcorr.registration.translation import Found, Search, find_shift
from bigcorr.run.cluster import Pool
from bigcorr.tiles import Box

_MOST_UPSAMPLE, _MOST_SIGMA = 1000, 4.0
"""Fine grids are held for each tile; a wider blur leaves the shifts that are looked at."""


def register(
    reference: Any,
    moving: Any,
    upsample: int = 10,
    *,
    model: Literal["translation", "affine"] = "translation",
    normalization: Literal["phase"] | None = None,
    sigma: float | Literal["auto"] | None = "auto",
    tile: int | None = None,
    nodata: float | None = None,
) -> Registration:
    """Find the move that lays `moving` on `reference`, to a small fraction of a pixel.

    Parameters
    ----------
    reference, moving : array_like, dask array or DataArray, shape (y, x)
        Of one shape, of any real dtype. What is not finite is missing, and what `nodata` and the
        coordinate ``mask`` of a DataArray say. Rasters of `open_raster` are read tile by tile.
    upsample : int
        The correlation is worked out at steps of ``1 / upsample`` pixels, then at the maximum of
        the quadratic through the greatest values.
    model : {"translation", "affine"}
        One shift for the whole image, or a shift, a rotation, two scales and a shear.
    normalization : {None, "phase"}
        "phase" is scikit-image's ``phase_cross_correlation`` on the whole images, which are held
        in memory: shifts are multiples of ``1 / upsample``, and lean towards whole pixels where
        images are smooth.
    sigma : float, "auto" or None
        Gaussian blur of both images in pixels, at most 4, before they are compared. "auto" takes
        the one of 0, 1, 1.5, 2 and 3 that makes the shift surest: none but where both images are
        noisy. `Registration.sigma` tells which. None: no blur. Not used with "phase".
    tile : int, optional
        Side of the tiles in pixels, at least 16; by default 1024, and 512, 256 or 128 where the
        shorter side of the images is less than 2048, 1280 or 640. A part that changed is left out
        by tiles alone.
    nodata : float, optional
        A value that means missing, as for `ncc`.

    Returns
    -------
    Registration
        Its `shift` is what to apply to `moving` with `apply_shift`, its `matrix` with
        `apply_affine`. Where `displacement` says that things moved by `flow`, the shift is its
        negative.

    Raises
    ------
    InputError
        A `ValueError`: the shapes differ or are not two-dimensional, a side is shorter than 16
        pixels, an image is constant or all missing, the two have nothing in common, or a
        parameter is none that is taken.

    Notes
    -----
    Both images are made smaller, tile by tile, to at most 1024 pixels a side, and the best of the
    peaks of their plain, their phase and their masked correlation is the first guess. Then tiles
    are cut from `reference` and, moved by it, from `moving`, anew until they match to the pixel.
    Each has its mean removed, is tapered by a Hann window, and gives its cross-correlation within
    1.5 pixels by an upsampled Fourier transform, divided by that of the windows; up to 32 tiles
    overlap by half. These are added up, but for tiles whose own peak is farther from the median
    than 3 of their standard deviations (and .1 pixels), and the peak of the sum is refined by a
    quadratic. Where any pixel is missing,
    a tile gives the masked correlation of Padfield at whole shifts within 24 pixels instead, and
    the sum of these is interpolated.

    The affine model is fitted to the shifts of tiles of the moved image, on the smaller images
    first, until it stays; outliers are found by random samples (MSAC) with a fixed seed.

    It runs on threads, or on the active dask client where no pixel lies in this process; the
    result is the same to the last bit from NumPy arrays, dask arrays of any chunks and Zarr.

    References
    ----------
    M. Guizar-Sicairos, S. T. Thurman, J. R. Fienup, "Efficient subpixel image registration
    algorithms", Optics Letters 33(2), 2008.
    D. Padfield, "Masked object registration in the Fourier domain", IEEE Transactions on Image
    Processing 21(5), 2012.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> y, x = np.mgrid[:64, :64]
    >>> def spots(dy, dx):
    ...     return sum(np.exp(-((y - dy - p) ** 2 + (x - dx - q) ** 2) / 18)
    ...                for p, q in [(20, 15), (40, 45), (33, 25), (18, 44)])
    >>> reg = bc.register(spots(0, 0), spots(3.3, -5.6))
    >>> [round(d, 2) for d in reg.shift], round(reg.score, 3)
    ([-3.3, 5.6], 1.0)
    """
    return register_pair(
        open_pair(reference, moving, nodata),
        upsample,
        model=model,
        normalization=normalization,
        sigma=sigma,
        tile=tile,
    )


def register_pair(
    pair: Pair,
    upsample: int = 10,
    *,
    model: str = "translation",
    normalization: str | None = None,
    sigma: float | str | None = "auto",
    tile: int | None = None,
    pool: Pool | None = None,
) -> Registration:
    """`register` of images that are opened already, on a pool that is open already if given."""
    tile = default_tile(pair.shape) if tile is None else tile
    upsample, tile, blur = _checked(upsample, model, normalization, sigma, tile)
    with threadpool_limits(1, user_api="blas"), pool_for(pair, pool) as opened:
        level = coarse_level(pair, opened)
        matrix, move = np.eye(3), None
        if normalization == "phase":
            found = _by_phase(pair, level, upsample)
        elif model == "affine":
            from bigcorr.registration.affine import find_affine

            search = Search(pair, opened, level, tile, upsample, blur)
            matrix, found, spread = find_affine(search, coarse_shift(level))
            move = Affine(matrix.tolist())
        else:
            search = Search(pair, opened, level, tile, upsample, blur)
            found = find_shift(search, coarse_shift(level))
        if move is None:
            matrix, spread = matrix_of(found.shift), spread_of(found.shifts)
        score, scores = scores_after(pair, move or Shift(found.shift), opened)
    return Registration(
        found.shift,
        score,
        level.before.correlation,
        spread,
        found.centres,
        found.shifts,
        found.used,
        model,
        matrix,
        found.sigma,
        scores,
        cell_side(pair.shape),
    )


def _checked(
    upsample: Any, model: Any, normalization: Any, sigma: Any, tile: Any
) -> tuple[int, int, float | None]:
    """The parameters, with None for a blur that is to be chosen; or an `InputError`."""
    takes = f"a whole number of 1 to {_MOST_UPSAMPLE}"
    upsample = whole_number("upsample", upsample, takes)
    if not 1 <= upsample <= _MOST_UPSAMPLE:
        raise InputError(f"upsample: got {upsample}, takes {takes}")
    takes = f"a whole number of at least {LEAST_SIDE}"
    tile = whole_number("tile", tile, takes)
    if tile < LEAST_SIDE:
        raise InputError(f"tile: got {tile}, takes {takes}")
    if model not in ("translation", "affine"):
        raise InputError(f"model: got {model!r}, takes 'translation' or 'affine'")
    if normalization not in (None, "phase"):
        raise InputError(f"normalization: got {normalization!r}, takes None or 'phase'")
    if normalization == "phase" and model == "affine":
        raise InputError("normalization: got 'phase' with model 'affine', takes None with it")
    if sigma is None:
        return upsample, tile, 0.0
    if isinstance(sigma, str) and sigma == "auto":
        return upsample, tile, None
    takes = f"a number > 0 of at most {_MOST_SIGMA:g}, 'auto' or None"
    blur = real_number("sigma", sigma, takes)
    if not 0 < blur <= _MOST_SIGMA:
        raise InputError(f"sigma: got {sigma}, takes {takes}")
    return upsample, tile, blur


def _by_phase(pair: Pair, level: Level, upsample: int) -> Found:
    """The shift of scikit-image's phase correlation, by the whole images as one tile."""
    if level.missing:
        raise InputError("normalization: got 'phase' and missing pixels, takes None with these")
    h, w = pair.shape
    a, b = (image.read(Box(0, h, 0, w))[0] for image in (pair.reference, pair.moving))
    shift = phase_shift(a, b, upsample)
    centre = (np.array(pair.shape)[None] - 1) / 2
    return Found(shift, centre, np.array([shift]), np.ones(1, bool), 0.0)
