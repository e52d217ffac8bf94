"""Work that is kept in numbered files, each with a marker, so that a killed run goes on there.

Pieces are made in order. A marker appears only once its file is whole on the disk, and holds the
file's length, checksum and a note of the caller's. What the pieces mean is not known here.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.raster import store
from bigcorr.raster.markers import damage_of, read_marker, write_whole

MARKER = ".json"


class Pieces:
    """The pieces in one folder, those of an earlier run first.

    Parameters
    ----------
    folder : made with the first piece. What is in it is verified, and what follows a piece that
        is gone or damaged is removed.

    Attributes
    ----------
    notes : list of dict
        What was said of each piece that is whole.
    found : int
        How many of them an earlier run had made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[dict[str, Any]] = []
        while (said := _whole(self.file(len(self.notes)))) is not None:
            self.notes.append(said["note"])
        self.found = len(self.notes)
        self._sweep()

    def file(self, number: int) -> Path:
        """Where a piece lies."""
        return self.folder / f"{number:06d}"

    def drop(self, number: int) -> None:
        """Remove the pieces from this number on."""
        del self.notes[number:]
        self.found = min(self.found, number)
        self._sweep()

    def _sweep(self) -> None:
        """Remove what is no piece; markers first, which say that something is one."""
        kept = {self.file(number).name for number in range(len(self.notes))}
        with store.writing(self.folder):
            names = sorted(self.folder.iterdir(), reverse=True) if self.folder.is_dir() else []
            for path in names:
                if path.name.removesuffix(MARKER) not in kept:
                    store.remove(path)

    @property
    def ended(self) -> bool:
        """Whether the last piece was said to be the last."""
        return bool(self.notes) and bool(self.notes[-1].get("end"))

    def add(self, arrays: Iterable[NDArray[Any]], note: dict[str, Any]) -> Path:
        """Keep the bytes of arrays, one after the other, as the next piece."""
        file = self.file(len(self.notes))
        temporary = file.with_name(f"{file.name}.tmp")
        size = crc = 0
        with store.writing(file):
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as out:
                for array in arrays:
                    raw = np.ascontiguousarray(array).view(np.uint8).data
                    out.write(raw)
                    crc, size = zlib.crc32(raw, crc), size + len(raw)
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, file)
            store.sync_folder(self.folder)
            said = {"bytes": size, "crc32": crc, "note": note}
            write_whole(file.with_name(file.name + MARKER), json.dumps(said))
        self.notes.append(note)
        return file


def _whole(file: Path) -> dict[str, Any] | None:
    """What the marker of a file says; None unless both are whole."""
    said = read_marker(file.with_name(file.name + MARKER))
    return None if said is None or damage_of(file, said) else said
