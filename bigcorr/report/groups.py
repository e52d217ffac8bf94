"""Clusters of channels in the report: who is in them, and the mean of their patterns."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.report.figures import INK
from bigcorr.report.ordering import Clusters
from bigcorr.report.views import block_means

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bigcorr.raster import RasterSource

FloatArray = NDArray[np.float64]

_SHOWN = 12
_AVERAGED = 6
_NAMED = 14
_SIDE = 128
_PIXELS = 6e9
_A_ROW = 4


class Group(NamedTuple):
    """A cluster: its number, its channels from the most typical on, their mean inside."""

    number: int
    members: list[str]
    within: float


def groups_of(clusters: Clusters, names: list[str], kind: str) -> list[Group]:
    """The largest clusters of two channels or more, in the order of the heat map."""
    if clusters.labels is None or clusters.within is None:
        return []
    found = []
    for number in range(1, int(clusters.labels.max(initial=0)) + 1):
        members = np.flatnonzero(clusters.labels == number)
        if len(members) < 2:
            continue
        inside = clusters.within[members]
        typical = members[np.argsort(inside if kind == "distance" else -inside, kind="stable")]
        found.append(Group(number, [names[i] for i in typical], float(inside.mean())))
    if len(found) < 2:
        return []
    largest = sorted(found, key=lambda group: -len(group.members))[:_SHOWN]
    return [group for group in found if group in largest]


def group_table(groups: list[Group], measure: str) -> str:
    """The clusters as an HTML table."""
    rows = []
    for group in groups:
        named = ", ".join(escape(name) for name in group.members[:_NAMED])
        more = len(group.members) - _NAMED
        rows.append(
            f"<tr><td>{group.number}</td><td>{len(group.members):,}</td>"
            f"<td>{group.within:.3f}</td><td class='name wrap'>{named}"
            f"{f' and {more:,} more' if more > 0 else ''}</td></tr>".replace("'", '"')
        )
    return (
        '<div class="scroll"><table><thead><tr><th>cluster</th><th>channels</th>'
        f'<th>mean {escape(measure)} inside</th><th class="name">most typical first</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def mean_patterns(groups: list[Group], stack: RasterSource, sigma: float) -> tuple[Figure, str]:
    """A picture of each cluster, and a sentence on what a pixel of it is.

    Parameters
    ----------
    groups : their most typical channels are averaged, up to 8 each.
    stack : the raster, which has these channels.
    sigma : the blur of the result in pixels of the raster.
    """
    from bigcorr.report.pictures import blurred, channel_numbers, view_sigma

    # Each channel is read as a whole, so large rasters are seen by fewer of them.
    affordable = int(_PIXELS / (stack.shape[1] * stack.shape[2]) / len(groups))
    each = min(max(affordable, 1), _AVERAGED)
    chosen = [group.members[:each] for group in groups]
    names = [name for members in chosen for name in members]
    view = block_means(stack, channel_numbers(stack, names), longest=_SIDE)
    grids = dict(zip(names, blurred(view.grids, view_sigma(view, sigma, stack)), strict=True))
    means = [_mean([grids[name] for name in members]) for members in chosen]
    text = (
        f"Each picture is the mean of up to {each} of the most typical channels, each freed of its "
        "mean and divided by its standard deviation: bright is where the cluster is found. "
    )
    text += f"A pixel is {view.factor} × {view.factor} of the raster." if view.factor > 1 else ""
    return _pattern_figure(groups, means), text


def _mean(grids: list[FloatArray]) -> FloatArray:
    """Mean of standardised grids; NaN where none has a value."""
    total, count = np.zeros(grids[0].shape), np.zeros(grids[0].shape)
    for grid in grids:
        known = np.isfinite(grid)
        if known.any():
            spread = grid[known].std()
            total[known] += (grid[known] - grid[known].mean()) / (spread if spread > 0 else 1.0)
            count += known
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _pattern_figure(groups: list[Group], means: list[FloatArray]) -> Figure:
    from matplotlib.figure import Figure as NewFigure

    from bigcorr.report.figures import with_missing

    height, width = means[0].shape
    across = min(_A_ROW, len(groups))
    down = -(-len(groups) // across)
    side = 9.6 / _A_ROW
    figure = NewFigure(figsize=(side * across, down * (side * min(height / width, 2.0) + 0.28)))
    panels = figure.subplots(down, across, squeeze=False, gridspec_kw={"wspace": 0.06})
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, group, mean in zip(panels.flat, groups, means, strict=False):
        finite = mean[np.isfinite(mean)]
        low, high = np.quantile(finite, [0.01, 0.995]) if finite.size else (0.0, 1.0)
        axes.imshow(
            np.ma.masked_invalid(mean),
            cmap=with_missing("magma", 64),
            vmin=float(low),
            vmax=float(high if high > low else low + 1),
            interpolation="none",
        )
        title = f"{group.number} · {len(group.members):,} channels"
        axes.set_title(title, fontsize=9, color=INK, loc="left", pad=3)
    return figure
