"""What a result holds: its measures, its blurs, the names and counts of its channels.

A result arrives as the Dataset of `bigcorr.pairwise`, in memory or opened from a store; nothing is
read here but coordinates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError

if TYPE_CHECKING:
    import xarray as xr


def measures_of(sim: xr.Dataset) -> list[str]:
    """The pair matrices of a result, without their null distributions, in the order asked for."""
    parameters = sim.attrs.get("parameters")
    asked = list(parameters) if isinstance(parameters, dict) else []
    matrices = [str(name) for name in sim.data_vars if sim[name].dims[-2:] == ("channel", "other")]
    null = {f"{name}{suffix}" for name in matrices for suffix in ("_null", "_sd")}
    found = [name for name in matrices if name not in null]
    return sorted(found, key=lambda name: asked.index(name) if name in asked else len(asked))


def select_sigma(sim: xr.Dataset, by: str, sigma: float | None) -> xr.Dataset:
    """The part of a result at one blur; a result of a single blur needs no `sigma`.

    A sigma of 0 is the part without a blur, which a result stores as NaN.
    """
    several = "sigma" in sim[by].dims
    stored = sim["sigma"].values if several else (sim.attrs.get("sigma") or 0.0)
    sigmas = np.nan_to_num(np.atleast_1d(np.asarray(stored, dtype=np.float64)))
    if sigma is None and (not several or len(sigmas) == 1):
        return sim.isel(sigma=0) if several else sim
    wanted = np.nan if sigma is None else float(sigma)
    found = np.flatnonzero(np.isclose(sigmas, wanted, rtol=1e-9, atol=0))
    if len(found) == 0:
        raise InputError(
            f"sigma: got {sigma if sigma is None else format(sigma, 'g')}, this result has "
            + ", ".join(f"{have:g}" if have else "0 (no blur)" for have in sigmas)
        )
    return sim.isel(sigma=found[0]) if several else sim


def require_measure(sim: xr.Dataset, by: str) -> None:
    """Raise an `InputError` that says what there is, where a result has no measure `by`."""
    there = measures_of(sim)
    if by not in there:
        raise InputError(f"by: got {by!r}, this result has: {', '.join(there) or 'no measure'}")


def is_distance(matrix: xr.DataArray) -> bool:
    """Whether small values of a measure mean alike."""
    return bool(matrix.attrs.get("kind", "similarity") == "distance")


def is_square(sim: xr.Dataset) -> bool:
    """Whether all channels are compared with all, in one order."""
    names = [names_of(sim[side]) for side in ("channel", "other")]
    return names[0].shape == names[1].shape and bool((names[0] == names[1]).all())


def names_of(coordinate: xr.DataArray) -> NDArray[np.str_]:
    """Channel names as fixed-width text, whatever string type the store gave them."""
    return np.array([str(name) for name in coordinate.values], dtype=np.str_)


def counts_of(sim: xr.Dataset) -> tuple[NDArray[Any], NDArray[Any]]:
    """The totals of the channels of the rows and of the columns; NaN where they are not stored."""
    unknown_a = np.full(sim.sizes["channel"], np.nan)
    unknown_b = np.full(sim.sizes["other"], np.nan)
    return (
        sim["count"].values if "count" in sim.variables else unknown_a,
        sim["count_other"].values if "count_other" in sim.variables else unknown_b,
    )
