"""Channel statistics: which regions they are taken from, and how regions add up.

The statistics pass looks at canonical regions of the global grid: the whole raster where it is
small, else blocks of 1024 pixels, up to 64 occupied ones a channel. Pure arithmetic: no I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.cells import FloatArray, pixel_moments
from bigcorr.pairs.measure import ChannelStatistics
from bigcorr.tiles import Box, grid

WHOLE_PIXELS = 2**21
"""Rasters up to this size are one region."""
REGION = 1024
SAMPLE = 64
"""Most occupied regions that are looked at for one channel."""

PROBES = 8
"""Most of these regions of which a part is looked at where that is enough."""


@dataclass(frozen=True)
class RegionSample:
    """Which regions of the raster the statistics of each channel come from.

    regions : the boxes, in row-major order.
    occupied : (channel, region) bool, False where a channel is known to be zero.
    chosen : (channel, region) bool, a subset of `occupied`.
    """

    regions: tuple[Box, ...]
    occupied: NDArray[np.bool_]
    chosen: NDArray[np.bool_]

    @property
    def complete(self) -> NDArray[np.bool_]:
        """(channel,) whether every occupied region was chosen."""
        return (self.chosen == self.occupied).all(axis=1)


def regions_of(raster: tuple[int, int]) -> tuple[Box, ...]:
    """The canonical regions of a raster of this shape."""
    if raster[0] * raster[1] <= WHOLE_PIXELS:
        return (Box(0, raster[0], 0, raster[1]),)
    return tuple(grid(raster, REGION))


def probes(regions: tuple[Box, ...]) -> tuple[Box, ...]:
    """A part of each region, which tells the level and spread of its values well enough.

    That is all that some measures need to know beforehand: of values of any unit they make the
    same matrix. A quarter of each is read, now of one corner, now of another.
    """
    parts = []
    for index, region in enumerate(regions):
        down, right = (index // 2) % 2, index % 2
        y0, y1 = _half(region.y0, region.y1, down)
        x0, x1 = _half(region.x0, region.x1, right)
        parts.append(Box(y0, y1, x0, x1))
    return tuple(parts)


def _half(start: int, stop: int, second: int) -> tuple[int, int]:
    """One half of an axis of a whole region; all of an axis that is cut short."""
    if stop - start < REGION:
        return start, stop
    middle = start + REGION // 2
    return (middle, stop) if second else (start, middle)


def sample_regions(
    raster: tuple[int, int],
    channels: int,
    occupied: Callable[[Box], NDArray[np.bool_] | None],
) -> RegionSample:
    """Choose up to 64 occupied regions for each channel, evenly spread in row-major order.

    Parameters
    ----------
    occupied : callable
        Box to (channel,) bool or None, as `RasterSource.occupied`; the box has the blur's halo.
    """
    regions = regions_of(raster)
    known = np.ones((channels, len(regions)), dtype=bool)
    for index, region in enumerate(regions):
        answer = occupied(region)
        if answer is not None:
            known[:, index] = answer
    chosen = known.copy()
    for channel in np.flatnonzero(known.sum(axis=1) > SAMPLE):
        where = np.flatnonzero(known[channel])
        keep = where[np.linspace(0, len(where) - 1, SAMPLE).round().astype(int)]
        chosen[channel] = False
        chosen[channel, keep] = True
    return RegionSample(regions, known, chosen)


def thin(chosen: NDArray[np.bool_], most: int) -> NDArray[np.bool_]:
    """At most `most` of the chosen regions of each channel, evenly spread; (channel, region)."""
    out = chosen.copy()
    for channel in np.flatnonzero(chosen.sum(axis=1) > most):
        where = np.flatnonzero(chosen[channel])
        out[channel] = False
        out[channel, where[np.linspace(0, len(where) - 1, most).round().astype(int)]] = True
    return out


def region_moments(values: NDArray[Any], valid: NDArray[np.uint8] | None) -> FloatArray:
    """``[n, mean, sum of squares about the mean, minimum, maximum]`` of one region."""
    x = values.reshape(-1) if valid is None else values[valid != 0]
    if x.size == 0:
        return np.array([0.0, 0.0, 0.0, np.inf, -np.inf])
    return np.array([x.size, *pixel_moments(x)])


def combine(
    moments: NDArray[np.float64], sample: RegionSample, valid_pixels: NDArray[np.float64]
) -> ChannelStatistics:
    """Channel statistics from the moments of the chosen regions.

    Parameters
    ----------
    moments : (channel, region, 5)
        As `region_moments` gives them, in the rows that `sample` chose.
    valid_pixels : (region,)
        Pixels of each region that the shared mask leaves; a region known to be empty is that many
        zeros. Where only some occupied regions were chosen they stand for the others.
    """
    channels = len(moments)
    out = {k: np.zeros(channels) for k in ("n", "mean", "sd", "minimum", "maximum")}
    for c in range(channels):
        chosen, rest = sample.chosen[c], ~sample.occupied[c]
        n, mean, ss, low, high = moments[c, chosen].T if chosen.any() else np.zeros((5, 1))
        if not chosen.any():
            low, high = np.array([np.inf]), np.array([-np.inf])
        weight = valid_pixels[sample.occupied[c]].sum() / max(valid_pixels[chosen].sum(), 1.0)
        zeros = float(valid_pixels[rest].sum())
        known = float(n.sum()) * weight
        total = known + zeros
        if total == 0:
            out["minimum"][c] = out["maximum"][c] = np.nan
            continue
        grand = float((n * mean).sum()) * weight / total
        about = float((ss + n * (mean - grand) ** 2).sum()) * weight + zeros * grand**2
        out["n"][c], out["mean"][c], out["sd"][c] = total, grand, np.sqrt(about / total)
        out["minimum"][c] = min(low.min(), 0.0) if zeros else low.min()
        out["maximum"][c] = max(high.max(), 0.0) if zeros else high.max()
    return _with_scale(**out)


def _with_scale(
    n: FloatArray, mean: FloatArray, sd: FloatArray, minimum: FloatArray, maximum: FloatArray
) -> ChannelStatistics:
    """Choose offset and scale: exact in float32, and zero where zero is the background.

    An offset of 0 keeps empty places exactly zero, so that they cost nothing; while the mean is
    within half a standard deviation of 0 it costs no precision worth naming. Scales are powers of
    two and offsets multiples of them, so that z of integers is exact.
    """
    largest = np.maximum(np.abs(minimum), np.abs(maximum))
    largest = np.where(np.isfinite(largest), largest, 0.0)
    varies = sd > 1e-12 * largest
    size = np.where(varies, sd, np.where(largest > 0, largest, 1.0))
    scale = np.exp2(np.round(np.log2(size)))
    offset = np.where(np.abs(mean) <= sd / 2, 0.0, np.round(mean / scale) * scale)
    return ChannelStatistics(
        n=n,
        mean=mean,
        sd=np.where(varies, sd, 0.0),
        minimum=minimum,
        maximum=maximum,
        offset=np.where(varies, offset, np.where(np.isfinite(mean), mean, 0.0)),
        scale=scale,
    )
