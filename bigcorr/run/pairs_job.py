"""A run of pairs from a raster to a result: statistics, spectra, pair pass, matrices.

Puts the rooms together and says what is done in which order; formulas live in `bigcorr.pairs`,
storage in `bigcorr.raster` and `results`, what happens in a worker in `passes`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bigcorr import __version__
from bigcorr.errors import InputError
from bigcorr.measures import parse_all
from bigcorr.pairs.measure import (
    ChannelStatistics,
    Features,
    Measure,
    Partial,
    Selection,
)
from bigcorr.pairs.significance import SPECTRUM_REGIONS, FieldSpectrum, SpectrumSpec
from bigcorr.pairs.statistics import RegionSample, combine, sample_regions
from bigcorr.pairs.variance import PairVariance, spectra_of, variances
from bigcorr.raster.base import RasterSource
from bigcorr.raster.mask import Mask, empty_fraction, resolve_mask
from bigcorr.raster.source import as_source
from bigcorr.run.checkpoint import Arrays, Checkpoint, refuse_other
from bigcorr.run.cluster import Pool, open_pool
from bigcorr.run.loader import TileLoader
from bigcorr.run.passes import PairSpec, count_unit, pair_unit, spectra_unit, statistics_unit
from bigcorr.run.plan import Plan, channels_a_unit, coarse_side, make_plan
from bigcorr.run.progress import SILENT, Progress
from bigcorr.run.results import PairResult, existing_job, write_result
from bigcorr.run.stages import run_stage
from bigcorr.tiles import Box, grid

if TYPE_CHECKING:
    from distributed import Client

REGIONS_A_UNIT = 8
EMPTY_SHARE = 0.5


@dataclass(frozen=True)
class PairsQuestion:
    """What is asked, checked: everything that the result depends on."""

    source: RasterSource
    measures: tuple[Measure, ...]
    sigmas: tuple[tuple[float, float] | None, ...]
    many_sigmas: bool
    significance: bool
    mask: Mask | None
    nodata: float | None
    selection: Selection
    counts: NDArray[Any] | None
    warnings: tuple[str, ...]

    @property
    def raster(self) -> tuple[int, int]:
        return self.source.shape[1], self.source.shape[2]

    def job(self) -> dict[str, Any]:
        """The fingerprint: two runs with the same one have the same result."""
        return {
            "command": "pairs",
            "version": __version__,
            "input": self.source.path,
            "input fingerprint": self.source.fingerprint(),
            "channels": len(self.source.channels),
            "measures": {m.name: m.parameters for m in self.measures},
            "sigma": [s if s is None else list(s) for s in self.sigmas],
            "significance": self.significance,
            "mask": None if self.mask is None else self.mask.fingerprint(),
            "nodata": self.nodata,
            "against": None if self.selection.symmetric else self.selection.rows.tolist(),
        }

    def loader(self, sigma: tuple[float, float] | None) -> TileLoader:
        return TileLoader(self.source, sigma, self.nodata, self.mask)

    def features(self) -> tuple[Features, ...]:
        """The distinct features of the measures, in the order of the measures."""
        return tuple(dict.fromkeys(m.features(self.raster) for m in self.measures))


def ask(
    stack: Any,
    *,
    measures: Any,
    sigma: Any = None,
    window: int | None = None,
    stride: int | None = None,
    contrast_floor: float | None = None,
    significance: bool = True,
    mask: Any = None,
    against: Sequence[str] | str | None = None,
    nodata: float | None = None,
    min_count: float | None = None,
    pool: Pool | None = None,
    progress: Progress = SILENT,
) -> PairsQuestion:
    """Check everything that can be checked before a pixel is computed.

    Raises
    ------
    InputError
        Names the argument, what it got and what it takes.
    """
    defaults = {"window": window, "stride": stride, "contrast_floor": contrast_floor}
    chosen = parse_all(measures, {k: v for k, v in defaults.items() if v is not None})
    sigmas, many = _sigmas(sigma)
    source = as_source(stack)
    if source.dtype.kind not in "buif":
        raise InputError(f"{source.path}: pairs take real numbers, got dtype {source.dtype}")
    raster = (source.shape[1], source.shape[2])
    for measure in chosen:
        measure.check(raster)
    nodata = source.nodata if nodata is None else nodata
    counts = source.counts
    if min_count is not None:
        if counts is None:
            counts = _count(source, nodata, pool, progress)
        keep = np.flatnonzero(np.asarray(counts) >= min_count)
        if len(keep) == 0:
            raise InputError(
                f"min_count: got {min_count}; no channel has as many, the largest has "
                f"{np.max(counts):g}"
            )
        source, counts = source.select(keep), np.asarray(counts)[keep]
    names = list(source.channels)
    chosen_rows = None
    if against is not None:
        wanted = [against] if isinstance(against, str) else list(against)
        if not wanted:
            raise InputError("against: got no channel, takes at least one name")
        chosen_rows = [_position(name, names) for name in dict.fromkeys(map(str, wanted))]
    resolved = resolve_mask(mask, source)
    warnings = []
    if mask is None and resolved is None and len(names) > 1:
        share = empty_fraction(source)
        if share > EMPTY_SHARE:
            warnings.append(
                f"{share:.0%} of the raster is empty in all channels and counts as zeros, which "
                "makes every pair look similar; give --mask auto (mask='auto') or a mask"
            )
            progress.note(warnings[-1])
    return PairsQuestion(
        source=source,
        measures=chosen,
        sigmas=sigmas,
        many_sigmas=many,
        significance=significance,
        mask=resolved,
        nodata=nodata,
        selection=Selection.of(len(names), chosen_rows),
        counts=counts,
        warnings=tuple(warnings),
    )


def run_pairs(
    stack: Any,
    out_path: str | Path,
    *,
    resume: bool = True,
    plan_only: bool = False,
    progress: Progress | None = None,
    cluster: str | Client | Pool | None = None,
    workers: int | None = None,
    threads: int | None = None,
    memory: str | int | None = None,
    **question: Any,
) -> dict[str, Any]:
    """Compute pair matrices from storage to a result store, resumable.

    Parameters
    ----------
    stack : path or anything that `as_source` takes
    out_path : path
        The result store; unfinished work stands beside it in ``<out_path>.partial``.
    resume : bool
        Go on with what the same command left; False starts afresh and replaces what is there.
    plan_only : bool
        Say what would be done and do nothing.
    progress : Progress, optional
    cluster, workers, threads, memory
        As in `bigcorr.run.cluster.open_pool`.
    **question
        As in `ask`: measures, sigma, window, stride, contrast_floor, significance, mask, against,
        nodata, min_count.

    Returns
    -------
    dict
        A summary for people and machines.

    Raises
    ------
    InputError
        Bad input, or the output belongs to another run.
    RunError
        A damaged input, a full disk, lost workers.
    """
    progress = progress or SILENT
    started = time.monotonic()
    out = Path(out_path)
    with open_pool(cluster, workers=workers, threads=threads, memory=memory) as pool:
        if pool.dashboard:
            progress.note(f"dashboard: {pool.dashboard}")
        asked = ask(stack, pool=pool, progress=progress, **question)
        job = asked.job()
        if resume and not plan_only and (stored := existing_job(out)) is not None:
            refuse_other(f"{out} is the result of another run", stored, job)
            return {"output": str(out), "done_before": True, "channels": job["channels"]}
        plan = plan_for(asked, pool)
        if plan_only:
            return {"plan": plan.rows(), "projected_bytes": plan.worker_bytes}
        checkpoint = Checkpoint(out.with_name(out.name + ".partial"))
        checkpoint.begin(job, resume)
        result = compute(asked, plan, pool, checkpoint, progress)
        result.attrs["wall_seconds"] = round(time.monotonic() - started, 3)
        progress.note(f"writing {out}")
        write_result(result, out, checkpoint.path / "result", job)
        checkpoint.remove()
    return {
        "output": str(out),
        "channels": asked.selection.channels,
        "pairs": plan.pairs,
        "measures": [m.name for m in asked.measures],
        "units": result.attrs["units"],
        "units_found_done": result.attrs["units_found_done"],
        "projected_bytes": plan.worker_bytes,
        "timings": result.attrs["timings"],
        "warnings": list(asked.warnings),
        "seconds": round(time.monotonic() - started, 3),
    }


def compute(
    asked: PairsQuestion,
    plan: Plan,
    pool: Pool,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> PairResult:
    """All stages for all blurs; the matrices themselves are made when the result is read."""
    parts = []
    timings: dict[str, float] = {}
    units = found = 0
    for index, sigma in enumerate(asked.sigmas):
        label = f"sigma {sigma[0]:g}: " if asked.many_sigmas and sigma else ""
        prefix = f"{index}-" if asked.many_sigmas else ""
        part = _one_blur(asked, sigma, plan, pool, checkpoint, progress, label, prefix)
        parts.append(part)
        for name, seconds in part.timings.items():
            timings[name] = timings.get(name, 0.0) + seconds
        units, found = units + part.units, found + part.found
    attrs = {
        "timings": {name: round(value, 3) for name, value in sorted(timings.items())},
        "units": units,
        "units_found_done": found,
        "workers": pool.description,
        "projected_bytes": plan.worker_bytes,
        "warnings": list(asked.warnings),
    }
    counts = asked.counts if asked.counts is not None else parts[0].counts
    return PairResult(
        source=asked.source,
        measures=asked.measures,
        selection=asked.selection,
        sigmas=asked.sigmas if asked.many_sigmas else None,
        sigma=None if asked.many_sigmas else asked.sigmas[0],
        blurs=[replace(part, counts=None) for part in parts],
        counts=np.asarray(counts),
        attrs=attrs,
    )


@dataclass(frozen=True)
class Blur:
    """The sums of one blur, from which matrices are made."""

    features: dict[Features, Partial]
    statistics: ChannelStatistics
    variances: dict[str, PairVariance]
    counts: NDArray[np.float64] | None
    timings: dict[str, float]
    units: int
    found: int


def _one_blur(
    asked: PairsQuestion,
    sigma: tuple[float, float] | None,
    plan: Plan,
    pool: Pool,
    checkpoint: Checkpoint | None,
    progress: Progress,
    label: str,
    prefix: str,
) -> Blur:
    loader = asked.loader(sigma)
    selection = asked.selection
    sample = _sample(loader)
    specs = spectra_of(asked.measures, loader.raster, sigma) if asked.significance else {}
    timings: dict[str, float] = {}
    counted = [0, 0]

    def stage(name: str, function: Any, units: list[tuple], fold: Any) -> Arrays:
        total, found = run_stage(
            pool,
            f"{prefix}{name}",
            function,
            units,
            fold,
            checkpoint=checkpoint,
            progress=progress,
        )
        counted[0] += len(units)
        counted[1] += found
        for key in [key for key in total if key.startswith("time.")]:
            timings[key[5:]] = timings.get(key[5:], 0.0) + float(total.pop(key))
        return total

    # Statistics: moments of the chosen regions, then their spectra, which need mean and sd.
    groups = _groups(selection.channels, channels_a_unit(sample))
    units, places = _region_units(loader, groups, sample, sample.chosen)
    fold = _ChannelFold(selection.channels, places, len(sample.regions))
    total = stage("statistics", statistics_unit, units, fold)
    valid = np.array([_valid_pixels(loader, region) for region in sample.regions])
    moments = total.get("moments", np.zeros((selection.channels, len(sample.regions), 5)))
    statistics = combine(moments, sample, valid)

    sums: Arrays = {}
    if specs:
        some = _thin(sample.chosen, SPECTRUM_REGIONS)
        units, places = _region_units(loader, groups, sample, some)
        units = [(*unit, statistics.select(unit[1]), tuple(specs.values())) for unit in units]
        fold = _ChannelFold(selection.channels, places, 0)
        sums = stage("spectra", spectra_unit, units, fold)

    coarse = coarse_side(loader.raster) if _wants_coarse(specs) else 0
    spec = PairSpec(asked.features(), selection, plan.strip, asked.counts is None, coarse)
    blocks = plan.blocks
    total = stage(
        "pairs",
        pair_unit,
        [(loader, block, spec, statistics) for block in blocks],
        _PairFold(blocks, loader.raster, coarse),
    )
    partials: dict[Features, Partial] = {
        features: {
            name.partition(".")[2]: array
            for name, array in total.items()
            if name.startswith(f"{index}.")
        }
        for index, features in enumerate(spec.features)
    }
    start = time.perf_counter()
    cells = (total.pop("coarse"), _coarse_valid(loader, coarse), coarse) if coarse else None
    found_variances = variances(asked.measures, specs, sums, statistics, cells)
    timings["significance"] = time.perf_counter() - start
    return Blur(
        features=partials,
        statistics=statistics,
        variances=found_variances,
        counts=total.get("count"),
        timings=timings,
        units=counted[0],
        found=counted[1],
    )


class _ChannelFold:
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


class _PairFold:
    """Adds up the partials of blocks, and lays their coarse cells side by side."""

    def __init__(self, blocks: list[Box], raster: tuple[int, int], coarse: int) -> None:
        self.blocks, self.raster, self.coarse = blocks, raster, coarse

    def __call__(self, total: Arrays, index: int, unit: Arrays) -> None:
        for name, array in unit.items():
            if name == "coarse":
                if name not in total:
                    shape = [-(-side // self.coarse) for side in self.raster]
                    total[name] = np.zeros((len(array), *shape), np.float32)
                y, x = (self.blocks[index].y0 // self.coarse, self.blocks[index].x0 // self.coarse)
                total[name][:, y : y + array.shape[1], x : x + array.shape[2]] = array
            elif name in total:
                total[name] = total[name] + array if array.ndim == 0 else _add(total[name], array)
            else:
                total[name] = array


def _add(total: NDArray[Any], array: NDArray[Any]) -> NDArray[Any]:
    total += array
    return total


def plan_for(asked: PairsQuestion, pool: Pool) -> Plan:
    widest = max((asked.loader(sigma) for sigma in asked.sigmas), key=lambda x: x.halo)
    specs = spectra_of(asked.measures, widest.raster, widest.sigma) if asked.significance else {}
    return make_plan(
        widest,
        asked.features(),
        len(asked.measures),
        asked.selection,
        _sample(widest),
        tuple(specs.values()),
        pool.memory_limit,
        pool.slots,
        len(asked.sigmas),
    )


def _sample(loader: TileLoader) -> RegionSample:
    halo_y, halo_x = loader.halo

    def occupied(region: Box) -> NDArray[np.bool_] | None:
        padded = region.padded(halo_y, halo_y, halo_x, halo_x).clipped(loader.raster)
        return None if loader.nodata == 0 else loader.source.occupied(padded)

    return sample_regions(loader.raster, loader.source.shape[0], occupied)


def _groups(channels: int, size: int) -> list[NDArray[np.int64]]:
    return [np.arange(a, min(a + size, channels)) for a in range(0, channels, size)]


def _region_units(
    loader: TileLoader,
    groups: list[NDArray[np.int64]],
    sample: RegionSample,
    chosen: NDArray[np.bool_],
) -> tuple[list[tuple], list[tuple[Any, slice]]]:
    """Units of channels by runs of regions, and where their rows belong."""
    units: list[tuple] = []
    places: list[tuple[Any, slice]] = []
    for group in groups:
        for start in range(0, len(sample.regions), REGIONS_A_UNIT):
            part = slice(start, min(start + REGIONS_A_UNIT, len(sample.regions)))
            if chosen[group, part].any():
                units.append((loader, group, sample.regions[part], chosen[group, part]))
                places.append((group, part))
    return units, places


def _thin(chosen: NDArray[np.bool_], most: int) -> NDArray[np.bool_]:
    """At most `most` of the chosen regions of each channel, evenly spread."""
    out = chosen.copy()
    for channel in np.flatnonzero(chosen.sum(axis=1) > most):
        where = np.flatnonzero(chosen[channel])
        out[channel] = False
        out[channel, where[np.linspace(0, len(where) - 1, most).round().astype(int)]] = True
    return out


def _wants_coarse(specs: dict[str, SpectrumSpec]) -> bool:
    return any(isinstance(spec, FieldSpectrum) and not spec.whole for spec in specs.values())


def _valid_pixels(loader: TileLoader, region: Box) -> float:
    mask = loader.mask_tile(region)
    return float(region.size if mask is None else mask.sum())


def _coarse_valid(loader: TileLoader, side: int) -> NDArray[np.float64]:
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


def _count(
    source: RasterSource, nodata: float | None, pool: Pool | None, progress: Progress
) -> NDArray[np.float64]:
    """Totals of all channels where the store does not know them: one pass over the data."""
    loader = TileLoader(source, None, nodata, None)
    boxes = list(grid((source.shape[1], source.shape[2]), 2048))
    total = np.zeros(source.shape[0])
    if pool is None:
        for box in boxes:
            total += count_unit(loader, box)
        return total
    parts: dict[int, NDArray[np.float64]] = {}
    for number, (index, part) in enumerate(
        pool.imap(count_unit, [(loader, box) for box in boxes]), 1
    ):
        parts[index] = part
        progress("count", number, len(boxes))
    for index in range(len(boxes)):
        total += parts[index]
    return total


def _position(name: str, names: list[str]) -> int:
    if name in names:
        return names.index(name)
    if name.isdigit() and int(name) < len(names):
        return int(name)
    import difflib

    near = difflib.get_close_matches(name, names, 3)
    hint = f"; close to it: {', '.join(near)}" if near else f"; there are {len(names)}"
    raise InputError(f"against: no channel {name!r}{hint}")


def _sigmas(sigma: Any) -> tuple[tuple[tuple[float, float] | None, ...], bool]:
    """One blur or several: (y, x) pairs. A list asks for several, a tuple is one (y, x)."""
    if sigma is None:
        return (None,), False
    if isinstance(sigma, (list, np.ndarray)):
        if len(sigma) == 0:
            raise InputError("sigma: got an empty list, takes one or more numbers > 0")
        return tuple(_one_sigma(value) for value in sigma), True
    return (_one_sigma(sigma),), False


def _one_sigma(value: Any) -> tuple[float, float]:
    pair = value if isinstance(value, tuple) else (value, value)
    try:
        y, x = (float(v) for v in pair)
    except (TypeError, ValueError):
        y = x = float("nan")
    if not (0 < y < np.inf and 0 < x < np.inf):
        raise InputError(f"sigma: got {value!r}, takes a number of pixels > 0, or (y, x)")
    return y, x
