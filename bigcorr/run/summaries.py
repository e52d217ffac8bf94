"""The summaries stage: tallies of every channel over the whole blurred raster.

Between statistics and the pair pass, only where a measure asks for it. Every canonical region is
looked at, not a sample; what is known to be empty is not read. What is counted is a `Tally`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.pairs.measure import ChannelStatistics, Timer
from bigcorr.pairs.statistics import regions_of
from bigcorr.pairs.summaries import (
    ChannelTile,
    Known,
    Round,
    Summary,
    Tally,
    tallies_of,
    tally_bytes,
)
from bigcorr.run.checkpoint import Arrays
from bigcorr.run.loader import TileLoader
from bigcorr.run.stages import Fold, Section
from bigcorr.run.together import Steps, in_steps
from bigcorr.tiles import Box, Shape

REGIONS_A_UNIT = 8
GROUP_PIXELS = 2**23
"""Most pixels of a region times channels of a group, about."""
GROUP_BYTES = 16 * 2**20
"""Most bytes of the tallies of one group of channels, about."""

Stage = Callable[
    [str, Callable[..., Arrays], list[tuple], Fold, list[int], Callable[[int, Arrays], Arrays]],
    Generator[Any, Any, list[Section]],
]
"""``yield from stage(name, function, units, fold, sections, finish)``"""


def channels_a_group(summaries: tuple[Summary, ...], raster: Shape) -> int:
    """Channels that are tallied together. It follows from the question alone."""
    largest = max(region.size for region in regions_of(raster))
    bytes_each = max(1, tally_bytes(tallies_of(summaries), raster))
    return max(1, min(64, GROUP_PIXELS // largest, GROUP_BYTES // bytes_each))


def summarise(
    rounds: list[tuple[Summary, ...]],
    loader: TileLoader,
    statistics: ChannelStatistics,
    stage: Stage,
) -> Generator[Any, Any, ChannelStatistics]:
    """Run the stages of all rounds.

    Parameters
    ----------
    rounds : as `rounds_of` gives them
    statistics : of all channels
    stage : asks for one stage and waits for what it found

    Returns
    -------
    ChannelStatistics
        The same, with the summaries in ``known``.
    """
    regions = regions_of(loader.raster)
    channels = np.arange(loader.source.shape[0])
    integers = statistics.lowest is not None
    for level, summaries in enumerate(rounds):
        tallies = tallies_of(summaries)
        busy = tuple(t for t in tallies if not t.idle(integers))
        group = channels_a_group(summaries, loader.raster)
        groups = [channels[a : a + group] for a in range(0, len(channels), group)]
        runs = range(0, len(regions), REGIONS_A_UNIT) if busy else range(0)
        units: list[tuple] = []
        owns = [statistics.select(numbers) for numbers in groups]
        for numbers, own in zip(groups, owns, strict=True):
            units += [(loader, numbers, regions[a : a + REGIONS_A_UNIT], busy, own) for a in runs]
        finish = partial(_finish, summaries, busy, loader.raster, owns)
        name = "summaries" if level == 0 else f"summaries {level + 1}"
        parts = yield from stage(name, summary_unit, units, _add, [len(runs)] * len(groups), finish)
        done = Round(summaries, group, dict(enumerate(parts)))
        statistics = replace(statistics, known=Known((*statistics.known.rounds, done)))
    return statistics


def _add(total: Arrays, index: int, unit: Arrays) -> None:
    for name, array in unit.items():
        if name in total:
            total[name] += array
        else:
            total[name] = array


def _finish(
    summaries: tuple[Summary, ...],
    tallies: tuple[Tally, ...],
    raster: Shape,
    statistics: list[ChannelStatistics],
    group: int,
    total: Arrays,
) -> Arrays:
    """What is kept of a group of channels; the tallies themselves are dropped."""
    started = time.perf_counter()
    own = statistics[group]
    out: Arrays = {}
    for index, summary in enumerate(summaries):
        tally = summary.tally
        if tally in tallies:
            sums = total[str(tallies.index(tally))]
        else:
            sums = np.zeros((len(own.n), *tally.shape(raster)), tally.dtype)
        out[str(index)] = summary.finish(sums, own)
    times = {name: array for name, array in total.items() if name.startswith("time.")}
    spent = times.get("time.summaries", np.array(0.0)) + (time.perf_counter() - started)
    return {**out, **times, "time.summaries": spent}


@in_steps
def summary_unit(
    loader: TileLoader,
    channels: NDArray[np.int64],
    regions: tuple[Box, ...],
    tallies: tuple[Tally, ...],
    statistics: ChannelStatistics,
) -> Steps:
    """Tallies of some channels over some regions, in a worker.

    Parameters
    ----------
    channels : (n,) channel numbers
    regions : boxes of the raster
    tallies : what is added up
    statistics : of these channels

    Returns
    -------
    dict
        ``0``, ``1``, ... (n, *shape) the tallies; ``time.*`` seconds.
    """
    timer: Timer = defaultdict(float)
    raster = loader.raster
    totals = [np.zeros((len(channels), *t.shape(raster)), t.dtype) for t in tallies]
    margin = max((t.margin for t in tallies), default=0)
    for core in regions:
        yield
        reach = core.padded(margin, margin, margin, margin).clipped(raster)
        inner = core.relative_to(reach).slices
        shared = loader.mask_tile(reach)
        everything = core.size if shared is None else int(np.count_nonzero(shared[inner]))
        zeros = np.zeros(reach.shape)
        for row, loaded in enumerate(loader.channels(reach, channels, timer)):
            start = time.perf_counter()
            valid = shared if loaded.valid is None else loaded.valid
            tile = ChannelTile(
                core=core,
                reach=reach,
                raster=raster,
                values=zeros if loaded.values is None else loaded.values,
                valid=valid,
                count=everything
                if loaded.valid is None
                else int(np.count_nonzero(loaded.valid[inner])),
                empty=loaded.values is None,
                row=row,
                name=loader.source.channels[loaded.channel],
                statistics=statistics,
            )
            for tally, total in zip(tallies, totals, strict=True):
                tally.add(total[row], tile)
            timer["summaries"] += time.perf_counter() - start
    out: Arrays = {str(index): total for index, total in enumerate(totals)}
    return {**out, **{f"time.{name}": np.array(seconds) for name, seconds in timer.items()}}


def stage_bytes(rounds: list[tuple[Summary, ...]], loader: TileLoader, blurs: int = 1) -> int:
    """Most bytes of a task of these stages: two units, a group finished, the work on a region.

    blurs : that a task works on together.
    """
    most = 0
    for summaries in rounds:
        tallies = tallies_of(summaries)
        margin = max(t.margin for t in tallies)
        height, width = (side + 2 * margin for side in _largest(loader.raster))
        pixels = height * width
        work = max(t.workspace_bytes(pixels) for t in tallies)
        own = 4 * blurs * unit_bytes([summaries], loader.raster)
        most = max(most, own + work + 16 * pixels + loader.peak_bytes((height, width)))
    return most


def unit_bytes(rounds: list[tuple[Summary, ...]], raster: Shape) -> int:
    """Most bytes of the tallies of one unit, kept on disk until they are merged."""
    return max(
        (channels_a_group(r, raster) * tally_bytes(tallies_of(r), raster) for r in rounds),
        default=0,
    )


def stage_looks(rounds: list[tuple[Summary, ...]], loader: TileLoader) -> list[tuple[int, int]]:
    """Of each pass that reads: pixels wanted on all sides of the regions, channels of a group."""
    passes = []
    for summaries in rounds:
        busy = [t for t in tallies_of(summaries) if not t.idle(loader.lowest is not None)]
        if busy:
            margin = max(t.margin for t in busy)
            passes.append((margin, channels_a_group(summaries, loader.raster)))
    return passes


def _largest(raster: Shape) -> Shape:
    return max((region.shape for region in regions_of(raster)), key=lambda s: s[0] * s[1])
