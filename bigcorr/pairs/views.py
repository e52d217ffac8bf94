"""Other faces of a tile: values replaced by ranks, or set to zero below a quantile.

Features that have a `view` see the tile through it, so that a measure of ranks is a measure of
values and nothing more. The memory for one such tile is lent by the pair pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.bins import keep_from, look_up
from bigcorr.kernels.cells import NO_MASK
from bigcorr.pairs.distribution import Binning, Ranks, Threshold
from bigcorr.pairs.measure import PairTile


def _mask(tile: PairTile, channel: int) -> tuple[NDArray[np.uint8], bool]:
    planes = len(tile.valid)
    return (tile.valid[min(channel, planes - 1)], True) if planes else (NO_MASK, False)


@dataclass(frozen=True)
class ByRank:
    """Mid-ranks among the channel's own valid pixels, as `Ranks` scales them."""

    def show(self, tile: PairTile, out: NDArray[np.floating]) -> None:
        statistics = tile.statistics
        nothing = np.zeros((1, 1), tile.z.dtype)
        for c, table in enumerate(statistics.known.each(Ranks())):
            by = Binning.of(statistics, c, skewed=True)
            bins = (by.whole, by.lowest, by.offset, by.scale, np.float32(by.shift), by.base, table)
            valid, masked = _mask(tile, c)
            if not tile.marks[c].any():
                out[c] = 0
                look_up(nothing, NO_MASK, False, *bins, nothing)
                if nothing[0, 0] == 0:
                    continue
                nothing[:] = 0
            look_up(tile.z[c], valid, masked, *bins, out[c])


@dataclass(frozen=True)
class FromQuantile:
    """Values below the channel's quantile set to zero."""

    threshold: Threshold

    def show(self, tile: PairTile, out: NDArray[np.floating]) -> None:
        statistics = tile.statistics
        least = statistics.known.of(self.threshold)
        zero = (0.0 - statistics.offset) / statistics.scale
        for c, z in enumerate(tile.z):
            valid, masked = _mask(tile, c)
            keep_from(z, valid, masked, float(least[c]), float(zero[c]), out[c])
