"""One table in a file, piece by piece, as Parquet or CSV. Knows nothing of pairs."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self


class TableFile:
    """Pieces of one table, written one after the other.

    Parameters
    ----------
    path : where to write.
    suffix : ".parquet" or ".csv".
    schema : pyarrow.Schema
        Of every piece.
    """

    def __init__(self, path: Path, suffix: str, schema: Any) -> None:
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet

        if suffix == ".parquet":
            repeated = [
                field.name
                for field in schema
                if pa.types.is_dictionary(field.type) or field.name.startswith("count")
            ]
            self._writer = pyarrow.parquet.ParquetWriter(
                path,
                schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=repeated,
                # The dictionary of names has to fit, or it is dropped half-way through a column.
                dictionary_pagesize_limit=2**27,
                # Ranks ascend and values hardly change from row to row: both take less so.
                column_encoding={
                    field.name: "DELTA_BINARY_PACKED"
                    if pa.types.is_integer(field.type)
                    else "BYTE_STREAM_SPLIT"
                    for field in schema
                    if field.name not in repeated
                    and (pa.types.is_integer(field.type) or pa.types.is_floating(field.type))
                },
            )
        else:
            self._writer = pyarrow.csv.CSVWriter(path, schema)

    def write(self, table: Any) -> None:
        self._writer.write_table(table)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()
