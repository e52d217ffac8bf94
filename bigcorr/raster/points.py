"""Tables of points (transcripts): CSV, TSV, GEM and Parquet, read in batches of bounded size.

Which columns hold x, y, gene and count, and their rows as arrays; a table may be read from the end
of any batch on. How text is cut into batches is `text_table.py`'s part, what becomes of the rows
`rasterize.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.raster.store import one_line
from bigcorr.raster.text_table import UNREADABLE, TextTable

COORDINATES = (
    ("global_x", "global_y"),  # MERSCOPE, which also has x and y in pixels of a field of view
    ("x_location", "y_location"),  # Xenium
    ("x_global_px", "y_global_px"),  # CosMx
    ("x", "y"),
)
GENES = ("gene", "feature_name", "target", "genename", "gene_name", "geneid", "gene_id")
COUNTS = ("count", "counts", "midcount", "midcounts", "umicount", "umicounts")
ROLES = ("x", "y", "gene", "count")
BATCH_ROWS = 2**19
MAX_GENES = 500_000


@dataclass(frozen=True)
class Points:
    """Rows of a table: positions, number of the gene and count of each.

    `end` is where the table goes on behind them, for `read_points`.
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    gene: NDArray[np.int32]
    count: NDArray[np.int64]
    end: int


@dataclass
class GeneNames:
    """Numbers for gene names, in order of appearance."""

    numbers: dict[str, int] = field(default_factory=dict)

    def encode(self, column: Any) -> NDArray[np.int32]:
        """Number of each row's gene; -1 where the name is missing or empty."""
        encoded = column.dictionary_encode() if not pa.types.is_dictionary(column.type) else column
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        names = encoded.dictionary.cast(pa.string()).to_pylist()
        lookup = np.array(
            [-1 if not name else self.numbers.setdefault(name, len(self.numbers)) for name in names]
            + [-1],
            dtype=np.int32,
        )
        index = pc.fill_null(encoded.indices, len(names)).to_numpy(zero_copy_only=False)
        return lookup[index]

    def sorted_names(self) -> tuple[list[str], NDArray[np.int32]]:
        """The names in order, and the place of each number in that order."""
        names = sorted(self.numbers)
        place = np.empty(len(names), dtype=np.int32)
        place[[self.numbers[name] for name in names]] = np.arange(len(names))
        return names, place


def is_parquet(path: str | Path) -> bool:
    """True if the file begins with Parquet's magic bytes."""
    with open(path, "rb") as file:
        return file.read(4) == b"PAR1"


def read_points(
    path: str | Path, genes: GeneNames, columns: dict[str, str] | None = None, start: int = 0
) -> Iterator[Points]:
    """Batches of a table's rows, of bounded size however long the table.

    Parameters
    ----------
    path : CSV, TSV, GEM or Parquet; text may be gzip, zstd or bz2.
    genes : takes up the names as they appear.
    columns : names of the columns that hold ``x``, ``y``, ``gene`` and ``count``, where they are
        not the usual ones.
    start : 0, or the `end` of the batch behind which to go on.

    Raises
    ------
    InputError : it is no such table, a column is missing, a value is not a number.
    """
    batches, count_name = (
        _open_parquet(path, columns, start)
        if is_parquet(path)
        else _open_text(path, columns, start)
    )
    try:
        for batch, end in batches:
            yield _rows(batch, genes, path, count_name, end)
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read as a table: {one_line(error)}") from error


def _rows(
    batch: Any, genes: GeneNames, path: str | Path, count_name: str | None, end: int
) -> Points:
    y, x = (_floats(batch.column(role)) for role in ("y", "x"))
    gene = genes.encode(batch.column("gene"))
    if len(genes.numbers) > MAX_GENES:
        raise InputError(
            f"{path}: more than {MAX_GENES} different names of genes; is that the gene column?"
        )
    if count_name is None:
        return Points(y, x, gene, np.ones(len(y), dtype=np.int64), end)
    count = _floats(batch.column("count"))
    wrong = ~((count >= 0) & (count == np.floor(count)) & (count < 2**53))
    if wrong.any():
        raise InputError(
            f"{path}: column '{count_name}' must hold counts (0, 1, 2, ...), got "
            f"{count[wrong][0]:g}"
        )
    return Points(y, x, gene, count.astype(np.int64), end)


def _floats(column: Any) -> NDArray[np.float64]:
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def find_columns(
    names: Sequence[str], given: dict[str, str] | None, path: str | Path
) -> dict[str, str]:
    """Which column plays which role; ``count`` is left out where there is none.

    Raises
    ------
    InputError : a role is unknown, a column that was named is not there, or none fits.
    """
    given = {role: name for role, name in (given or {}).items() if name is not None}
    for role in given:
        if role not in ROLES:
            raise InputError(f"columns takes {', '.join(ROLES)}; got '{role}'")
    lowered = {name.strip().strip("#").strip().lower(): name for name in reversed(names)}
    found: dict[str, str] = {}
    for role, name in given.items():
        actual = name if name in names else lowered.get(name.strip().lower())
        if actual is None:
            raise InputError(f"{path} has no column '{name}' for {role}; it has {_list(names)}")
        found[role] = actual
    pairs = [pair for pair in COORDINATES if pair[0] in lowered and pair[1] in lowered]
    if pairs and "x" not in found and "y" not in found:
        found["x"], found["y"] = lowered[pairs[0][0]], lowered[pairs[0][1]]
    for role, known in (("gene", GENES), ("count", COUNTS)):
        usual = next((lowered[name] for name in known if name in lowered), None)
        if usual is not None and role not in found:
            found[role] = usual
    for role in ("x", "y", "gene"):
        if role not in found:
            usual_names = GENES if role == "gene" else [p["xy".index(role)] for p in COORDINATES]
            raise InputError(
                f"{path} has no column for {role} (known: {', '.join(usual_names)}); it has "
                f"{_list(names)}: name it by columns"
            )
    return found


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


Opened = tuple[Iterator[tuple[Any, int]], str | None]


def _open_parquet(path: str | Path, columns: dict[str, str] | None, start: int) -> Opened:
    try:
        file = pq.ParquetFile(str(path))
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read as Parquet: {one_line(error)}") from error
    found = find_columns(file.schema_arrow.names, columns, path)
    for role in ("x", "y", "count"):
        if role in found:
            kind = file.schema_arrow.field(found[role]).type
            if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
                raise InputError(
                    f"{path}: column '{found[role]}' for {role} is not numeric but {kind}"
                )

    def batches() -> Iterator[tuple[Any, int]]:
        chosen = list(dict.fromkeys(found.values()))
        lengths = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        ends = np.cumsum(lengths, dtype=np.int64)
        first = int(np.searchsorted(ends, start, side="right"))  # the row group with row `start`
        row = int(ends[first - 1]) if first else 0
        groups = list(range(first, len(ends)))
        if not groups:
            return
        for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=chosen):
            known = max(0, min(start - row, len(batch)))
            row += len(batch)
            if known < len(batch):
                yield (
                    pa.RecordBatch.from_arrays(
                        [_plain(batch.column(found[role]))[known:] for role in found],
                        names=list(found),
                    ),
                    row,
                )

    return batches(), found.get("count")


def _plain(column: Any) -> Any:
    """Genes as text: older Xenium files hold bytes, others numbers."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return column.cast(pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string())
    return column


def _open_text(path: str | Path, columns: dict[str, str] | None, start: int) -> Opened:
    table = TextTable(path)
    found = find_columns(table.names, columns, path)
    types = {found[role]: pa.float64() for role in ("x", "y", "count") if role in found}
    types[found["gene"]] = pa.string()

    def batches() -> Iterator[tuple[Any, int]]:
        for batch, end in table.batches(types, start):
            yield (
                pa.RecordBatch.from_arrays(
                    [batch.column(found[role]) for role in found], names=list(found)
                ),
                end,
            )

    return batches(), found.get("count")


Progress = Callable[[str, int, int | None], None]
