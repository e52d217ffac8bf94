"""The public function `displacement`: where each part of one image lies in another.

Parameters are checked here; the passes are `passes`, the numbers of a tile `tile`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.motion.plan import Search, plan_search
from bigcorr.operators import check_dtype, real_number
from bigcorr.tiles import grid

if TYPE_CHECKING:
    import xarray as xr

    from bigcorr.motion.grids import Flow
    from bigcorr.motion.tile import Pair
    from bigcorr.raster.base import RasterSource

__all__ = ["displacement"]

Subpixel = Literal["quadratic", "gaussian", "soft_argmax", "none"]

_ROWS = 256


def displacement(
    reference: Any,
    moving: Any,
    window: int = 32,
    search: int = 8,
    step: int = 16,
    passes: int | Sequence[int] = 1,
    *,
    subpixel: Subpixel = "quadratic",
    initial: Any = None,
    levels: int = 0,
    weights: Literal["uniform", "gaussian"] | None = None,
    min_valid: float = 0.5,
    smooth: bool | None = None,
    outlier_threshold: float = 2.0,
    max_inconsistency: float | None = None,
    temperature: float = 0.1,
    nodata: float | None = None,
) -> xr.Dataset:
    """Find how far each part of an image has moved, to a fraction of a pixel.

    At the nodes of a grid the window of `reference` is searched in `moving`, where its zero-mean
    normalised correlation is greatest: what is at (y, x) in `reference` is at (y + dy, x + dx) in
    `moving`. For a pure shift this is minus what `register` finds, which is what to apply to
    `moving`: flow = -shift.

    Parameters
    ----------
    reference, moving : array, DataArray or path
        (y, x), of one shape, of any real dtype of up to 64 bits: NumPy, dask, an xarray DataArray
        or the path of a raster. What is not in memory is read by tiles and never held whole.
    window : int
        Side of the windows in pixels, from 3 to the raster's shorter side.
    search : int
        How far is looked along each axis, in pixels; with several passes in the first of them.
    step : int
        From node to node, in pixels.
    passes : int or sequence of int
        How many searches, each of which starts from what the one before it found: windows halve
        from pass to pass and end at `window`. Or the windows themselves, the last of which
        takes the place of `window`.
    subpixel : {"quadratic", "gaussian", "soft_argmax", "none"}
        How a peak is refined: by the quadratic through the 3 x 3 shifts about it, the same of the
        logarithms, the expected shift under a softmax of what is near, or not at all.
    initial : Registration, (float, float), Dataset or path, optional
        Where to start from: what `register` found, whose shift is turned round and whose matrix is
        followed; a vector (dy, dx), rounded to whole pixels; or an earlier result, whose `y` and
        `x` are in pixels and at any steps. Or the path of the store of an earlier result, or of
        the JSON that ``bigcorr register --json`` printed.
    levels : int
        Before the first pass search in images that are made smaller by two, so many times, from the
        smallest on: `search` is then reached there and may be large.
    weights : {"uniform", "gaussian"}, optional
        Of a window's pixels: all alike, or by a Gaussian whose sigma is ``window / 3.5``. By
        default all alike in a single pass, Gaussian in several.
    min_valid : float
        Share of a window's weight that must be valid in both images, from 0 to 1.
    smooth : bool, optional
        Test the vectors and smooth them by their neighbours in the last pass as well. By default
        where there are several passes.
    outlier_threshold : float
        Of the normalised median test.
    max_inconsistency : float, optional
        Search back from `moving` as well, add `inconsistency` to the result, and leave out vectors
        from which the way back misses the node by more pixels than this.
    temperature : float
        Of "soft_argmax".
    nodata : float, optional
        A value that means missing, beside what is not finite; by default what the rasters declare.

    Returns
    -------
    xarray.Dataset
        ``dy``, ``dx``, ``score`` (the correlation found, in [-1, 1]) and ``peak_ratio`` (over the
        greatest outside the 3 x 3 shifts about it), all float32 on ("y", "x"); all NaN where too
        little is valid, a window is constant, or the peak lies on the border of the search.
        Coordinates ``y`` and ``x`` are those of the true centres of the windows in pixels, which
        begin at ``(window - 1) / 2``; ``y_raster`` and ``x_raster`` the same in the raster's unit
        where `reference` has coordinates.

    Raises
    ------
    InputError
        A `ValueError`: the shapes differ, a window is larger than the raster, an image is constant
        or holds nothing but missing pixels, or a parameter is none that is taken.

    See Also
    --------
    register : One shift of the whole image.

    Notes
    -----
    A pass that follows another searches `moving` deformed by the flow so far, by a cubic spline.
    Between passes vectors that fail the normalised median test (3 x 3) are left out, and all are
    smoothed by their neighbours, each weighted by the error that its peak's shape and height imply.

    Runs on the active dask client if there is one and the images are not in memory, else on threads
    of this process. The result has the same bits whatever the chunks, workers and memory; it is
    held in memory. ``bigcorr displacement`` writes it to a store.

    References
    ----------
    J. P. Lewis, "Fast normalized cross-correlation", Vision Interface, 1995.
    F. Scarano, "Iterative image deformation methods in PIV", Measurement Science and Technology 13,
    2002.
    J. Westerweel, F. Scarano, "Universal outlier detection for PIV data", Experiments in Fluids 39,
    2005.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> a = np.random.default_rng(0).random((64, 64))
    >>> flow = bc.displacement(a, np.roll(a, (2, -3), (0, 1)), window=16, search=5)
    >>> flow.dy.shape, float(flow.y[0]), round(float(flow.dy[1, 1])), round(float(flow.dx[1, 1]))
    ((4, 4), 7.5, 2, -3)
    """
    from bigcorr.motion.passes import measure_all
    from bigcorr.motion.start import as_flow, turned
    from bigcorr.raster.memory import ArraySource
    from bigcorr.run.cluster import ThreadPool, open_pool, processors

    pair = open_pair(reference, moving, nodata)
    plan = plan_search(
        pair.shape,
        window,
        search,
        step,
        passes,
        levels=levels,
        subpixel=subpixel,
        temperature=temperature,
        weights=weights,
        min_valid=min_valid,
        outlier_threshold=outlier_threshold,
        smooth=smooth,
    )
    most = check_inconsistency(max_inconsistency)
    start = as_flow(initial, pair.shape)
    held = all(isinstance(each.source, ArraySource) for each in (pair.reference, pair.moving))
    with open_pool(ThreadPool(processors()) if held else None) as pool:
        flow = measure_all(pair, plan, pool, start)
        back = None
        if most is not None:
            back = measure_all(pair.swapped(), plan, pool, turned(start))
    return _dataset(pair, plan, flow, back, most, reference)


def check_inconsistency(value: Any) -> float | None:
    """A number > 0, or None."""
    if value is None:
        return None
    number = real_number("max_inconsistency", value, "a number > 0")
    if not number > 0:
        raise InputError(f"max_inconsistency: got {number:g}, takes a number > 0")
    return number


def open_pair(reference: Any, moving: Any, nodata: float | None) -> Pair:
    """The two images, or an `InputError` that names what does not fit."""
    from bigcorr.motion.pixels import Image
    from bigcorr.motion.tile import make_pair

    images = []
    for name, given in (("reference", reference), ("moving", moving)):
        source = _source(name, given)
        missing = source.nodata
        if nodata is not None:
            missing = real_number("nodata", nodata, "a number")
        images.append(Image(source, missing))
    a, b = images
    if a.shape != b.shape:
        raise InputError(f"moving: got shape {b.shape}, takes that of reference, {a.shape}")
    return make_pair(a, b)


def _source(name: str, given: Any) -> RasterSource:
    from bigcorr.raster.source import as_source

    if isinstance(given, (list, tuple)):
        given = np.asarray(given)
    if isinstance(given, np.ndarray):
        check_dtype(given.dtype, name)
        if given.ndim != 2 or 0 in given.shape:
            raise InputError(f"{name}: got shape {given.shape}, takes (y, x)")
    try:
        source = as_source(given)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    if source.shape[0] != 1:
        raise InputError(
            f"{name}: got {source.shape[0]} channels, takes one of them (y, x), as PATH#CHANNEL"
        )
    return source


def _dataset(
    pair: Pair, plan: Search, flow: Flow, back: Flow | None, most: float | None, like: Any
) -> xr.Dataset:
    import xarray as xr

    from bigcorr.motion.result import (
        MEANINGS,
        NAMES,
        coordinates,
        explain_nothing,
        vectors,
        with_way_back,
    )

    names = NAMES if back is None else (*NAMES, "inconsistency")
    values: NDArray[np.float32] = np.empty((len(names), *flow.shape), np.float32)
    for box in grid(flow.shape, (_ROWS, max(flow.shape[1], 1))):
        if back is None or most is None:
            part = vectors(flow, box)
        else:
            part = with_way_back(flow, back, box, most)
        values[(slice(None), *box.slices)] = part
    if not np.isfinite(values[2]).any():
        explain_nothing(pair)
    stored: dict[str, Any] = dict(getattr(pair.reference.source, "coords", {}))
    for axis in "yx":
        if hasattr(like, "coords") and axis in like.coords and like.coords[axis].dims == (axis,):
            stored[axis] = like.coords[axis].values
    return xr.Dataset(
        {
            name: (("y", "x"), plane, {"long_name": MEANINGS[name]})
            for name, plane in zip(names, values, strict=True)
        },
        coordinates(plan.passes[-1], pair.shape, stored),
        {
            "windows": [each.window for each in plan.passes],
            "search": plan.passes[0].search * plan.passes[0].scale,
            "step": plan.passes[-1].step,
            "subpixel": plan.subpixel,
            "weights": plan.weights,
        },
    )
