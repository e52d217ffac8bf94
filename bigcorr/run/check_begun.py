"""What a run that is under way, or was cut off, has left in ``OUT.partial``: is it whole?

Shards of a map or a stack, pieces of a table, sums of pairs, notes of a ranking: each is held
against its marker or its checksum.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    whole = tuple(slice(0, n) for n in array.shape)
    units = list(chunks.parts_of(whole, array.shards))
    shards: list[Task] = []
    for unit in units:
        name = "-".join(
            str(part.start // size) for part, size in zip(unit, array.shards, strict=True)
        )
        marker = place / "done" / name
        if marker.exists():
            file = folder / chunks.file_of_place(array, unit)
            shards.append(
                lambda unit=unit, marker=marker, file=file: _check_shard(  # type: ignore[misc]
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
        len(units),
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
    """The sums that a job of pairs has kept, or the notes of a ranking."""
    tasks: list[Task] = []
    kind = "pairs"
    damages: list[Damage] = []
    for name in ("job.json", "state.json"):
        try:
            facts = json.loads((place / name).read_text())
            if name == "job.json":
                kind = str(facts.get("kind", kind))
            else:
                damages += _check_runs(place, facts)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError) as error:
            damages.append(Damage("metadata", str(place / name), "", chunks.one_line(error)))
    for file in sorted(place.rglob("*.npz")):
        tasks.append(lambda file=file: _check_sum(file))  # type: ignore[misc]
    damages += run_tasks(tasks, progress)
    return StoreCheck(str(place), kind, state, len(tasks), damages=tuple(damages))


def _check_runs(place: Path, state: dict[str, Any]) -> Iterator[Damage]:
    """The sorted runs of a ranking: files of whole records, without checksums."""
    ranked = sum(state["rank"]) >= sum(state["evidence"]) > 0
    sizes = {}
    for stage in ("evidence", "rank"):
        for number, length in enumerate(state[stage]):
            file = place / f"{stage}-{number:05d}.run"
            if file.exists():
                sizes[file] = stage, length, file.stat().st_size
            elif stage == "rank" or not ranked:
                yield Damage("missing", str(file), "", "the file is not there")
    for file, (stage, length, size) in sizes.items():
        record = max(s // n for (other, n, s) in sizes.values() if other == stage)
        if size != record * length:
            reason = f"the file has {size} bytes, {record * length} were written"
            yield Damage("torn", str(file), "", reason)


def _check_sum(file: Path) -> list[Damage]:
    try:
        Checkpoint._read(file)
    except RunError as error:
        stage, _, number = f"{file.parent.name}/{file.stem}".rpartition("-")
        where = f"{stage.replace('/', ', ')} {int(number)}" if number.isdigit() else ""
        cause = chunks.one_line(error.__cause__ or error)
        return [Damage("damaged", str(file), where, cause)]
    return []
