"""The pair pass: one canonical block of the raster, all channels, to the sums of the pairs.

A unit is a block (never a piece of the plan), so its sums have the same bits in every run. Its
pixels come as one tile of all channels: in planes for features that look around a pixel, or
straight in cells where no features do, which saves writing and gathering a plane. What a feature
sums is in `bigcorr.pairs`; what is merged, kept or written is the driver's business.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.cells import (
    CELL,
    NO_MASK,
    cell_totals,
    mark_cells,
    pixel_total,
    pixels_not_zero,
    standardise,
    standardise_cells,
)
from bigcorr.kernels.finite import all_finite
from bigcorr.kernels.rows import rows_of
from bigcorr.pairs.measure import (
    CellTile,
    ChannelStatistics,
    Features,
    PairTile,
    Partial,
    Timer,
    View,
    by_cells,
    view_of,
)
from bigcorr.pairs.selection import Selection
from bigcorr.pairs.significance import FieldSpectrum, add_arrays
from bigcorr.run.loader import AS_STORED, Loaded, TileLoader
from bigcorr.run.together import Steps, in_steps
from bigcorr.run.workspace import tile_memory
from bigcorr.tiles import Box

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class PairSpec:
    """What the pair pass does with each block for one tile of the matrix."""

    features: tuple[Features, ...]
    selection: Selection
    strip: int
    """Rows of a block that are held at once: the plan's only say, and it changes no bit."""
    count: bool
    """Whether totals of the channels are added up on the way."""
    coarse: int
    """Side in pixels of the cells of the coarse raster for long lags, 0: none is made."""
    wide: bool
    """float64 instead of float32 tiles."""
    field: FieldSpectrum | None = None
    """The spectrum that is taken of whole blocks on the way."""

    @property
    def room(self) -> tuple[int, int]:
        return room_of(self.features)

    def memory(self, height: int, width: int, name: str = "tile") -> NDArray[np.floating]:
        """Room for a tile of all channels; whole cells of them."""
        height, width = (-(-side // CELL) * CELL for side in (height, width))
        item = np.float64 if self.wide else np.float32
        return tile_memory((self.selection.channels, height * width), item, name)


def room_of(features: tuple[Features, ...]) -> tuple[int, int]:
    """Pixels that tiles hold before and behind their core; whole cells before it."""
    margin = max(f.margin for f in features)
    return -(-margin // CELL) * CELL, max(margin, *(f.extent for f in features))


@in_steps
def pair_unit(
    loader: TileLoader,
    block: Box,
    spec: PairSpec,
    statistics: ChannelStatistics,
    sampled: NDArray[np.bool_] | None = None,
) -> Steps:
    """All sums of one canonical block.

    Parameters
    ----------
    statistics : of the channels of the selection, in its order
    sampled : (channel,) whose spectra are taken of this block, None: none

    Returns
    -------
    dict
        ``<i>.<name>``: the partial of the i-th features; ``count`` (channel) where asked for;
        ``coarse`` (channel, cells_y, cells_x) float32 sums of z over coarse cells;
        ``spectra.<name>`` (sampled channels, ...) float32, in units of the scale; ``time.*``.
        Channels are those of the selection, in its order.
    """
    timer: Timer = defaultdict(float)
    unit = _Unit(loader, block, spec, statistics, timer, sampled)
    partials: list[Partial] = [{} for _ in spec.features]
    planes = not all(map(by_cells, spec.features))
    for y0 in range(block.y0, block.y1, spec.strip):
        yield
        core = Box(y0, min(y0 + spec.strip, block.y1), block.x0, block.x1)
        cells = None if planes else unit.cells(core)
        if cells is not None:
            for features, partial in zip(spec.features, partials, strict=True):
                features.add_cells(cells, spec.selection, partial, timer)  # type: ignore[attr-defined]
        else:
            unit.add_planes(core, partials)
    yield
    out: Arrays = {
        f"{index}.{name}": array
        for index, partial in enumerate(partials)
        for name, array in partial.items()
    }
    return {**out, **unit.taken(), **{f"time.{k}": np.array(v) for k, v in timer.items()}}


class _Unit:
    """One block under way: its tiles, and what is taken of the channels as they come."""

    def __init__(
        self,
        loader: TileLoader,
        block: Box,
        spec: PairSpec,
        statistics: ChannelStatistics,
        timer: Timer,
        sampled: NDArray[np.bool_] | None,
    ) -> None:
        self.loader, self.block, self.spec, self.timer = loader, block, spec, timer
        self.statistics, self.sampled = statistics, sampled
        self.count = np.zeros(spec.selection.channels)
        self.coarse = np.zeros(
            (spec.selection.channels, *(-(-s // (spec.coarse or 1)) for s in block.shape))
            if spec.coarse
            else 0
        )
        self.spectra: dict[int, Arrays] = defaultdict(dict)
        self.fresh: list[tuple[int, Arrays]] = []
        # Parts of the block that no strip holds are read once more for their spectra.
        self.at_once = spec.field is not None and spec.field.in_strips(block.shape, spec.strip)
        self.differing = False

    def taken(self) -> Arrays:
        """What was taken of the channels beside the sums of pairs."""
        out: Arrays = {}
        if self.sampled is not None:
            some = np.flatnonzero(self.sampled)
            if not self.at_once:
                self._look_again(some)
            taken = [self.spectra[int(c)] for c in some]
            # What one has and another has not counts as nothing there.
            shapes = {name: array.shape for arrays in taken for name, array in arrays.items()}
            for name, shape in shapes.items():
                stack = np.zeros((len(some), *shape), np.float32)
                for place, arrays in enumerate(taken):
                    if name in arrays:
                        stack[place] = arrays[name]
                out[f"spectra.{name}"] = stack
        if self.spec.count:
            out["count"] = self.count
        if self.spec.coarse:
            out["coarse"] = self.coarse.astype(np.float32)
        return out

    def _look_again(self, some: NDArray[np.intp]) -> None:
        """Read the whole block of some channels for their spectra."""
        mask = self.loader.mask_tile(self.block)
        numbers = self.spec.selection.numbers[some]
        read = self.loader.channels(self.block, numbers, self.timer, as_stored=True)
        for c, loaded in zip(some, read, strict=True):
            valid = mask if loaded.valid is None else loaded.valid
            self._take_spectrum(int(c), loaded.values, valid, self.block)
        self._keep_spectra()

    def cells(self, core: Box) -> CellTile | None:
        """A strip of the block in cells; None where a channel misses pixels of its own."""
        if self.differing:
            return None
        ny, nx = (-(-side // CELL) for side in core.shape)
        channels = self.spec.selection.channels
        memory = self.spec.memory(*core.shape).reshape(ny, nx, channels, CELL * CELL)
        sums, squares = np.zeros((2, channels, ny, nx))
        marks = np.zeros((channels, ny, nx), np.uint8)
        shared = self.loader.mask_tile(core)
        mask, masked = (NO_MASK, False) if shared is None else (shared, True)
        count = np.zeros(channels)
        for c, loaded in enumerate(self._channels(core, core)):
            start = time.perf_counter()
            offset, inverse = self._units(c)
            # Cells of nothing but zeros are marked so, and not looked at.
            if loaded.valid is None and (loaded.values is not None or offset != 0):
                x = np.zeros(core.shape) if loaded.values is None else loaded.values
                standardise_cells(
                    *rows_of(x), *core.shape, mask, masked, offset, inverse, c, memory, sums,
                    squares, marks,
                )  # fmt: skip
            # What is not finite shows in the sums.
            if loaded.valid is not None or not np.isfinite(sums[c]).all():
                self.differing = True
                return None
            count[c] = self._count(loaded, core, core)
            self.timer["standardise"] += time.perf_counter() - start
            if self.at_once and self._samples(c):
                self._take_spectrum(c, loaded.values, shared, core)
        self._keep_spectra()
        self.count += count
        self._add_coarse(sums, core)
        return CellTile(core, memory, sums, squares, marks, shared)

    def add_planes(self, core: Box, partials: list[Partial]) -> None:
        """A strip of the block in planes, through all faces that features want to see."""
        spec, timer = self.spec, self.timer
        before, behind = spec.room
        reach = core.padded(before, behind, before, behind).clipped(self.loader.raster)
        tile = self._planes(core, reach)
        inner = core.relative_to(reach)
        if spec.coarse:
            start = time.perf_counter()
            sums = np.zeros((len(tile.z), *(-(-side // CELL) for side in core.shape)))
            cell_totals(tile.z, *inner, sums)
            self._add_coarse(sums, core)
            timer["coarse"] += time.perf_counter() - start
        # One face at a time: a second tile is all that any number of views needs.
        for view in dict.fromkeys(map(view_of, spec.features)):
            shown = tile
            if view is not None:
                start = time.perf_counter()
                faces = _in_planes(spec.memory(*reach.shape, name="faces"), reach)
                shown = _shown(tile, view, faces)
                timer["views"] += time.perf_counter() - start
            for features, partial in zip(spec.features, partials, strict=True):
                if view_of(features) == view:
                    features.add(shown, spec.selection, partial, timer)

    def _planes(self, core: Box, reach: Box) -> PairTile:
        z = _in_planes(self.spec.memory(*reach.shape), reach)
        marks = np.empty((len(z), *(-(-side // CELL) for side in reach.shape)), np.uint8)
        shared = self.loader.mask_tile(reach)
        own: NDArray[np.uint8] | None = None
        for c, loaded in enumerate(self._channels(core, reach)):
            start = time.perf_counter()
            loaded = self._standardised(c, loaded, shared, z[c])
            valid = shared if loaded.valid is None else loaded.valid
            if loaded.valid is not None:
                if own is None:
                    # The first that misses pixels of its own: from here on each has its mask.
                    base = np.ones(reach.shape, np.uint8) if shared is None else shared
                    own = np.repeat(base[None], len(z), axis=0)
                own[c] = loaded.valid
            mark_cells(z[c], marks[c])
            self.count[c] += self._count(loaded, core, reach)
            self.timer["standardise"] += time.perf_counter() - start
            if self.at_once and self._samples(c):
                inner = core.relative_to(reach).slices
                values = None if loaded.values is None else loaded.values[inner]
                self._take_spectrum(c, values, None if valid is None else valid[inner], core)
        self._keep_spectra()
        if own is None:
            planes = np.zeros((0, 0, 0), np.uint8) if shared is None else shared[None]
        else:
            planes = own[:1] if (own == own[:1]).all() else own
            if planes.all():
                planes = np.zeros((0, 0, 0), np.uint8)
        return PairTile(core, reach, z, np.ascontiguousarray(planes), marks, self.statistics)

    def _standardised(
        self, c: int, loaded: Loaded, shared: NDArray[np.uint8] | None, z: NDArray[np.floating]
    ) -> Loaded:
        """Write a channel's plane; what is loaded comes back with the pixels that it misses."""
        offset, inverse = self._units(c)
        valid = shared if loaded.valid is None else loaded.valid
        if loaded.values is None:
            z[:] = (0.0 - offset) * inverse
            if valid is not None:
                z[valid == 0] = 0
            return loaded
        mask = NO_MASK if valid is None else valid
        standardise(*rows_of(loaded.values), mask, valid is not None, offset, inverse, z)
        # Nobody has looked yet at pixels that come as stored.
        if loaded.valid is not None or loaded.values.dtype.kind != "f" or all_finite(z):
            return loaded
        there = np.isfinite(loaded.values)
        own = np.array(there if shared is None else there & (shared != 0), np.uint8)
        standardise(*rows_of(loaded.values), own, True, offset, inverse, z)
        return replace(loaded, values=np.where(own, loaded.values, 0), valid=own)

    def _channels(self, core: Box, reach: Box) -> Iterator[Loaded]:
        inner = core if self.spec.count else None
        numbers = self.spec.selection.numbers
        self.fresh.clear()
        return self.loader.channels(reach, numbers, self.timer, inner, as_stored=True, unseen=True)

    def _units(self, c: int) -> tuple[float, float]:
        return float(self.statistics.offset[c]), 1.0 / float(self.statistics.scale[c])

    def _count(self, loaded: Loaded, core: Box, reach: Box) -> float:
        if not self.spec.count or loaded.raw is None:
            return 0.0
        return count_of(loaded.raw, loaded.valid, core, reach)

    def _samples(self, c: int) -> bool:
        return self.sampled is not None and bool(self.sampled[c])

    def _take_spectrum(
        self, c: int, values: NDArray[Any] | None, valid: NDArray[np.uint8] | None, box: Box
    ) -> None:
        """What the parts of the block in a box of it add to the spectrum of a channel."""
        field = self.spec.field
        assert field is not None
        start = time.perf_counter()
        scale = float(self.statistics.scale[c])
        for part in field.parts(self.block.shape):
            inner = part.shifted(self.block.y0, self.block.x0).relative_to(box)
            if inner.y0 < 0 or inner.y1 > box.shape[0]:
                continue
            # Rows without gaps, so that sums over them have the same bits wherever they come from.
            x = np.zeros(part.shape) if values is None else values[inner.slices]
            known = None if valid is None else valid[inner.slices]
            self.fresh.append((c, field.part(np.ascontiguousarray(x), known, 0.0, scale)))
        self.timer["spectra"] += time.perf_counter() - start

    def _keep_spectra(self) -> None:
        """Add what was taken of a strip, now that it need not be gone through again."""
        for c, arrays in self.fresh:
            add_arrays(self.spectra[c], arrays)
        self.fresh.clear()

    def _add_coarse(self, sums: NDArray[np.float64], core: Box) -> None:
        """Add the cells of a strip to the coarse cells of the block, row by row."""
        if self.spec.coarse:
            each = self.spec.coarse // CELL
            first = (core.y0 - self.block.y0) // CELL
            starts = np.arange(0, sums.shape[2], each)
            for i in range(sums.shape[1]):
                row = np.add.reduceat(sums[:, i], starts, axis=1)
                self.coarse[:, (first + i) // each] += row


def _in_planes(memory: NDArray[np.floating], reach: Box) -> NDArray[np.floating]:
    return memory[:, : reach.size].reshape(len(memory), *reach.shape)


def _shown(tile: PairTile, view: View, out: NDArray[np.floating]) -> PairTile:
    """The tile as features of this view see it."""
    view.show(tile, out)
    marks = np.empty_like(tile.marks)
    for z, mark in zip(out, marks, strict=True):
        mark_cells(z, mark)
    return replace(tile, z=out, marks=marks)


def count_of(raw: NDArray[Any], valid: NDArray[np.uint8] | None, core: Box, reach: Box) -> float:
    """Total of integer counts; for other data the number of valid pixels that are not zero."""
    if valid is not None:
        raw = raw[valid[core.relative_to(reach).slices] != 0]
    if raw.dtype in AS_STORED and raw.dtype.kind == "u":
        return float(pixel_total(np.atleast_2d(raw)))
    if raw.dtype.kind in "iu":
        return float(raw.sum(dtype=np.int64 if raw.dtype.kind == "i" else np.uint64))
    if raw.dtype in AS_STORED and raw.ndim == 2:
        return float(pixels_not_zero(*rows_of(raw), *raw.shape))
    return float(np.count_nonzero(raw))
