"""The stages that learn of each channel by itself: statistics before the pairs, and spectra.

Which units there are, and how their arrays are put together. What a unit computes is in `passes`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from bigcorr.pairs.measure import ChannelStatistics
from bigcorr.pairs.significance import SPECTRUM_REGIONS, FieldSpectrum, SpectrumSpec
from bigcorr.pairs.statistics import PROBES, RegionSample, combine, probes, sample_regions, thin
from bigcorr.run.checkpoint import Arrays
from bigcorr.run.loader import TileLoader
from bigcorr.run.order import Order
from bigcorr.run.passes import spectra_unit, statistics_unit
from bigcorr.run.reading import channels_a_unit
from bigcorr.run.stages import Fold, Section
from bigcorr.tiles import Box

REGIONS_A_UNIT = 8

T = TypeVar("T")
Asked = Generator[Any, Any, T]
"""What comes of stages that are asked for on the way."""


class Stage(Protocol):
    """Asks for a stage of a blur and waits for its sections: ``yield from stage(...)``.

    keys : where each unit looks, in order, where that is not its number: units of several blurs
        with the same key are worked on together. See `bigcorr.run.stages.StageRun`.
    """

    def __call__(
        self,
        name: str,
        function: Callable[..., Arrays],
        units: list[tuple],
        fold: Fold,
        sections: list[int] | None = None,
        finish: Callable[[int, Arrays], Arrays] | None = None,
        keys: list[tuple[int, ...]] | None = None,
    ) -> Asked[list[Section]]: ...


def sample_of(loader: TileLoader) -> RegionSample:
    halo_y, halo_x = loader.halo

    def occupied(region: Box) -> NDArray[np.bool_] | None:
        padded = region.padded(halo_y, halo_y, halo_x, halo_x).clipped(loader.raster)
        # Zero may mean missing, and a channel less its trend is nowhere known to be zero.
        if loader.nodata == 0 or loader.trends is not None:
            return None
        return loader.source.occupied(padded)

    return sample_regions(loader.raster, loader.source.shape[0], occupied)


def statistics_stage(
    loader: TileLoader, sample: RegionSample, order: Order, stage: Stage
) -> Asked[ChannelStatistics]:
    """Moments of the chosen regions, or of probes of them where more is known later."""
    channels, regions = loader.source.shape[0], len(sample.regions)
    look = sample
    if order.known_later:
        few = thin(sample.chosen, PROBES)
        look, sample = replace(sample, regions=probes(sample.regions)), replace(sample, chosen=few)
    units, places = region_units(loader, look, sample.chosen, REGIONS_A_UNIT)
    fold = ChannelFold(channels, places, regions)
    keys = keys_of(places)
    parts = yield from stage("statistics", statistics_unit, units, fold, keys=keys)
    total = parts[0].load()
    valid = np.array([_valid_pixels(loader, region) for region in sample.regions])
    moments = total.get("moments", np.zeros((channels, regions, 5)))
    if order.known_later:
        seen = np.array([_valid_pixels(loader, region) for region in look.regions])
        moments[:, :, [0, 2]] *= (valid / np.maximum(seen, 1.0))[None, :, None]
    return combine(moments, sample, valid)


def spectra_stage(
    loader: TileLoader,
    sample: RegionSample,
    specs: dict[str, SpectrumSpec],
    statistics: ChannelStatistics,
    stage: Stage,
    together: int = REGIONS_A_UNIT,
) -> Asked[Arrays]:
    """Spectra of a few of the chosen regions of each channel, summed.

    together : regions of one unit.
    """
    some = thin(sample.chosen, SPECTRUM_REGIONS)
    units, places = region_units(loader, sample, some, together)
    units = [(*unit, statistics.select(unit[1]), tuple(specs.values())) for unit in units]
    fold = ChannelFold(loader.source.shape[0], places, 0)
    parts = yield from stage("spectra", spectra_unit, units, fold, keys=keys_of(places))
    return parts[0].load()


def in_scale(statistics: ChannelStatistics) -> ChannelStatistics:
    """As if all channels had mean 0 and a deviation of their scale: what is not known yet."""
    return replace(statistics, mean=0.0 * statistics.mean, sd=statistics.scale)


def rescaled(sums: Arrays, field: FieldSpectrum, statistics: ChannelStatistics) -> Arrays:
    """Spectra that were taken `in_scale` as they are with the deviations that are known now.

    In place: of tens of thousands of channels they are not held twice.
    """
    sd = np.where(statistics.sd > 0, statistics.sd, np.inf)
    factor = (statistics.scale / sd) ** 2
    for name in (f"{field.name}.power", f"{field.name}.lags"):
        if name in sums:
            shape = (-1, *[1] * (sums[name].ndim - 1))
            np.multiply(sums[name], factor.reshape(shape), out=sums[name], casting="same_kind")
    return sums


class ChannelFold:
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


def keys_of(places: list[tuple[Any, slice]]) -> list[tuple[int, ...]]:
    """Where units look: their first channel and their first region."""
    return [(int(group[0]), part.start) for group, part in places]


def channel_groups(channels: int, size: int) -> list[NDArray[np.int64]]:
    return [np.arange(a, min(a + size, channels)) for a in range(0, channels, size)]


def region_units(
    loader: TileLoader, sample: RegionSample, chosen: NDArray[np.bool_], together: int
) -> tuple[list[tuple], list[tuple[Any, slice]]]:
    """Units of channels by runs of regions, and where their rows belong."""
    units: list[tuple] = []
    places: list[tuple[Any, slice]] = []
    for group in channel_groups(loader.source.shape[0], channels_a_unit(sample)):
        for start in range(0, len(sample.regions), together):
            part = slice(start, min(start + together, len(sample.regions)))
            if chosen[group, part].any():
                units.append((loader, group, sample.regions[part], chosen[group, part]))
                places.append((group, part))
    return units, places


def _valid_pixels(loader: TileLoader, region: Box) -> float:
    mask = loader.mask_tile(region)
    return float(region.size if mask is None else mask.sum())


def coarse_valid(loader: TileLoader, side: int) -> NDArray[np.float64]:
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
