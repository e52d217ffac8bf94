"""The plan of a run of pairs: what is canonical, what memory allows, and what it will cost.

Pure arithmetic on shapes and parameters. The canonical part (blocks, regions, units) follows from
the raster and the question alone, so that results do not depend on the machine; the only thing that
memory decides is how many rows of a block are held at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bigcorr.errors import InputError
from bigcorr.kernels.cells import CELL
from bigcorr.pairs.measure import Features, Selection
from bigcorr.pairs.significance import SpectrumSpec
from bigcorr.pairs.statistics import WHOLE_PIXELS, RegionSample
from bigcorr.run.loader import TileLoader
from bigcorr.tiles import Box, Shape, grid

PROCESS_BYTES = 320 * 2**20
"""What a worker process with the libraries loaded takes before it has read a pixel."""
FILL = 0.75
"""Part of a worker's limit that a plan may fill: dask pauses a worker at 0.8 of it."""
MiB = 2**20


def block_side(raster: Shape, channels: int) -> int:
    """Side of the canonical blocks: units of work of the pair pass.

    Large, so that halos cost little; smaller for many channels, whose tiles must fit in memory,
    and for small rasters, which should still be enough units for a few workers.
    """
    side = 1024 if channels <= 256 else 512
    while side > 128 and math.ceil(raster[0] / side) * math.ceil(raster[1] / side) < 16:
        side //= 2
    return side


def coarse_side(raster: Shape) -> int:
    """Side of the coarse cells from which long lags are taken; 0 where the raster is one region."""
    if raster[0] * raster[1] <= WHOLE_PIXELS:
        return 0
    return int(min(512, max(32, 2 ** math.ceil(math.log2(max(raster) / 256)))))


@dataclass(frozen=True)
class Plan:
    """What a run will do. `rows` is for people."""

    raster: Shape
    channels: int
    pairs: int
    side: int
    strip: int
    slots: int
    sampled_regions: int
    regions: int
    channels_a_unit: int
    pair_units: int
    bytes_read: int
    task_bytes: int
    memory_limit: int | None
    unit_bytes: int
    result_bytes: int
    sigmas: int

    @property
    def blocks(self) -> list[Box]:
        return list(grid(self.raster, self.side))

    @property
    def worker_bytes(self) -> int:
        """Projected peak of one worker process with one thread."""
        return PROCESS_BYTES + self.task_bytes

    def rows(self) -> list[tuple[str, str]]:
        """The plan as a table of (what, how much)."""
        limit = "none set" if self.memory_limit is None else _mebibytes(self.memory_limit)
        return [
            ("raster", f"{self.channels} channels of {self.raster[0]} x {self.raster[1]}"),
            ("pairs", f"{self.pairs:,}"),
            ("blurs", str(self.sigmas)),
            ("blocks", f"{self.pair_units} of {self.side} x {self.side} pixels"),
            ("rows of a block held at once", f"{self.strip} of {self.side}"),
            ("statistics from", f"up to {self.sampled_regions} of {self.regions} regions"),
            ("read from storage (decoded)", _mebibytes(self.bytes_read)),
            ("projected peak of a task", _mebibytes(self.task_bytes)),
            ("projected peak of a worker", _mebibytes(self.worker_bytes)),
            ("memory limit of a slot", limit),
            ("tasks at a time", str(self.slots)),
            ("checkpoint, a unit", _mebibytes(self.unit_bytes)),
            ("result", _mebibytes(self.result_bytes)),
        ]


def make_plan(
    loader: TileLoader,
    features: tuple[Features, ...],
    measures: int,
    selection: Selection,
    sample: RegionSample,
    spectra: tuple[SpectrumSpec, ...],
    memory_limit: int | None,
    slots: int,
    sigmas: int,
) -> Plan:
    """Fit the tiles into memory.

    Raises
    ------
    InputError
        If not even the smallest tile fits; with the numbers.
    """
    raster, channels = loader.raster, selection.channels
    side = block_side(raster, channels)
    extent = max(f.extent for f in features)
    partial = sum(f.partial_bytes(selection, loader.may_miss) for f in features)
    cells = (side // coarse_side(raster)) ** 2 if coarse_side(raster) else 0
    unit = partial + channels * cells * 4
    # Features are worked through one after the other; an update reads and writes one product.
    work = max(f.workspace_bytes(channels) for f in features)
    fixed = 2 * unit + work
    largest = min(side, -(-raster[0] // CELL) * CELL)
    strips = [n * CELL for n in range(largest // CELL, 0, -1)]
    region = _region_bytes(loader, sample, spectra)
    # The libraries take their part of a worker's limit, whoever started it.
    allowed = None if memory_limit is None else int(FILL * memory_limit) - PROCESS_BYTES
    chosen, needed = strips[-1], 0
    for strip in strips:
        needed = max(fixed + _tile_bytes(loader, channels, side, strip, extent), region)
        if allowed is None or needed <= allowed:
            chosen = strip
            break
    else:
        raise InputError(
            f"memory: {channels} channels need at least {_mebibytes(needed + PROCESS_BYTES)} a "
            f"task (the smallest tile takes {_mebibytes(needed)}), and {FILL:.0%} of the limit of "
            f"{_mebibytes(memory_limit or 0)} is {_mebibytes(int(FILL * (memory_limit or 0)))}: "
            "raise --memory, run fewer threads a worker or ask for fewer channels"
        )
    item = loader.source.dtype.itemsize
    halo = loader.halo
    rows = -(-side // chosen) * (chosen + extent + 2 * halo[0])
    reads = (side + extent + 2 * halo[1]) * rows * len(list(grid(raster, side)))
    regions = (
        sum((r.shape[0] + 2 * halo[0]) * (r.shape[1] + 2 * halo[1]) for r in sample.regions)
        * sample.chosen.mean()
    )
    rows_, columns = selection.shape
    return Plan(
        raster=raster,
        channels=channels,
        pairs=channels * (channels - 1) // 2 if selection.symmetric else rows_ * columns - rows_,
        side=side,
        strip=chosen,
        slots=slots,
        sampled_regions=int(sample.chosen.sum(axis=1).max(initial=0)),
        regions=len(sample.regions),
        channels_a_unit=channels_a_unit(sample),
        pair_units=len(list(grid(raster, side))),
        bytes_read=int(sigmas * channels * item * (reads + regions)),
        task_bytes=needed,
        memory_limit=memory_limit,
        unit_bytes=unit,
        result_bytes=sigmas * 8 * rows_ * columns * measures * 3,
        sigmas=sigmas,
    )


def channels_a_unit(sample: RegionSample) -> int:
    """Channels in one unit of the statistics pass: about four million pixels a region."""
    return max(1, min(64, 2**22 // max(box.size for box in sample.regions)))


def _tile_bytes(loader: TileLoader, channels: int, side: int, strip: int, extent: int) -> int:
    height = min(strip + extent, loader.raster[0])
    width = min(side + extent, loader.raster[1])
    masks = height * width * (channels if loader.may_miss else 1)
    marks = channels * (height // CELL + 1) * (width // CELL + 1)
    return channels * height * width * 4 + masks + marks + loader.peak_bytes((height, width))


def _region_bytes(
    loader: TileLoader, sample: RegionSample, spectra: tuple[SpectrumSpec, ...]
) -> int:
    box = max(sample.regions, key=lambda region: region.size)
    unit = channels_a_unit(sample) * sum(spec.nbytes() for spec in spectra)
    # The blurred region, its copies for moments, and transforms of twice the side.
    work = 24 * box.size + (80 * box.size if spectra else 0)
    return 2 * unit + work + loader.peak_bytes(box.shape)


def _mebibytes(value: int) -> str:
    return f"{value / MiB:,.0f} MiB" if value >= 10 * MiB else f"{value / MiB:.1f} MiB"
