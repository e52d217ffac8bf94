"""Chunks in their files: where their pixels lie, which cannot be read, which files a store has."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import zarr

from bigcorr.raster.codecs import has_crc32c, python_codecs

Place = tuple[slice, ...]
"""The pixels of a chunk or a shard: one slice a dimension."""

FILE_LIST = "files.json"

_NUMBER = re.compile("[0-9]{1,18}")


def damaged_chunks(
    array: zarr.Array[Any], selection: Place, thorough: bool = False
) -> Iterator[tuple[tuple[int, ...], Place, Exception]]:
    """The chunks of a selection that cannot be read: their index, their pixels, the reason.

    A shard of which no chunk can be read is told once, by its first chunk. `thorough` verifies the
    checksums of each chunk also where a shard as a whole gives no error.
    """
    thorough = thorough and has_crc32c(array)
    with python_codecs():  # they verify whatever there is to verify, one chunk at a time
        plain = zarr.open_array(array.store_path, mode="r")
    for shard in parts_of(selection, array.shards or array.chunks):
        cause = _failure(array, shard)
        if cause is None and not thorough:
            continue
        # Of a file that is torn, all chunks fail for the same reason; of a flipped bit, one does.
        chunks = list(parts_of(shard, array.chunks))
        bad: list[tuple[Place, Exception]] = []
        for part in chunks:
            why = _failure(plain, part)
            if why is not None:
                bad.append((_whole(part, array.chunks, array.shape), why))
        if cause is not None and (not bad or len(bad) == len(chunks) > 1):
            cell = (array.shards or array.chunks) if len(chunks) > 1 else array.chunks
            bad = [(_whole(shard, cell, array.shape), cause)]
        for part, why in bad:
            index = tuple(p.start // n for p, n in zip(part, array.chunks, strict=True))
            yield index, part, why


def _whole(part: Place, sizes: Sequence[int], shape: Sequence[int]) -> Place:
    """The cell of a grid that a part lies in."""
    return tuple(
        slice(p.start // n * n, min((p.start // n + 1) * n, end))
        for p, n, end in zip(part, sizes, shape, strict=True)
    )


def parts_of(selection: Place, sizes: Sequence[int]) -> Iterator[Place]:
    """The parts of a selection that lie in one cell each of a grid with cells of `sizes`."""
    ranges = [
        range(part.start // size, -(-part.stop // size))
        for part, size in zip(selection, sizes, strict=True)
    ]
    for index in itertools.product(*ranges):
        yield tuple(
            slice(max(part.start, i * n), min(part.stop, (i + 1) * n))
            for part, i, n in zip(selection, index, sizes, strict=True)
        )


def _failure(array: zarr.Array[Any], place: Place) -> Exception | None:
    try:
        _ = array[place]
    except Exception as error:
        return error
    return None


def describe_chunk(array: zarr.Array[Any], chunk: tuple[int, ...], place: Place) -> str:
    """A chunk in words: its index, where its pixels lie, and the file that it is in."""
    root = store_root(array)
    where = describe_place(array, place)
    return f"chunk {chunk} of {root} ({where}): {root}/{file_of_place(array, place)}"


def describe_place(array: zarr.Array[Any], place: Place) -> str:
    """Pixels in words: channel 3, rows 0:512, columns 512:1024."""
    names = getattr(array.metadata, "dimension_names", None)
    if not names:
        names = ("channel", "y", "x")[-array.ndim :] if array.ndim <= 3 else ("",) * array.ndim
    words = {"y": "rows", "x": "columns"}
    where = []
    for name, part in zip(names, place, strict=True):
        lonely = part.stop - part.start == 1 and name not in words
        span = f"{part.start}" if lonely else f"{part.start}:{part.stop}"
        where.append(f"{words.get(str(name), name)} {span}".strip())
    return ", ".join(where)


def file_of_place(array: zarr.Array[Any], place: Place) -> str:
    """The file below the array's folder that holds the first of these pixels."""
    unit = array.shards or array.chunks
    index = tuple(part.start // size for part, size in zip(place, unit, strict=True))
    return array.metadata.encode_chunk_key(index)


def place_of_file(array: zarr.Array[Any], name: str) -> Place | None:
    """The pixels of a file of an array; None if the name is none of a chunk."""
    index = tuple(int(digits) for digits in _NUMBER.findall(name)) if array.ndim else ()
    unit = array.shards or array.chunks
    if len(index) != array.ndim or array.metadata.encode_chunk_key(index) != name:
        return None
    place = tuple(
        slice(i * n, min((i + 1) * n, size))
        for i, n, size in zip(index, unit, array.shape, strict=True)
    )
    return place if all(part.start < part.stop for part in place) else None


def stored_places(array: zarr.Array[Any], folder: Path) -> Iterator[tuple[str, Place]]:
    """The files of chunks that are there, by name, and their pixels.

    By what lies in the folder and not by the shape that metadata tell, which may be anything.
    """
    for base, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            name = Path(base, file).relative_to(folder).as_posix()
            place = place_of_file(array, name)
            if place is not None:
                yield name, place


def write_file_lists(root: Path) -> None:
    """Beside each array of a store that is done, the names and lengths of its files.

    Chunks of nothing but fill have no file, so that without this a lost one would read as empty.
    """
    for metadata in root.rglob("zarr.json"):
        folder = metadata.parent
        if json.loads(metadata.read_text()).get("node_type") == "array":
            files = (file for file in (folder / "c").rglob("*") if file.is_file())
            listed = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
            (folder / FILE_LIST).write_text(json.dumps(dict(sorted(listed.items())), indent=0))


def read_file_list(folder: Path) -> dict[str, int] | None:
    """What `write_file_lists` wrote; None where there is no list, it is torn, or names files that
    lie elsewhere."""
    try:
        listed = json.loads((folder / FILE_LIST).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    sound = isinstance(listed, dict) and all(
        isinstance(size, int) and name.startswith("c/") and ".." not in name and "\0" not in name
        for name, size in listed.items()
    )
    return listed if sound else None


def store_root(array: zarr.Array[Any]) -> str:
    """Where the array lies, for messages."""
    root = str(array.store_path)
    return root.removeprefix("file://").rstrip("/")


def one_line(error: BaseException) -> str:
    """An exception's own words on one line."""
    text = " ".join(str(error).split())
    return text or type(error).__name__
