"""What is learnt of each channel by itself, one unit of work at a time: moments, spectra, totals.

A unit is a canonical piece of the raster (never a piece of the plan), so its sums have the same
bits in every run. These functions run in workers: they read through a `TileLoader` and hand back
plain arrays by name. What is merged, kept or written is the driver's business. The pair pass has
a room of its own.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.pairs.measure import (
    ChannelStatistics,
    Timer,
)
from bigcorr.pairs.significance import FieldSpectrum, SpectrumSpec
from bigcorr.pairs.statistics import region_moments
from bigcorr.run.loader import TileLoader
from bigcorr.run.pair_pass import count_of
from bigcorr.run.together import Steps, in_steps
from bigcorr.tiles import Box

Arrays = dict[str, NDArray[Any]]


@in_steps
def statistics_unit(
    loader: TileLoader,
    channels: NDArray[np.int64],
    regions: tuple[Box, ...],
    chosen: NDArray[np.bool_],
) -> Steps:
    """Moments of some channels over some regions.

    Parameters
    ----------
    channels : (n,) channel numbers
    regions : boxes of the raster
    chosen : (n, len(regions)) which to look at

    Returns
    -------
    dict
        ``moments`` (n, regions, 5); ``time.*`` seconds.
    """
    timer: Timer = defaultdict(float)
    moments = np.zeros((len(channels), len(regions), 5))
    for index, region in enumerate(regions):
        yield
        for row, values, valid in _region(loader, channels, region, chosen[:, index], timer, True):
            start = time.perf_counter()
            moments[row, index] = region_moments(values, valid)
            timer["statistics"] += time.perf_counter() - start
    return {"moments": moments, **_times(timer)}


def _region(
    loader: TileLoader,
    channels: NDArray[np.int64],
    region: Box,
    chosen: NDArray[np.bool_],
    timer: Timer,
    as_stored: bool,
    unseen: bool = False,
) -> Iterator[tuple[int, NDArray[Any], NDArray[np.uint8] | None]]:
    """The chosen channels of a region in turn: (row, values, valid pixels)."""
    rows = np.flatnonzero(chosen)
    if len(rows) == 0:
        return
    shared = loader.mask_tile(region)
    wanted = loader.channels(region, channels[rows], timer, as_stored=as_stored, unseen=unseen)
    for row, loaded in zip(rows, wanted, strict=True):
        values = np.zeros(region.shape) if loaded.values is None else loaded.values
        yield int(row), values, shared if loaded.valid is None else loaded.valid


def _times(timer: Timer) -> Arrays:
    return {f"time.{name}": np.array(seconds) for name, seconds in timer.items()}


@in_steps
def spectra_unit(
    loader: TileLoader,
    channels: NDArray[np.int64],
    regions: tuple[Box, ...],
    chosen: NDArray[np.bool_],
    statistics: ChannelStatistics,
    spectra: tuple[SpectrumSpec, ...],
) -> Steps:
    """What the standard errors need of some channels over some regions.

    Parameters
    ----------
    channels, regions, chosen : as for `statistics_unit`
    statistics : of these channels
    spectra : one spec for each kind of spectrum

    Returns
    -------
    dict
        The arrays of the specs with a leading channel axis, summed over the regions in their
        order; ``time.*`` seconds.
    """
    timer: Timer = defaultdict(float)
    sums: Arrays = {}
    as_stored = all(isinstance(spectrum, FieldSpectrum) for spectrum in spectra)
    # Taken about a mean of their own, values that are not finite show in it.
    unseen = as_stored and all(spectrum.wants_coarse for spectrum in spectra)
    for index, region in enumerate(regions):
        yield
        look = _region(loader, channels, region, chosen[:, index], timer, as_stored, unseen)
        for row, values, valid in look:
            start = time.perf_counter()
            mean, sd = float(statistics.mean[row]), float(statistics.sd[row])
            for spectrum in spectra:
                for name, array in spectrum.region(values, valid, mean, sd).items():
                    if name not in sums:
                        sums[name] = np.zeros((len(channels), *array.shape))
                    sums[name][row] += array
            timer["spectra"] += time.perf_counter() - start
    return {**{k: v.astype(np.float32) for k, v in sums.items()}, **_times(timer)}


def count_unit(loader: TileLoader, box: Box) -> NDArray[np.float64]:
    """(channel,) totals of integer counts in a box, else numbers of valid non-zero pixels."""
    channels = np.arange(loader.source.shape[0])
    count = np.zeros(len(channels))
    for loaded in loader.channels(box, channels, defaultdict(float), box):
        if loaded.raw is not None:
            count[loaded.channel] = count_of(loaded.raw, loaded.valid, box, box)
    return count
