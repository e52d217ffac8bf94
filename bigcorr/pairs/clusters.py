"""Groups of channels that share a pattern: average linkage of a pair matrix, cut into clusters.

The matrix is read by rows; what is held is one half of it. Drawing is the report's part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bigcorr.errors import InputError
from bigcorr.pairs.matrices import counts_of, is_distance, is_square, names_of, require_measure
from bigcorr.pairs.matrices import select_sigma as at_sigma
from bigcorr.raster.damaged import naming_damage

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

FloatArray = NDArray[np.float64]

MOST_CHANNELS = 15_000
"""Channels at most: the linkage holds half a matrix twice, 1.8 GB for so many."""

_OPTIMAL = 300
_AUTO = (*range(2, 17), 18, 20, 22, 24, 27, 30, 33, 36, 40)
_JUDGED = 2000
_STEP = 512


class Linkage(NamedTuple):
    """A tree of channels.

    members : numbers of the channels that have any value, ascending: the leaves of `tree`.
    silent : numbers of the others.
    tree : SciPy's linkage matrix, or None for fewer than two members.
    half : distances of the members, in SciPy's condensed form.
    top : the similarity whose distance is 0; for a distance 0.
    sign : -1 for a similarity, 1 for a distance.
    """

    members: NDArray[np.intp]
    silent: NDArray[np.intp]
    tree: FloatArray | None
    half: FloatArray
    top: float
    sign: int

    @property
    def order(self) -> NDArray[np.intp]:
        """All channels, similar ones together, those without a value last."""
        from scipy.cluster.hierarchy import leaves_list

        leaves = self.members if self.tree is None else self.members[leaves_list(self.tree)]
        return np.concatenate([leaves, self.silent])

    def height(self, value: float) -> float:
        """A value of the measure as a height of the tree."""
        return value - self.top if self.sign > 0 else self.top - value


def cluster_channels(
    sim: xr.Dataset,
    by: str,
    n_clusters: int | None = None,
    threshold: float | None = None,
    sigma: float | None = None,
) -> pd.DataFrame:
    """Group the channels that share a pattern.

    Parameters
    ----------
    sim : xarray.Dataset
        A result of all channels with all, in memory or opened from a store.
    by : str
        The measure; a distance as well as a similarity.
    n_clusters : int, optional
        How many clusters. By default, without a `threshold` too, as many of 2 to 40 as have the
        highest mean silhouette [2]_.
    threshold : float, optional
        Instead: clusters are joined while their mean similarity is at least this (their mean
        distance at most this).
    sigma : float, optional
        Which blur, where `sim` holds several.

    Returns
    -------
    pandas.DataFrame
        One row a channel, in the order of the leaves of the tree, so that similar channels stand
        together: ``channel`` (name), ``cluster`` (from 1 in that order, those of one channel after
        all others; 0 for a channel that has no value at all), ``size`` (channels of the cluster),
        ``within`` (mean similarity, or distance, to the others of the cluster; NaN for one alone),
        ``count`` (total of the channel).

    Raises
    ------
    InputError
        Unknown `by` or `sigma`, a result against a few channels only, both or impossible
        `n_clusters` and `threshold`, or more than 15 000 channels.

    Notes
    -----
    Average linkage (UPGMA [1]_) of the distance, or of the highest similarity less the similarity.
    A measure that is not symmetric is taken by the mean of its two directions; a pair without a
    value counts as the least similar one. Half a matrix is held twice: 8 bytes times the square of
    the number of channels.

    References
    ----------
    .. [1] Sokal and Michener, A statistical method for evaluating systematic relationships,
       University of Kansas Science Bulletin 38, 1958.
    .. [2] Rousseeuw, Silhouettes, Journal of Computational and Applied Mathematics 20, 1987; over
       an even sample of 2000 channels where there are more.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> matrix = np.array([[1.0, 0.2, 0.9], [0.2, 1.0, 0.4], [0.9, 0.4, 1.0]])
    >>> names = ["Apod", "Fabp7", "Kctd12"]
    >>> sim = xr.Dataset(
    ...     {"pearson": (("channel", "other"), matrix, {"kind": "similarity"})},
    ...     coords={"channel": names, "other": names},
    ... )
    >>> cluster_channels(sim, "pearson", n_clusters=2)[["channel", "cluster", "size"]]
      channel  cluster  size
    0   Fabp7        2     1
    1  Kctd12        1     2
    2    Apod        1     2
    """
    import pandas as pd

    require_measure(sim, by)
    part = at_sigma(sim, by, sigma)
    if not is_square(part):
        raise InputError(
            f"sim: got {part.sizes['channel']} channels against {part.sizes['other']}; clusters "
            "take a result of all with all"
        )
    if n_clusters is not None and threshold is not None:
        raise InputError("threshold: takes either a threshold or n_clusters, got both")
    with naming_damage(sim):
        found = link(part[by], is_distance(part[by]))
    labels = cut(found, n_clusters, threshold)
    order = found.order
    chosen = labels[order]
    sizes = np.bincount(labels, minlength=1)
    return pd.DataFrame(
        {
            "channel": pd.Series(names_of(part["channel"])[order]),
            "cluster": chosen,
            "size": sizes[chosen],
            "within": within(found, labels)[order],
            "count": counts_of(part)[0][order],
        }
    )


def link(matrix: ArrayLike | xr.DataArray, distance: bool) -> Linkage:
    """Average linkage of a square matrix, which is read by rows where it is lazy."""
    from scipy.cluster.hierarchy import linkage

    matrix = matrix if hasattr(matrix, "shape") else np.asarray(matrix)
    size = int(matrix.shape[0])
    if size > MOST_CHANNELS:
        raise InputError(
            f"sim: got {size:,} channels, clusters take at most {MOST_CHANNELS:,}: leave some out "
            "(`pairs --min-count`), or cluster those that a ranking brings to the top"
        )
    known = _known(matrix, size)
    members, silent = np.flatnonzero(known), np.flatnonzero(~known)
    half = _half(matrix, members, distance)
    finite = np.isfinite(half)
    top = 0.0
    if finite.any():
        least, most = float(half[finite].min()), float(half[finite].max())
        # Heights have to be positive; average linkage does not mind where zero is.
        top = min(least, 0.0 if distance else -1.0)
        half[~finite] = most
        half -= top
    tree = None
    if len(members) > 1:
        tree = linkage(half, "average", optimal_ordering=len(members) <= _OPTIMAL)
    return Linkage(members, silent, tree, half, top if distance else -top, 1 if distance else -1)


def cut(
    found: Linkage, n_clusters: int | None = None, threshold: float | None = None
) -> NDArray[np.int64]:
    """The cluster of each channel, from 1 in the order of the leaves; 0 where it has no value.

    Channels that are alone in their cluster have the numbers after all others.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    leaves = len(found.members)
    labels = np.zeros(leaves + len(found.silent), dtype=np.int64)
    if n_clusters is not None and not 1 <= n_clusters <= max(leaves, 1):
        raise InputError(
            f"n_clusters: got {n_clusters}, takes 1 to {leaves}: so many channels have a value"
        )
    if threshold is not None and not np.isfinite(threshold):
        raise InputError(f"threshold: got {threshold}, takes a value of the measure")
    if found.tree is None:
        labels[found.members] = 1
        return labels
    if threshold is not None:
        joined = int(np.searchsorted(found.tree[:, 2], found.height(threshold), side="right"))
    else:
        joined = leaves - (n_clusters or _best_number(found))
    # The first merges of the tree, as a graph of leaves and inner nodes: its parts are the
    # clusters. Exactly as many as asked for, also where heights are equal.
    ends = found.tree[:joined, :2].astype(np.int64).reshape(-1)
    inner = leaves + np.repeat(np.arange(joined), 2)
    shape = (leaves + joined,) * 2
    graph = coo_array((np.ones(len(ends), dtype=bool), (ends, inner)), shape=shape)
    part = connected_components(graph, directed=False)[1][:leaves]
    in_order = found.order[:leaves]
    place = np.searchsorted(found.members, in_order)
    _, first, number, size = np.unique(
        part[place], return_index=True, return_inverse=True, return_counts=True
    )
    # In the order of the leaves, those of a single channel after all others.
    labels[in_order] = np.argsort(np.lexsort((first, size == 1)))[number] + 1
    return labels


def within(found: Linkage, labels: NDArray[np.int64]) -> FloatArray:
    """Mean similarity or distance of each channel to the others of its cluster."""
    out = np.full(len(labels), np.nan)
    own = labels[found.members]
    if not len(own):
        return out
    sums = _sums(found, np.arange(len(own)), own)
    size = np.bincount(own)[own]
    mean = sums[np.arange(len(own)), own] / np.where(size > 1, size - 1, np.nan)
    out[found.members] = found.top + found.sign * mean
    return out


def _best_number(found: Linkage) -> int:
    """The number of clusters of the highest mean silhouette; 1 for too few channels."""
    leaves = len(found.members)
    tried = [n for n in _AUTO if n < leaves]
    if not tried:
        return 1
    judged = np.unique(np.linspace(0, leaves - 1, min(leaves, _JUDGED)).astype(int))
    return max(tried, key=lambda n: (_silhouette(found, cut(found, n), judged), -n))


def _silhouette(found: Linkage, labels: NDArray[np.int64], judged: NDArray[np.intp]) -> float:
    own = labels[found.members] - 1
    sizes = np.bincount(own).astype(np.float64)
    sums = _sums(found, judged, own)
    mine = own[judged]
    rows = np.arange(len(judged))
    alone = sizes[mine] == 1
    inside = sums[rows, mine] / np.where(alone, 1.0, sizes[mine] - 1)
    means = sums / sizes
    means[rows, mine] = np.inf
    outside = means.min(axis=1)
    widest = np.maximum(inside, outside)
    score = np.divide(outside - inside, widest, out=np.zeros(len(rows)), where=widest > 0)
    return float(np.where(alone, 0.0, score).mean())


def _sums(found: Linkage, rows: NDArray[np.intp], own: NDArray[np.int64]) -> FloatArray:
    """Sum of the distances of some members to each cluster."""
    member_of = np.zeros((len(own), int(own.max()) + 1))
    member_of[np.arange(len(own)), own] = 1
    out = np.empty((len(rows), member_of.shape[1]))
    for start in range(0, len(rows), _STEP):
        part = rows[start : start + _STEP]
        out[start : start + _STEP] = _rows_of_half(found.half, part, len(own)) @ member_of
    return out


def _rows_of_half(half: FloatArray, rows: NDArray[np.intp], size: int) -> FloatArray:
    """Some rows of the square matrix whose condensed form is `half`."""
    i, j = rows[:, None], np.arange(size)[None, :]
    low, high = np.minimum(i, j), np.maximum(i, j)
    place = low * (2 * size - low - 1) // 2 + high - low - 1
    return np.where(low == high, 0.0, half[np.minimum(place, max(len(half) - 1, 0))])


def _known(matrix: Any, size: int) -> NDArray[np.bool_]:
    """Which channels have a value with any other, in either direction."""
    known = np.zeros(size, dtype=bool)
    for rows in _steps(size):
        finite = np.isfinite(_block(matrix, rows))
        finite[np.arange(rows.stop - rows.start), np.arange(rows.start, rows.stop)] = False
        known[rows] |= finite.any(axis=1)
        known |= finite.any(axis=0)
    return known


def _half(matrix: Any, members: NDArray[np.intp], distance: bool) -> FloatArray:
    """Distances of the members above the diagonal; of a similarity, its negative."""
    n = len(members)
    half = np.zeros(n * (n - 1) // 2)
    symmetric = bool(getattr(matrix, "attrs", {}).get("symmetric", False))
    place = np.full(int(matrix.shape[0]), -1)
    place[members] = np.arange(n)
    for rows in _steps(len(place)):
        block = _block(matrix, rows)[:, members]
        if not symmetric:
            block = (block + _block(matrix, rows, turned=True)[:, members]) / 2
        for number, values in zip(place[rows], block, strict=True):
            if number >= 0:
                start = number * (2 * n - number - 1) // 2
                half[start : start + n - number - 1] = values[number + 1 :]
    return half if distance else np.negative(half, out=half)


def _steps(size: int) -> list[slice]:
    return [slice(start, min(start + _STEP, size)) for start in range(0, size, _STEP)]


def _block(matrix: Any, rows: slice, turned: bool = False) -> FloatArray:
    part = matrix[:, rows] if turned else matrix[rows]
    values = np.asarray(getattr(part, "values", part), dtype=np.float64)
    return values.T if turned else values
