"""One self-contained HTML page about a result: `write_report`.

Assembly only: what is said of a measure comes from `section.py`, how far measures agree from
`agreement.py`, the account of the run from `summary.py`, words from `notes.py`.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from datetime import datetime
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bigcorr.errors import InputError, MissingFileError, RunError
from bigcorr.pairs.matrices import measures_of, select_sigma
from bigcorr.pairs.precision import group_precision
from bigcorr.report import notes, pictures
from bigcorr.report.agreement import agreement_section
from bigcorr.report.section import Setting, listed_pairs, measure_section
from bigcorr.report.summary import decoded, listed, run_section, truth_section
from bigcorr.report.table import FEW_COUNTS

if TYPE_CHECKING:
    import xarray as xr


def write_report(
    result: str | os.PathLike[str] | xr.Dataset,
    out_html: str | os.PathLike[str],
    *,
    source: Any = None,
    by: str | None = None,
    top: int = 50,
    title: str | None = None,
    few_counts: float = FEW_COUNTS,
) -> Path:
    """Write a result of `bigcorr.pairwise` or ``bigcorr pairs`` as one HTML file.

    Parameters
    ----------
    result : path of a result store, or the Dataset.
    out_html : the file to write; it appears whole or not at all.
    source : the stack that the result was made of, as a path, array or source, for the pictures
        of pairs. By default the one that the result names; where it is not there any more, the
        report says so and does without.
    by : one measure to report; by default all.
    top : rows of the table at either end of a ranking.
    title : heading of the page.
    few_counts : pairs with a channel of fewer counts are flagged, where channels hold whole
        counts; 0 flags none.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError
        `result` is not a result, it has no measure `by`, or `source` has not its channels.
    RunError
        The file could not be written.
    """
    out_html = Path(out_html)
    if not out_html.parent.is_dir():
        raise MissingFileError(f"{out_html}: no such folder: {out_html.parent}")
    sim = _open(result)
    measures = measures_of(sim)
    if by is not None:
        if by not in measures:
            raise InputError(f"by: got {by!r}, this result has: {', '.join(measures)}")
        measures = [by]
    stack, absent = pictures.find_source(sim, source)
    page = _page(sim, measures, title, Setting(stack, absent, top, few_counts))
    write_page(out_html, page)
    return out_html


def write_page(out_html: Path, page: str) -> None:
    """Write a page, whole or not at all."""
    partial = out_html.with_name(f".{out_html.name}.{os.getpid()}.partial")
    try:
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, out_html)
    except OSError as error:
        raise RunError(f"{out_html}: could not be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _open(result: str | os.PathLike[str] | xr.Dataset) -> xr.Dataset:
    import xarray as xr

    if isinstance(result, xr.Dataset):
        sim, name = result, "this Dataset"
    else:
        name = os.fspath(result)
        if not Path(name).exists():
            raise MissingFileError(f"{name}: no such file")
        try:
            sim = xr.open_zarr(name, consolidated=False)
        except Exception as error:
            raise InputError(f"{name} is not a result of bigcorr pairs: {error}") from error
    if not measures_of(sim):
        raise InputError(f"{name} is not a result of bigcorr pairs: it holds no pair matrix")
    return sim


def _page(
    sim: xr.Dataset,
    measures: list[str],
    title: str | None,
    setting: Setting,
) -> str:
    channels, others = sim.sizes["channel"], sim.sizes["other"]
    facts = decoded(sim.attrs)
    title = title or "Which channels share a spatial pattern"
    truth = facts.get("truth") or (setting.stack and setting.stack.attrs.get("truth"))
    figure_ids = (f"f{number}" for number in itertools.count())
    sections, precision = [], {}
    for name, measure, part in _rankings(sim, measures):
        pairs = listed_pairs(part, measure)
        if truth is not None and pairs.complete:
            precision[name] = group_precision(pairs.table, truth)
        sections.append(
            f'<section class="measure" id="{_anchor(name)}"><h2>{escape(name)}</h2>'
            f"{measure_section(name, measure, part, pairs, setting, figure_ids)}</section>"
        )
    agreement = agreement_section(sim, measures)
    links = "".join(
        f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name, *_ in _rankings(sim, measures)
    )
    known = '<a href="#truth">Known groups</a>' if precision else ""
    known += '<a href="#agreement">Agreement of measures</a>' if agreement else ""
    across = "" if channels == others else f" against {others:,}"
    extent = " × ".join(f"{int(n):,}" for n in facts.get("shape", [])[-2:])
    subtitle = f"{channels:,} channel{'s' * (channels != 1)}{across}" + (
        f" of {extent} pixels" if extent else ""
    )
    assets = resources.files("bigcorr.report") / "assets"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{(assets / "report.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="soft">{subtitle}, compared by {escape(listed(measures))}.</p>
<nav><a href="#run">The run</a>{known}{links}</nav>
</header>
<main>
{run_section(sim, facts)}
{truth_section(precision)}
{agreement}
{"".join(sections)}
</main>
<footer>{escape(notes.FOOTER.format(datetime.now().astimezone()))}</footer>
<script>
{(assets / "report.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""


def _rankings(sim: xr.Dataset, measures: list[str]) -> Iterator[tuple[str, str, xr.Dataset]]:
    """Name, measure and part of the result, for each measure and each blur."""
    for measure in measures:
        if "sigma" not in sim[measure].dims:
            yield measure, measure, sim
            continue
        for sigma in sim["sigma"].values:
            sigma = 0.0 if np.isnan(sigma) else float(sigma)
            name = f"{measure}, sigma {sigma:g}" if sigma else f"{measure}, no blur"
            yield name, measure, select_sigma(sim, measure, sigma)


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())
