"""`check_store`: is what lies on the disk whole? Stores, results, and jobs that are half done.

Every stored chunk is decoded, which verifies the checksums that it has; every file that the list
beside an array names is looked for. Nothing is changed. What a run has left that was cut off is
`check_begun.py`'s part.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zarr

from bigcorr.errors import InputError, MissingFileError, RunError
from bigcorr.raster import chunks, codecs, store
from bigcorr.raster.lock import lock_path
from bigcorr.run.check_begun import check_begun
from bigcorr.run.damage import Damage, StoreCheck, Task, damage_at, run_tasks
from bigcorr.run.progress import SILENT, Progress


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
        if (place / "displacement.json").exists():
            return _check_passes(place, progress)
        return check_begun(place, progress)
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
    damages += run_tasks(tasks, progress)
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
        if (folder / chunks.FILE_LIST).exists():
            reason = "the list of files cannot be read, or names files that are not its own"
            yield Damage("metadata", str(folder / chunks.FILE_LIST), "", reason, str(folder))
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
    return damage_at(kind, array, index, place, folder / name, reason)


def _chunk_tasks(array: zarr.Array[Any], folder: Path) -> Iterator[Task]:
    """A task for each file of data that is there, and has the length that it should have."""
    listed = chunks.read_file_list(folder) or {}
    for name, place in chunks.stored_places(array, folder):
        size = (folder / name).stat().st_size
        if listed.get(name, size) == size:
            yield lambda place=place, file=folder / name: [  # type: ignore[misc]
                damage_at("damaged", array, index, part, file, chunks.one_line(why))
                for index, part, why in chunks.damaged_chunks(array, place, thorough=True)
            ]


def _check_passes(place: Path, progress: Progress) -> StoreCheck:
    """The passes of a displacement: those that are finished, a shard a file, and one under way."""
    output = place.with_name(place.name.removesuffix(store.PARTIAL))
    found = []
    for each in sorted(place.iterdir()):
        if each.name.endswith(store.PARTIAL) and (each / "fingerprint").is_file():
            found.append(check_begun(each, progress))
        elif each.name != "result" and store.is_zarr(each):
            found.append(_check_zarr(each, progress))
    return StoreCheck(
        str(place),
        "displacement",
        "in use" if lock_path(output).exists() else "unfinished",
        sum(each.files for each in found),
        sum(each.units_done if each.units else each.files for each in found),
        sum(each.units or each.files for each in found),
        tuple(damage for each in found for damage in each.damages),
    )
