"""Standard errors of similarity between spatially autocorrelated channels.

Under independence the variance of a correlation is the sum over all signed 2-D lags of the product
of the two channels' autocovariances (Clifford, Richardson and Hemon 1989). Here that sum is taken
over frequencies, where the product of two periodograms is never negative, so every pair's variance
is positive; a Gram matrix of binned periodograms gives it for all pairs at once. Windowed NCC is
the same with the spectral matrices of its patches in place of periodograms.

Specs say what a region of the raster contributes; models turn the sums into variances. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.spectra import (
    FrequencyBins,
    PatchField,
    block_means,
    low_modes,
    power_spectrum,
    short_lags,
)
from bigcorr.tiles import Shape

Floats = NDArray[np.float64]
Arrays = dict[str, Floats]

SPECTRUM_REGIONS = 8
"""Most regions whose spectra are taken for one channel of a large raster."""
LAGS = 48
LATTICE = 63
"""Side in windows of the lattices that windowed NCC's covariances are taken from."""
ENERGY_WINDOWS = 256
"""Most windows of a lattice that are looked at in all their modes."""


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
        _, shape = power_spectrum(np.zeros(self.shape), self.padded)
        return FrequencyBins(*shape)

    @cached_property
    def reach(self) -> Shape:
        """Lags of the short-lag part: those that do not wrap around, up to 48."""
        return tuple(
            min(LAGS, max(0, (side - 1) // (1 if self.padded else 2))) for side in self.shape
        )  # type: ignore[return-value]

    @cached_property
    def _all_pairs(self) -> Floats:
        """Pairs of pixels at each short lag where none is missing."""
        height, width = self.shape
        rows = np.arange(-self.reach[0], self.reach[0] + 1)
        columns = np.arange(self.reach[1] + 1)
        if not self.padded:
            return np.full((len(rows), len(columns)), float(height * width))
        return np.outer(height - np.abs(rows), width - columns).astype(np.float64)

    def region(
        self, values: Floats, valid: NDArray[np.uint8] | None, mean: float, sd: float
    ) -> Arrays:
        full = valid is None and values.shape == self.region_shape
        if full:
            field = block_means(values, self.decimate)
            known = np.ones(field.shape)
        else:
            ok, filled = np.zeros(self.region_shape), np.zeros(self.region_shape)
            place = np.s_[: values.shape[0], : values.shape[1]]
            ok[place] = 1.0 if valid is None else valid != 0
            filled[place] = values * ok[place]
            known, field = block_means(ok, self.decimate), block_means(filled, self.decimate)
        # A block's own mean: lower frequencies than its own come from the coarse raster.
        local = mean if self.whole else float(field.sum() / max(known.sum(), 1.0))
        field = (field - local * known) / (sd if sd > 0 else np.inf)
        power, shape = power_spectrum(field, self.padded)
        lags, pairs = np.zeros_like(self._all_pairs), self._all_pairs
        if self.padded or not full:
            # Else all pixels have all neighbours, round the edge, and there is nothing to correct.
            lags = short_lags(power, shape, self.reach)
        if not full:
            pairs = short_lags(power_spectrum(known, self.padded)[0], shape, self.reach)
        return {
            f"{self.name}.power": self.bins.sum(power) / (shape[0] * shape[1]),
            f"{self.name}.lags": lags,
            f"{self.name}.pairs": pairs,
            f"{self.name}.n": np.array([known.sum()]),
        }

    def nbytes(self) -> int:
        bins = len(self.bins.row_starts) * len(self.bins.column_starts)
        return 8 * (bins + 2 * (2 * self.reach[0] + 1) * (self.reach[1] + 1) + 1)


@dataclass(frozen=True)
class PatchSpectrum:
    """How the patches of a region vary together (for windowed NCC).

    The smooth modes of the patches by their covariance at lags of the window lattice, near ones
    one by one and far ones on a widening grid; the other modes by their energy.
    """

    region_shape: Shape
    raster: Shape
    window: int
    stride: int
    contrast_floor: float
    min_valid: float
    whole: bool
    decimate: int

    @property
    def small(self) -> Shape:
        """Window and stride in decimated pixels."""
        return self.window // self.decimate, self.stride // self.decimate

    @cached_property
    def lattice(self) -> Shape:
        return tuple(  # type: ignore[return-value]
            max(0, min(LATTICE, (side - self.window) // self.stride + 1))
            for side in self.region_shape
        )

    @cached_property
    def lags(self) -> tuple[NDArray[np.int64], Floats]:
        """Lags (n, 2) of the half plane, and how many lags of the whole plane each stands for."""
        y, weight_y = _ladder(self.lattice[0])
        x, weight_x = _ladder(self.lattice[1])
        lag = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
        weight = np.outer(weight_y, weight_x).ravel()
        half = (lag[:, 1] > 0) | ((lag[:, 1] == 0) & (lag[:, 0] >= 0))
        double = np.where((lag == 0).all(axis=1), 1.0, 2.0)
        return lag[half], (weight * double)[half]

    @cached_property
    def energy_bins(self) -> NDArray[np.intp]:
        starts = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
        return np.array([k for k in starts if k < self.small[0]], dtype=np.intp)

    @property
    def wants_coarse(self) -> bool:
        return False

    @property
    def name(self) -> str:
        return f"patch.{self.window}.{self.stride}.{self.contrast_floor}.{self.min_valid}"

    def region(
        self, values: Floats, valid: NDArray[np.uint8] | None, mean: float, sd: float
    ) -> Arrays:
        window, stride = self.small
        modes = len(low_modes(window))
        lags, _ = self.lags
        products = np.zeros((len(lags), modes, modes))
        pairs = np.zeros(len(lags))
        energy = np.zeros((window, window))
        known = None
        if valid is None:
            field = block_means(values, self.decimate)
        else:
            share = block_means((valid != 0).astype(np.float64), self.decimate)
            known = (share >= 0.5).astype(np.uint8)
            field = block_means(values * (valid != 0), self.decimate) / np.maximum(share, 0.5)
        field = (field - mean) / (sd if sd > 0 else np.inf)
        span_y, span_x = ((n - 1) * stride + window for n in self.lattice)
        floor = (self.contrast_floor * window) ** 2
        least = max(2, int(np.ceil(self.min_valid * window**2)))
        for y in _starts(field.shape[0], span_y, stride, self.whole):
            for x in _starts(field.shape[1], span_x, stride, self.whole):
                place = np.s_[y : y + span_y, x : x + span_x]
                patches = PatchField.of(
                    field[place], None if known is None else known[place], window, stride,
                    floor, least,
                )  # fmt: skip
                more, count = patches.lag_products(lags)
                products += more
                pairs += count
                total, stands_for = patches.mode_energy(ENERGY_WINDOWS)
                energy += total * stands_for
        for p, q in [(0, 0), *low_modes(window)]:
            energy[p, q] = 0.0
        bins = self.energy_bins
        return {
            f"{self.name}.products": products.reshape(len(lags), -1),
            f"{self.name}.pairs": pairs,
            f"{self.name}.energy": np.add.reduceat(
                np.add.reduceat(energy, bins, axis=0), bins, axis=1
            ),
        }

    def nbytes(self) -> int:
        modes = len(low_modes(self.small[0]))
        return 8 * (len(self.lags[0]) * (modes * modes + 1) + len(self.energy_bins) ** 2)


def _ladder(count: int) -> tuple[NDArray[np.int64], Floats]:
    """Signed lags below `count`: near ones all, far ones spaced by a third; and their widths."""
    steps = [0, 1, 2, 3, 4, 5]
    while steps[-1] < count:
        steps.append(max(steps[-1] + 1, round(steps[-1] * 1.35)))
    up = np.array([s for s in steps if s < max(count // 2, 1)], dtype=np.int64)
    # Each lag stands for those nearer to it than to its neighbours.
    middle = (up[1:] + up[:-1]) / 2
    low = np.concatenate([[-0.5], middle])
    high = np.concatenate([middle, [up[-1] + 0.5]])
    width = high - low
    width[0] = 1.0 if len(up) > 1 else width[0]
    return (
        np.concatenate([-up[:0:-1], up]),
        np.concatenate([width[:0:-1], width]),
    )


def _starts(size: int, span: int, stride: int, both_ends: bool) -> list[int]:
    """Where a lattice of windows is laid along an axis: at both ends, or in the middle."""
    if span > size or span <= 0:
        return []
    last = (size - span) // stride * stride
    if last < span // 2 or not both_ends:
        return [last // 2 // stride * stride]
    return [0, last]


def field_variance(
    sums: Arrays,
    spec: FieldSpectrum,
    coarse: tuple[Floats, NDArray[np.bool_]] | None = None,
) -> tuple[Floats, Floats]:
    """Features whose Gram matrix is the variance of Pearson's r times the number of pixels.

    Parameters
    ----------
    sums : arrays of `FieldSpectrum.region`, summed over regions, with a leading channel axis.
    coarse : (features, keep), optional
        Features of the low frequencies from the coarse raster, (channel, m), and which of the
        region's bins stay beside them.

    Returns
    -------
    spectrum : (channel, m) features of the periodogram, never negative
    lags : (channel, k) features of the short lags, which correct for pixel pairs that the raster's
        edge or missing pixels take away
    """
    number = np.maximum(sums[f"{spec.name}.n"][:, 0].astype(np.float64), 1.0)
    scale = 1.0 / number
    counts = spec.bins.counts
    total = spec.bins.rows * spec.bins.columns
    # The power holds P / M per bin; P / n is the density, and its mean over frequencies 1.
    density = sums[f"{spec.name}.power"] * total * scale[:, None, None]
    features = density / np.sqrt(counts * total)
    if coarse is None:
        spectrum = features.reshape(len(features), -1)
    else:
        spectrum = np.concatenate([coarse[0], features[:, coarse[1]]], axis=1)
    a = np.clip(sums[f"{spec.name}.pairs"] / number[:, None, None], 0.0, None)
    weight = np.maximum(a - a * a, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums[f"{spec.name}.lags"] / sums[f"{spec.name}.pairs"]
        correlation = np.where(a > 1e-3, mean, 0.0)
    # Each lag of the half plane stands for itself and its mirror image.
    double = np.full(spec.reach[1] + 1, 2.0)
    double[0] = 1.0
    lags = correlation * np.sqrt(weight * double)
    return spectrum, lags.reshape(len(lags), -1)


def coarse_features(
    z: NDArray[np.float32],
    valid: Floats,
    mean: Floats,
    sd: Floats,
    spec: FieldSpectrum,
    side: int,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Low-frequency features from the coarse raster, and the region's bins that stay.

    Parameters
    ----------
    z : (channel, cells_y, cells_x) float32, sums of a channel's values over coarse cells
    valid : (cells_y, cells_x) valid pixels of the cells
    mean, sd : (channel,) of the values
    side : pixels along a coarse cell
    """
    rows, columns = spec.bins.index_bounds()
    step_y = 1.0 / (spec.bins.rows * spec.decimate)
    step_x = 1.0 / (spec.bins.columns * spec.decimate)
    cut = 0.25 / side
    low = (rows * step_y <= cut)[:, None] & (columns * step_x <= cut)[None, :]
    _, shape = power_spectrum(np.zeros(z.shape[1:]), True)
    bins = FrequencyBins(*shape)
    fine_y, fine_x = (bound / n for bound, n in zip(bins.index_bounds(), shape, strict=True))
    # The region's bins stand for half a step on either side of them.
    limits = [(np.floor(cut / step) + 0.5) * step * side for step in (step_y, step_x)]
    inside = (fine_y < limits[0])[:, None] & (fine_x < limits[1])[None, :]
    # Averaging over a cell has weakened what is as fine as a few cells.
    droop = (np.sinc(fine_y)[:, None] * np.sinc(fine_x)[None, :]) ** 2
    scale = np.sqrt(bins.counts[inside] * bins.rows * bins.columns) * side * droop[inside]
    scale *= max(float(valid.sum()), 1.0) * spec.decimate
    out = np.empty((len(z), int(inside.sum())))
    for c in range(len(z)):
        power, _ = power_spectrum((z[c] - mean[c] * valid) / sd[c], True)
        out[c] = bins.sum(power)[inside] / scale
    return out, ~low


def patch_variance(sums: Arrays, spec: PatchSpectrum) -> tuple[Floats, Floats, Floats]:
    """Features whose Gram matrices make the variance of a sum of window products, per window.

    Returns
    -------
    lags : (channel, m) of the smooth modes at all lags; its Gram may be negative by chance
    same : (channel, k) of the smooth modes at lag 0: its Gram never is, and bounds it from below
    rest : (channel, r) of the other modes
    """
    lag, weight = spec.lags
    pairs = sums[f"{spec.name}.pairs"]
    products = sums[f"{spec.name}.products"]
    rasters = [(side - spec.window) // spec.stride + 1 for side in spec.raster]
    room = [np.maximum(1 - np.abs(lag[:, axis]) / max(rasters[axis], 1), 0.0) for axis in (0, 1)]
    places = [
        np.maximum(1 - np.abs(lag[:, axis]) / max(spec.lattice[axis], 1), 0.0) for axis in (0, 1)
    ]
    origin = int(np.flatnonzero((lag == 0).all(axis=1))[0])
    whole = np.maximum(pairs[:, [origin]], 1.0)
    # Pairs of valid windows at a lag, against what the lattice's edge alone would leave.
    share = np.minimum(pairs / (whole * np.maximum(places[0] * places[1], 1e-9)), 1.0)
    mean = np.where(pairs[..., None] > 0, products / np.maximum(pairs[..., None], 1.0), 0.0)
    lags = mean * np.sqrt(weight * room[0] * room[1] * share)[..., None]
    window, stride = spec.small
    sizes = np.diff([*spec.energy_bins.tolist(), window])
    inside = np.outer(sizes, sizes).astype(np.float64)
    for p, q in [(0, 0), *low_modes(window)]:
        inside[
            np.searchsorted(spec.energy_bins, p, "right") - 1,
            np.searchsorted(spec.energy_bins, q, "right") - 1,
        ] -= 1
    energy = sums[f"{spec.name}.energy"] / whole[..., None]
    overlap = np.sqrt(_overlap(window, stride))
    rest = energy / np.sqrt(np.maximum(inside, 1.0)) * overlap
    count = len(lags)
    return lags.reshape(count, -1), mean[:, origin], rest.reshape(count, -1)


def _overlap(window: int, stride: int) -> float:
    """How often a pixel pair is counted because windows overlap: about (window / stride)^2."""
    reach = (window - 1) // stride
    along = sum(1 - abs(h) * stride / window for h in range(-reach, reach + 1))
    return along**2
