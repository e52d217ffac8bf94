"""From spectra to the standard errors of the pairs, measure by measure.

Which measure has which standard error, and how the features of `significance` are put together for
all pairs. No pixels and no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bigcorr.pairs.lag_spectra import LagSpectrum, lag_variance
from bigcorr.pairs.measure import ChannelStatistics, Features, Measure, Partial
from bigcorr.pairs.moments import Moments, Pearson
from bigcorr.pairs.neighbours import Lee, Moran
from bigcorr.pairs.patch_spectra import PatchSpectrum, patch_variance
from bigcorr.pairs.selection import CHANNEL_CHUNK, Selection
from bigcorr.pairs.significance import (
    Arrays,
    CoarseRaster,
    FieldSpectrum,
    SpectrumSpec,
    coarse_features,
    field_variance,
    lasting,
    long_waves,
)
from bigcorr.pairs.statistics import REGION, WHOLE_PIXELS
from bigcorr.pairs.windows import NCC
from bigcorr.tiles import Shape, lattice

Floats = NDArray[np.float64]

LASTING = 0.5
"""Part of a channel's variance term from waves of the raster's length above which it is flagged:
fields of correlation lengths up to 1/15 of the side stay below, a trend of 5 to 20 % above."""
FEW_REGIONS = 8
"""Regions along a side up to which spectra are taken of parts of them: there the coarse raster has
cells of 32 pixels, and with it what is as long as a quarter of a part."""
PART = 400
"""Side of these parts, of which each region has two."""
PADDED_PIXELS = 2**18
"""Rasters up to this size are padded for their spectra: lags there are not short beside them."""


def spectra_of(
    measures: Sequence[Measure], raster: Shape, sigma: tuple[float, float] | None
) -> dict[str, SpectrumSpec]:
    """What the spectra pass must take for the standard errors of these measures, by measure."""
    whole = raster[0] * raster[1] <= WHOLE_PIXELS
    region = raster if whole else (min(REGION, raster[0]), min(REGION, raster[1]))
    # A blurred field has nothing finer than a part of sigma.
    finest = 8.0 if whole else 2.5
    decimate = 1 if sigma is None else max(1, int(min(sigma) / finest))
    padded = raster[0] * raster[1] <= PADDED_PIXELS
    field = FieldSpectrum(region, whole, padded, decimate)
    few = not whole and sigma is None and max(raster) <= FEW_REGIONS * REGION
    out: dict[str, SpectrumSpec] = {}
    for measure in measures:
        if isinstance(measure, Pearson):
            # Of each region two parts: where there are few regions and no blur, whole ones would
            # be much of the work, and these resolve what the coarse raster does not.
            part = (min(PART, raster[0]), min(PART, raster[1]))
            out[measure.name] = replace(field, region_shape=part) if few else field
        elif isinstance(measure, (Moran, Lee)):
            squared = isinstance(measure, Lee)
            out[measure.name] = LagSpectrum(field, measure.contiguity, squared)
        elif isinstance(measure, NCC):
            out[measure.name] = PatchSpectrum(
                region,
                raster,
                measure.window,
                measure.stride,
                measure.contrast_floor,
                measure.min_valid,
                whole,
                _common_divisor(measure.window, measure.stride, sigma),
            )
    return out


def null_features(measures: Sequence[Measure]) -> tuple[Features, ...]:
    """Sums that null values need beside those of the measures themselves."""
    return (Moments(),) if any(isinstance(measure, Lee) for measure in measures) else ()


@dataclass(frozen=True)
class PairVariance:
    """Features of all channels whose Gram matrices add up to a variance.

    positive : their Gram is the variance's main part and never negative.
    signed : its Gram may be negative by chance and then counts as nothing beside `positive`.
    both : True if the signed part comes on top of the positive one, False if it replaces it where
        it is larger.
    rest : a further positive part.
    factor : the variance is the sum times this, over the number of pixels or windows.
    number : pixels or windows of the raster.
    twins : features are two halves, and a product is the first half of one channel with the second
        of the other: the mean over who is first.
    lasting : (channel,) part of the variance that stems from waves of the raster's length
    """

    positive: NDArray[np.floating]
    signed: NDArray[np.floating]
    both: bool
    rest: Floats | None
    factor: float
    number: float
    twins: bool = False
    lasting: Floats | None = None

    def rows(self, selection: Selection, rows: slice) -> Floats:
        """Variance of a sum over `number` terms, over `number`, for some rows of the matrix."""
        down = selection.numbers[selection.rows[rows]]
        across = selection.numbers[selection.columns]
        out = np.empty((len(down), len(across)))
        # Whole chunks of channels against whole chunks, the lower one first: the bits of a pair
        # do not depend on the tile or the row of the matrix that it is asked for with.
        for i in np.unique(down // CHANNEL_CHUNK):
            mine = np.flatnonzero(down // CHANNEL_CHUNK == i)
            for j in np.unique(across // CHANNEL_CHUNK):
                theirs = np.flatnonzero(across // CHANNEL_CHUNK == j)
                chunk = self._chunk(min(i, j), max(i, j))
                chunk = chunk if i <= j else chunk.T
                at = np.ix_(down[mine] % CHANNEL_CHUNK, across[theirs] % CHANNEL_CHUNK)
                out[np.ix_(mine, theirs)] = chunk[at]
        return out

    def _chunk(self, i: int, j: int) -> Floats:
        first, second = (slice(k * CHANNEL_CHUNK, (k + 1) * CHANNEL_CHUNK) for k in (i, j))

        def gram(features: NDArray[np.floating]) -> NDArray[np.floating]:
            # A copy keeps BLAS from taking another routine where both are the same.
            if not self.twins:
                return features[first].astype(np.float64) @ features[second].astype(np.float64).T
            half = features.shape[1] // 2
            own, lag = features[:, :half], features[:, half:]
            one = own[first] @ lag[second].T
            other = one.T if i == j else lag[first] @ own[second].T
            return (one + other) / 2

        total, signed = gram(self.positive).astype(np.float64), gram(self.signed)
        total = total + np.maximum(signed, 0.0) if self.both else np.maximum(total, signed)
        if self.rest is not None:
            total = total + gram(self.rest)
        return total * self.factor


def null_values(
    measure: Measure,
    partials: dict[Features, Partial],
    raster: Shape,
    selection: Selection,
    rows: slice,
    statistics: ChannelStatistics,
) -> Floats:
    """Mean of a measure under its null hypothesis, (rows, channel)."""
    if not isinstance(measure, Lee):
        return np.zeros((len(selection.rows[rows]), len(selection.columns)))
    correlation = Pearson().finalize(partials[Moments()], selection, rows, statistics)
    return measure.null(partials[measure.features(raster)], correlation)


def standard_errors(
    measure: Measure, variance: PairVariance, partial: Partial, selection: Selection, rows: slice
) -> Floats:
    """Standard deviation of a measure under independence, (rows, channel); NaN where unknown."""
    total = variance.rows(selection, rows)
    if isinstance(measure, NCC):
        number = np.sqrt(total * variance.number)
        with np.errstate(divide="ignore", invalid="ignore"):
            sd = number / measure.denominator(partial, selection, rows)
    else:
        n = partial["n"][0] + (partial["pair_n"][rows] if "pair_n" in partial else 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            sd = np.sqrt(total / n)
    return np.where((sd > 0) & np.isfinite(sd), sd, np.nan)


def variances(
    measures: Sequence[Measure],
    specs: dict[str, SpectrumSpec],
    sums: Arrays,
    statistics: ChannelStatistics,
    coarse: CoarseRaster | None,
) -> dict[str, PairVariance]:
    """The variances of the measures that have one.

    Parameters
    ----------
    specs, sums : of the spectra pass; `sums` has a leading channel axis.
    statistics : of the whole raster
    coarse : of large rasters, where low frequencies come from.
    """
    out: dict[str, PairVariance] = {}
    for measure in measures:
        spec = specs.get(measure.name)
        if isinstance(spec, (FieldSpectrum, LagSpectrum)):
            out[measure.name] = _field(spec, sums, statistics, coarse)
        elif isinstance(spec, PatchSpectrum):
            lags, same, rest = patch_variance(sums, spec)
            number = float(
                np.prod(
                    [lattice(0, side, spec.window, spec.stride, side)[1] for side in spec.raster]
                )
            )
            out[measure.name] = PairVariance(same, lags, False, rest, 1.0, number)
    return out


def long_range_warnings(found: dict[str, PairVariance], names: Sequence[str]) -> list[str]:
    """A sentence for a person where standard errors rest on waves as long as the raster.

    Independent fields with a trend come out as significantly alike far too often, and no
    standard error can know better: the raster shows one wave of each.
    """
    able = {name: v.lasting for name, v in found.items() if v.lasting is not None}
    if not able or len(names) < 2:
        return []
    share = next(iter(able.values()))
    flagged = np.flatnonzero(share > LASTING)
    if len(flagged) == 0:
        return []
    few = ", ".join(str(names[k]) for k in flagged[:3]) + (", ..." if len(flagged) > 3 else "")
    return [
        f"{len(flagged)} of {len(names)} channels ({few}) vary mostly over the whole length of the "
        "raster, as a gradient does: their autocovariance has not died out within it, and p of "
        f"{', '.join(able)} is too small for them; give --detrend plane (detrend='plane') if such "
        "trends are not what is looked for"
    ]


def _field(
    spec: FieldSpectrum | LagSpectrum,
    sums: Arrays,
    statistics: ChannelStatistics,
    coarse: CoarseRaster | None,
) -> PairVariance:
    low = None
    field = spec if isinstance(spec, FieldSpectrum) else spec.field
    if coarse is not None and spec.wants_coarse:
        sd = np.where(statistics.sd > 0, statistics.sd, 1.0) / statistics.scale
        mean = (statistics.mean - statistics.offset) / statistics.scale
        low = coarse_features(coarse, mean, sd, field)
    number = float(statistics.n.max(initial=0.0))
    twins = isinstance(spec, LagSpectrum)
    features, lags = (
        lag_variance(sums, spec, low)
        if isinstance(spec, LagSpectrum)
        else field_variance(sums, spec, low)
    )
    waves = long_waves(field, low)
    share = lasting(features[:, : len(waves)], waves)
    return PairVariance(features, lags, True, None, float(field.decimate**2), number, twins, share)


def _common_divisor(window: int, stride: int, sigma: tuple[float, float] | None) -> int:
    """By how much a blurred field may be decimated and keep its lattice of windows."""
    most = 1 if sigma is None else max(1, int(min(sigma) / 2.5))
    common = math.gcd(window, stride)
    fits = [d for d in range(1, min(most, window // 8) + 1) if common % d == 0]
    return max(fits, default=1)
