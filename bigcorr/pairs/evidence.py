"""From a value and its spread under independence to z, p and q.

Elementwise, and in pieces of any length: the same bits however the pairs are cut. Where the spread
comes from is `significance`'s part.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_PIECE = 2**16


def z_and_p(
    value: FloatArray,
    sd: FloatArray,
    null: FloatArray | None,
    distribution: str,
    n_max: float = np.inf,
    draws: float = np.inf,
) -> tuple[FloatArray, FloatArray]:
    """Standard score and two-sided probability of each value.

    Parameters
    ----------
    value, sd, null : arrays of one shape
        The measure, and its standard deviation and mean under independence; no `null`: 0.
    distribution : {"t", "normal", "shifts", "none"}
        Of the statistic under independence. "t": that of a correlation on the effective sample
        size ``1 + 1 / sd**2``, at most `n_max`. "shifts": null and sd are estimates from so many
        `draws`, so that it is Student's t.

    Returns
    -------
    z, p : float64 arrays of the same shape
        NaN where `sd` is not positive; `p` also where fewer than 3 samples are effective.
    """
    z, p = np.empty(value.shape), np.empty(value.shape)
    arrays = [x.reshape(-1) for x in (value, sd, z, p)]
    means = None if null is None else null.reshape(-1)
    # In pieces that stay in the processor's cache, so that temporaries cost next to nothing.
    for start in range(0, value.size, _PIECE):
        part = slice(start, start + _PIECE)
        v, s = arrays[0][part], arrays[1][part]
        excess = v if means is None else v - means[part]
        spread = np.where(s > 0, s, np.nan)
        arrays[2][part] = excess / spread
        arrays[3][part] = _p(excess, spread, arrays[2][part], distribution, n_max, draws)
    return z, p


def _p(
    excess: FloatArray,
    sd: FloatArray,
    z: FloatArray,
    distribution: str,
    n_max: float,
    draws: float,
) -> FloatArray:
    from scipy import special

    if distribution == "t":
        n_eff = np.minimum(1 + 1 / (sd * sd), n_max)
        freedom = np.where(n_eff > 3, n_eff - 2, np.nan)
        r = np.clip(excess, -1, 1)
        with np.errstate(divide="ignore"):
            t = np.abs(r) * np.sqrt(freedom / ((1 - r) * (1 + r)))
        p: FloatArray = 2 * special.stdtr(freedom, -t)
    elif distribution == "normal":
        p = 2 * special.ndtr(-np.abs(z))
    elif distribution == "shifts":
        p = 2 * special.stdtr(draws - 1, -np.abs(z) / np.sqrt(1 + 1 / draws))
    else:
        p = np.full(z.shape, np.nan)
    return p


class FalseDiscovery:
    """Benjamini and Hochberg's q of a stream of p, from the largest to the smallest.

    Parameters
    ----------
    total : int
        How many p there are in all.
    seen, least : int, float
        Where an earlier stream stopped.

    Notes
    -----
    q of the p of rank k is the least of ``p_j * total / j`` over all ranks j from k up [1]_. Going
    down from the largest p, that is a running minimum, so pieces of any length give the same bits.
    Equal p get equal q in whatever order they come.

    References
    ----------
    .. [1] Benjamini and Hochberg, Controlling the false discovery rate, JRSS B 57, 1995.
    """

    def __init__(self, total: int, seen: int = 0, least: float = 1.0) -> None:
        self.total, self.seen, self.least = total, seen, least

    def __call__(self, p: FloatArray) -> FloatArray:
        """The q of the next p, which are descending and no larger than any before."""
        if not len(p):
            return np.empty(0)
        rank = np.arange(self.total - self.seen, self.total - self.seen - len(p), -1)
        q: FloatArray = np.minimum.accumulate(np.minimum(p * (self.total / rank), self.least))
        self.seen += len(p)
        self.least = float(q[-1])
        return q


def q_values(p: FloatArray) -> FloatArray:
    """q of each p by Benjamini and Hochberg over those that are finite; NaN elsewhere.

    Examples
    --------
    >>> q_values(np.array([0.04, 0.01, np.nan, 0.5])).tolist()
    [0.06, 0.03, nan, 0.5]
    """
    q = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    descending = known[np.argsort(p[known], kind="stable")][::-1]
    q[descending] = FalseDiscovery(len(known))(p[descending])
    return q
