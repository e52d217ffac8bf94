"""What the report says of one measure: heat map, clusters, volcano, pairs, table."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bigcorr.pairs.evidence import q_values
from bigcorr.pairs.listing import PairListing
from bigcorr.pairs.matrices import names_of
from bigcorr.pairs.ranking import rank_pairs
from bigcorr.report import notes, pictures
from bigcorr.report.groups import group_table, groups_of, mean_patterns
from bigcorr.report.svg import figure_svg
from bigcorr.report.table import few_counts_of, pair_table

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from bigcorr.raster import RasterSource

_WHOLE = 3_000_000
_ENDS = 2_000
_MAPPED = 4_000
_NAMED = 3


class Setting(NamedTuple):
    """What every section is made with."""

    stack: RasterSource | None
    absent: str
    top: int
    few_counts: float


class ListedPairs(NamedTuple):
    """The ranking of a measure: all of it, or both ends of a very long one.

    ``total`` is how many pairs there are, ``listing`` where they all come from.
    """

    table: pd.DataFrame
    total: int
    listing: PairListing

    @property
    def complete(self) -> bool:
        return len(self.table) == self.total


def listed_pairs(sim: xr.Dataset, measure: str) -> ListedPairs:
    """Rank the pairs of a measure; of more than 3 million, both ends."""
    listing = PairListing(sim, measure)
    ends = None if listing.total <= _WHOLE else _ENDS
    return ListedPairs(rank_pairs(sim, measure, top=ends, bottom=ends), listing.total, listing)


def measure_section(
    name: str,
    measure: str,
    sim: xr.Dataset,
    pairs: ListedPairs,
    setting: Setting,
    figure_ids: Iterator[str],
) -> str:
    """The inside of a measure's section as HTML."""
    kind = sim[measure].attrs.get("kind", "similarity")
    note = notes.note_of(measure, kind)
    blind = f'<p class="note"><b>What it cannot see:</b> {note.blind}</p>' if note.blind else ""
    parts = [f"<p>{note.reads}</p>{blind}"]
    parts += _map_and_groups(name, measure, sim, setting, figure_ids)
    if not pairs.total:
        return "".join([*parts, "<p>One channel has no pairs.</p>"])
    parts += _volcano(name, measure, pairs, setting, figure_ids)
    parts.append("<h3>The most and the least similar pairs</h3>")
    if setting.stack is None:
        parts.append(f'<p class="note">{escape(setting.absent)}</p>')
    else:
        gallery = pictures.gallery(
            sim, measure, pairs.table, pairs.total, setting.stack, setting.few_counts
        )
        parts.append(f'<p class="note">{notes.PAIRS} {gallery.view}</p>')
        for picture in gallery.pictures:
            svg = figure_svg(picture.figure, picture.label, next(figure_ids))
            parts.append(
                f'<figure class="wide"><figcaption>{picture.caption}</figcaption>{svg}</figure>'
            )
    table = pair_table(pairs.table, setting.top, setting.few_counts, pairs.total)
    parts.append(f"<h3>The ranking</h3>{table}")
    return "".join(parts)


def _map_and_groups(
    name: str, measure: str, sim: xr.Dataset, setting: Setting, figure_ids: Iterator[str]
) -> Iterator[str]:
    """The matrix of all channels, and its clusters where it is square."""
    from bigcorr.report.figures import heatmap
    from bigcorr.report.ordering import cluster

    kind = sim[measure].attrs.get("kind", "similarity")
    rows, columns = ([str(n) for n in names_of(sim[side])] for side in ("channel", "other"))
    if len(columns) < 2:
        return
    square = rows == columns
    caption = notes.HEATMAP if square else notes.HEATMAP_AGAINST
    matrix, every = sim[measure], len(columns)
    if every > _MAPPED:
        sample = np.linspace(0, every - 1, _MAPPED).astype(int)
        matrix = matrix.isel(other=sample)
        columns = [columns[i] for i in sample]
        if square:
            matrix, rows = matrix.isel(channel=sample), columns
        caption += " " + notes.HEATMAP_SAMPLE.format(shown=_MAPPED, all=every)
    values = matrix.values
    clusters = cluster(values, kind, labelled=True) if square else None
    groups = groups_of(clusters, columns, kind) if clusters is not None else []
    if clusters is not None and not groups:
        clusters = clusters._replace(labels=None)
    figure = heatmap(values, rows, columns, kind=kind, label=measure, clusters=clusters)
    yield (
        f"<h3>All channels</h3><figure><figcaption>{caption}</figcaption>"
        f"{figure_svg(figure, f'{name} of all pairs', next(figure_ids))}</figure>"
    )
    if not groups:
        return
    yield f'<h3>Clusters of channels</h3><p class="note">{notes.GROUPS}</p>'
    if setting.stack is not None:
        patterns, said = mean_patterns(groups, setting.stack, pictures.sigma_of(sim))
        svg = figure_svg(patterns, f"Mean pattern of each cluster by {name}", next(figure_ids))
        yield f'<figure class="wide"><figcaption>{said}</figcaption>{svg}</figure>'
    yield group_table(groups, measure)


def _volcano(
    name: str, measure: str, pairs: ListedPairs, setting: Setting, figure_ids: Iterator[str]
) -> Iterator[str]:
    """All pairs by value and q; a sample of very many."""
    from bigcorr.report.volcano import LEVEL, Marked, volcano

    if not pairs.listing.has_p:
        return
    said = ""
    if pairs.complete:
        value = pairs.table["value"].to_numpy(dtype=np.float64)
        q = pairs.table["q_value"].to_numpy(dtype=np.float64)
    else:
        records = pairs.listing.sample(_WHOLE)
        value, q = records["value"], q_values(records["p"])
        said = notes.VOLCANO_SAMPLE.format(shown=len(records), all=pairs.total)
    known = int(np.isfinite(q).sum())
    if not known:
        return
    marked = [Marked(f"{p.a}, {p.b}", p.value, p.q_value) for p in _named(pairs, setting)]
    figure = volcano(value, q, marked, label=measure)
    named = "The surest and the most similar are named." if marked else ""
    said += notes.VOLCANO.format(sure=int((q < LEVEL).sum()), all=known, level=LEVEL, named=named)
    svg = figure_svg(figure, f"{name} of each pair against its q", next(figure_ids))
    caption = f"<figcaption>{said}</figcaption>"
    yield f'<h3>Value and evidence</h3><figure class="wide">{caption}{svg}</figure>'


def _named(pairs: ListedPairs, setting: Setting) -> list[Any]:
    """A few pairs at either end and the surest ones, none with few counts."""
    known = pairs.table[pairs.table["q_value"].notna()]
    sound = known[~few_counts_of(known, setting.few_counts)]
    surest = sound.sort_values(["q_value", "rank"], kind="stable")
    chosen = [*sound.head(_NAMED).itertuples(), *sound.tail(1).itertuples()]
    chosen += list(surest.head(_NAMED).itertuples())
    return list({pair.rank: pair for pair in chosen}.values())
