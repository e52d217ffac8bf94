"""What a run that is under way, or was cut off, has left in ``OUT.partial``: is it whole?

Shards of a map or a stack, pieces of a table, sums of pairs, notes of a ranking: each is held
against its marker or its checksum.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bigcorr.errors import InputError, RunError
from bigcorr.raster import chunks, store
from bigcorr.raster.begun import JOB
from bigcorr.raster.lock import lock_path
from bigcorr.raster.markers import damage_of, read_marker
from bigcorr.raster.pieces import MARKER
from bigcorr.raster.spill import FOLDERS
from bigcorr.run.checkpoint import Checkpoint
from bigcorr.run.damage import Damage, StoreCheck, Task, damage_at, run_tasks
from bigcorr.run.progress import Progress
from bigcorr.run.rank_runs import read_state, runs_of
from bigcorr.run.run_file import DamagedRun, Run, RunReader


def check_begun(place: Path, progress: Progress) -> StoreCheck:
    """Verify the folder ``OUT.partial``.

    Raises
    ------
    InputError
        It holds no work of ours.
    """
    output = place.with_name(place.name.removesuffix(store.PARTIAL))
    state = "in use" if lock_path(output).exists() else "unfinished"
    tasks, damages = _pieces(place)
    if (place / "fingerprint").is_file():
        return _check_shards(place, state, tasks, damages, progress)
    if tasks or _command(place) in ("ingest", "simulate"):
        damages += run_tasks(tasks, progress)
        return StoreCheck(str(place), "stack", state, len(tasks), damages=tuple(damages))
    if (place / JOB).exists():
        return _check_sums(place, state, progress)
    raise InputError(f"{place} is neither a Zarr store nor a job that was begun")


def _command(place: Path) -> str:
    """The command that began the work, where that can be read."""
    try:
        return str(dict(json.loads((place / JOB).read_text())).get("command", ""))
    except (OSError, ValueError):
        return ""


def _pieces(place: Path) -> tuple[list[Task], list[Damage]]:
    """The files that the reading and counting of a table has left."""
    tasks: list[Task] = []
    damages: list[Damage] = []
    for folder in FOLDERS:
        for marker in sorted((place / folder).glob(f"*{MARKER}")):
            said = read_marker(marker)
            file = marker.with_name(marker.name.removesuffix(MARKER))
            if said is None:
                damages.append(Damage("marker", str(marker), "", "the marker cannot be read"))
            else:
                tasks.append(lambda file=file, said=said: _held(file, said))  # type: ignore[misc]
    return tasks, damages


def _held(file: Path, said: dict[str, Any]) -> list[Damage]:
    wrong = damage_of(file, said)
    return [] if wrong is None else [Damage(wrong[0], str(file), "", wrong[1])]


def _check_shards(
    place: Path, state: str, tasks: list[Task], damages: list[Damage], progress: Progress
) -> StoreCheck:
    """The shards that a map, a stack under way or `save_raster` has marked as done."""
    try:
        fingerprint = (place / "fingerprint").read_text()
        group = zarr.open_group(str(place / "store"), mode="r")
        # Coordinates and a mask come last; the raster has shards and the most dimensions.
        arrays = [array for _, array in group.arrays() if array.shards is not None]
        array = max(arrays, key=lambda array: array.ndim)
        array = store.open_array(place / "store", component=array.basename)
        facts = dict(group.attrs).get("bigcorr")
    except Exception as error:
        damage = Damage("metadata", str(place), "", chunks.one_line(error))
        return StoreCheck(str(place), "map", state, damages=(damage,))
    folder = place / "store" / array.basename
    total = math.prod(-(-n // size) for n, size in zip(array.shape, array.shards, strict=True))
    shards: list[Task] = []
    for marker in sorted((place / "done").glob("*")):
        # A marker is called by the numbers of its shard, as the shard's file is.
        index = [int(number) for number in marker.name.split("-") if number.isdecimal()]
        name = "" if len(index) != array.ndim else array.metadata.encode_chunk_key(tuple(index))
        unit = chunks.place_of_file(array, name)
        if unit is not None:
            shards.append(
                lambda unit=unit, marker=marker, file=folder / name: _check_shard(  # type: ignore[misc]
                    array, unit, marker, file, fingerprint
                )
            )
    lost = run_tasks(shards, progress)
    damages += lost + (run_tasks(tasks, progress) if tasks else [])
    kind = str(facts.get("kind", "raster")) if isinstance(facts, dict) else "raster"
    return StoreCheck(
        str(place),
        kind,
        state,
        len(shards) + len(tasks),
        len(shards) - len(lost),
        total,
        tuple(damages),
    )


def _check_shard(
    array: zarr.Array[Any], unit: chunks.Place, marker: Path, file: Path, fingerprint: str
) -> list[Damage]:
    said = read_marker(marker)
    index = tuple(part.start // size for part, size in zip(unit, array.chunks, strict=True))
    if said is None:
        return [damage_at("marker", array, index, unit, marker, "the marker cannot be read")]
    if said.get("fingerprint") != fingerprint:
        reason = "the marker is that of another run"
        return [damage_at("marker", array, index, unit, marker, reason)]
    wrong = damage_of(file, said)
    return [] if wrong is None else [damage_at(wrong[0], array, index, unit, file, wrong[1])]


def _check_sums(place: Path, state: str, progress: Progress) -> StoreCheck:
    """The sums that a job of pairs has kept, or the sorted runs of a ranking."""
    tasks: list[Task] = []
    kind = "pairs"
    damages: list[Damage] = []
    try:
        kind = str(json.loads((place / JOB).read_text()).get("kind", kind))
    except (OSError, ValueError, AttributeError) as error:
        damages.append(Damage("metadata", str(place / JOB), "", chunks.one_line(error)))
    try:
        tasks += _run_tasks(place, read_state(place))
    except (RunError, KeyError, TypeError) as error:
        damages.append(Damage("metadata", str(place / "state.json"), "", chunks.one_line(error)))
    for file in sorted(place.rglob("*.npz")):
        tasks.append(lambda file=file: _check_sum(file))  # type: ignore[misc]
    damages += run_tasks(tasks, progress)
    return StoreCheck(str(place), kind, state, len(tasks), damages=tuple(damages))


def _run_tasks(place: Path, state: dict[str, Any] | None) -> Iterator[Task]:
    """A task for each sorted run that a ranking still needs."""
    if state is None:
        return
    ranked = sum(state["rank"]) >= sum(state["evidence"]) > 0
    for stage in ("evidence", "rank"):
        for run in runs_of(place, state, stage):
            if stage == "rank" or not ranked or run.path.exists():
                record = np.dtype((np.void, state["record"][stage]))
                yield lambda run=run, record=record: _check_run(run, record)  # type: ignore[misc]


def _check_run(run: Run, record: np.dtype[Any]) -> list[Damage]:
    try:
        RunReader(run, record).verify()
    except DamagedRun as error:
        kind = "damaged" if run.path.exists() else "missing"
        return [Damage(kind, str(run.path), error.where, error.why)]
    return []


def _check_sum(file: Path) -> list[Damage]:
    try:
        Checkpoint._read(file)
    except RunError as error:
        stage, _, number = f"{file.parent.name}/{file.stem}".rpartition("-")
        where = f"{stage.replace('/', ', ')} {int(number)}" if number.isdigit() else ""
        cause = chunks.one_line(error.__cause__ or error)
        return [Damage("damaged", str(file), where, cause)]
    return []
