"""Delimited text, plain or compressed, cut into batches of whole lines.

A batch ends at a known byte of the (decompressed) text, so that reading may begin behind any of
them. What the columns mean is `points.py`'s part.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from bigcorr.errors import InputError
from bigcorr.raster.store import one_line

BLOCK_BYTES = 8 * 2**20
HEAD_BYTES = 2**20

UNREADABLE = (pa.ArrowException, OSError, UnicodeError)
"""What pyarrow raises for damaged files: of some kinds only now and then."""

_COMPRESSION = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}


class TextTable:
    """A CSV, TSV or GEM file.

    Attributes
    ----------
    names : of the columns.

    Raises
    ------
    InputError
        It is no text, is empty, or has no line of column names.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        try:
            with self._stream() as stream:
                head = stream.read(HEAD_BYTES)
        except UNREADABLE as error:
            raise InputError(f"{path} cannot be read: {one_line(error)}") from error
        if b"\x00" in head:
            raise InputError(f"{path} is neither a raster nor a table of points: it is binary")
        if not head.strip():
            raise InputError(f"{path} is empty")
        self._start = 0
        line = ""
        for raw in head.splitlines(keepends=True):
            self._start += len(raw)
            line = raw.decode("utf-8-sig", errors="replace").rstrip("\r\n")
            if line.strip() and not line.startswith("#"):
                break
        else:
            raise InputError(f"{path} has no line of column names")
        self._delimiter = max(",\t; ", key=line.count)
        self.names: list[str] = next(csv.reader([line], delimiter=self._delimiter))
        if len(self.names) < 3:
            raise InputError(
                f"{path} is neither a raster nor a table of points: its first line is "
                f"'{line.strip()[:60]}'"
            )

    def _stream(self) -> Any:
        with open(self._path, "rb") as file:
            start = file.read(4)
        kind = next((name for magic, name in _COMPRESSION.items() if start.startswith(magic)), None)
        return pa.input_stream(str(self._path), compression=kind)

    def batches(self, types: dict[str, Any], start: int = 0) -> Iterator[tuple[Any, int]]:
        """The rows of some columns.

        Parameters
        ----------
        types : name of the column -> Arrow type.
        start : 0, or the end of the batch behind which to go on.

        Yields
        ------
        batch : pyarrow.RecordBatch
        end : the byte of the text behind it.
        """
        options = {
            "parse_options": pa_csv.ParseOptions(delimiter=self._delimiter),
            "convert_options": pa_csv.ConvertOptions(
                include_columns=list(types), column_types=types, strings_can_be_null=False
            ),
        }
        for block, end in self._blocks(max(start, self._start)):
            # Each block is read as a table of its own, on all cores.
            lines = pa_csv.ReadOptions(column_names=self.names)
            table = pa_csv.read_csv(pa.BufferReader(block), read_options=lines, **options)
            if table.num_rows:
                (batch,) = table.combine_chunks().to_batches()
                yield batch, end

    def _blocks(self, start: int) -> Iterator[tuple[bytes, int]]:
        """Runs of whole lines from byte `start` on, and where each ends."""
        with self._stream() as stream, ThreadPoolExecutor(1) as ahead:
            _skip(stream, start)
            left, end = b"", start
            coming = ahead.submit(stream.read, BLOCK_BYTES)
            while raw := coming.result():
                # The next block is decompressed while this one is parsed.
                coming = ahead.submit(stream.read, BLOCK_BYTES)
                cut = max(raw.rfind(b"\n"), raw.rfind(b"\r")) + 1
                if not cut:
                    left += raw
                    if len(left) > BLOCK_BYTES:
                        raise InputError(f"{self._path}: a line is longer than {BLOCK_BYTES} bytes")
                    continue
                block, left = left + raw[:cut], raw[cut:]
                end += len(block)
                if block.strip():
                    yield block, end
            if left.strip():
                yield left, end + len(left)


def _skip(stream: Any, size: int) -> None:
    """Leave out the first bytes of a stream, which may be compressed."""
    try:
        stream.seek(size)
        return
    except (OSError, ValueError, NotImplementedError, pa.ArrowInvalid):
        pass
    while size and (raw := stream.read(min(size, BLOCK_BYTES))):
        size -= len(raw)
