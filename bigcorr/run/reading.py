"""How many pixels a run reads from storage, blurs by themselves or together.

Pure arithmetic on shapes: halos included and clipped to the raster, empty blocks not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bigcorr.pairs.measure import Features
from bigcorr.pairs.significance import SPECTRUM_REGIONS
from bigcorr.pairs.statistics import PROBES, REGION, RegionSample, probes, regions_of, thin
from bigcorr.run.loader import TileLoader
from bigcorr.run.order import Order
from bigcorr.run.pair_pass import room_of
from bigcorr.run.trend_stage import trend_regions
from bigcorr.tiles import Box, Shape


def channels_a_unit(sample: RegionSample) -> int:
    """Channels in one unit of the statistics pass: about four million pixels a region."""
    return max(1, min(64, 2**22 // max(box.size for box in sample.regions)))


@dataclass(frozen=True)
class Reading:
    """Of one question: its raster and the halos of its blurs, in pixels along y and x."""

    raster: Shape
    halos: tuple[Shape, ...]

    @property
    def widest(self) -> Shape:
        """The halo that holds all others."""
        return max(y for y, _ in self.halos), max(x for _, x in self.halos)

    def largest(self, shape: Shape, around: int = 0, rolled: bool = False) -> int:
        """Pixels of a tile with the widest halo and `around` pixels on each side, at most.

        rolled : it is put together from pieces that lie anywhere.
        """
        y, x = (
            min(side + 2 * (halo + around), whole + (2 * halo if rolled else 0))
            for side, halo, whole in zip(shape, self.widest, self.raster, strict=True)
        )
        return y * x

    def regions(
        self,
        regions: Sequence[Box],
        chosen: Sequence[NDArray[np.bool_]],
        share: float,
        around: int = 0,
    ) -> float:
        """Pixels of all channels that a look at regions reads.

        Parameters
        ----------
        regions : n boxes
        chosen : for each blur (channel, n) which it looks at
        share : of the channels whose pixels serve all blurs
        around : pixels wanted on each side of a region
        """
        apart = sum(
            float((some @ self._sizes(regions, halo, around)).sum())
            for some, halo in zip(chosen, self.halos, strict=True)
        )
        any_of = np.logical_or.reduce(list(chosen))
        together = float((any_of @ self._sizes(regions, self.widest, around)).sum())
        return share * together + (1 - share) * apart

    def blocks(
        self,
        side: int,
        strip: int,
        room: tuple[int, int],
        channels: Sequence[int],
        held: int,
        rolled: bool = False,
    ) -> int:
        """Pixels that a pass over all blocks reads, for tiles of the matrix of so many channels.

        Parameters
        ----------
        side, strip : of the blocks, and rows of them that are read at once
        room : pixels wanted before and behind a strip
        channels : of each tile of the matrix
        held : channels whose pixels serve all blurs
        rolled : strips are put together from pieces that lie anywhere, at most so many pixels
        """
        apart = sum(self._block(side, strip, room, halo, rolled) for halo in self.halos)
        together = self._block(side, strip, room, self.widest, rolled)
        return sum(min(n, held) * together + max(0, n - held) * apart for n in channels)

    def _block(
        self, side: int, strip: int, room: tuple[int, int], halo: Shape, rolled: bool
    ) -> int:
        lengths = []
        for size, step, own in zip(self.raster, (strip, side), halo, strict=True):
            starts = np.concatenate(
                [np.arange(a, min(a + side, size), step) for a in range(0, size, side)]
            )
            ends = np.minimum(np.minimum(starts + step, starts // side * side + side), size)
            # A piece that ends at the raster's edge has no halo there, its neighbour neither.
            clipped, more = (0, 2 * own) if rolled else (own, 0)
            first = np.maximum(starts - room[0] - clipped, 0)
            last = np.minimum(ends + room[1] + clipped, size)
            lengths.append(int((last - first + more).sum()))
        return lengths[0] * lengths[1]

    def _sizes(self, regions: Sequence[Box], halo: Shape, around: int) -> NDArray[np.float64]:
        y, x = (own + around for own in halo)
        return np.array([r.padded(y, y, x, x).clipped(self.raster).size for r in regions], float)


@dataclass(frozen=True)
class Passes:
    """All looks that a run takes at its raster.

    loader : of the widest halo
    halos, samples : of each blur
    side : of the blocks
    tiles : channels of each tile of the matrix
    spectra : whether any are taken
    summaries : of each pass the margin and the channels of a group
    pairs : whether there is a pair pass
    """

    loader: TileLoader
    halos: tuple[Shape, ...]
    features: tuple[Features, ...]
    side: int
    tiles: tuple[int, ...]
    samples: Sequence[RegionSample]
    order: Order
    spectra: bool
    summaries: tuple[tuple[int, int], ...]
    pairs: bool
    n_shifts: int
    detrend: bool

    @property
    def _reading(self) -> Reading:
        return Reading(self.loader.raster, self.halos)

    @property
    def _item(self) -> int:
        return self.loader.source.dtype.itemsize

    def of_a_block(self, strip: int) -> tuple[int, int]:
        """Most bytes that are wanted of a strip of a block: of one channel, and of all."""
        room = sum(room_of(self.features))
        shape = strip + room, self.side + room
        pixels = self._reading.largest(shape, rolled=self.n_shifts > 0)
        return self._item * pixels, self._item * pixels * max(self.tiles)

    def of_a_region(self) -> tuple[int, int]:
        """The same of a region of statistics, spectra and summaries: one, and all of a unit."""
        looks = [
            (self._of_a_look(self._first.regions), channels_a_unit(self._first)),
            (self._of_a_look(self.samples[0].regions), channels_a_unit(self.samples[0])),
        ]
        regions = regions_of(self.loader.raster)
        looks += [(self._of_a_look(regions, margin), group) for margin, group in self.summaries]
        return max(each for each, _ in looks), max(each * channels for each, channels in looks)

    @property
    def _first(self) -> RegionSample:
        """What statistics look at."""
        sample = self.samples[0]
        if self.order.known_later:
            return replace(sample, regions=probes(sample.regions))
        return sample

    def _of_a_look(self, regions: Sequence[Box], margin: int = 0) -> int:
        return self._item * max(self._reading.largest(box.shape, margin) for box in regions)

    def block_bytes(self, strip: int, held: int) -> int:
        """Bytes that the passes over all blocks read, and spectra of them that are taken later.

        held : bytes of pixels that are kept for all blurs
        """
        if not self.pairs:
            return 0
        room = room_of(self.features)
        kept = held // self.of_a_block(strip)[0]
        reading = self._reading
        pixels = float(reading.blocks(self.side, strip, room, self.tiles, kept))
        if self.n_shifts:
            shifted = reading.blocks(self.side, strip, room, self.tiles, kept, True)
            pixels += self.n_shifts * shifted
        if self._on_the_way and not self._in_strips(strip):
            some = [thin(sample.chosen, SPECTRUM_REGIONS) for sample in self.samples]
            most = max(1, *(int(one.sum(axis=0).max(initial=0)) for one in some))
            regions = self.samples[0].regions
            share = self._share(held, regions, 0, most)
            pixels += reading.regions(regions, some, share)
        return int(self.loader.source.bytes_a_pixel * pixels)

    @property
    def _on_the_way(self) -> bool:
        """Whether spectra are taken of blocks: these are the regions then."""
        return self.order.field is not None and self.side == REGION

    def _in_strips(self, strip: int) -> bool:
        assert self.order.field is not None
        return self.order.field.in_strips((self.side, self.side), strip)

    def region_bytes(self, held: int) -> int:
        """Bytes that all looks at regions read; `held` as of `block_bytes`."""
        reading, sample = self._reading, self.samples[0]
        chosen = [one.chosen for one in self.samples]
        share = self._share(held, sample.regions, 0, channels_a_unit(sample))
        if self.order.known_later:
            few, looks = [thin(one, PROBES) for one in chosen], self._first.regions
            part = self._share(held, looks, 0, channels_a_unit(self._first))
            pixels = reading.regions(looks, few, part)
        else:
            pixels = reading.regions(sample.regions, chosen, share)
        channels = len(chosen[0])
        if self.detrend:
            looks = trend_regions(self.loader.raster)
            every = [np.ones((channels, len(looks)), bool)] * len(chosen)
            pixels += reading.regions(looks, every, share)
        if self.spectra and not self._on_the_way:
            some = [thin(one, SPECTRUM_REGIONS) for one in chosen]
            pixels += reading.regions(sample.regions, some, share)
        looks = regions_of(self.loader.raster)
        every = [np.ones((channels, len(looks)), bool)] * len(chosen)
        for margin, group in self.summaries:
            share = self._share(held, looks, margin, group)
            pixels += reading.regions(looks, every, share, margin)
        return int(self.loader.source.bytes_a_pixel * pixels)

    def _share(self, held: int, regions: Sequence[Box], margin: int, channels: int) -> float:
        """Of the channels of a unit those whose pixels are kept."""
        return min(1.0, held // self._of_a_look(regions, margin) / channels)
