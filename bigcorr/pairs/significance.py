"""Standard errors of similarity between spatially autocorrelated channels.

Under independence the variance of a correlation is the sum over all signed 2-D lags of the product
of the two channels' autocovariances (Clifford, Richardson and Hemon 1989). Here that sum is taken
over frequencies, where the product of two periodograms is never negative, so every pair's variance
is positive; a Gram matrix of binned periodograms gives it for all pairs at once. `lag_spectra` and
`patch_spectra` do the same for measures of neighbours and for windowed NCC.

Specs say what a region of the raster contributes; models turn the sums into variances. No I/O.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.cells import pixel_sum
from bigcorr.kernels.rows import rows_of
from bigcorr.kernels.spectra import (
    FrequencyBins,
    block_means,
    power_spectrum,
    short_lags,
    transform_of,
)
from bigcorr.tiles import Box, Shape

Floats = NDArray[np.float64]
Arrays = dict[str, Floats]

SPECTRUM_REGIONS = 8
"""Most regions whose spectra are taken for one channel of a large raster."""
PART_STEP = 512
"""Pixels from one part of a region to the next, at least: one strip of a block holds it."""
LAGS = 48
_CHANNELS = 256
"""Channels whose features are made at a time."""


class SpectrumSpec(Protocol):
    """What the spectra pass takes from one region of one channel; sums over regions add up."""

    def region(
        self, values: Floats, valid: NDArray[np.uint8] | None, mean: float, sd: float
    ) -> Arrays:
        """Sums over one region; `mean` and `sd` are the channel's over the whole raster."""
        ...

    def nbytes(self) -> int:
        """Bytes of the arrays of one channel."""
        ...

    @property
    def wants_coarse(self) -> bool:
        """Whether low frequencies must come from the coarse raster."""
        ...


@dataclass(frozen=True)
class FieldSpectrum:
    """Binned periodogram and short-lag autocovariance of a region (for Pearson).

    region_shape : of the regions; smaller ones at the raster's edge are padded with missing pixels.
        Of a larger block the `parts` are taken.
    whole : the region is the whole raster.
    padded : with zeros, so that no lag wraps around the edge: for small rasters, where it matters.
    decimate : side of the blocks that are averaged first: a blurred field has nothing finer.
    name : what the names of its arrays begin with.
    """

    region_shape: Shape
    whole: bool
    padded: bool
    decimate: int
    name: str = "field"

    @property
    def wants_coarse(self) -> bool:
        return not self.whole

    @cached_property
    def shape(self) -> Shape:
        return (
            max(1, self.region_shape[0] // self.decimate),
            max(1, self.region_shape[1] // self.decimate),
        )

    @cached_property
    def bins(self) -> FrequencyBins:
        _, shape = transform_of(np.zeros(self.shape), self.padded)
        return FrequencyBins(*shape)

    @cached_property
    def reach(self) -> Shape:
        """Lags of the short-lag part: those that do not wrap around, up to 48."""
        return tuple(
            min(LAGS, max(0, (side - 1) // (1 if self.padded else 2))) for side in self.shape
        )  # type: ignore[return-value]

    @cached_property
    def all_pairs(self) -> Floats:
        """Pairs of pixels at each short lag where none is missing."""
        height, width = self.shape
        rows = np.arange(-self.reach[0], self.reach[0] + 1)
        columns = np.arange(self.reach[1] + 1)
        if not self.padded:
            return np.full((len(rows), len(columns)), float(height * width))
        return np.outer(height - np.abs(rows), width - columns).astype(np.float64)

    def parts(self, shape: Shape) -> list[Box]:
        """The boxes of a block that are looked at: those of a diagonal, one behind the other."""
        height, width = self.region_shape
        boxes = []
        for index, y in enumerate(range(0, shape[0], max(height, PART_STEP))):
            x = index * max(width, PART_STEP)
            x = x if x < shape[1] else max(0, shape[1] - width)
            boxes.append(Box(y, min(y + height, shape[0]), x, min(x + width, shape[1])))
        return boxes

    def in_strips(self, shape: Shape, strip: int) -> bool:
        """Whether every part of a block lies within one of its strips of so many rows."""
        return all(box.y0 // strip == (box.y1 - 1) // strip for box in self.parts(shape))

    def region(
        self, values: Floats, valid: NDArray[np.uint8] | None, mean: float, sd: float
    ) -> Arrays:
        sums: Arrays = {}
        for box in self.parts(values.shape):
            known = None if valid is None else valid[box.slices]
            add_arrays(sums, self.part(values[box.slices], known, mean, sd))
        return sums

    def part(
        self, values: Floats, valid: NDArray[np.uint8] | None, mean: float, sd: float
    ) -> Arrays:
        """What one part adds to the sums of a region.

        ``power`` (bins), ``n`` the valid pixels and 1 for the part; ``lags`` the products of pixels
        at short lags, where these are to be corrected, and ``lacking`` the pairs of pixels at them
        that are not there, where pixels are missing.

        Values that are not finite are missing; `valid` need not say so of parts of a raster.
        """
        # A block's own mean: lower frequencies than its own come from the coarse raster.
        local = mean
        if not self.whole:
            local = pixel_sum(*rows_of(values), *values.shape) / max(values.size, 1)
        if not math.isfinite(local):
            there = np.isfinite(values) & (True if valid is None else valid != 0)
            values, valid = np.where(there, values, 0.0), there.astype(np.uint8)
        if valid is not None and valid.all():
            valid = None
        full = valid is None and values.shape == self.region_shape
        inverse = 1.0 / sd if sd > 0 else 0.0
        if full:
            means = block_means(values, self.decimate)
            number = float(means.size)
        else:
            ok, filled = np.zeros(self.region_shape), np.zeros(self.region_shape)
            place = np.s_[: values.shape[0], : values.shape[1]]
            ok[place] = 1.0 if valid is None else valid != 0
            filled[place] = values * ok[place]
            known, means = block_means(ok, self.decimate), block_means(filled, self.decimate)
            number = float(known.sum())
            local = mean if self.whole else float(means.sum() / max(number, 1.0))
        more: Arrays = {}
        if full and not self.padded:
            # All pixels have all neighbours, round the edge: there is nothing to correct.
            power = self.bins.sampled_power(means, local, inverse)
        else:
            weight = 1.0 if full else known
            field = ((means - local * weight) * inverse).astype(np.float32)
            transform, shape = transform_of(field, self.padded)
            power = self.bins.power(transform)
            more["lags"] = short_lags(transform.real**2 + transform.imag**2, shape, self.reach)
        if not full:
            pairs = short_lags(power_spectrum(known, self.padded)[0], shape, self.reach)
            more["lacking"] = self.all_pairs - pairs
        power /= self.bins.rows * self.bins.columns
        found = {"power": power, "n": np.array([number, 1.0]), **more}
        return {f"{self.name}.{name}": array for name, array in found.items()}

    def nbytes(self) -> int:
        bins = len(self.bins.row_starts) * len(self.bins.column_starts)
        return 8 * (bins + 2 * (2 * self.reach[0] + 1) * (self.reach[1] + 1) + 2)


def add_arrays(total: Arrays, part: Arrays) -> None:
    """Add arrays to those of the same names."""
    for name, array in part.items():
        total[name] = total[name] + array if name in total else array


def field_variance(
    sums: Arrays,
    spec: FieldSpectrum,
    coarse: CoarseFeatures | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features whose Gram matrix is the variance of Pearson's r times the number of pixels.

    Parameters
    ----------
    sums : arrays of `FieldSpectrum.region`, summed over regions, with a leading channel axis.
    coarse : of large rasters, where low frequencies come from the coarse raster.

    Returns
    -------
    spectrum : (channel, m) float32, features of the periodogram, never negative
    lags : (channel, k) float32, features of the short lags, which correct for pixel pairs that the
        raster's edge or missing pixels take away

    Notes
    -----
    Thousands of numbers a channel: of tens of thousands of channels no second copy is held.
    """
    channels = len(sums[f"{spec.name}.n"])
    width = math.prod(sums[f"{spec.name}.power"].shape[1:])
    if coarse is not None:
        width = coarse.features.shape[1] + int(coarse.keep.sum())
    spectrum = np.empty((channels, width), np.float32)
    corrected = f"{spec.name}.lags" in sums  # else no part was short of a pair of pixels
    lags = np.empty((channels, spec.all_pairs.size if corrected else 0), np.float32)
    for start in range(0, channels, _CHANNELS):
        part = slice(start, start + _CHANNELS)
        far = None if coarse is None else coarse._replace(features=coarse.features[part])
        own = {name: array[part] for name, array in sums.items() if name.startswith(spec.name)}
        spectrum[part] = _waves(own, spec, far)
        if corrected:
            lags[part] = _corrections(own, spec)
    return spectrum, lags


def _waves(sums: Arrays, spec: FieldSpectrum, coarse: CoarseFeatures | None) -> Floats:
    """Features of the periodograms of some channels."""
    number = np.maximum(sums[f"{spec.name}.n"][:, 0].astype(np.float64), 1.0)
    scale = 1.0 / number
    counts = spec.bins.counts
    total = spec.bins.rows * spec.bins.columns
    # The power holds P / M per bin; P / n is the density, and its mean over frequencies 1.
    density = sums[f"{spec.name}.power"] * total * scale[:, None, None]
    features = density / np.sqrt(counts * total)
    if coarse is None:
        return features.reshape(len(features), -1)
    return np.concatenate([coarse.features, features[:, coarse.keep]], axis=1)


def _corrections(sums: Arrays, spec: FieldSpectrum) -> Floats:
    """Features of the short lags of some channels."""
    number, parts = (each.astype(np.float64)[:, None, None] for each in sums[f"{spec.name}.n"].T)
    number = np.maximum(number, 1.0)
    pairs = parts * spec.all_pairs
    if f"{spec.name}.lacking" in sums:
        pairs -= sums[f"{spec.name}.lacking"]
    a = np.clip(pairs / number, 0.0, None)
    weight = np.maximum(a - a * a, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums[f"{spec.name}.lags"] / pairs
        correlation = np.where(a > 1e-3, mean, 0.0)
    # Each lag of the half plane stands for itself and its mirror image.
    double = np.full(spec.reach[1] + 1, 2.0)
    double[0] = 1.0
    lags: Floats = correlation * np.sqrt(weight * double)
    return lags.reshape(len(lags), -1)


def lasting(features: NDArray[np.floating], low: NDArray[np.bool_]) -> Floats:
    """Part of a channel's variance term that stems from waves of the raster's length, (channel,).

    Of a field whose autocovariance dies out within the raster it is small; a gradient's is near 1.

    Parameters
    ----------
    features : (channel, m) of the spectrum, as `field_variance` gives them
    low : (m,) of `long_waves`
    """
    out = np.zeros(len(features))
    for start in range(0, len(features), _CHANNELS):
        square = features[start : start + _CHANNELS].astype(np.float64) ** 2
        total = square.sum(axis=1)
        share = square[:, low].sum(axis=1) / np.where(total > 0, total, 1.0)
        out[start : start + _CHANNELS] = np.where(total > 0, share, 0.0)
    return out


def long_waves(spec: FieldSpectrum, coarse: CoarseFeatures | None) -> NDArray[np.bool_]:
    """Which features of a spectrum have at most one wave along either side of the raster."""
    if coarse is not None:
        return np.concatenate([coarse.low, np.zeros(int(coarse.keep.sum()), dtype=bool)])
    rows, columns = spec.bins.index_bounds()
    most_y, most_x = spec.bins.rows / spec.shape[0], spec.bins.columns / spec.shape[1]
    return ((rows <= most_y)[:, None] & (columns <= most_x)[None, :]).ravel()


class CoarseFeatures(NamedTuple):
    """Low frequencies of large rasters.

    features : (channel, m) from the coarse raster
    keep : which bins of the regions stay beside them
    low : (m,) those of at most one wave along either side of the raster
    """

    features: Floats
    keep: NDArray[np.bool_]
    low: NDArray[np.bool_]


class CoarseRaster(NamedTuple):
    """Channels over coarse cells.

    parts : numbers of some channels and their (channel, cells_y, cells_x) float32 sums of z, again
        and again until all have come: those of all channels may not fit in memory.
    valid : (cells_y, cells_x) valid pixels of the cells
    side : pixels along a cell
    """

    parts: Callable[[], Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]]
    valid: Floats
    side: int


def coarse_features(
    coarse: CoarseRaster, mean: Floats, sd: Floats, spec: FieldSpectrum
) -> CoarseFeatures:
    """Low-frequency features from the coarse raster.

    Parameters
    ----------
    mean, sd : (channel,) of z
    """
    valid, side = coarse.valid, coarse.side
    rows, columns = spec.bins.index_bounds()
    step_y = 1.0 / (spec.bins.rows * spec.decimate)
    step_x = 1.0 / (spec.bins.columns * spec.decimate)
    cut = 0.25 / side
    low = (rows * step_y <= cut)[:, None] & (columns * step_x <= cut)[None, :]
    _, shape = transform_of(np.zeros(valid.shape), True)
    bins = FrequencyBins(*shape)
    fine_y, fine_x = (bound / n for bound, n in zip(bins.index_bounds(), shape, strict=True))
    # The region's bins stand for half a step on either side of them.
    limits = [(np.floor(cut / step) + 0.5) * step * side for step in (step_y, step_x)]
    inside = (fine_y < limits[0])[:, None] & (fine_x < limits[1])[None, :]
    # Averaging over a cell has weakened what is as fine as a few cells.
    droop = (np.sinc(fine_y)[:, None] * np.sinc(fine_x)[None, :]) ** 2
    scale = np.sqrt(bins.counts[inside] * bins.rows * bins.columns) * side * droop[inside]
    scale *= max(float(valid.sum()), 1.0) * spec.decimate
    out = np.zeros((len(mean), int(inside.sum())))
    for numbers, cells in coarse.parts():
        for c, z in zip(numbers, cells, strict=True):
            transform, _ = transform_of((z - mean[c] * valid) / sd[c], True)
            out[c] = bins.power(transform)[inside] / scale
    long = [1.0 / cells for cells in valid.shape]
    waves = ((fine_y <= long[0])[:, None] & (fine_x <= long[1])[None, :])[inside]
    return CoarseFeatures(out, ~low, waves)
