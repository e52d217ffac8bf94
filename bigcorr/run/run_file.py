"""Files of records for sorting: written whole, read in parts, each part verified.

A run is records, then the CRC32 of each block of `BLOCK` of them, then the CRC32 of these. What
records mean, and how they are ordered, is not known here.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import RunError
from bigcorr.pairs.order import Indices
from bigcorr.raster import store
from bigcorr.raster.chunks import one_line

Array = NDArray[Any]

BLOCK = 256
"""Records with a checksum of their own: as few as a merge ever reads of a run at once."""

_SLICE = 1024 * BLOCK
_CRC = np.dtype("<u4")


class Run(NamedTuple):
    """A file of sorted records, and how many it holds."""

    path: Path
    length: int


class DamagedRun(RunError):
    """A run that is not what was written: `where` are records in words, `why` the reason."""

    def __init__(self, run: Run, why: str, where: str = "") -> None:
        self.where, self.why = where, why
        place = f" at {where}" if where else ""
        super().__init__(
            f"{run.path} is damaged{place} ({why}): give --restart to sort all pairs again"
        )


def run_bytes(records: int, dtype: np.dtype[Any]) -> int:
    """Length of the file of so many records."""
    return records * dtype.itemsize + (_blocks(records) + 1) * _CRC.itemsize


def _blocks(records: int) -> int:
    return -(-records // BLOCK)


def write_run(path: Path, records: Array, order: Indices | None = None, keep: bool = True) -> Run:
    """Write records, in an order if one is given; the file appears whole or not at all.

    Parameters
    ----------
    keep : whether the file has to outlast a crash of the machine.
    """
    temporary = path.with_name(path.name + ".tmp")
    checksums: list[int] = []
    with store.writing(path):
        with open(temporary, "wb") as file:
            # Slice by slice: there is no second copy of all records.
            for start in range(0, len(records), _SLICE):
                stop = min(start + _SLICE, len(records))
                part = records[start:stop] if order is None else records[order[start:stop]]
                part = np.ascontiguousarray(part)
                checksums += _checksums(part)
                part.tofile(file)
            trailer = np.array(checksums, _CRC)
            trailer.tofile(file)
            np.array([zlib.crc32(trailer.tobytes())], _CRC).tofile(file)
            file.flush()
            if keep:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    return Run(path, len(records))


def _checksums(records: Array) -> list[int]:
    data = records.view(np.uint8).data if len(records) else b""
    step = BLOCK * records.dtype.itemsize
    return [zlib.crc32(data[a : a + step]) for a in range(0, len(data), step)]


class RunReader:
    """The records of one run, verified as they are read.

    Raises
    ------
    DamagedRun
        The file is gone, has another length, or a block has another checksum.
    """

    def __init__(self, run: Run, dtype: np.dtype[Any]) -> None:
        self.run, self.dtype = run, dtype
        try:
            size = run.path.stat().st_size
        except OSError as error:
            raise DamagedRun(run, one_line(error)) from error
        if size != run_bytes(run.length, dtype):
            raise DamagedRun(
                run, f"it has {size} bytes, {run_bytes(run.length, dtype)} were written"
            )
        self._expected: Array | None = None

    def read(self, start: int, count: int) -> Array:
        """Records ``start:start + count``."""
        if self._expected is None:
            self._expected = self._trailer()
        first = start // BLOCK
        stop = min(_blocks(start + count) * BLOCK, self.run.length)
        records = self._raw(self.dtype, first * BLOCK * self.dtype.itemsize, stop - first * BLOCK)
        for number, found in enumerate(_checksums(records), first):
            if found != self._expected[number]:
                stop = min((number + 1) * BLOCK, self.run.length)
                raise DamagedRun(
                    self.run,
                    "another checksum than it was written with",
                    f"records {number * BLOCK}:{stop}",
                )
        return records[start - first * BLOCK :][:count]

    def verify(self) -> None:
        """Read all of it."""
        for start in range(0, self.run.length, _SLICE):
            self.read(start, min(_SLICE, self.run.length - start))
        if self._expected is None:
            self._trailer()

    def _trailer(self) -> Array:
        blocks = _blocks(self.run.length)
        held = self._raw(_CRC, self.run.length * self.dtype.itemsize, blocks + 1)
        if zlib.crc32(held[:-1].tobytes()) != held[-1]:
            raise DamagedRun(self.run, "its list of checksums is not what was written")
        return held[:-1]

    def _raw(self, dtype: np.dtype[Any], offset: int, count: int) -> Array:
        try:
            found = np.fromfile(self.run.path, dtype, count=count, offset=offset)
        except OSError as error:
            raise DamagedRun(self.run, one_line(error)) from error
        if len(found) != count:
            raise DamagedRun(self.run, "it is cut short")
        return found
