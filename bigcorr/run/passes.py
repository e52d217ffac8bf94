"""The two passes over a stack, one unit of work at a time.

A unit is a canonical piece of the raster (never a piece of the plan), so its sums have the same
bits in every run. These functions run in workers: they read through a `TileLoader` and hand back
plain arrays by name. What is merged, kept or written is the driver's business.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.cells import CELL, mark_cells, pixel_total, standardise
from bigcorr.pairs.measure import (
    ChannelStatistics,
    Features,
    PairTile,
    Partial,
    Timer,
    View,
    view_of,
)
from bigcorr.pairs.selection import Selection
from bigcorr.pairs.significance import SpectrumSpec
from bigcorr.pairs.statistics import region_moments
from bigcorr.run.loader import AS_STORED, TileLoader
from bigcorr.tiles import Box

Arrays = dict[str, NDArray[Any]]

_EMPTY = np.zeros((0, 0), np.uint8)


def statistics_unit(
    loader: TileLoader,
    channels: NDArray[np.int64],
    regions: tuple[Box, ...],
    chosen: NDArray[np.bool_],
) -> Arrays:
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
    for row, index, values, valid in _regions(loader, channels, regions, chosen, timer, True):
        start = time.perf_counter()
        moments[row, index] = region_moments(values, valid)
        timer["statistics"] += time.perf_counter() - start
    return {"moments": moments, **_times(timer)}


def _regions(
    loader: TileLoader,
    channels: NDArray[np.int64],
    regions: tuple[Box, ...],
    chosen: NDArray[np.bool_],
    timer: Timer,
    as_stored: bool = False,
) -> Iterator[tuple[int, int, NDArray[Any], NDArray[np.uint8] | None]]:
    """The chosen channels of each region in turn: (row, region, values, valid pixels)."""
    for index, region in enumerate(regions):
        rows = np.flatnonzero(chosen[:, index])
        if len(rows) == 0:
            continue
        shared = loader.mask_tile(region)
        wanted = loader.channels(region, channels[rows], timer, as_stored=as_stored)
        for row, loaded in zip(rows, wanted, strict=True):
            values = np.zeros(region.shape) if loaded.values is None else loaded.values
            yield int(row), index, values, shared if loaded.valid is None else loaded.valid


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

    @property
    def room(self) -> tuple[int, int]:
        return room_of(self.features)


def room_of(features: tuple[Features, ...]) -> tuple[int, int]:
    """Pixels that tiles hold before and behind their core; whole cells before it."""
    margin = max(f.margin for f in features)
    return -(-margin // CELL) * CELL, max(margin, *(f.extent for f in features))


def pair_unit(
    loader: TileLoader, block: Box, spec: PairSpec, statistics: ChannelStatistics
) -> Arrays:
    """All sums of one canonical block.

    Returns
    -------
    dict
        ``<i>.<name>``: the partial of the i-th features; ``count`` (channel) where asked for;
        ``coarse`` (channel, cells_y, cells_x) float32 sums of z over coarse cells; ``time.*``.
        Channels are those of the selection, in its order, as are those of `statistics`.
    """
    timer: Timer = defaultdict(float)
    partials: list[Partial] = [{} for _ in spec.features]
    channels = spec.selection.channels
    count = np.zeros(channels)
    coarse = (
        np.zeros((channels, *(-(-side // spec.coarse) for side in block.shape)), np.float32)
        if spec.coarse
        else None
    )
    height = min(spec.strip, block.shape[0])
    before, behind = spec.room
    buffer = np.empty(
        (
            channels,
            min(height + before + behind, loader.raster[0]),
            min(block.shape[1] + before + behind, loader.raster[1]),
        ),
        np.float64 if spec.wide else np.float32,
    )
    # One face at a time: a second tile is all that any number of views needs.
    faces = np.empty_like(buffer) if any(map(view_of, spec.features)) else buffer
    for y0 in range(block.y0, block.y1, height):
        core = Box(y0, min(y0 + height, block.y1), block.x0, block.x1)
        reach = core.padded(before, behind, before, behind).clipped(loader.raster)
        z = buffer[:, : reach.shape[0], : reach.shape[1]]
        wanted = count if spec.count else None
        numbers = spec.selection.numbers
        tile = _pair_tile(loader, core, reach, numbers, z, statistics, timer, wanted)
        if coarse is not None:
            start = time.perf_counter()
            inner = z[(slice(None), *core.relative_to(reach).slices)]
            _add_coarse(coarse, inner, core, block, spec.coarse)
            timer["coarse"] += time.perf_counter() - start
        for view in dict.fromkeys(map(view_of, spec.features)):
            shown = tile
            if view is not None:
                start = time.perf_counter()
                shown = _shown(tile, view, faces[:, : reach.shape[0], : reach.shape[1]])
                timer["views"] += time.perf_counter() - start
            for features, partial in zip(spec.features, partials, strict=True):
                if view_of(features) == view:
                    features.add(shown, spec.selection, partial, timer)
    out: Arrays = {
        f"{index}.{name}": array
        for index, partial in enumerate(partials)
        for name, array in partial.items()
    }
    if spec.count:
        out["count"] = count
    if coarse is not None:
        out["coarse"] = coarse
    return {**out, **_times(timer)}


def _shown(tile: PairTile, view: View, out: NDArray[np.floating]) -> PairTile:
    """The tile as features of this view see it."""
    view.show(tile, out)
    marks = np.empty_like(tile.marks)
    for z, mark in zip(out, marks, strict=True):
        mark_cells(z, mark)
    return replace(tile, z=out, marks=marks)


def _pair_tile(
    loader: TileLoader,
    core: Box,
    reach: Box,
    numbers: NDArray[np.int64],
    z: NDArray[np.floating],
    statistics: ChannelStatistics,
    timer: Timer,
    count: NDArray[np.float64] | None,
) -> PairTile:
    height, width = reach.shape
    marks = np.empty((len(z), -(-height // CELL), -(-width // CELL)), np.uint8)
    shared = loader.mask_tile(reach)
    own: NDArray[np.uint8] | None = None
    inner = core if count is not None else None
    for c, loaded in enumerate(loader.channels(reach, numbers, timer, inner, as_stored=True)):
        start = time.perf_counter()
        if loaded.valid is not None and own is None:
            # The first channel that misses pixels of its own: from here on each has its mask.
            base = np.ones(reach.shape, np.uint8) if shared is None else shared
            own = np.repeat(base[None], len(z), axis=0)
        if own is not None and loaded.valid is not None:
            own[c] = loaded.valid
        valid = shared if loaded.valid is None else loaded.valid
        offset, inverse = float(statistics.offset[c]), 1.0 / float(statistics.scale[c])
        if loaded.values is None:
            z[c] = (0.0 - offset) * inverse
            if valid is not None:
                z[c][valid == 0] = 0
        else:
            mask = _EMPTY if valid is None else valid
            standardise(loaded.values, mask, valid is not None, offset, inverse, z[c])
        mark_cells(z[c], marks[c])
        if count is not None and loaded.raw is not None:
            count[c] += _count(loaded.raw, loaded.valid, core, reach)
        timer["standardise"] += time.perf_counter() - start
    if own is None:
        planes = np.zeros((0, 0, 0), np.uint8) if shared is None else shared[None]
    else:
        planes = own[:1] if (own == own[:1]).all() else own
        if planes.all():
            planes = np.zeros((0, 0, 0), np.uint8)
    return PairTile(core, reach, z, np.ascontiguousarray(planes), marks, statistics)


def _count(raw: NDArray[Any], valid: NDArray[np.uint8] | None, core: Box, reach: Box) -> float:
    """Total of integer counts; for other data the number of valid pixels that are not zero."""
    if valid is not None:
        raw = raw[valid[core.relative_to(reach).slices] != 0]
    if raw.dtype in AS_STORED and raw.dtype.kind == "u":
        return float(pixel_total(np.atleast_2d(raw)))
    if raw.dtype.kind in "iu":
        return float(raw.sum(dtype=np.int64 if raw.dtype.kind == "i" else np.uint64))
    return float(np.count_nonzero(raw))


def _add_coarse(
    coarse: NDArray[np.float32], z: NDArray[np.floating], core: Box, block: Box, side: int
) -> None:
    """Add the strip's pixels to the coarse cells of its block (sums over rows in fixed order)."""
    height, width = z.shape[1:]
    starts = np.arange(0, width, side)
    for y in range(height):
        row = np.add.reduceat(z[:, y, :width], starts, axis=1)
        coarse[:, (core.y0 + y - block.y0) // side] += row


def _times(timer: Timer) -> Arrays:
    return {f"time.{name}": np.array(seconds) for name, seconds in timer.items()}


def spectra_unit(
    loader: TileLoader,
    channels: NDArray[np.int64],
    regions: tuple[Box, ...],
    chosen: NDArray[np.bool_],
    statistics: ChannelStatistics,
    spectra: tuple[SpectrumSpec, ...],
) -> Arrays:
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
    for row, _, values, valid in _regions(loader, channels, regions, chosen, timer):
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
            count[loaded.channel] = _count(loaded.raw, loaded.valid, box, box)
    return count
