"""What a report says about the run, and about the known groups of a simulation."""

from __future__ import annotations

import contextlib
import json
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from bigcorr.pairs.coarsening import coarse_error_told
from bigcorr.pairs.matrices import measures_of
from bigcorr.report import notes

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

_FACTS = {
    "source": "Raster",
    "shape": "Shape (y, x)",
    "sigma": "Blur (sigma, pixels)",
    "coarsen": "Compared in cells of (pixels a side)",
    "mask": "Mask",
    "wall_seconds": "Wall time",
    "peak_bytes": "Peak memory",
    "projected_bytes": "Projected memory of a worker",
    "workers": "Workers",
    "cpu": "Processor",
    "blas": "BLAS",
    "bigcorr_version": "bigcorr",
}


def run_section(sim: xr.Dataset, facts: dict[str, Any]) -> str:
    """What was computed, from what, and where the time went."""
    rows = [("Channels", f"{sim.sizes['other']:,}")]
    if "count" in sim.variables and sim.sizes["channel"]:
        count = sim["count"].values
        rows.append(("Counts a channel", f"{_number(count.min())} to {_number(count.max())}"))
    for key, label in _FACTS.items():
        value = facts.get(key)
        if value is not None and not isinstance(value, dict):
            rows.append((label, _worded(key, value)))
    for measure in measures_of(sim):
        chosen = decoded(sim[measure].attrs).get("parameters") or {}
        rows.append((measure, ", ".join(f"{k} {v}" for k, v in chosen.items()) or "no parameters"))
        error = (facts.get("coarsen_error") or {}).get(measure)
        if error is not None:
            rows.append((f"{measure}, error of cells", coarse_error_told(error)))
    table = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows)
    timings = {k: float(v) for k, v in (facts.get("timings") or {}).items()}
    longest = max(timings.values(), default=0.0) or 1.0
    stages = "".join(
        f'<div class="stage"><b>{escape(stage)}</b>'
        f'<span style="width:{100 * seconds / longest:.1f}%"></span>'
        f"<em>{_seconds(seconds)}</em></div>"
        for stage, seconds in sorted(timings.items(), key=lambda item: -item[1])
    )
    stages = f"<h3>Where the time went</h3>{stages}" if stages else ""
    warnings = "".join(
        f'<div class="warning">{escape(str(w))}</div>' for w in facts.get("warnings") or []
    )
    facts = {key: value for key, value in facts.items() if key != "truth"}
    everything = escape(json.dumps(facts, indent=2, default=str, ensure_ascii=False))
    return (
        f'<section id="run"><h2>The run</h2>{warnings}<div class="columns"><dl>{table}</dl>'
        f"<div>{stages}</div></div><details><summary>Everything that was recorded</summary>"
        f"<pre>{everything}</pre></details></section>"
    )


def truth_section(precision: dict[str, pd.DataFrame]) -> str:
    """How well each measure finds the groups of a simulation."""
    if not precision:
        return ""
    first = next(iter(precision.values()))
    head = "".join(f"<th>{escape(name)}</th>" for name in precision)
    rows = []
    for i, (pattern, pairs, same) in enumerate(
        first[["pattern", "pairs", "same_group"]].itertuples(index=False)
    ):
        values = "".join(
            f"<td>{_score(table['average_precision'].iloc[i])}</td>" for table in precision.values()
        )
        rows.append(
            f'<tr><td class="name">{escape(pattern)}</td><td>{pairs:,}</td><td>{same:,}</td>'
            f"{values}</tr>"
        )
    return (
        f'<section id="truth"><h2>Are the known groups found?</h2><p class="note">{notes.TRUTH}</p>'
        '<div class="scroll"><table><thead><tr><th class="name">pattern</th><th>pairs</th>'
        f"<th>of one group</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def decoded(attrs: dict[Any, Any]) -> dict[str, Any]:
    """Attributes as plain values; JSON text is read."""
    plain = {}
    for key, value in attrs.items():
        if isinstance(value, str) and value[:1] in "{[":
            with contextlib.suppress(ValueError):
                value = json.loads(value)
        plain[str(key)] = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return plain


def _worded(key: str, value: Any) -> str:
    if key.endswith("_bytes"):
        return f"{float(value) / 2**20:,.0f} MiB"
    if key.endswith("_seconds"):
        return _seconds(float(value))
    if isinstance(value, list | tuple):
        return (
            " × ".join(_number(v) for v in value)
            if key == "shape"
            else listed([_number(v) for v in value])
        )
    return _number(value)


def _seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _number(value: Any) -> str:
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f"{int(value):,}"
    if isinstance(value, float | np.floating):
        return f"{int(value):,}" if float(value).is_integer() else f"{float(value):,.4g}"
    return str(value)


def _score(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
