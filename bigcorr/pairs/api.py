"""The public function `pairwise`: every pair of channels of a stack, in one call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr


def pairwise(
    stack: Any,
    measures: str | Sequence[Any] = ("pearson",),
    sigma: float | tuple[float, float] | Sequence[float] | None = None,
    window: int | None = None,
    stride: int | None = None,
    contrast_floor: float = 1.0,
    significance: bool = True,
    mask: Any = None,
    against: str | Sequence[str] | None = None,
    *,
    nodata: float | None = None,
    min_count: float | None = None,
    detrend: str = "none",
    n_shifts: int = 0,
    shift_seed: int = 0,
    coarsen: int = 1,
    progress: bool = True,
) -> xr.Dataset:
    """Similarity of the spatial patterns of all pairs of channels.

    Parameters
    ----------
    stack : array, DataArray or path
        (channel, y, x), any real dtype: NumPy, dask, an xarray DataArray (as `open_raster` gives)
        or the path of a raster. It is read by tiles and never held whole.
    measures : str or sequence
        Names (``"pearson"``, ``"cosine"``, ``"ncc"``, ``"ncc:window=32,stride=16"``) or measures
        with their own parameters (``bc.measures.NCC(window=32, stride=16)``).
    sigma : float, (float, float) or list, optional
        Gaussian blur in pixels before comparing, (y, x) where they differ; None: none. A list
        asks for several in one pass and adds a leading "sigma" dimension. For sparse counts 2 to
        3 pixels.
    window, stride, contrast_floor
        Of the measures that have them and do not say otherwise, in pixels; see
        `bigcorr.measures.NCC` (by default 16 and 8) and `bigcorr.measures.SSIM` (7 and 1).
    significance : bool
        Also give the standard deviation of each measure under independence.
    mask : "auto", array, DataArray or path, optional
        (y, x), valid where not zero; "auto": the tissue, where any channel has something. What
        lies outside is left out, as are NaN, infinity and `nodata`.
    against : str or sequence of str, optional
        Compare these channels with all, instead of all with all.
    nodata : float, optional
        Value of missing pixels, instead of what the raster declares.
    min_count : float, optional
        Leave out channels with a smaller total count.
    detrend : {"none", "plane", "quadratic"}
        Take a surface of first or second order in y and x off each blurred channel before
        comparing, fitted by least squares. A trend across the raster makes unrelated channels look
        significantly alike; ``attrs["warnings"]`` says where one is left.
    n_shifts : int
        Take null mean and standard deviation of every measure from so many random toroidal shifts
        instead of from autocorrelations: each channel is rolled round the raster's edges by its
        own vector. For measures that have no standard error otherwise; 100 are a good number.
        Each costs one more pass over all pixels. 0: none.
    shift_seed : int
        Of the vectors, see `bigcorr.pairs.shifts.shift_vectors`.
    coarsen : int
        Compare means of square cells of so many pixels a side instead of the blurred pixels: an
        approximation, for `pearson`, `cosine`, `spearman` and `ncc`, whose windows and stride stay
        in pixels and must be multiples of it. Products then take 1 / coarsen^2 of the time,
        reading and blurring the same as before. ``attrs["coarsen_error"]`` says by how much values
        differ from those of pixels, root mean square and largest over the pairs of up to 256
        channels, both computed on up to 25 pieces of about 256 x 256 pixels laid side by side, or
        on the whole raster where it is not larger than that. Chance adds more to it on such a
        sample than on all pixels. 1: none.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    xarray.Dataset
        A ("channel", "other") float64 matrix a measure, with ``<measure>_null`` and
        ``<measure>_sd`` (mean and standard deviation under independence) where it has them;
        ``count`` and ``count_other``, the total counts of the channels. NaN where a pair has no
        value, such as Pearson of a constant channel.

    Raises
    ------
    InputError
        A ValueError that names the argument, what it got and what it takes.

    Notes
    -----
    Runs on the active dask client if there is one, else on threads of this process. The result is
    the same to the last bit whatever the chunks, the workers and the memory, for one BLAS and kind
    of processor.

    References
    ----------
    Clifford, Richardson, Hemon (1989), "Assessing the significance of the correlation between two
    spatial processes", Biometrics 45.

    Examples
    --------
    >>> import numpy as np
    >>> import bigcorr as bc
    >>> rng = np.random.default_rng(0)
    >>> a = rng.poisson(1.0, (40, 50))
    >>> sim = bc.pairwise(np.stack([a, a, 5 - a]), ["pearson"], progress=False)
    >>> sim["pearson"].values.round(6).tolist()
    [[1.0, 1.0, -1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]
    """
    from bigcorr.run.cluster import open_pool
    from bigcorr.run.driver_memory import refuse_too_much
    from bigcorr.run.pairs_job import ask, compute, plan_for
    from bigcorr.run.progress import open_progress

    started = time.monotonic()
    with open_progress(quiet=not progress) as events, open_pool() as pool:
        asked = ask(
            stack,
            measures=measures,
            sigma=sigma,
            window=window,
            stride=stride,
            contrast_floor=contrast_floor,
            significance=significance,
            mask=mask,
            against=against,
            nodata=nodata,
            min_count=min_count,
            detrend=detrend,
            n_shifts=n_shifts,
            shift_seed=shift_seed,
            coarsen=coarsen,
            pool=pool,
            progress=events,
        )
        plan = plan_for(asked, pool)
        refuse_too_much(max(plan.driver_bytes) + asked.dataset_bytes())
        result = compute(asked, plan, pool, None, events)
    result.attrs["wall_seconds"] = round(time.monotonic() - started, 3)
    return result.dataset()
