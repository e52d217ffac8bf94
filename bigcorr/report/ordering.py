"""The order of channels in a heat map, and the clusters that are outlined there."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bigcorr.pairs.clusters import cut, link, within

FloatArray = NDArray[np.float64]
Kind = Literal["similarity", "distance"]

_CLUSTERED = 4000


class Clusters(NamedTuple):
    """An order of channels in which similar ones stand together.

    ``order`` are the channel numbers from first to last. ``linkage`` is SciPy's linkage matrix,
    whose leaves are the first ones of `order`, or None where no tree was made. ``labels`` is the
    cluster of each channel, from 1 in that order; 0 for one without a value. ``within`` is the
    mean of the matrix between a channel and the others of its cluster.
    """

    order: NDArray[np.intp]
    linkage: FloatArray | None
    labels: NDArray[np.int64] | None = None
    within: FloatArray | None = None


def cluster(matrix: ArrayLike, kind: Kind = "similarity", *, labelled: bool = False) -> Clusters:
    """Order the channels of a square matrix by average linkage.

    Parameters
    ----------
    matrix : array_like, shape (channel, channel)
        A matrix that is not symmetric is taken by the mean of its two directions.
    kind : what large values mean.
    labelled : also cut the tree, as `bigcorr.cluster_channels` does without a number; up to 4000
        channels.

    Returns
    -------
    Clusters
        Channels with no value at all come last. Leaves are ordered optimally up to 300 channels.
        Of more than 4000 channels an even sample is clustered, and each other channel follows the
        sampled one that it is nearest to; there is no tree then.
    """
    values = np.asarray(matrix, dtype=np.float64)
    size = len(values)
    if size <= _CLUSTERED:
        found = link(values, kind == "distance")
        if not labelled:
            return Clusters(found.order, found.tree)
        labels = cut(found)
        return Clusters(found.order, found.tree, labels, within(found, labels))
    # Every so many channels stand for the others, which follow the one that they are nearest to.
    sample = np.linspace(0, size - 1, _CLUSTERED // 2).astype(int)
    found = link(values[np.ix_(sample, sample)], kind == "distance")
    ordered = sample[found.order[: len(found.members)]]
    if not len(ordered):
        return Clusters(np.arange(size), None)
    near = (values[:, ordered] + values[ordered].T) / 2
    near = near if kind == "distance" else -near
    near[ordered, np.arange(len(ordered))] = -np.inf
    near[np.isnan(near)] = np.inf
    place = np.argmin(near, axis=1)
    silent = np.isposinf(near.min(axis=1))
    place[silent] = len(ordered)
    is_sample = np.isin(np.arange(size), ordered)
    return Clusters(np.lexsort((~is_sample, place)), None)
