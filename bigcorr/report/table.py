"""The ranked table of a report: rows at either end, and the data that its search works on."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.report import notes

if TYPE_CHECKING:
    import pandas as pd

FEW_COUNTS = 200
"""Channels with fewer counts make pairs that are flagged."""

_ALL = 10_000
_ENDS = 1_000
_PARTNERS = 5_000

_HEADS = {
    "rank": "rank",
    "a": "a",
    "b": "b",
    "value": "value",
    "z": "z",
    "p_value": "p",
    "q_value": "q",
    "count_a": "counts of a",
    "count_b": "counts of b",
}


def few_counts_of(pairs: pd.DataFrame, few_counts: float) -> NDArray[np.bool_]:
    """Which pairs have a channel of few counts; none where channels do not hold whole counts."""
    counts = pairs[["count_a", "count_b"]].to_numpy(dtype=np.float64)
    whole = np.isfinite(counts).all() and (counts == np.floor(counts)).all() and (counts >= 0).all()
    return (counts.min(axis=1) < few_counts) & whole


def pair_table(pairs: pd.DataFrame, top: int, few_counts: float, total: int | None = None) -> str:
    """The table as HTML: the first and last `top` rows, and data for searching and sorting.

    `pairs` is a whole ranking, or both ends of one of `total` pairs.
    """
    few = few_counts_of(pairs, few_counts)
    known = int(pairs["value"].notna().sum())
    significance = bool(pairs["p_value"].notna().any() or pairs["z"].notna().any())
    columns = [c for c in _HEADS if significance or c not in ("z", "p_value", "q_value")]
    head = "".join(
        f'<th data-key="{c}"{" class=name" * (c in "ab")}>{_HEADS[c]}</th>' for c in columns
    )
    whole = total is None or total == len(pairs)
    listed = known if whole else int(pairs["rank"].iloc[-1])
    most = float(np.nanmax(np.abs(pairs["value"]))) if known else 1.0

    if known <= 2 * top:
        rows = _rows(pairs.iloc[:known], few[:known], columns, most)
    else:
        between = f'<td colspan="{len(columns)}">{listed - 2 * top:,} pairs between</td>'
        rows = (
            _rows(pairs.iloc[:top], few[:top], columns, most)
            + f'<tr class="gap">{between}</tr>'
            + _rows(pairs.iloc[known - top : known], few[known - top : known], columns, most)
        )
    kept = _searchable(pairs, known)
    remarks = [notes.TABLE if significance else notes.TABLE_BARE]
    if few.any():
        remarks.append(
            f"Pairs with a channel of fewer than {few_counts:g} counts are flagged: one or two "
            "coincidences are enough to bring them to the top, and z and p, which rest on sums of "
            "many, do not guard against it."
        )
    unknown = (len(pairs) if total is None else total) - listed
    if unknown:
        remarks.append(
            f"{unknown:,} pairs have no value, since a channel does not vary or holds "
            "too little valid data; they are not listed."
        )
    if len(kept) < listed:
        partners = " and the best partner of each channel" if whole else ""
        remarks.append(
            f"The search knows {len(kept):,} of {listed:,} pairs: those at either end{partners}. "
            "<code>bigcorr rank -o pairs.parquet</code> writes all."
        )
    return (
        f'<p class="note">{" ".join(remarks)}</p><div class="pairs"><div class="controls" hidden>'
        '<input type="search" placeholder="Search a channel, or two" aria-label="Search">'
        '<label><input type="checkbox"> leave out few counts</label><output></output></div>'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        '</div><script type="application/json">'
        f"{_data(kept, few_counts if few.any() else 0, significance, most)}</script></div>"
    )


def _searchable(pairs: pd.DataFrame, known: int) -> pd.DataFrame:
    """All pairs with a value; of very many, both ends and the best partner of each channel."""
    import pandas as pd

    pairs = pairs.iloc[:known]
    if known <= _ALL:
        return pairs
    ends = [pairs.iloc[:_ENDS], pairs.iloc[-_ENDS:]]
    partners = [pairs.drop_duplicates(side).iloc[:_PARTNERS] for side in ("a", "b")]
    return pd.concat([*ends, *partners]).drop_duplicates("rank").sort_values("rank")


def _rows(pairs: pd.DataFrame, few: NDArray[np.bool_], columns: list[str], most: float) -> str:
    return "".join(
        _row(dict(zip(pairs.columns, row, strict=True)), flagged, columns, most)
        for row, flagged in zip(pairs.itertuples(index=False), few.tolist(), strict=True)
    )


def _row(pair: dict[str, Any], few: bool, columns: list[str], most: float) -> str:
    tag = '<span class="tag">few counts</span>' if few else ""
    cells = []
    for column in columns:
        value = pair[column]
        if column in ("a", "b"):
            cells.append(f'<td class="name">{escape(str(value))}{tag * (column == "b")}</td>')
        elif column == "value":
            width = 100 * abs(value) / most if most else 0.0
            bar = f'<i style="width:{width:.1f}%"></i>'
            cells.append(f'<td class="value">{bar}<span>{_fixed(value, 4)}</span></td>')
        elif column == "z":
            cells.append(f"<td>{_fixed(value, 2)}</td>")
        elif column in ("p_value", "q_value"):
            cells.append(f"<td>{_small(value)}</td>")
        else:
            cells.append(f"<td>{_count(value)}</td>")
    return f"<tr{' class=few' * few}>{''.join(cells)}</tr>"


def _data(pairs: pd.DataFrame, few_counts: float, significance: bool, most: float) -> str:
    """The rows for the script: names once, channels by number, numbers to six digits."""
    import pandas as pd

    names = pd.Index(pd.concat([pairs["a"], pairs["b"]]).unique())
    columns: dict[str, list[Any]] = {
        side: names.get_indexer(pairs[side]).tolist() for side in ("a", "b")
    }
    for column in ("value", "z", "p_value", "q_value", "count_a", "count_b"):
        values = pairs[column].to_numpy(dtype=np.float64)
        digits = 12 if column.startswith("count") else 6
        columns[column] = [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in values]
    listed = {"rank": pairs["rank"].tolist(), **columns}
    data = {
        "names": names.tolist(),
        "columns": list(listed),
        "rows": list(zip(*listed.values(), strict=True)),
        "few": few_counts,
        "significance": significance,
        "most": most or 1.0,
    }
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def _fixed(value: float, digits: int) -> str:
    return "–" if np.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def _small(value: float) -> str:
    if np.isnan(value):
        return "–"
    if value >= 0.001:
        return f"{value:.3f}"
    return (
        "&lt; 1e−300" if value < 1e-300 else f"{value:.1e}".replace("e-0", "e-").replace("-", "−")
    )


def _count(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:,.1f}".removesuffix(".0")
