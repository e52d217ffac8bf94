"""How far the measures of a result agree, as a small table of shaded cells."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from bigcorr.pairs.agreement import rank_agreement
from bigcorr.report import notes

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def agreement_section(sim: xr.Dataset, measures: list[str]) -> str:
    """A table for each blur; nothing for a single measure or a single channel."""
    if len(measures) < 2:
        return ""
    several = "sigma" in sim[measures[0]].dims
    sigmas = np.nan_to_num(sim["sigma"].values).tolist() if several else [None]
    tables = []
    for sigma in sigmas:
        table = rank_agreement(sim, measures, sigma)
        if table.attrs["pairs"] < 2:
            continue
        if sigma is not None:
            tables.append(f"<h3>{f'sigma {sigma:g}' if sigma else 'No blur'}</h3>")
        tables.append(_table(table))
        counted, total = table.attrs["pairs"], table.attrs["of"]
        if counted < total:
            tables.append(
                f'<p class="note">By {counted:,} of {total:,} pairs: those that have a value by '
                "every measure, a fixed random sample where they are very many.</p>"
            )
    if not tables:
        return ""
    return (
        '<section id="agreement"><h2>Do the measures agree?</h2>'
        f'<p class="note">{notes.AGREEMENT}</p>{"".join(tables)}</section>'
    )


def _table(table: pd.DataFrame) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    rows = []
    for name, row in table.iterrows():
        cells = "".join(_cell(float(value)) for value in row)
        rows.append(f'<tr><th scope="row" class="name">{escape(str(name))}</th>{cells}</tr>')
    return (
        f'<div class="scroll"><table class="shaded"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(value: float) -> str:
    """A number on a ground that is the stronger, the further it is from zero."""
    if np.isnan(value):
        return "<td>–</td>"
    text = f"{value:.2f}".replace("-", "−")
    strength = round(45 * min(abs(value), 1.0))
    colour = "--accent" if value >= 0 else "--warn"
    ground = f"color-mix(in srgb, var({colour}) {strength}%, transparent)"
    return f'<td style="background:{ground}">{text}</td>'
