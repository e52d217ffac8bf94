"""Spearman's rank correlation: Pearson's of mid-ranks over the whole raster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bigcorr.pairs.distribution import Ranks
from bigcorr.pairs.measure import ChannelStatistics, Partial
from bigcorr.pairs.moments import Moments, Pearson
from bigcorr.pairs.selection import Selection
from bigcorr.pairs.summaries import Summary
from bigcorr.pairs.views import ByRank


@dataclass(frozen=True)
class Spearman:
    """Spearman's rank correlation: the Pearson correlation of mid-ranks.

    NaN for a channel that is constant. Where channels miss different pixels a pair is compared over
    the pixels valid in both, by ranks among each channel's own valid pixels: they are ranked once,
    not anew for each pair.

    Notes
    -----
    Exact for whole numbers of at most 16 bits without blur. Other values are ranked by 65 536 bins
    of their standardised float32, values in one bin as ties. A bin spans at most a thousandth of
    the distance from zero where the mean is within two standard deviations of it, else from the
    mean; what is 2^32 times smaller than the largest is in the first one.

    With p the shares of pixels in the bins, a_x^2 the sum of p^3 over the bins of channel x that
    hold several values, and v_x one minus that sum over all bins, the error is at most about
    e_x + e_y with e_x = a_x / sqrt(v_x): 2e-4 for a normal distribution. Where the order within a
    bin says nothing of the other channel it is of the order of e_x / sqrt(n) and e_x^2.

    References
    ----------
    Spearman (1904), "The proof and measurement of association between two things", American
    Journal of Psychology 15.

    Examples
    --------
    >>> import bigcorr as bc
    >>> bc.measures.Spearman()
    Spearman()
    """

    name: ClassVar[str] = "spearman"
    kind: ClassVar[Literal["similarity"]] = "similarity"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    symmetric: ClassVar[bool] = True
    distribution: ClassVar[Literal["none"]] = "none"
    summaries: ClassVar[tuple[Summary, ...]] = (Ranks(),)

    def features(self, raster: tuple[int, int]) -> Moments:
        return Moments(ByRank())

    @property
    def parameters(self) -> dict[str, Any]:
        return {}

    def check(self, shape: tuple[int, int]) -> None:
        """Fits every raster."""

    def coarsened(self, cell: int) -> Spearman:
        """The same question to means of cells of so many pixels a side."""
        return self

    def finalize(
        self, partial: Partial, selection: Selection, rows: slice, statistics: ChannelStatistics
    ) -> NDArray[np.float64]:
        return Pearson().finalize(partial, selection, rows, statistics)
