"""Batch runs of `displacement`: from rasters in storage to a store, taken up where they stopped.

The passes are stores of their own below ``OUT.partial`` until the last one is done, each written
shard by shard as maps are (`raster.writer`): a run that was killed goes on with the shards that are
missing. The values are those of `bigcorr.displacement` to the last bit.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.motion.api import check_inconsistency, open_pair
from bigcorr.motion.grids import Flow, found_flow
from bigcorr.motion.plan import Pass, Search, plan_search
from bigcorr.motion.result import (
    MEANINGS,
    NAMES,
    coordinates,
    explain_nothing,
    vectors,
    with_way_back,
)
from bigcorr.motion.start import as_flow, turned
from bigcorr.motion.tile import PARTS, Pair, measure, pixels_of, task_bytes, unit_side
from bigcorr.raster import chunks, store
from bigcorr.raster.lock import locked
from bigcorr.raster.markers import write_whole
from bigcorr.raster.writer import ShardWriter, Unit
from bigcorr.retry import in_words, telling
from bigcorr.run.cluster import Pool, open_pool
from bigcorr.run.displacement_facts import facts_of, refuse_other_run
from bigcorr.run.memory import Projection, task_room, too_little_memory
from bigcorr.run.progress import SILENT, Progress
from bigcorr.run.shards import write_shards
from bigcorr.tiles import Box, Shape, grid

if TYPE_CHECKING:
    from distributed import Client

JOB = "displacement.json"
"""In the folder of a run under way: what it is a run of."""

_ARRAY = "nodes"
_CHUNK = 512


@dataclass(frozen=True)
class StoreGrid:
    """The nodes of a pass in a store (see `motion.grids.Grid`)."""

    path: str
    shape: Shape

    def read(self, box: Box) -> NDArray[np.float32]:
        out = np.empty((7, *box.shape), np.float32)
        array = store.open_array(self.path, component=_ARRAY)
        store.read_into(array, (slice(0, 7), *box.slices), out)
        return out

    def part(self, box: Box) -> StoreGrid:
        return self


def run_displacement(
    reference: Any,
    moving: Any,
    out_path: str | os.PathLike[str],
    *,
    nodata: float | None = None,
    max_inconsistency: float | None = None,
    initial: Any = None,
    resume: bool = True,
    progress: Progress | None = None,
    cluster: str | Client | Pool | None = None,
    workers: int | None = None,
    threads: int | None = None,
    memory: str | int | None = None,
    **parameters: Any,
) -> dict[str, Any]:
    """Find how far each part of a raster has moved and write it as Zarr.

    Parameters
    ----------
    reference, moving : paths or anything else that `as_source` takes, of one channel each.
    out_path : path
        The store: a Dataset as `bigcorr.displacement` returns it.
    nodata, max_inconsistency, initial, **parameters
        As for `bigcorr.displacement`.
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
        What was done: ``shape`` (nodes), ``windows``, ``valid`` (nodes with a vector), ``units``
        and ``units_done_before``, ``seconds``, ``projected_bytes`` of a task,
        ``projected_peak_bytes`` of all processes, ``slots``.

    Raises
    ------
    InputError
        As for `bigcorr.displacement`; `out_path` holds another run's result, or the memory is too
        small.
    RunError
        The disk is full, a chunk cannot be read, or workers died of a shard, mostly of memory.
    """
    started = time.monotonic()
    path = Path(out_path)
    most = check_inconsistency(max_inconsistency)
    pair = open_pair(reference, moving, nodata)
    search = plan_search(pair.shape, **parameters)
    start = as_flow(initial, pair.shape)
    facts = facts_of(pair, search, most, start)
    with locked(path, progress or SILENT) as lock:
        events = lock.watch(progress or SILENT)
        summary = _prepare(path, facts, resume)
        if summary is None:
            with open_pool(cluster, workers=workers, threads=threads, memory=memory) as pool:
                fit = _fit(pair, search, pool, start)
                run = _Run(path, pair, search, facts, pool, events, fit, start)
                summary = run.carry_out(most)
    return {**summary, "seconds": round(time.monotonic() - started, 3)}


def _prepare(path: Path, facts: dict[str, Any], resume: bool) -> dict[str, Any] | None:
    """The summary of a run that is finished already; None if there is something to do."""
    partial = store.partial_path(path)
    if not resume:
        store.check_destination(path, overwrite=True)
        with store.writing(path):
            store.remove(partial)
    elif path.exists() or path.is_symlink():
        found = dict(zarr.open_group(str(path), mode="r").attrs) if store.is_zarr(path) else {}
        stored = found.get("bigcorr")
        if not isinstance(stored, dict) or stored.get("kind") != "displacement":
            store.check_destination(path, overwrite=False)
        assert isinstance(stored, dict)
        refuse_other_run(path, stored, facts, "")
        with store.writing(path):
            store.remove(partial)
        summary = stored.get("summary")
        done: dict[str, Any] = summary if isinstance(summary, dict) else {}
        return {**done, "done_before": True, "units_done_before": done.get("units")}
    note = partial / JOB
    if note.is_file():
        try:
            begun = json.loads(note.read_text())
        except ValueError as error:
            raise InputError(
                f"{note} is damaged ({error}): choose another name, or start afresh to replace it"
            ) from error
        refuse_other_run(path, begun, facts, " that was begun")
        return None
    with store.writing(path):
        store.remove(partial)
        partial.mkdir(parents=True)
        write_whole(note, json.dumps(facts))
    return None


@dataclass
class _Run:
    """A run under way: where it writes, of what, on what."""

    path: Path
    pair: Pair
    search: Search
    facts: dict[str, Any]
    pool: Pool
    progress: Progress
    fit: tuple[int, int]
    start: Flow | None

    def carry_out(self, most: float | None) -> dict[str, Any]:
        self.units = self.done_before = 0
        flow = self._passes(self.pair, "pass", self.start)
        back = None
        if most is not None:
            back = self._passes(self.pair.swapped(), "back", turned(self.start))
        root = store.partial_path(self.path) / "result"
        valid = self._write(root, flow, back, most)
        if not valid:
            explain_nothing(self.pair)
            self.progress.note(
                "note: no node has a vector; what moves farther than --search is not found"
            )
        spec = self.search.passes[-1]
        summary = {
            "shape": list(flow.shape),
            "windows": [each.window for each in self.search.passes],
            "valid": valid,
            "units": self.units,
            "units_done_before": self.done_before,
            "projected_bytes": self.fit[1],
            "projected_peak_bytes": Projection.on(self.pool, self.fit[1]).peak_bytes,
            "slots": self.pool.slots,
            "dashboard": self.pool.dashboard,
        }
        _finish(self.path, root, self.pair, spec, self.facts, summary)
        return summary

    def _passes(self, pair: Pair, label: str, start: Flow | None) -> Flow:
        flow = start
        for k, spec in enumerate(self.search.passes):
            place = store.partial_path(self.path) / f"{label}-{k + 1}"
            shape = spec.nodes(pair.shape)
            self._pass(pair, spec, flow, place, shape, f"{label} {k + 1}")
            flow = found_flow(StoreGrid(str(place), shape), spec, self.search)
        assert flow is not None
        return flow

    def _pass(
        self, pair: Pair, spec: Pass, flow: Flow | None, place: Path, shape: Shape, name: str
    ) -> None:
        side = unit_side(spec)
        writer = ShardWriter(
            place,
            (7, *shape),
            np.float32,
            fingerprint=repr((sorted(self.facts.items()), name)),
            chunk=_CHUNK if side % _CHUNK == 0 else side,
            shard=side,
            name=_ARRAY,
            attrs={"kind": "displacement pass"},
            dims=("value", "y", "x"),
        )
        count = sum(1 for _ in writer.units)
        pending = writer.pending
        before = count - len(pending)
        self.units, self.done_before = self.units + count, self.done_before + before
        if before and pending:
            self.progress.note(f"{name}: {before} of {count} shards are done already")
        write_shards(
            self.pool,
            _measure_unit,
            (
                (pair, spec, self.search, _part(flow, spec, unit), writer, unit, self.fit[0])
                for unit in pending
            ),
            pending,
            count,
            name=name,
            named=_named,
            worker_bytes=Projection.on(self.pool, self.fit[1]).worker_bytes,
            progress=self.progress,
        )
        writer.finish()

    def _write(self, root: Path, flow: Flow, back: Flow | None, most: float | None) -> int:
        """The arrays of the result; how many nodes have a vector."""
        names = NAMES if back is None else (*NAMES, "inconsistency")
        spec = self.search.passes[-1]
        side = unit_side(spec)
        chunk, shard = store.clip_chunks(flow.shape, _CHUNK if side % _CHUNK == 0 else side, side)
        with store.writing(self.path):
            store.remove(root)
            group = zarr.open_group(str(root), mode="w", zarr_format=3)
            for name in names:
                store.create_array(
                    group,
                    name,
                    shape=flow.shape,
                    dtype=np.float32,
                    chunks=chunk,
                    shards=shard,
                    dims=("y", "x"),
                    fill_value=np.nan,
                    attributes={"long_name": MEANINGS[name], "coordinates": "y_raster x_raster"},
                )
        boxes = list(grid(flow.shape, shard))
        tasks = ((self.path, root, names, flow, back, most, box) for box in boxes)
        valid = 0
        for done, (_, count) in enumerate(self.pool.imap(_write_unit, tasks), 1):
            valid += count
            self.progress("result", done, len(boxes))
        return valid


def _box_of(unit: Unit) -> Box:
    _, rows, columns = unit
    return Box(rows.start, rows.stop, columns.start, columns.stop)


def _named(unit: Unit) -> str:
    return f"the nodes of {in_words(_box_of(unit))}"


def _part(flow: Flow | None, spec: Pass, unit: Unit) -> Flow | None:
    """What the task of a unit needs of the flow that it starts from."""
    return None if flow is None else flow.part(pixels_of(spec, _box_of(unit)))


def _measure_unit(
    pair: Pair,
    spec: Pass,
    search: Search,
    flow: Flow | None,
    writer: ShardWriter,
    unit: Unit,
    part: int,
) -> None:
    """In the worker: search the nodes of one shard and write it."""
    box = _box_of(unit)

    def work() -> None:
        writer.write(unit, measure(pair, spec, search, box, flow, part))

    telling(_named(unit), work)


def _write_unit(
    path: Path,
    root: Path,
    names: Sequence[str],
    flow: Flow,
    back: Flow | None,
    most: float | None,
    box: Box,
) -> int:
    """In the worker: write one shard of each array of the result."""
    found = vectors(flow, box) if back is None else with_way_back(flow, back, box, most or np.inf)
    with store.writing(path):
        for name, plane in zip(names, found, strict=True):
            store.open_array(root, mode="r+", component=name)[box.slices] = plane
    return int(np.isfinite(found[0]).sum())


def _finish(
    path: Path,
    root: Path,
    pair: Pair,
    spec: Pass,
    facts: dict[str, Any],
    summary: dict[str, Any],
) -> None:
    """Coordinates and facts, and then the name."""
    source = pair.reference.source
    stored = dict(getattr(source, "coords", {}))
    inherited: dict[str, Any] = {
        key: source.attrs[key] for key in ("pixel_size", "origin", "crs") if key in source.attrs
    }
    with store.writing(path):
        group = zarr.open_group(str(root), mode="r+")
        places = coordinates(spec, pair.shape, stored)
        for name, (dim, values) in places.items():
            store.put_array(group, name, values, (dim,))
        beside = " ".join(name for name in places if name not in ("y", "x"))
        for name, array in group.arrays():
            if name not in places:
                array.attrs["coordinates"] = beside
        said: dict[str, Any] = {**inherited, **facts, "summary": summary}
        group.attrs["bigcorr"] = {**said, "cpu": platform.machine()}
        chunks.write_file_lists(root)
        store.consolidate(root)
    store.rename_into_place(root, path)
    with store.writing(path):
        store.remove(store.partial_path(path))


def _fit(pair: Pair, search: Search, pool: Pool, start: Flow | None) -> tuple[int, int]:
    """Pixels that are searched at a time so that it fits the memory, and the bytes of a task."""
    reach = float(sum(spec.search * spec.scale for spec in search.passes[:-1]))
    needed, allowed = 0, task_room(pool.memory_limit)
    for part in PARTS:
        needed = max(task_bytes(pair, spec, search, reach, part, start) for spec in search.passes)
        if allowed is None or needed <= allowed:
            return part, needed
    raise too_little_memory(needed, pool.memory_limit, "takes more memory or fewer workers")
