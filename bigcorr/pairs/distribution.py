"""Distributions of whole channels: mid-ranks and quantiles over all pixels, from 65 536 bins.

Exact for whole numbers of at most 16 bits. Of other values ranks are those of bins that span at
most a thousandth of the distance from zero or from the channel's mean; quantiles take a second
pass over the one bin that they lie in, and are exact in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.bins import (
    BINS,
    ZERO_BIN,
    base_of,
    count_bins,
    count_within,
    float_bin,
    magnitudes_of,
)
from bigcorr.kernels.cells import NO_MASK
from bigcorr.pairs.measure import ChannelStatistics
from bigcorr.pairs.summaries import ChannelTile, Summary

COUNTS = np.dtype(np.int64)
PARTS = 8192
"""Parts of a bin: as many as float32 has numbers in a bin that is not an outermost one."""
NEAR = 2.0
"""Zero is where bins are finest if it is within so many standard deviations of the mean: there
lie the tails of sparse counts after a blur, and no more than the tail of anything else."""
BACKGROUND = 0.5
"""Zeros that are at least this part of a channel have rank 0, so that empty places cost nothing."""


@dataclass(frozen=True)
class Binning:
    """How the values of one channel are binned: by float32 z + shift where not whole numbers."""

    whole: bool
    lowest: int
    offset: float
    scale: float
    shift: float
    base: int

    @classmethod
    def of(cls, statistics: ChannelStatistics, row: int, skewed: bool = False) -> Binning:
        """The bins of one of the channels; `skewed`: finest near zero where it is not far off."""
        offset, scale = float(statistics.offset[row]), float(statistics.scale[row])
        near = abs(statistics.mean[row]) <= NEAR * statistics.sd[row]
        origin = 0.0 if skewed and near else offset
        ends = (statistics.minimum[row] - origin, statistics.maximum[row] - origin)
        lowest = statistics.lowest
        return cls(
            whole=lowest is not None,
            lowest=lowest or 0,
            offset=offset,
            scale=scale,
            shift=(offset - origin) / scale,
            base=base_of(float(np.abs(ends).max()) / scale),
        )

    @property
    def background(self) -> int:
        """The bin of the value 0, or -1 where the channel's type has none."""
        if self.whole:
            return -self.lowest
        z = np.float32((0.0 - self.offset) * (1.0 / self.scale)) + np.float32(self.shift)
        return int(float_bin(int(z.view(np.uint32)), self.base))


@dataclass(frozen=True)
class Histogram:
    """Pixels by bin, and behind them the number of pixels that are exactly 0.

    skewed : as in `Binning.of`.
    """

    skewed: bool = False
    margin: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        return COUNTS

    def shape(self, raster: tuple[int, int]) -> tuple[int, ...]:
        return (BINS + 1,)

    def add(self, total: NDArray[Any], tile: ChannelTile) -> None:
        by = Binning.of(tile.statistics, tile.row, self.skewed)
        if tile.empty:
            total[by.background] += tile.count
            total[BINS] += tile.count
            return
        mask = NO_MASK if tile.valid is None else tile.valid
        count_bins(
            tile.values, mask, tile.valid is not None, by.whole, by.lowest, by.offset,
            1.0 / by.scale, np.float32(by.shift), by.base, total,
        )  # fmt: skip

    def workspace_bytes(self, pixels: int) -> int:
        return 0

    def idle(self, integers: bool) -> bool:
        return False


@dataclass(frozen=True)
class Ranks:
    """What each bin stands for when values are replaced by their mid-ranks.

    (channel, bins) float32: ranks in units of their standard deviation, about their mean or, where
    at least half of the pixels are zero, about the rank of zero. Bins behind the last one that
    occurs are left out. All 0 for a channel that is constant or has no pixels.
    """

    @property
    def tally(self) -> Histogram:
        return Histogram(skewed=True)

    @property
    def needs(self) -> tuple[Summary, ...]:
        return ()

    def finish(self, total: NDArray[Any], statistics: ChannelStatistics) -> NDArray[Any]:
        counts = total[:, :BINS]
        used = np.flatnonzero(counts.any(axis=0))
        last = int(used[-1]) + 1 if len(used) else 1
        out = np.zeros((len(total), last), np.float32)
        for row, count in enumerate(counts[:, :last].astype(np.float64)):
            n = count.sum()
            if n == 0:
                continue
            # Twice the mid-rank about twice its mean: whole numbers, exact.
            ranks = 2 * np.cumsum(count) - count - n
            sd = np.sqrt((count * ranks**2).sum() / n)
            if sd == 0:
                continue
            zero = Binning.of(statistics, row, skewed=True).background
            if zero < last and count[zero] >= BACKGROUND * n:
                ranks -= ranks[zero]
            out[row] = ranks / sd
        return out


@dataclass(frozen=True)
class Place:
    """Where a quantile lies: (channel, 2) its bin and how many of the bin's pixels are before it.

    NaN for a channel without such pixels.
    """

    q: float
    nonzero: bool

    @property
    def tally(self) -> Histogram:
        return Histogram()

    @property
    def needs(self) -> tuple[Summary, ...]:
        return ()

    def finish(self, total: NDArray[Any], statistics: ChannelStatistics) -> NDArray[Any]:
        out = np.full((len(total), 2), np.nan)
        for row in range(len(total)):
            count = total[row, :BINS].copy()
            if self.nonzero and total[row, BINS]:
                count[Binning.of(statistics, row).background] -= total[row, BINS]
            before = np.cumsum(count)
            n = int(before[-1])
            if n == 0:
                continue
            # numpy.quantile draws a line between two order statistics: what is not below it is
            # what is not below the second one, unless it lies on the first.
            position = (n - 1) * self.q
            order = int(np.ceil(position))
            index = int(np.searchsorted(before, order, side="right"))
            out[row] = index, order - (before[index] - count[index])
        return out


@dataclass(frozen=True)
class Within:
    """Pixels of the bin of a quantile by parts of the bin."""

    place: Place
    margin: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        return COUNTS

    def shape(self, raster: tuple[int, int]) -> tuple[int, ...]:
        return (PARTS,)

    def add(self, total: NDArray[Any], tile: ChannelTile) -> None:
        if tile.empty and self.place.nonzero:
            return
        index = tile.statistics.known.select([tile.row]).of(self.place)[0, 0]
        if np.isnan(index) or index == ZERO_BIN:
            return
        by = Binning.of(tile.statistics, tile.row)
        low, high, shift = _parts(int(index), by)
        mask = NO_MASK if tile.valid is None else tile.valid
        count_within(
            tile.values, mask, tile.valid is not None, self.place.nonzero, by.offset,
            1.0 / by.scale, low, high, shift, index < ZERO_BIN, total,
        )  # fmt: skip

    def workspace_bytes(self, pixels: int) -> int:
        return 0

    def idle(self, integers: bool) -> bool:
        return integers


def _parts(index: int, by: Binning) -> tuple[int, int, int]:
    low, high = magnitudes_of(index, by.base)
    return low, high, max(0, int(high - low - 1).bit_length() - (PARTS.bit_length() - 1))


@dataclass(frozen=True)
class Threshold:
    """The least float32 z that is not below a quantile, (channel,); NaN where there is none.

    Parameters
    ----------
    q : float
        In [0, 1], as in `numpy.quantile`.
    nonzero : bool
        Of the pixels that are not 0, instead of all valid ones. Where the quantile falls between
        the last of negative and the first of positive values, zero counts as below it.
    """

    q: float
    nonzero: bool = False

    @property
    def _place(self) -> Place:
        return Place(self.q, self.nonzero)

    @property
    def tally(self) -> Within:
        return Within(self._place)

    @property
    def needs(self) -> tuple[Summary, ...]:
        return (self._place,)

    def finish(self, total: NDArray[Any], statistics: ChannelStatistics) -> NDArray[Any]:
        out = np.full(len(total), np.nan)
        for row, (place, before) in enumerate(statistics.known.of(self._place)):
            if np.isnan(place):
                continue
            index, by = int(place), Binning.of(statistics, row)
            if by.whole:
                out[row] = (index + by.lowest - by.offset) / by.scale
                continue
            if index == ZERO_BIN:
                out[row] = 0.0
                continue
            low, high, shift = _parts(index, by)
            part = int(np.searchsorted(np.cumsum(total[row]), before, side="right"))
            if index < ZERO_BIN:
                out[row] = -_float(high - 1 - (part << shift))
            else:
                out[row] = _float(low + (part << shift))
        return out


def _float(bits: int) -> float:
    return float(np.uint32(bits).view(np.float32))
