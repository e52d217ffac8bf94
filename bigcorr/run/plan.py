"""The plan of a run of pairs: what is canonical, what memory allows, and what it will cost.

Pure arithmetic on shapes and parameters. The canonical part (blocks, regions, units) follows from
the raster and the question alone, so that results do not depend on the machine; memory decides only
how many rows of a block, and how many channels of the matrix, are held at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bigcorr.errors import InputError
from bigcorr.kernels.cells import CELL
from bigcorr.pairs.lag_spectra import LagSpectrum
from bigcorr.pairs.measure import Features, Measure, view_of
from bigcorr.pairs.selection import CHANNEL_CHUNK, Selection, matrix_tiles
from bigcorr.pairs.significance import FieldSpectrum, SpectrumSpec
from bigcorr.pairs.statistics import REGION, WHOLE_PIXELS, RegionSample
from bigcorr.pairs.summaries import Summary, idle
from bigcorr.run.coarse import CellMeans, KeptCells, Mosaic
from bigcorr.run.loader import TileLoader
from bigcorr.run.memory import FILL, PROCESS_BYTES, MiB, Projection, mebibytes, task_room
from bigcorr.run.order import Order
from bigcorr.run.pair_pass import room_of
from bigcorr.run.reading import Passes, channels_a_unit
from bigcorr.run.results import SIDE
from bigcorr.run.shift_stage import moment_bytes
from bigcorr.run.summaries import stage_bytes, stage_looks, unit_bytes
from bigcorr.tiles import Box, Shape, grid

WIDE_PIXELS = 2**18
"""Rasters up to this size are worked through in float64."""
UNIT_BYTES = 512 * MiB
"""Most bytes of the sums of one unit: the driver holds two."""
SPECTRUM_WORK = 80
"""Most bytes a pixel that taking the spectrum of a region needs."""
PLAIN_WORK = 24
"""The same of a field of which no pixel is missing and no lag is padded."""
LOW_STRIP = 128
"""Rows of a block that should be held at once, if need be for fewer channels."""


def block_side(raster: Shape, channels: int) -> int:
    """Side of the canonical blocks: units of work of the pair pass.

    Large, so that halos cost little; smaller for many channels, whose tiles must fit in memory,
    and for small rasters, which should still be enough units for a few workers.
    """
    side = 1024 if channels <= 256 else 512
    while side > 128 and math.ceil(raster[0] / side) * math.ceil(raster[1] / side) < 16:
        side //= 2
    return side


def wide_tiles(raster: Shape, features: tuple[Features, ...]) -> bool:
    """Whether tiles are float64: where few pixels leave rounding nothing to average over."""
    return raster[0] * raster[1] <= WIDE_PIXELS or any(f.wide for f in features)


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
    group: int | None
    wide: bool
    slots: int
    sampled_regions: int
    regions: int
    channels_a_unit: int
    summary_passes: int
    matrix_tiles: int
    bytes_read: int
    task_bytes: int
    memory_limit: int | None
    unit_bytes: int
    result_bytes: int
    sigmas: int
    n_shifts: int = 0
    field_on_the_way: bool = False
    cell: int = 1
    """Side in pixels of the cells of the raster that is compared."""
    processes: int = 0
    driver_bytes: tuple[int, int] = (0, 0)
    """Arrays of the process that puts the run together, while tasks run and while none does."""
    held_blocks: int = 0
    """Most bytes of pixels of a block that are kept for all blurs; 0: each reads for itself."""
    held_regions: int = 0
    """The same of the regions of statistics, spectra and summaries."""

    @property
    def blocks(self) -> list[Box]:
        return list(grid(self.raster, self.side))

    @property
    def worker_bytes(self) -> int:
        """Projected peak of one worker process with one thread."""
        return PROCESS_BYTES + self.task_bytes

    @property
    def peak_bytes(self) -> int:
        """Projected peak of all processes together."""
        return Projection(
            self.task_bytes, self.slots, self.processes, *self.driver_bytes
        ).peak_bytes

    def rows(self) -> list[tuple[str, str]]:
        """The plan as a table of (what, how much)."""
        limit = "none set" if self.memory_limit is None else mebibytes(self.memory_limit)
        return [
            ("raster", f"{self.channels} channels of {self.raster[0]} x {self.raster[1]}"),
            *([("cells", f"of {self.cell} x {self.cell} pixels")] if self.cell > 1 else []),
            ("pairs", f"{self.pairs:,}"),
            ("blurs", self._blurs()),
            ("blocks", f"{len(self.blocks)} of {self.side} x {self.side} pixels"),
            (
                "tiles of the matrix",
                f"{self.matrix_tiles}"
                + (f" of up to {self.group} channels a side" if self.group else ""),
            ),
            *(
                [("shifts", f"{self.n_shifts}, each as long as the pair pass or longer")]
                if self.n_shifts
                else []
            ),
            ("rows of a block held at once", f"{self.strip} of {self.side}"),
            ("statistics from", f"up to {self.sampled_regions} of {self.regions} regions"),
            ("passes for summaries", str(self.summary_passes)),
            ("read from storage (decoded)", mebibytes(self.bytes_read)),
            ("projected peak of a task", mebibytes(self.task_bytes)),
            ("projected peak of a worker", mebibytes(self.worker_bytes)),
            ("memory limit of a slot", limit),
            ("tasks at a time", str(self.slots)),
            ("what puts them together holds", mebibytes(max(self.driver_bytes))),
            ("projected peak of all processes", mebibytes(self.peak_bytes)),
            ("checkpoint, a unit", mebibytes(self.unit_bytes)),
            ("result", mebibytes(self.result_bytes)),
        ]

    def _blurs(self) -> str:
        if self.sigmas == 1:
            return "1"
        held = self.held_blocks, self.held_regions
        how = "each reads for itself"
        if all(held):
            how = "together"
        elif any(held):
            how = f"together in {'blocks' if held[0] else 'regions'}, else each reads for itself"
        return f"{self.sigmas}, {how}" + (
            f"; {mebibytes(max(held))} of pixels are kept for all" if any(held) else ""
        )


def make_plan(
    loader: TileLoader,
    features: tuple[Features, ...],
    measures: int,
    channels: int,
    against: tuple[int, ...] | None,
    samples: Sequence[RegionSample],
    spectra: tuple[SpectrumSpec, ...],
    order: Order,
    rounds: list[tuple[Summary, ...]],
    counting: bool,
    memory_limit: int | None,
    slots: int,
    halos: tuple[Shape, ...],
    shifted: Sequence[Measure] = (),
    n_shifts: int = 0,
    detrend: bool = False,
) -> Plan:
    """Fit the tiles of raster and matrix into memory: as few and as large as there is room for.

    Parameters
    ----------
    loader : whose halo along each axis is the widest of all blurs.
    samples, halos : of each blur.
    spectra : of the blur whose spectra are largest.
    shifted, n_shifts : measures whose values are wanted of so many shifts as well.
    detrend : whether trends are fitted first.

    Raises
    ------
    InputError
        If not even the smallest tile fits; with the numbers.
    """
    raster, sample = loader.raster, samples[0]
    side = block_side(raster, channels)
    allowed = task_room(memory_limit)
    region = max(_region_bytes(loader, sample, spectra), stage_bytes(rounds, loader))
    fits: list[tuple[int | None, int, int, int]] = []
    needed = unit = 0
    on_the_way = order.field is not None and side == REGION
    field = order.field if on_the_way else None
    tallest = _tallest(loader, features, side, field) // CELL
    spectrum = sum(spec.nbytes() for spec in spectra) // 2 if on_the_way else 0
    differing = loader.may_miss or (n_shifts > 0 and loader.mask is not None)

    def task(tiles: Sequence[Selection], strip: int, units: int) -> int:
        # A tile as features of some view see it takes as much again.
        item = (8 if wide_tiles(raster, features) else 4) * (1 + any(map(view_of, features)))
        room, loaded = sum(room_of(features)), max(tile.channels for tile in tiles)
        tile_bytes = _tile_bytes(loader, loaded, side, strip, room, item, n_shifts > 0)
        if field is not None:
            tile_bytes += _spectrum_work(loader, (field,)) * math.prod(field.region_shape)
            if not field.in_strips((side, side), strip):
                tile_bytes += loader.peak_bytes((side, side))
        work = max(f.workspace_bytes(tile.channels) for f in features for tile in tiles)
        return units + work + tile_bytes

    for group in _groups(channels):
        tiles = matrix_tiles(channels, against, group)
        unit = max(
            _unit_bytes(features, tile, loader, side, differing)
            + moment_bytes(shifted, tile)
            + tile.channels * spectrum
            for tile in tiles
        )
        for strip in range(tallest, 0, -1):
            needed = max(task(tiles, strip * CELL, 2 * unit), region)
            if (allowed is None or needed <= allowed) and unit <= UNIT_BYTES:
                fits.append((group, strip * CELL, needed, unit))
                break
        # A few more tiles of the matrix are better than tiles of the raster that are all halo.
        if fits and fits[-1][1] >= min(LOW_STRIP, tallest * CELL):
            break
    if not fits:
        raise InputError(
            f"memory: {channels} channels need at least {mebibytes(needed + PROCESS_BYTES)} a "
            f"task (the smallest tile takes {mebibytes(needed)}), and {FILL:.0%} of the limit of "
            f"{mebibytes(memory_limit or 0)} is {mebibytes(int(FILL * (memory_limit or 0)))}: "
            "raise --memory, run fewer threads a worker or ask for fewer channels"
        )
    group, strip, needed, unit = max(fits, key=lambda fit: fit[1])
    tiles = matrix_tiles(channels, against, group)
    passes = Passes(
        loader, halos, features, side, tuple(tile.channels for tile in tiles), samples, order,
        bool(spectra), tuple(stage_looks(rounds, loader)), counting or not idle(features),
        n_shifts, detrend,
    )  # fmt: skip
    blurs, held_blocks, held_regions = len(halos), 0, 0
    # In cells each blur has values of its own.
    apart = loader.source.resident or isinstance(loader.source, (CellMeans, KeptCells, Mosaic))
    if blurs > 1 and not apart:
        if (blurs + 1) * unit <= 2 * UNIT_BYTES:
            choices = [(passes.block_bytes(strip, 0), -strip, 0, 0)]
            for part in range(1, 5):
                rows = -(-strip // (part * CELL)) * CELL
                if rows < min(LOW_STRIP, strip):
                    break
                base = task(tiles, rows, 2 * blurs * unit)
                held = _held(*passes.of_a_block(rows), base, allowed)
                if held:
                    choices.append((passes.block_bytes(rows, held), -rows, held, base + held))
            _, rows, held_blocks, more = min(choices)
            strip, needed = -rows, max(needed, more)
        base = max(
            _region_bytes(loader, sample, spectra, blurs), stage_bytes(rounds, loader, blurs)
        )
        held_regions = _held(*passes.of_a_region(), base, allowed)
        if held_regions:
            needed = max(needed, base + held_regions)
    rows = channels if against is None else len(against)
    return Plan(
        raster=raster,
        channels=channels,
        pairs=channels * (channels - 1) // 2 if against is None else rows * (channels - 1),
        side=side,
        strip=strip,
        group=group,
        wide=wide_tiles(raster, features),
        slots=slots,
        sampled_regions=int(sample.chosen.sum(axis=1).max(initial=0)),
        regions=len(sample.regions),
        channels_a_unit=channels_a_unit(sample),
        summary_passes=len(passes.summaries),
        matrix_tiles=len(tiles),
        bytes_read=passes.block_bytes(strip, held_blocks) + passes.region_bytes(held_regions),
        task_bytes=needed,
        memory_limit=memory_limit,
        unit_bytes=max(unit, unit_bytes(rounds, raster)),
        result_bytes=blurs * 8 * rows * channels * measures * 3,
        sigmas=blurs,
        n_shifts=n_shifts,
        field_on_the_way=on_the_way,
        held_blocks=held_blocks,
        held_regions=held_regions,
    )


def _held(each: int, full: int, base: int, allowed: int | None) -> int:
    """Bytes that there is room for beside `base`, at most `full`; 0 if not for `each`."""
    room = full if allowed is None else min(full, allowed - base)
    return room if room >= each else 0


def _tallest(
    loader: TileLoader, features: tuple[Features, ...], side: int, field: FieldSpectrum | None
) -> int:
    """Rows of a block that are worth holding at once: fresh pages for more cost time as well."""
    whole = min(side, -(-loader.raster[0] // CELL) * CELL)
    twice = sum(room_of(features)) + 2 * loader.halo[0]
    if loader.source.resident:
        return min(whole, max(LOW_STRIP, -(-32 * twice // CELL) * CELL))
    # Halos are read once for each strip, and so are chunks and what spectra are taken of.
    chunk = loader.source.chunk[0]
    if twice or chunk % CELL or side % chunk:
        return whole
    part = 0 if field is None else field.region_shape[0]
    return min(whole, max(chunk, LOW_STRIP, part))


def _groups(channels: int) -> Iterator[int | None]:
    """Sides of the matrix tiles to try: the whole matrix, then halves, thirds, ..."""
    yield None
    last, count = channels, 2
    while last > CHANNEL_CHUNK:
        # Large ones are whole chunks of the stored matrix, which tiles then do not share.
        step = SIDE if channels > count * SIDE else CHANNEL_CHUNK
        group = -(-channels // (count * step)) * step
        if group < last:
            yield group
            last = group
        count += 1


def _unit_bytes(
    features: tuple[Features, ...], tile: Selection, loader: TileLoader, side: int, differing: bool
) -> int:
    """Bytes of the arrays of one unit: sums, totals and coarse cells."""
    coarse = coarse_side(loader.raster)
    cells = (side // coarse) ** 2 if coarse else 0
    sums = sum(f.partial_bytes(tile, differing) for f in features)
    return sums + tile.channels * (4 * cells + 8)


def _tile_bytes(
    loader: TileLoader, channels: int, side: int, strip: int, room: int, item: int, shifted: bool
) -> int:
    height, width = (
        -(-min(size, most) // CELL) * CELL
        for size, most in zip((strip + room, side + room), loader.raster, strict=True)
    )
    # A shifted channel takes the mask along, and is put together from pieces.
    own = loader.may_miss or (shifted and loader.mask is not None)
    masks = height * width * (channels if own else 1) + 10 * height * width * shifted
    # Of each cell two moments and a mark, as long as a strip is in work.
    marks = 17 * channels * (height // CELL + 1) * (width // CELL + 1)
    return channels * height * width * item + masks + marks + loader.peak_bytes((height, width))


def _spectrum_work(loader: TileLoader, spectra: tuple[SpectrumSpec, ...]) -> int:
    whole = not any(side % REGION for side in loader.raster)
    plain = not loader.may_miss and loader.mask is None
    for spec in spectra:
        plain &= isinstance(spec, FieldSpectrum) and not spec.padded and (spec.whole or whole)
    return PLAIN_WORK if plain else SPECTRUM_WORK


def _region_bytes(
    loader: TileLoader,
    sample: RegionSample,
    spectra: tuple[SpectrumSpec, ...],
    blurs: int = 1,
) -> int:
    box = max(sample.regions, key=lambda region: region.size)
    unit = channels_a_unit(sample) * sum(spec.nbytes() for spec in spectra)
    # The blurred region, its copies for moments, and transforms of twice the side; for spatial
    # lags the field, its lag and what these are made of.
    work = 24 * box.size + (_spectrum_work(loader, spectra) * box.size if spectra else 0)
    work += 48 * box.size if any(isinstance(spec, LagSpectrum) for spec in spectra) else 0
    return 2 * blurs * unit + work + loader.peak_bytes(box.shape)
