"""The stages of one blur: statistics, spectra, and the pair pass over all tiles of the matrix.

Which units there are, and how their arrays are put together. What a unit computes is in `passes`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bigcorr.pairs.measure import ChannelStatistics, Features, Partial
from bigcorr.pairs.moments import Moments, channel_moments
from bigcorr.pairs.selection import Selection
from bigcorr.pairs.significance import SPECTRUM_REGIONS, CoarseRaster, SpectrumSpec
from bigcorr.pairs.statistics import thin
from bigcorr.pairs.summaries import idle, rounds_of
from bigcorr.pairs.trend import ORDERS
from bigcorr.pairs.variance import PairVariance, long_range_warnings, spectra_of, variances
from bigcorr.run.channel_stages import (
    Asked,
    ChannelFold,
    channel_groups,
    coarse_valid,
    in_scale,
    keys_of,
    rescaled,
    sample_of,
    spectra_stage,
    statistics_stage,
)
from bigcorr.run.checkpoint import Arrays
from bigcorr.run.order import order_of
from bigcorr.run.pair_pass import PairSpec, pair_unit
from bigcorr.run.plan import Plan, coarse_side
from bigcorr.run.progress import Progress
from bigcorr.run.question import PairsQuestion
from bigcorr.run.reading import channels_a_unit
from bigcorr.run.shift_stage import ShiftFold, shift_unit, shift_units
from bigcorr.run.stages import Fold, Section, StageAsked
from bigcorr.run.summaries import summarise
from bigcorr.run.trend_stage import trend_unit, trend_units, trends


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
    progress: Progress,
    prefix: str,
) -> Generator[StageAsked, tuple[list[Section], int], Blur]:
    """Statistics, spectra and pair pass of one blur.

    Asks for one stage after the other, and is sent its sections and how many of its units had been
    done. `prefix` stands before the names of the stages' folders where there are several blurs.
    """
    loader = asked.loader(sigma)
    sample = sample_of(loader)
    specs = (
        spectra_of(asked.measures, loader.raster, asked.smoothness(sigma)) if asked.analytic else {}
    )
    timings: dict[str, float] = {}
    counted = [0, 0]

    def stage(
        name: str,
        function: Callable[..., Arrays],
        units: list[tuple],
        fold: Fold,
        sections: list[int] | None = None,
        finish: Callable[[int, Arrays], Arrays] | None = None,
        keys: list[tuple[int, ...]] | None = None,
    ) -> Asked[list[Section]]:
        parts, found = yield StageAsked(
            name, f"{prefix}{name}", function, units, fold, sections, finish, keys
        )
        counted[0] += len(units)
        counted[1] += found
        for part in parts:
            for key, seconds in part.load(prefix="time.").items():
                timings[key[5:]] = timings.get(key[5:], 0.0) + float(seconds)
        return parts

    degree = ORDERS[asked.detrend]
    if degree:
        groups = channel_groups(asked.channels, channels_a_unit(sample))
        looks, places = trend_units(loader, groups, degree)
        fold = ChannelFold(asked.channels, places, 0)
        part = yield from stage("trend", trend_unit, looks, fold, keys=keys_of(places))
        loader = replace(loader, trends=trends(part[0].load(), degree, loader.raster))
        sample = sample_of(loader)

    order = order_of(asked, specs)
    statistics = yield from statistics_stage(loader, sample, order, stage)
    sums: Arrays = {}
    if specs and not order.known_later:
        sums = yield from spectra_stage(loader, sample, specs, statistics, stage)
    statistics = replace(statistics, lowest=loader.lowest)
    statistics = yield from summarise(rounds_of(asked.measures), loader, statistics, stage)

    coarse = coarse_side(loader.raster) if _wants_coarse(specs) else 0
    tiles = asked.tiles(plan.group)
    features = asked.features()
    # No tile is wanted where all is in the summaries, unless channels are to be counted.
    blocks = plan.blocks if asked.counts is None or not idle(features) else []
    asked_of = [
        PairSpec(
            features=features,
            selection=tile,
            strip=plan.strip,
            count=asked.counts is None and tile.first,
            coarse=coarse if tile.first else 0,
            wide=plan.wide,
            field=order.field if plan.field_on_the_way and tile.first else None,
        )
        for tile in tiles
    ]
    known_specs = [(spec, statistics.select(spec.selection.numbers)) for spec in asked_of]
    sampled = thin(sample.chosen, SPECTRUM_REGIONS)
    units = [
        (loader, block, spec, known, _sampled(spec, sampled, index))
        for spec, known in known_specs
        for index, block in enumerate(blocks)
    ]
    # Units of another tiling of the matrix are other units: they have a folder of their own.
    sections = yield from stage(
        "pairs" if plan.group is None else f"pairs by {plan.group}",
        pair_unit,
        units,
        _PairFold(units, loader.raster, coarse),
        [len(blocks)] * len(tiles),
    )
    shifted = None
    if asked.n_shifts:
        draws = asked.n_shifts
        by_draws = ShiftFold(
            asked.measures, features, loader.raster, tuple(known_specs), len(blocks), draws
        )
        shifted = yield from stage(
            "shifts" if plan.group is None else f"shifts by {plan.group}",
            shift_unit,
            shift_units(loader, known_specs, blocks, draws, asked.shift_seed),
            by_draws,
            [len(blocks) * draws] * len(tiles),
        )
    taken = _taken(asked, zip(tiles, sections, strict=True), order.field is not None)
    if order.field is not None:
        if plan.field_on_the_way:
            # Their names begin with that of the spectrum itself.
            sums = {
                name.removeprefix("spectra."): array
                for name, array in taken.items()
                if name.startswith("spectra.")
            }
        else:
            rough = in_scale(statistics)
            sums = yield from spectra_stage(loader, sample, specs, rough, stage, together=1)
        statistics = replace(
            statistics,
            n=taken["n"],
            mean=statistics.offset + statistics.scale * taken["mean"],
            sd=statistics.scale * taken["sd"],
        )
        sums = rescaled(sums, order.field, statistics)
    counts = taken.get("count", np.zeros(asked.channels)) if asked.counts is None else None
    started = time.perf_counter()

    def parts() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for tile, section in zip(tiles, sections, strict=True):
            if tile.first and (low := section.load(["coarse"])):
                yield tile.numbers[tile.columns], low["coarse"][tile.columns]

    cells = CoarseRaster(parts, coarse_valid(loader, coarse), coarse) if coarse else None
    found_variances = variances(asked.measures, specs, sums, statistics, cells)
    timings["significance"] = time.perf_counter() - started
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


def _sampled(spec: PairSpec, sampled: NDArray[np.bool_], block: int) -> NDArray[np.bool_] | None:
    """Channels of the selection whose spectra are taken of a block; blocks are regions then."""
    if spec.field is None:
        return None
    # Only as columns do they come for the first time.
    wanted = np.zeros(spec.selection.channels, dtype=bool)
    columns = spec.selection.columns
    wanted[columns] = sampled[spec.selection.numbers[columns], block]
    return wanted


def _taken(
    asked: PairsQuestion, tiles: Iterable[tuple[Selection, Section]], moments: bool
) -> Arrays:
    """What the pair pass took of single channels on its way, from the tiles that met them first.

    ``count``, ``spectra.*`` where there are such; with `moments` also ``n``, ``mean``
    and ``sd`` of z; all with a leading axis of all channels.
    """
    names = [f"{own}{name}" for own in ("", "own_") for name in ("n", "sum", "square")]
    out: Arrays = {}
    for tile, section in tiles:
        if not tile.first:
            continue
        arrays = {**section.load(["count"]), **section.load(prefix="spectra.")}
        if moments:
            place = f"{asked.features().index(Moments())}."
            part = section.load([place + name for name in names])
            own = {name.removeprefix(place): array for name, array in part.items()}
            arrays |= zip(("n", "mean", "sd"), channel_moments(own), strict=True)
        for name, array in arrays.items():
            if name not in out:
                out[name] = np.zeros((asked.channels, *array.shape[1:]), array.dtype)
            out[name][tile.numbers[tile.columns]] = array[tile.columns]
    return out


class _PairFold:
    """Adds up what the units of blocks found, and lays their coarse cells side by side.

    The units of each tile of the matrix are all blocks, in order.
    """

    def __init__(self, units: list[tuple], raster: tuple[int, int], coarse: int) -> None:
        self.units, self.raster, self.coarse = units, raster, coarse

    def __call__(self, total: Arrays, index: int, unit: Arrays) -> None:
        _, block, spec, _, sampled = self.units[index]
        for name, array in unit.items():
            if name == "coarse":
                if name not in total:
                    shape = [-(-side // self.coarse) for side in self.raster]
                    total[name] = np.zeros((len(array), *shape), np.float32)
                y, x = block.y0 // self.coarse, block.x0 // self.coarse
                total[name][:, y : y + array.shape[1], x : x + array.shape[2]] = array
            elif name.startswith("spectra."):
                if name not in total:
                    channels = spec.selection.channels
                    total[name] = np.zeros((channels, *array.shape[1:]), array.dtype)
                total[name][sampled] += array
            elif name in total:
                total[name] += array
            else:
                total[name] = array


def _wants_coarse(specs: dict[str, SpectrumSpec]) -> bool:
    return any(spec.wants_coarse for spec in specs.values())
