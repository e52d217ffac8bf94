"""Small files that say what is whole: written at once or not at all, with length and checksum.

What is marked (shards, pieces of a table) is the business of `writer.py` and `pieces.py`.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np


def write_whole(path: Path, text: str, sync: bool = True) -> None:
    """A small file that is there whole or not at all.

    Without `sync` a power cut may take it, or leave it torn, which its reader must see.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w") as file:
        file.write(text)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)


def read_marker(path: Path) -> dict[str, Any] | None:
    """What a marker says of its file (bytes, crc32 and more); None if it is gone or torn."""
    try:
        marker = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return marker if isinstance(marker, dict) and isinstance(marker.get("bytes"), int) else None


def flushed_checksum(path: Path) -> int:
    """The CRC32 of a file that the disk was asked to keep."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    return checksum(path)


def checksum(path: Path) -> int:
    """The CRC32 of a file."""
    crc = 0
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            crc = zlib.crc32(piece, crc)
    return crc


def damage_of(file: Path, said: dict[str, Any]) -> tuple[str, str] | None:
    """What is wrong with a file by its marker: the kind of damage and the reason."""
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        return ("missing", "the file is not there") if said["bytes"] else None
    if size != said["bytes"]:
        return "torn", f"the file has {size} bytes, {said['bytes']} were written"
    if checksum(file) != said.get("crc32"):
        return "damaged", "the file has another checksum than it was written with"
    return None


def jsonable(value: Any) -> Any:
    """`value` as JSON can hold it: NumPy scalars and arrays as numbers, the rest as text."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, np.generic):
        return jsonable(value.item())
    try:
        json.dumps(value)
    except TypeError:
        return str(value)
    return value
