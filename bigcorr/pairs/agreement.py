"""How far two measures rank the pairs of a result alike.

Reads matrices tile by tile; what is held are the values of the pairs that are compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.pairs.listing import PairListing, Tile, in_sample
from bigcorr.pairs.matrices import is_distance, measures_of
from bigcorr.raster.damaged import naming_damage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import xarray as xr

FloatArray = NDArray[np.float64]

MOST_PAIRS = 5_000_000


def rank_agreement(
    sim: xr.Dataset,
    measures: Sequence[str] | None = None,
    sigma: float | None = None,
    *,
    max_pairs: int = MOST_PAIRS,
) -> pd.DataFrame:
    """Spearman's correlation of the rankings of all pairs, for each two measures.

    Parameters
    ----------
    sim : xarray.Dataset
        A result of `bigcorr.pairwise`, or of ``bigcorr pairs``, in memory or lazy.
    measures : sequence of str, optional
        Which measures; by default all of the result.
    sigma : float, optional
        Which blur, where `sim` holds several.
    max_pairs : int
        Of more pairs than this, a fixed random sample of about so many is compared.

    Returns
    -------
    pandas.DataFrame
        (measure, measure), 1 where two measures rank all pairs alike, -1 where one ranks them the
        other way round. A distance counts by its ranking, most similar first, as any measure.
        ``attrs["pairs"]`` tells how many pairs were compared, ``attrs["of"]`` how many there are.

    Raises
    ------
    InputError
        An unknown measure or `sigma`.

    Notes
    -----
    Compared are the pairs that have a value by every one of the measures; ties get the mean of
    their ranks [1]_. Whether a pair is in the sample follows from its channels alone, so the same
    pairs are taken for every measure and however a matrix is read. The figures of a sample of n
    pairs are within about ``1 / sqrt(n)`` of those of all (0.0005 for 5 million).

    References
    ----------
    .. [1] Spearman, The proof and measurement of association between two things, American Journal
       of Psychology 15, 1904.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> near = np.array([[1.0, 0.2, 0.9], [0.2, 1.0, 0.4], [0.9, 0.4, 1.0]])
    >>> dims = ("channel", "other")
    >>> sim = xr.Dataset(
    ...     {"pearson": (dims, near), "emd": (dims, 5 - near, {"kind": "distance"})},
    ...     coords={"channel": list("abc"), "other": list("abc")},
    ... )
    >>> float(rank_agreement(sim).loc["pearson", "emd"])
    1.0
    """
    import pandas as pd
    from scipy.stats import rankdata

    chosen = list(measures_of(sim) if measures is None else measures)
    if max_pairs < 1:
        raise InputError(f"max_pairs: got {max_pairs}, takes 1 or more")
    listings = [PairListing(sim, name, sigma=sigma) for name in chosen]
    if not listings:
        raise InputError("measures: got none, takes one or more")
    total = listings[0].total
    share = min(1.0, max_pairs / max(total, 1))
    with naming_damage(sim):
        parts = [_values(listings, tile, share) for tile in listings[0].tiles]
    values = np.concatenate([np.empty((len(chosen), 0)), *parts], axis=1)
    del parts
    ranks = np.empty(values.shape)
    for row, name in enumerate(chosen):
        ranks[row] = rankdata(-values[row] if is_distance(sim[name]) else values[row])
    count = values.shape[1]
    ranks -= (count + 1) / 2
    products = ranks @ ranks.T
    norm = np.diag(products)
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.clip(products / np.sqrt(np.outer(norm, norm)), -1, 1)
    # What does not tell any two pairs apart does not rank them.
    matrix[np.diag_indices(len(chosen))] = np.where(norm > 0, 1.0, np.nan)
    table = pd.DataFrame(matrix, index=chosen, columns=chosen)
    table.attrs |= {"pairs": count, "of": total}
    return table


def _values(listings: list[PairListing], tile: Tile, share: float) -> FloatArray:
    """The values by each measure of the pairs of a tile that are compared, (measure, pair)."""
    code = listings[0].codes(tile)
    kept = np.ones(len(code), dtype=bool) if share >= 1 else in_sample(code, share)
    out = np.empty((len(listings), int(kept.sum())))
    for row, listing in enumerate(listings):
        out[row] = listing.values(tile)[kept]
    return out[:, np.isfinite(out).all(axis=0)]
