"""Batch runs of per-pixel operators: tiles with their halo straight from storage to a Zarr store.

One task reads, computes and writes one whole shard, so a raster of any size is thousands of tasks
and not millions, and a run that was killed goes on with the shards that are missing. The values
are those of `bigcorr.maps` to the last bit. What an operator computes lives in `operators`; how
shards are kept in `raster.writer`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bigcorr import __version__
from bigcorr.errors import InputError
from bigcorr.kernels.pad import halo_box
from bigcorr.operators import (
    Layer,
    Operator,
    compute_box,
    missing_pixels,
    offset_of,
    offset_positions,
    tile_shape,
)
from bigcorr.operators_chain import Blurred, GaussianBlurs
from bigcorr.operators_move import Distant
from bigcorr.operators_registered import Registered
from bigcorr.raster.base import RasterSource
from bigcorr.raster.begun import refuse_begun
from bigcorr.raster.lock import locked
from bigcorr.raster.source import as_source
from bigcorr.raster.store import CHUNK, SHARD, partial_path, remove
from bigcorr.raster.writer import ShardWriter, Unit
from bigcorr.retry import in_words, telling
from bigcorr.run.cluster import Pool, open_pool
from bigcorr.run.memory import Projection, task_room, too_little_memory
from bigcorr.run.other_run import differences, refuse
from bigcorr.run.progress import SILENT, Progress
from bigcorr.run.shards import write_shards
from bigcorr.tiles import Box, Shape, grid

if TYPE_CHECKING:
    from distributed import Client

READ_SIDES = (2048, 1024, 512, 256)
"""Sides of the boxes that a shard may be read in; the largest that fits the memory is taken."""

Mapped = Operator | GaussianBlurs | Distant
"""What a run carries out."""


def run_map(
    op: Mapped,
    sources: Sequence[Any],
    out_path: str | os.PathLike[str],
    *,
    nodata: float | None = None,
    chunk: int = CHUNK,
    shard: int = SHARD,
    attrs: dict[str, Any] | None = None,
    resume: bool = True,
    progress: Progress | None = None,
    cluster: str | Client | Pool | None = None,
    workers: int | None = None,
    threads: int | None = None,
    memory: str | int | None = None,
) -> dict[str, Any]:
    """Carry out a per-pixel operator on rasters in storage and write the result as Zarr.

    Parameters
    ----------
    op : Operator, GaussianBlurs, or Distant
        One of `bigcorr.operators` and its neighbours.
    sources : paths or anything else that `as_source` takes, as many as the operator has inputs.
        Two inputs have one channel each; one input may have several, which are mapped one by one.
    out_path : path
        The store: one array named after the operator, (y, x) or (channel, y, x); with several
        blurs it has the dimension "sigma" before these.
    nodata : float, optional
        Value of missing pixels, instead of what the sources declare.
    chunk, shard : int
        Sides in pixels, of the stored chunks and of what one task writes.
    attrs : dict, optional
        Further facts to store.
    resume : bool
        Go on with what an earlier run of the same kind left; False starts afresh and replaces
        what is there.
    progress : Progress, optional
        Is told of each finished shard.
    cluster, workers, threads, memory
        Where to run, as for `open_pool`; the values do not depend on it.

    Returns
    -------
    dict
        What was done: ``shape``, ``dtype``, ``units`` and ``units_done_before``, ``seconds``,
        ``projected_bytes`` of a task, ``projected_peak_bytes`` of all processes, ``read_side``,
        ``slots``, ``dashboard``.

    Raises
    ------
    InputError
        The rasters do not fit the operator or each other, `out_path` holds another run's result,
        or the memory is too small for any plan.
    RunError
        The disk is full, a chunk cannot be read, or workers died of a shard, mostly of memory.
    """
    started = time.monotonic()
    progress = progress or SILENT
    opened = [as_source(source) for source in sources]
    shape = _check(op, opened)
    declared = [source.nodata if nodata is None else float(nodata) for source in opened]
    facts = _facts(op, opened, declared)
    planar = op.inputs > 1 or opened[0].planar
    with locked(out_path, progress) as lock:
        progress = lock.watch(progress)
        if resume:
            _refuse_other_run(Path(out_path), facts)
        else:
            remove(partial_path(Path(out_path)))
        lead = {"sigma": len(op.each)} if isinstance(op, GaussianBlurs) else {}
        if not planar:
            lead["channel"] = opened[0].shape[0]
        writer = ShardWriter(
            out_path,
            (*lead.values(), *shape),
            op.out_dtype(*(source.dtype for source in opened)),
            fingerprint=repr(sorted(facts.items())),
            chunk=chunk,
            shard=shard,
            name=op.name,
            attrs={**_inherited(opened[0]), **(attrs or {}), **facts, "cpu": platform.machine()},
            overwrite=not resume,
            dims=(*lead, "y", "x"),
        )
        units = sum(1 for _ in writer.units)
        pending = writer.pending
        summary: dict[str, Any] = {
            "shape": list(writer.shape),
            "dtype": writer.dtype.name,
            "units": units,
            "units_done_before": units - len(pending),
        }
        if pending:
            if len(pending) < units:
                progress.note(f"{units - len(pending)} of {units} shards are done already")
            # Tasks carry what they need and no more: the sources pickle as paths.
            with open_pool(cluster, workers=workers, threads=threads, memory=memory) as pool:
                if pool.dashboard:
                    progress.note(f"dashboard: {pool.dashboard}")
                side, projected = _fit(op, opened, writer, pool.memory_limit)
                memory_of = Projection.on(pool, projected)
                job = _Job(op, opened, declared, _offsets(op, opened, declared), writer, side)
                write_shards(
                    pool,
                    _map_unit,
                    ((job, unit) for unit in pending),
                    pending,
                    units,
                    name=op.name,
                    named=job.named,
                    worker_bytes=memory_of.worker_bytes,
                    progress=progress,
                )
                summary |= {
                    "projected_bytes": projected,
                    "projected_peak_bytes": memory_of.peak_bytes,
                    "read_side": side,
                    "slots": pool.slots,
                    "dashboard": pool.dashboard,
                }
        if not writer.finished:
            writer.finish(
                {
                    **_coords(opened[0], planar),
                    **(op.coords if isinstance(op, GaussianBlurs) else {}),
                }
            )
    summary["seconds"] = round(time.monotonic() - started, 3)
    return summary


def projected_bytes(op: Mapped, dtypes: Sequence[Any], side: int, shard: int = SHARD) -> int:
    """Bytes that one task of a planar map holds at most, read in boxes of `side` pixels."""
    return _task_bytes(op, dtypes, (side, side), shard * shard)


@dataclasses.dataclass(frozen=True)
class _Job:
    """What every task of a run shares."""

    op: Mapped
    sources: list[RasterSource]
    nodata: list[float | None]
    offsets: list[NDArray[np.float64]]
    writer: ShardWriter
    side: int

    def named(self, unit: Unit) -> str:
        """A shard in words."""
        return f"the shard of {in_words(_box_of(self, unit))}"


def _map_unit(job: _Job, unit: Unit) -> None:
    """In the worker: compute and write one shard."""
    telling(job.named(unit), _write_unit, job, unit)


def _box_of(job: _Job, unit: Unit) -> Box:
    parts = dict(zip(job.writer.dims, unit, strict=True))
    return Box(parts["y"].start, parts["y"].stop, parts["x"].start, parts["x"].stop)


def _write_unit(job: _Job, unit: Unit) -> None:
    parts = dict(zip(job.writer.dims, unit, strict=True))
    shard = _box_of(job, unit)
    ops: Sequence[Any]
    ops = job.op.each[parts["sigma"]] if isinstance(job.op, GaussianBlurs) else [job.op]
    planes = parts.get("channel", slice(0, 1))
    channels = range(planes.start, planes.stop)
    out = np.empty((len(ops), len(channels), *shard.shape), job.writer.dtype)
    for part in grid(shard.shape, job.side):
        box = Box(part.y0 + shard.y0, part.y1 + shard.y0, part.x0 + shard.x0, part.x1 + shard.x0)
        for k, channel in enumerate(channels):
            _compute(job, ops, channel, box, out[(slice(None), k, *part.slices)])
    job.writer.write(unit, out.reshape([part.stop - part.start for part in unit]))


def _compute(job: _Job, ops: Sequence[Any], channel: int, box: Box, out: NDArray[Any]) -> None:
    """Each operator's result on a box, which is read once for all of them."""
    shape = job.sources[0].shape[1:]
    op = job.op
    if isinstance(op, Distant):
        reads = op.reads(box, shape)
    else:
        reads = (halo_box(box, op.halo, shape),) * len(job.sources)
    layers = []
    for held, source, nodata, offsets in zip(
        reads, job.sources, job.nodata, job.offsets, strict=True
    ):
        valid = source.mask(held)
        known = source.occupied(held)
        empty = known is not None and not known[channel] and valid is None and nodata != 0
        if empty and len(job.sources) == 1 and not isinstance(op, Distant):
            for each, plane in zip(ops, out, strict=True):
                plane[...] = _of_nothing(each, source.dtype)
            return
        pixels = source.read([channel], held)[0]
        layers.append(Layer(pixels, nodata, valid, float(offsets[channel])))
    if isinstance(op, Distant):
        op.compute(layers, reads, box, shape, out[0])
        return
    for each, plane in zip(ops, out, strict=True):
        compute_box(each, layers, reads[0], box, shape, out=plane)


def _of_nothing(op: Operator, dtype: np.dtype[Any]) -> Any:
    """What an operator of one raster gives where there are only zeros."""
    return op.tile(Layer(np.zeros([1 + 2 * radius for radius in op.halo], dtype)))[0, 0]


def _check(op: Mapped, sources: Sequence[RasterSource]) -> Shape:
    """The shape of the rasters, or an `InputError` that names what does not fit."""
    if len(sources) != op.inputs:
        raise InputError(f"{op.name} takes {op.inputs} rasters, got {len(sources)}")
    first = sources[0]
    for source in sources:
        if source.shape[1:] != first.shape[1:]:
            raise InputError(
                f"{source.path} has {source.shape[1]} x {source.shape[2]} pixels and "
                f"{first.path} {first.shape[1]} x {first.shape[2]}: {op.name} takes rasters of "
                "one shape"
            )
        if op.inputs > 1 and source.shape[0] != 1:
            raise InputError(
                f"{source.path} has {source.shape[0]} channels: {op.name} takes one of them, as "
                f"{source.path}#CHANNEL"
            )
    shape = first.shape[1:]
    op.check(*(source.dtype for source in sources), shape=shape)
    return shape


def _facts(
    op: Any, sources: Sequence[RasterSource], nodata: Sequence[float | None]
) -> dict[str, Any]:
    """All that the values depend on, as it is stored with them."""
    return {
        "kind": "map",
        "operator": op.name,
        "parameters": _parameters(op),
        "sources": [source.path for source in sources],
        "channels": [source.channels[0] if source.shape[0] == 1 else "all" for source in sources],
        "nodata_in": list(nodata),
        "inputs": [source.fingerprint() for source in sources],
        "version": __version__,
    }


def _parameters(op: Any) -> dict[str, Any]:
    """An operator's parameters as JSON has them; a blur before it has names of its own."""
    if isinstance(op, Blurred):
        blur = {f"blur_{name}": value for name, value in _parameters(op.blur).items()}
        return {**_parameters(op.then), **blur}
    if isinstance(op, Registered):
        move = {f"registered_{name}": value for name, value in _parameters(op.move).items()}
        return {**_parameters(op.then), **move}
    listed: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(op)))
    return listed


def _refuse_other_run(path: Path, facts: dict[str, Any]) -> None:
    """Say in what way the run whose result, or begun result, lies at `path` was another."""
    import zarr

    refuse_begun(path, {"command": "map"})
    for place in (path, partial_path(path) / "store"):
        if not place.exists():
            continue
        try:
            stored = dict(zarr.open_group(str(place), mode="r").attrs).get("bigcorr")
        except Exception:  # no store: for the writer to refuse
            continue
        if not isinstance(stored, dict) or stored.get("kind") != "map":
            continue
        begun = "" if place == path else " that was begun"
        refuse(path, differences(stored, facts, ("channels",)), begun)


def _inherited(source: RasterSource) -> dict[str, Any]:
    """What a map keeps of its first raster's facts: where it lies."""
    return {
        key: source.attrs[key] for key in ("pixel_size", "origin", "crs") if key in source.attrs
    }


def _coords(source: RasterSource, planar: bool) -> dict[str, tuple[Sequence[str], Any]]:
    coords: dict[str, tuple[Sequence[str], Any]] = {
        axis: ((axis,), values) for axis, values in getattr(source, "coords", {}).items()
    }
    if not planar:
        coords["channel"] = (("channel",), np.array(source.channels, dtype=str))
    return coords


def _offsets(
    op: Mapped,
    sources: Sequence[RasterSource],
    nodata: Sequence[float | None],
) -> list[NDArray[np.float64]]:
    """The offset of each channel of each source, from the positions that `wiring` takes too."""
    if not op.needs_offset(*(source.dtype for source in sources)):
        return [np.zeros(source.shape[0]) for source in sources]
    offsets = []
    for k, (source, missing) in enumerate(zip(sources, nodata, strict=True)):
        rows, columns = (offset_positions(size) for size in source.shape[1:])
        spots = [Box(y, y + 1, x, x + 1) for y in rows.tolist() for x in columns.tolist()]
        if isinstance(op, (Blurred, Registered)):
            levels = [_made_spot(op, k, source, missing, spot) for spot in spots]
            offsets.append(np.array([offset_of(Layer(np.array(levels)))]))
            continue
        pixels = np.stack([source.read(slice(None), spot)[:, 0, 0] for spot in spots], axis=1)
        masks = [source.mask(spot) for spot in spots]
        valid = None if masks[0] is None else np.array([m is None or m[0, 0] for m in masks])
        offsets.append(np.array([offset_of(Layer(line, missing, valid)) for line in pixels]))
    return offsets


def _made_spot(
    op: Blurred | Registered, k: int, source: RasterSource, nodata: float | None, spot: Box
) -> Any:
    """A pixel of the moved or blurred raster, which is not stored anywhere; NaN if missing."""
    shape = source.shape[1:]
    then = op.then if isinstance(op, Registered) else op
    around = halo_box(spot, then.blur.halo, shape) if isinstance(then, Blurred) else spot
    moves = isinstance(op, Registered) and k == 1
    held = op.move.held(around, shape) if isinstance(op, Registered) and moves else around
    layer = Layer(source.read([0], held)[0], nodata, source.mask(held))
    if isinstance(op, Registered) and moves:
        layer = Layer(op.moved(layer, held, around, shape))
    if isinstance(then, Blurred):
        return compute_box(then.blur, [layer], around, spot, shape)[0, 0]
    return np.nan if missing_pixels(layer) is not None else layer.pixels[0, 0]


def _fit(
    op: Mapped,
    sources: Sequence[RasterSource],
    writer: ShardWriter,
    limit: int | None,
) -> tuple[int, int]:
    """The largest side of the boxes to read that fits the memory, and the bytes a task takes."""
    shape = writer.shape[-2:]
    shard = min(writer.shards[-1], shape[1]) * min(writer.shards[-2], shape[0])
    shard *= math.prod(writer.shards[:-2])
    dtypes = [source.dtype for source in sources]
    needed, allowed = 0, task_room(limit)
    for side in READ_SIDES:
        needed = _task_bytes(op, dtypes, (min(side, shape[0]), min(side, shape[1])), shard)
        if allowed is None or needed <= allowed:
            return side, needed
    raise too_little_memory(needed, limit, "takes more memory, fewer workers or a smaller shard")


def _task_bytes(op: Mapped, dtypes: Sequence[Any], read: Shape, shard: int) -> int:
    # The shard's result, and as much again while it is encoded.
    result = 2 * shard * op.out_dtype(*dtypes).itemsize
    if isinstance(op, Distant):
        return op.box_bytes(read, *dtypes) + result
    held = (read[0] + 2 * op.halo[0]) * (read[1] + 2 * op.halo[1])
    # What is read stands there twice while it is decoded, beside a mask.
    reading = sum(held * (2 * np.dtype(dtype).itemsize + 1) for dtype in dtypes)
    most = tile_shape(op.halo)
    tile = min(read[0], most[0]), min(read[1], most[1])
    return reading + op.tile_bytes(tile, *dtypes) + result
