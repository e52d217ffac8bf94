"""The stages of one blur: statistics, spectra, and the pair pass over all tiles of the matrix.

Which units there are, and how their arrays are put together. What a unit computes is in `passes`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.pairs.measure import ChannelStatistics, Features, Partial
from bigcorr.pairs.moments import Moments
from bigcorr.pairs.neighbours import Lags
from bigcorr.pairs.selection import Selection
from bigcorr.pairs.significance import SPECTRUM_REGIONS, SpectrumSpec
from bigcorr.pairs.statistics import RegionSample, combine, probes, sample_regions
from bigcorr.pairs.summaries import idle, rounds_of
from bigcorr.pairs.trend import ORDERS
from bigcorr.pairs.variance import PairVariance, long_range_warnings, spectra_of, variances
from bigcorr.run.checkpoint import Arrays, Checkpoint
from bigcorr.run.cluster import Pool
from bigcorr.run.loader import TileLoader
from bigcorr.run.passes import PairSpec, pair_unit, spectra_unit, statistics_unit
from bigcorr.run.plan import Plan, channels_a_unit, coarse_side
from bigcorr.run.progress import Progress
from bigcorr.run.question import PairsQuestion
from bigcorr.run.shift_stage import ShiftFold, shift_unit, shift_units
from bigcorr.run.stages import Fold, Section, run_stage
from bigcorr.run.summaries import summarise
from bigcorr.run.trend_stage import trend_unit, trend_units, trends
from bigcorr.tiles import Box

REGIONS_A_UNIT = 8


@dataclass(frozen=True)
class Blur:
    """The sums of one blur, from which matrices are made.

    tiles : the tiles of the matrix with their sums, which are loaded when wanted.
    shifted : of each tile the moments of the values of shifted channels, if asked for.
    """

    features: tuple[Features, ...]
    tiles: list[tuple[Selection, Section]]
    statistics: ChannelStatistics
    variances: dict[str, PairVariance]
    counts: NDArray[np.float64] | None
    timings: dict[str, float]
    units: int
    found: int
    warnings: tuple[str, ...] = ()
    shifted: list[Section] | None = None

    def partials(self, section: Section) -> dict[Features, Partial]:
        """The sums of one tile by the features that they belong to."""
        arrays = section.load()
        return {
            features: {
                name.partition(".")[2]: array
                for name, array in arrays.items()
                if name.startswith(f"{index}.")
            }
            for index, features in enumerate(self.features)
        }


def one_blur(
    asked: PairsQuestion,
    sigma: tuple[float, float] | None,
    plan: Plan,
    pool: Pool,
    checkpoint: Checkpoint | None,
    progress: Progress,
    prefix: str,
) -> Blur:
    """Statistics, spectra and pair pass of one blur.

    `prefix` stands before the names of the stages where there are several blurs.
    """
    loader = asked.loader(sigma)
    sample = sample_of(loader)
    specs = spectra_of(asked.measures, loader.raster, sigma) if asked.analytic else {}
    timings: dict[str, float] = {}
    counted = [0, 0]

    def stage(
        name: str,
        function: Callable[..., Arrays],
        units: list[tuple],
        fold: Fold,
        sections: list[int] | None = None,
        finish: Callable[[int, Arrays], Arrays] | None = None,
    ) -> list[Section]:
        parts, found = run_stage(
            pool,
            f"{prefix}{name}",
            function,
            units,
            fold,
            sections=sections,
            finish=finish,
            checkpoint=checkpoint,
            progress=progress,
        )
        counted[0] += len(units)
        counted[1] += found
        for part in parts:
            for key, seconds in part.load(prefix="time.").items():
                timings[key[5:]] = timings.get(key[5:], 0.0) + float(seconds)
        return parts

    order = ORDERS[asked.detrend]
    if order:
        units, places = trend_units(loader, _groups(asked.channels, channels_a_unit(sample)), order)
        part = stage("trend", trend_unit, units, _ChannelFold(asked.channels, places, 0))
        loader = replace(loader, trends=trends(part[0].load(), order, loader.raster))
        sample = sample_of(loader)

    # Statistics: moments of the chosen regions, then their spectra, which need mean and sd.
    groups = _groups(asked.channels, channels_a_unit(sample))
    regions = len(sample.regions)
    look = sample if _wants_statistics(asked) else replace(sample, regions=probes(sample.regions))
    units, places = _region_units(loader, groups, look, sample.chosen)
    fold = _ChannelFold(asked.channels, places, regions)
    total = stage("statistics", statistics_unit, units, fold)[0].load()
    valid = np.array([_valid_pixels(loader, region) for region in sample.regions])
    moments = total.get("moments", np.zeros((asked.channels, regions, 5)))
    if look is not sample:
        seen = np.array([_valid_pixels(loader, region) for region in look.regions])
        moments[:, :, [0, 2]] *= (valid / np.maximum(seen, 1.0))[None, :, None]
    statistics = combine(moments, sample, valid)

    sums: Arrays = {}
    if specs:
        some = _thin(sample.chosen, SPECTRUM_REGIONS)
        units, places = _region_units(loader, groups, sample, some)
        units = [(*unit, statistics.select(unit[1]), tuple(specs.values())) for unit in units]
        fold = _ChannelFold(asked.channels, places, 0)
        sums = stage("spectra", spectra_unit, units, fold)[0].load()

    statistics = replace(statistics, lowest=loader.lowest)
    statistics = summarise(rounds_of(asked.measures), loader, statistics, stage)

    coarse = coarse_side(loader.raster) if _wants_coarse(specs) else 0
    tiles = asked.tiles(plan.group)
    features = asked.features()
    # No tile is wanted where all is in the summaries, unless channels are to be counted.
    blocks = plan.blocks if asked.counts is None or not idle(features) else []
    units = []
    known_specs = []
    for tile in tiles:
        count = asked.counts is None and tile.first
        spec = PairSpec(features, tile, plan.strip, count, coarse if tile.first else 0, plan.wide)
        known = statistics.select(tile.numbers)
        known_specs.append((spec, known))
        units += [(loader, block, spec, known) for block in blocks]
    # Units of another tiling of the matrix are other units: they have a folder of their own.
    sections = stage(
        "pairs" if plan.group is None else f"pairs by {plan.group}",
        pair_unit,
        units,
        _PairFold(blocks, loader.raster, coarse),
        [len(blocks)] * len(tiles),
    )
    shifted = None
    if asked.n_shifts:
        draws = asked.n_shifts
        by_draws = ShiftFold(
            asked.measures, features, loader.raster, tuple(known_specs), len(blocks), draws
        )
        shifted = stage(
            "shifts" if plan.group is None else f"shifts by {plan.group}",
            shift_unit,
            shift_units(loader, known_specs, blocks, draws, asked.shift_seed),
            by_draws,
            [len(blocks) * draws] * len(tiles),
        )
    counts = np.zeros(asked.channels) if asked.counts is None else None
    low = np.zeros((0, 0, 0), np.float32)
    for tile, section in zip(tiles, sections, strict=True):
        arrays = section.load(["count", "coarse"])
        numbers = tile.numbers[tile.columns]
        if counts is not None and "count" in arrays:
            counts[numbers] = arrays["count"][tile.columns]
        if "coarse" in arrays:
            if not low.size:
                low = np.zeros((asked.channels, *arrays["coarse"].shape[1:]), np.float32)
            low[numbers] = arrays["coarse"][tile.columns]
    start = time.perf_counter()
    cells = (low, _coarse_valid(loader, coarse), coarse) if coarse else None
    found_variances = variances(asked.measures, specs, sums, statistics, cells)
    timings["significance"] = time.perf_counter() - start
    warnings = long_range_warnings(found_variances, asked.source.channels)
    for warning in warnings:
        progress.note(warning)
    return Blur(
        features=features,
        tiles=list(zip(tiles, sections, strict=True)),
        statistics=statistics,
        variances=found_variances,
        counts=counts,
        timings=timings,
        units=counted[0],
        found=counted[1],
        warnings=tuple(warnings),
        shifted=shifted,
    )


class _ChannelFold:
    """Puts the rows of channel units where they belong; sums over regions in unit order."""

    def __init__(self, channels: int, places: list[tuple[Any, slice]], regions: int) -> None:
        self.channels, self.places, self.regions = channels, places, regions

    def __call__(self, total: Arrays, index: int, unit: Arrays) -> None:
        rows, region = self.places[index]
        for name, array in unit.items():
            if name.startswith("time."):
                total[name] = total.get(name, np.array(0.0)) + array
            elif name == "moments":
                if name not in total:
                    total[name] = np.zeros((self.channels, self.regions, array.shape[-1]))
                total[name][rows, region] = array
            else:
                if name not in total:
                    total[name] = np.zeros((self.channels, *array.shape[1:]), array.dtype)
                total[name][rows] += array


class _PairFold:
    """Adds up the partials of blocks, and lays their coarse cells side by side.

    The units of each tile of the matrix are all blocks, in order.
    """

    def __init__(self, blocks: list[Box], raster: tuple[int, int], coarse: int) -> None:
        self.blocks, self.raster, self.coarse = blocks, raster, coarse

    def __call__(self, total: Arrays, index: int, unit: Arrays) -> None:
        for name, array in unit.items():
            if name == "coarse":
                if name not in total:
                    shape = [-(-side // self.coarse) for side in self.raster]
                    total[name] = np.zeros((len(array), *shape), np.float32)
                block = self.blocks[index % len(self.blocks)]
                y, x = block.y0 // self.coarse, block.x0 // self.coarse
                total[name][:, y : y + array.shape[1], x : x + array.shape[2]] = array
            elif name in total:
                total[name] += array
            else:
                total[name] = array


def _wants_statistics(asked: PairsQuestion) -> bool:
    """Whether means and deviations matter, or only the unit in which values become numbers."""
    plain = all(
        isinstance(f, Lags) or (isinstance(f, Moments) and f.view is None) for f in asked.features()
    )
    return bool(
        not plain
        or asked.analytic
        or asked.n_shifts
        or ORDERS[asked.detrend]
        or rounds_of(asked.measures)
    )


def sample_of(loader: TileLoader) -> RegionSample:
    halo_y, halo_x = loader.halo

    def occupied(region: Box) -> NDArray[np.bool_] | None:
        padded = region.padded(halo_y, halo_y, halo_x, halo_x).clipped(loader.raster)
        # Zero may mean missing, and a channel less its trend is nowhere known to be zero.
        if loader.nodata == 0 or loader.trends is not None:
            return None
        return loader.source.occupied(padded)

    return sample_regions(loader.raster, loader.source.shape[0], occupied)


def _groups(channels: int, size: int) -> list[NDArray[np.int64]]:
    return [np.arange(a, min(a + size, channels)) for a in range(0, channels, size)]


def _region_units(
    loader: TileLoader,
    groups: list[NDArray[np.int64]],
    sample: RegionSample,
    chosen: NDArray[np.bool_],
) -> tuple[list[tuple], list[tuple[Any, slice]]]:
    """Units of channels by runs of regions, and where their rows belong."""
    units: list[tuple] = []
    places: list[tuple[Any, slice]] = []
    for group in groups:
        for start in range(0, len(sample.regions), REGIONS_A_UNIT):
            part = slice(start, min(start + REGIONS_A_UNIT, len(sample.regions)))
            if chosen[group, part].any():
                units.append((loader, group, sample.regions[part], chosen[group, part]))
                places.append((group, part))
    return units, places


def _thin(chosen: NDArray[np.bool_], most: int) -> NDArray[np.bool_]:
    """At most `most` of the chosen regions of each channel, evenly spread."""
    out = chosen.copy()
    for channel in np.flatnonzero(chosen.sum(axis=1) > most):
        where = np.flatnonzero(chosen[channel])
        out[channel] = False
        out[channel, where[np.linspace(0, len(where) - 1, most).round().astype(int)]] = True
    return out


def _wants_coarse(specs: dict[str, SpectrumSpec]) -> bool:
    return any(spec.wants_coarse for spec in specs.values())


def _valid_pixels(loader: TileLoader, region: Box) -> float:
    mask = loader.mask_tile(region)
    return float(region.size if mask is None else mask.sum())


def _coarse_valid(loader: TileLoader, side: int) -> NDArray[np.float64]:
    """Valid pixels of each coarse cell by the shared mask."""
    height, width = loader.raster
    out = np.empty((-(-height // side), -(-width // side)))
    starts = np.arange(0, width, side)
    for i, y in enumerate(range(0, height, side)):
        band = Box(y, min(y + side, height), 0, width)
        mask = loader.mask_tile(band)
        ok = np.ones(band.shape) if mask is None else mask.astype(np.float64)
        out[i] = np.add.reduceat(ok.sum(axis=0), starts)
    return out
