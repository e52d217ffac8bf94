"""The stage that fits trends: one more look at the regions of the statistics, before them.

What is fitted lives in `bigcorr.pairs.trend`; the tiles that later stages read have it taken off.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.pairs.measure import Timer
from bigcorr.pairs.statistics import SAMPLE, regions_of
from bigcorr.pairs.trend import Trends, fit_trends, trend_moments
from bigcorr.run.checkpoint import Arrays
from bigcorr.run.loader import TileLoader
from bigcorr.run.together import Steps, in_steps
from bigcorr.tiles import Box, Shape

REGIONS_A_UNIT = 8


@in_steps
def trend_unit(
    loader: TileLoader, channels: NDArray[np.int64], regions: tuple[Box, ...], order: int
) -> Steps:
    """Moments of some channels over some regions.

    Returns
    -------
    dict
        ``weights`` and ``products`` of `trend_moments` with a leading axis of the channels, summed
        over the regions in their order; ``time.*`` seconds.
    """
    timer: Timer = defaultdict(float)
    weights = np.zeros((len(channels), 2 * order + 1, 2 * order + 1))
    products = np.zeros((len(channels), order + 1, order + 1))
    for region in regions:
        yield
        shared = loader.mask_tile(region)
        for row, loaded in enumerate(loader.channels(region, channels, timer)):
            start = time.perf_counter()
            values = np.zeros(region.shape) if loaded.values is None else loaded.values
            valid = shared if loaded.valid is None else loaded.valid
            weight, product = trend_moments(values, valid, region, loader.raster, order)
            weights[row] += weight
            products[row] += product
            timer["trend"] += time.perf_counter() - start
    out = {f"time.{name}": np.array(seconds) for name, seconds in timer.items()}
    return {"weights": weights, "products": products, **out}


def trend_regions(raster: Shape) -> tuple[Box, ...]:
    """Where trends are looked for.

    At most 64 regions, evenly spread over the whole raster whatever lies in them: the surface of a
    channel is that of its empty places too.
    """
    regions = regions_of(raster)
    if len(regions) > SAMPLE:
        keep = np.linspace(0, len(regions) - 1, SAMPLE).round().astype(int)
        regions = tuple(regions[k] for k in keep)
    return regions


def trend_units(
    loader: TileLoader, groups: list[NDArray[np.int64]], order: int
) -> tuple[list[tuple], list[tuple[Any, slice]]]:
    """Units of the stage, and which channels each is about."""
    regions = trend_regions(loader.raster)
    units: list[tuple] = []
    places: list[tuple[Any, slice]] = []
    for group in groups:
        for start in range(0, len(regions), REGIONS_A_UNIT):
            part = slice(start, min(start + REGIONS_A_UNIT, len(regions)))
            units.append((loader, group, regions[part], order))
            places.append((group, part))
    return units, places


def trends(sums: Arrays, order: int, raster: tuple[int, int]) -> Trends:
    """The surfaces, from the sums over all units."""
    return Trends(fit_trends(sums["weights"], sums["products"], order), order, raster)
