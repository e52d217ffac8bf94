"""The stage of shifted passes: the pair pass over again, each channel shifted by its own vector.

Blurred and detrended channels are shifted as they are, with the pixels that they miss. What is kept
is the moments of the values over the draws; how they are made lives in `bigcorr.pairs.shifts`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.pairs.measure import ChannelStatistics, Features, Measure, Partial, Timer, matrices
from bigcorr.pairs.selection import CHANNEL_CHUNK, Selection
from bigcorr.pairs.shifts import add_draw, pieces, shift_vectors
from bigcorr.pairs.summaries import idle
from bigcorr.run.checkpoint import Arrays
from bigcorr.run.loader import Loaded, TileLoader
from bigcorr.run.pair_pass import PairSpec, pair_unit
from bigcorr.run.together import Steps, in_steps
from bigcorr.tiles import Box


@dataclass(frozen=True)
class ShiftedLoader(TileLoader):
    """Tiles of a stack whose channels are rolled round the edges of the raster.

    Parameters
    ----------
    vectors : (channel, 2) int64, of `shift_vectors`
    """

    vectors: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, loader: TileLoader, vectors: NDArray[np.int64]) -> ShiftedLoader:
        return cls(**vars(loader), vectors=vectors)

    def mask_tile(self, box: Box) -> NDArray[np.uint8] | None:
        """None: each channel takes the mask along."""
        return None

    def channels(
        self,
        box: Box,
        channels: NDArray[np.int64],
        timer: Timer,
        inner: Box | None = None,
        *,
        as_stored: bool = False,
        unseen: bool = False,
    ) -> Iterator[Loaded]:
        """As `TileLoader.channels`; `Loaded.valid` holds all missing pixels, raw is None.

        Values are float64 in any case.
        """
        assert self.vectors is not None
        still = TileLoader(self.source, self.sigma, self.nodata, self.mask, self.trends, self.held)
        for channel in channels:
            values = np.zeros(box.shape)
            valid = np.ones(box.shape, np.uint8)
            zero = whole = True
            for to, source in pieces(box, self.vectors[channel], self.raster):
                (loaded,) = still.channels(source, np.array([channel]), timer)
                mask = still.mask_tile(source) if loaded.valid is None else loaded.valid
                if loaded.values is not None:
                    values[to.slices] = loaded.values
                    zero = False
                if mask is not None:
                    valid[to.slices] = mask
                    whole = False
            own = None if whole else valid
            if own is not None:
                values[own == 0] = 0
            yield Loaded(int(channel), None if zero else values, own, None)


@in_steps
def shift_unit(
    loader: ShiftedLoader, block: Box, spec: PairSpec, statistics: ChannelStatistics
) -> Steps:
    """All sums of one canonical block of one draw, as `pair_unit`."""
    try:
        return (yield from pair_unit.steps(loader, block, spec, statistics))
    except InputError as error:
        raise InputError(
            f"n_shifts: a shifted channel takes the pixels that it misses along; {error}"
        ) from error


def shift_units(
    loader: TileLoader,
    specs: Sequence[tuple[PairSpec, ChannelStatistics]],
    blocks: Sequence[Box],
    draws: int,
    seed: int,
) -> list[tuple]:
    """Units of all draws: for each tile of the matrix all draws, for each draw all blocks."""
    channels = loader.source.shape[0]
    shifted = [
        ShiftedLoader.of(loader, shift_vectors(seed, draw, channels, loader.raster))
        for draw in range(draws)
    ]
    return [
        (moved, block, replace(spec, count=False, coarse=0), statistics)
        for spec, statistics in specs
        for moved in shifted
        for block in blocks
    ]


@dataclass(frozen=True)
class ShiftFold:
    """Adds up the blocks of a draw, and once they are all there the values to the moments.

    In the total stand the sums of the draw under way (``sum.*``) and the moments of those before
    it, (row, column) of the tile: ``<measure>.n``, ``.mean``, ``.squares``, and the same as
    ``<measure>.turned.*`` of the tile across the diagonal of a measure that is not symmetric.
    """

    measures: tuple[Measure, ...]
    features: tuple[Features, ...]
    raster: tuple[int, int]
    specs: tuple[tuple[PairSpec, ChannelStatistics], ...]
    blocks: int
    draws: int

    def __call__(self, total: Arrays, index: int, unit: Arrays) -> None:
        for name, array in unit.items():
            key = name if name.startswith("time.") else f"sum.{name}"
            if key in total:
                total[key] += array
            else:
                total[key] = array
        if (index + 1) % self.blocks == 0:
            start = time.perf_counter()
            spec, statistics = self.specs[index // (self.blocks * self.draws)]
            self._add(total, spec.selection, statistics)
            for name in [name for name in total if name.startswith("sum.")]:
                del total[name]
            seconds = time.perf_counter() - start
            total["time.shifts"] = total.get("time.shifts", np.array(0.0)) + seconds

    def _add(self, total: Arrays, tile: Selection, statistics: ChannelStatistics) -> None:
        partials: dict[Features, Partial] = {
            features: {
                name.removeprefix(f"sum.{i}."): array
                for name, array in total.items()
                if name.startswith(f"sum.{i}.")
            }
            for i, features in enumerate(self.features)
        }
        for start in range(0, tile.shape[0], CHANNEL_CHUNK):
            rows = slice(start, min(start + CHANNEL_CHUNK, tile.shape[0]))
            # What is made from summaries alone does not change from draw to draw.
            moved = [m for m in self.measures if not idle([m.features(self.raster)])]
            for measure, value, turned in matrices(
                moved, partials, self.raster, tile, rows, statistics
            ):
                add_draw(total, measure.name, rows, value, tile.shape)
                if tile.mirrored and not measure.symmetric:
                    add_draw(total, f"{measure.name}.turned", rows, turned.T, tile.shape)


def moment_bytes(measures: Sequence[Measure], tile: Selection) -> int:
    """Bytes of the moments of one tile of the matrix."""
    matrices = sum(3 if measure.symmetric or not tile.mirrored else 6 for measure in measures)
    return 8 * matrices * tile.shape[0] * tile.shape[1]
