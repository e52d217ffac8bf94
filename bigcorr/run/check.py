"""`check_store`: is what lies on the disk whole? Stores, results, and jobs that are half done.

Every stored chunk is decoded, which verifies the checksums that it has; every file that the list
beside an array names is looked for; every marker of a job under way is held against its file.
Nothing is changed.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import zarr

from bigcorr.errors import InputError, MissingFileError, RunError
from bigcorr.raster import chunks, codecs, store
from bigcorr.raster.lock import lock_path
from bigcorr.raster.writer import read_marker
from bigcorr.run.checkpoint import Checkpoint
from bigcorr.run.damage import Damage, StoreCheck
from bigcorr.run.progress import SILENT, Progress

READERS = 4
"""Shards that are decoded at the same time: each may take 64 MiB and more."""

Task = Callable[[], "list[Damage]"]


def check_store(path: str | os.PathLike[str], *, progress: Progress | None = None) -> StoreCheck:
    """Verify a store, a result or a job that is half done: markers, checksums, missing files.

    Parameters
    ----------
    path : path
        A stack, a map, a result of pairs, any other Zarr store; or what a run that was cut off has
        left: its output's name (where the output itself is not there yet) or ``<output>.partial``.
    progress : Progress, optional
        Is told of each file.

    Returns
    -------
    StoreCheck
        ``ok``, and each `Damage` with its file, chunk, channel, rows and columns.

    Raises
    ------
    MissingFileError
        Nothing is there.
    InputError
        What is there is neither a Zarr store nor a job of ours.

    Examples
    --------
    >>> import numpy as np, tempfile, bigcorr as bc
    >>> path = tempfile.mkdtemp() + "/image.zarr"
    >>> bc.save_raster(np.eye(64, dtype="float32"), path)
    >>> bc.check_store(path).ok
    True
    >>> with open(path + "/raster/c/0/0", "r+b") as file:
    ...     _ = file.seek(30), file.write(b"oops")
    >>> print(bc.check_store(path).damages[0].where)
    chunk (0, 0) (rows 0:64, columns 0:64)
    """
    place = Path(path)
    if not place.exists():
        if not store.partial_path(place).exists():
            raise MissingFileError(f"no such file or folder: {place}")
        place = store.partial_path(place)
    progress = progress or SILENT
    if place.name.endswith(store.PARTIAL):
        output = place.with_name(place.name.removesuffix(store.PARTIAL))
        state = "in use" if lock_path(output).exists() else "unfinished"
        if (place / "fingerprint").is_file():
            return _check_map_job(place, state, progress)
        if (place / "displacement.json").exists():
            return _check_passes(place, state, progress)
        if (place / "job.json").exists():
            return _check_job(place, state, progress)
        if place.is_dir() and store.is_zarr(place):
            # A stack under way: it has no markers, and the same command makes it anew.
            return StoreCheck(str(place), "stack", state)
    if not store.is_zarr(place):
        raise InputError(f"{place} is neither a Zarr store nor a job that was begun")
    return _check_zarr(place, progress)


def _check_zarr(place: Path, progress: Progress) -> StoreCheck:
    try:
        node = zarr.open(str(place), mode="r")
        kind = _kind(node)
        found = dict(node.members(max_depth=None)) if isinstance(node, zarr.Group) else {"": node}
        names = [name for name, array in found.items() if isinstance(array, zarr.Array)]
    except Exception as error:  # damaged metadata make the parser fail in any way
        damage = Damage("metadata", str(place), "", chunks.one_line(error))
        return StoreCheck(str(place), "zarr", "finished", damages=(damage,))
    damages: list[Damage] = []
    tasks: list[Task] = []
    bare = []
    for name in names:
        try:
            array = store.open_array(place, component=name)
        except (InputError, RunError) as error:
            damages.append(Damage("metadata", str(place / name), "", str(error)))
            continue
        folder = place / name
        if not codecs.has_checksum(array) and _is_pixels(array):
            bare.append(name or place.name)
        damages += _missing(array, folder)
        tasks += _chunk_tasks(array, folder)
    damages += _run(tasks, progress)
    return StoreCheck(
        str(place),
        kind,
        "finished",
        files=len(tasks),
        damages=tuple(damages),
        without_checksum=tuple(sorted(bare)),
    )


def _kind(node: Any) -> str:
    attrs = dict(node.attrs)
    facts = attrs.get("bigcorr")
    if isinstance(facts, dict):
        return str(facts.get("kind", "raster"))
    return "pairs" if "job" in attrs and attrs.get("kind") == "pairs" else "zarr"


def _is_pixels(array: zarr.Array[Any]) -> bool:
    return array.ndim >= 2 and array.dtype.kind in "buif"


def _missing(array: zarr.Array[Any], folder: Path) -> Iterator[Damage]:
    """Files that the array's list names and that are gone or have another length."""
    listed = chunks.read_file_list(folder)
    if listed is None:
        return
    for name, size in listed.items():
        file = folder / name
        try:
            now = file.stat().st_size
        except OSError:
            yield _of_file(array, folder, name, "missing", "the file is not there")
            continue
        if now != size:
            reason = f"the file has {now} bytes, {size} were written"
            yield _of_file(array, folder, name, "torn", reason)


def _of_file(array: zarr.Array[Any], folder: Path, name: str, kind: str, reason: str) -> Damage:
    place = chunks.place_of_file(array, name)
    if place is None:
        return Damage(kind, str(folder / name), "", reason, str(folder))
    index = tuple(part.start // size for part, size in zip(place, array.chunks, strict=True))
    return _damage(kind, array, index, place, folder / name, reason)


def _damage(
    kind: str,
    array: zarr.Array[Any],
    chunk: tuple[int, ...],
    place: chunks.Place,
    file: Path,
    reason: str,
) -> Damage:
    return Damage(
        kind,
        str(file),
        f"chunk {chunk} ({chunks.describe_place(array, place)})",
        reason,
        chunks.store_root(array),
        chunk,
        tuple(part.start for part in place),
        tuple(part.stop for part in place),
    )


def _chunk_tasks(array: zarr.Array[Any], folder: Path) -> Iterator[Task]:
    """A task for each file of data that is there, and has the length that it should have."""
    listed = chunks.read_file_list(folder) or {}
    whole = tuple(slice(0, n) for n in array.shape)
    for place in chunks.parts_of(whole, array.shards or array.chunks):
        name = chunks.file_of_place(array, place)
        try:
            size = (folder / name).stat().st_size
        except OSError:
            continue  # empty, or told as missing
        if listed.get(name, size) == size:
            yield lambda place=place, file=folder / name: [  # type: ignore[misc]
                _damage("damaged", array, index, part, file, chunks.one_line(why))
                for index, part, why in chunks.damaged_chunks(array, place, thorough=True)
            ]


def _run(tasks: list[Task], progress: Progress) -> list[Damage]:
    found: list[Damage] = []
    progress("check", 0, len(tasks))
    with ThreadPoolExecutor(READERS) as pool:
        try:
            for done, damages in enumerate(pool.map(lambda task: task(), tasks), 1):
                found += damages
                progress("check", done, len(tasks))
        finally:
            pool.shutdown(cancel_futures=True)
    return found


def _check_map_job(place: Path, state: str, progress: Progress) -> StoreCheck:
    """The shards that a map (or `save_raster`) has marked as done."""
    try:
        fingerprint = (place / "fingerprint").read_text()
        group = zarr.open_group(str(place / "store"), mode="r")
        # Coordinates come last: the raster is what has shards.
        array = next(a for _, a in group.arrays() if a.shards is not None)
        array = store.open_array(place / "store", component=array.basename)
        facts = dict(group.attrs).get("bigcorr")
    except Exception as error:
        damage = Damage("metadata", str(place), "", chunks.one_line(error))
        return StoreCheck(str(place), "map", state, damages=(damage,))
    folder = place / "store" / array.basename
    whole = tuple(slice(0, n) for n in array.shape)
    units = list(chunks.parts_of(whole, array.shards))
    tasks: list[Task] = []
    for unit in units:
        name = "-".join(
            str(part.start // size) for part, size in zip(unit, array.shards, strict=True)
        )
        marker = place / "done" / name
        if marker.exists():
            file = folder / chunks.file_of_place(array, unit)
            tasks.append(
                lambda unit=unit, marker=marker, file=file: _check_shard(  # type: ignore[misc]
                    array, unit, marker, file, fingerprint
                )
            )
    damages = _run(tasks, progress)
    kind = str(facts.get("kind", "raster")) if isinstance(facts, dict) else "raster"
    return StoreCheck(
        str(place), kind, state, len(tasks), len(tasks) - len(damages), len(units), tuple(damages)
    )


def _check_passes(place: Path, state: str, progress: Progress) -> StoreCheck:
    """The passes of a displacement: those that are finished, a shard a file, and one under way."""
    found = []
    for each in sorted(place.iterdir()):
        if each.name.endswith(store.PARTIAL) and (each / "fingerprint").is_file():
            found.append(_check_map_job(each, state, progress))
        elif each.name != "result" and store.is_zarr(each):
            found.append(_check_zarr(each, progress))
    return StoreCheck(
        str(place),
        "displacement",
        state,
        sum(each.files for each in found),
        sum(each.units_done if each.units else each.files for each in found),
        sum(each.units or each.files for each in found),
        tuple(damage for each in found for damage in each.damages),
    )


def _check_shard(
    array: zarr.Array[Any], unit: chunks.Place, marker: Path, file: Path, fingerprint: str
) -> list[Damage]:
    said = read_marker(marker)
    index = tuple(part.start // size for part, size in zip(unit, array.chunks, strict=True))
    kind = reason = ""
    if said is None:
        kind, reason = "marker", "the marker cannot be read"
    elif said.get("fingerprint") != fingerprint:
        kind, reason = "marker", "the marker is that of another run"
    elif not file.exists():
        if said["bytes"]:
            kind, reason = "missing", "the file is not there"
    elif (size := file.stat().st_size) != said["bytes"]:
        kind, reason = "torn", f"the file has {size} bytes, {said['bytes']} were written"
    elif _checksum(file) != said.get("crc32"):
        kind, reason = "damaged", "the file has another checksum than it was written with"
    if not kind:
        return []
    return [_damage(kind, array, index, unit, marker if kind == "marker" else file, reason)]


def _checksum(path: Path) -> int:
    crc = 0
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            crc = zlib.crc32(piece, crc)
    return crc


def _check_job(place: Path, state: str, progress: Progress) -> StoreCheck:
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
        tasks.append(lambda file=file: _check_sums(file))  # type: ignore[misc]
    damages += _run(tasks, progress)
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


def _check_sums(file: Path) -> list[Damage]:
    try:
        Checkpoint._read(file)
    except RunError as error:
        stage, _, number = f"{file.parent.name}/{file.stem}".rpartition("-")
        where = f"{stage.replace('/', ', ')} {int(number)}" if number.isdigit() else ""
        cause = chunks.one_line(error.__cause__ or error)
        return [Damage("damaged", str(file), where, cause)]
    return []
