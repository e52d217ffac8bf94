"""Tables for the terminal: aligned, plain enough to read in a log, to grep and to paste."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd

_WIDE = 200


def show(*parts: Any) -> None:
    """Print renderables on stdout; a file or a pipe gets whole lines, however long."""
    console = Console(
        file=sys.stdout,
        width=None if sys.stdout.isatty() else _WIDE,
        highlight=False,
        soft_wrap=False,
    )
    for part in parts:
        console.print(part)


def grid(header: Sequence[str], rows: Iterable[Sequence[Any]], left: Sequence[str] = ()) -> Table:
    """A table without lines; columns named in `left` are text, the others are numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in header:
        table.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return table


def facts(values: Mapping[str, Any]) -> Table:
    """Names and values, one a line; what is None is left out."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        if value is not None:
            table.add_row(Text(name, style="bold"), Text(str(value)))
    return table


def ranking(pairs: pd.DataFrame, by: str) -> list[Any]:
    """The table of ranked pairs, with the counts beside each and the low ones marked."""
    from bigcorr.report.table import FEW_COUNTS

    tested = bool(pairs["z"].notna().any())
    counted = bool(pairs["count_a"].notna().any() or pairs["count_b"].notna().any())
    header = ["rank", "a", "b", by]
    header += ["z", "p", "q"] if tested else []
    header += ["count a", "count b"] if counted else []
    low = False
    rows = []
    for pair in pairs.to_dict(orient="records"):
        row: list[Any] = [pair["rank"], pair["a"], pair["b"], decimal(pair["value"])]
        if tested:
            row += [decimal(pair["z"], 1)]
            row += [scientific(pair["p_value"]), scientific(pair["q_value"])]
        if counted:
            for value in (pair["count_a"], pair["count_b"]):
                marked = float(value).is_integer() and 0 <= value < FEW_COUNTS
                low |= marked
                row.append(Text(plain(value) + ("*" if marked else " "), "red" if marked else ""))
        rows.append(row)
    parts: list[Any] = [grid(header, rows, left=("a", "b"))]
    if low:
        parts.append(
            f"* fewer than {FEW_COUNTS} counts: chance alone makes such pairs lead; "
            "`pairs --min-count N` leaves them out"
        )
    return parts


def clusters(found: pd.DataFrame, by: str) -> list[Any]:
    """The table of channels by cluster, with the mean of the measure inside it."""
    header = ["cluster", "channel", f"mean {by} inside", "count"]
    counted = bool(found["count"].notna().any())
    rows = [
        [row["cluster"] or "-", row["channel"], decimal(row["within"])]
        + [plain(row["count"])] * counted
        for row in found.to_dict(orient="records")
    ]
    return [grid(header[: 3 + counted], rows, left=("channel",))]


def decimal(value: float, digits: int = 4) -> str:
    """A number with a fixed number of decimals; nothing for NaN.

    >>> decimal(0.46144), decimal(float("nan"))
    ('0.4614', '')
    """
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def scientific(value: float) -> str:
    """A probability in two digits; nothing for NaN.

    >>> scientific(0.04321), scientific(0.0)
    ('4.3e-02', '<1e-300')
    """
    if math.isnan(value):
        return ""
    return "<1e-300" if value < 1e-300 else f"{value:.1e}"


def plain(value: float) -> str:
    """A count in digits that can be pasted; nothing for NaN.

    >>> plain(80343), plain(12.5)
    ('80343', '12.5')
    """
    if math.isnan(value):
        return ""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.6g}"


def size(number: float) -> str:
    """Bytes in binary units.

    >>> size(3 * 2**30), size(900)
    ('3.0 GiB', '900 B')
    """
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == "TiB":
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError("unreachable")
