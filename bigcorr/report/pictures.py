"""Pictures of the best and the worst pairs: which ones, seen from afar, with their local NCC."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.report.table import few_counts_of
from bigcorr.report.views import View, block_means

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

    from bigcorr.raster import RasterSource

FloatArray = NDArray[np.float64]

_EACH = 3
_WINDOW = 11
_SIDE = 240


class PairPicture(NamedTuple):
    """A figure of one pair with its caption (HTML) and a plain label."""

    figure: Figure
    caption: str
    label: str


class Gallery(NamedTuple):
    """Pictures of pairs, and a sentence on what a pixel of them is."""

    view: str
    pictures: Iterator[PairPicture]


def find_source(sim: xr.Dataset, source: Any) -> tuple[RasterSource | None, str]:
    """The raster of a result, or None and the reason in a sentence."""
    from bigcorr.raster import as_source, open_source

    if source is not None:
        stack = as_source(source)
        channel_numbers(stack, [*sim["channel"].values, *sim["other"].values])
        return stack, ""
    named = sim.attrs.get("source")
    if not named:
        return None, "No pictures: the result does not name its raster; give it as the source."
    try:
        stack = open_source(named)
        channel_numbers(stack, [*sim["channel"].values, *sim["other"].values])
    except (InputError, OSError) as error:
        return None, f"No pictures: the raster could not be opened ({error})."
    return stack, ""


def gallery(
    sim: xr.Dataset,
    measure: str,
    pairs: pd.DataFrame,
    total: int,
    stack: RasterSource,
    few_counts: float,
) -> Gallery:
    """The most and the least similar pairs that are not flagged for few counts."""
    chosen = _chosen(pairs, few_counts)
    names = sorted({*chosen["a"], *chosen["b"]})
    sigma = sigma_of(sim)
    view = block_means(stack, channel_numbers(stack, names), longest=_SIDE)
    blur = view_sigma(view, sigma, stack)
    window = max(min(_WINDOW, 2 * min(view.grids.shape[1:]) - 1), 1)
    grids = dict(zip(names, blurred(view.grids, blur), strict=True))
    pictures = _pictures(measure, chosen, total, grids, window)
    return Gallery(_said_of_view(view, blur, window), pictures)


def sigma_of(sim: xr.Dataset) -> float:
    """The blur of a result, or of the part of it at one blur, in pixels; 0 for none."""
    sigma = sim.coords["sigma"].item() if "sigma" in sim.coords else sim.attrs.get("sigma")
    return 0.0 if sigma is None else float(np.nan_to_num(np.atleast_1d(sigma)[0]))


def _pictures(
    measure: str, chosen: pd.DataFrame, total: int, grids: dict[str, FloatArray], window: int
) -> Iterator[PairPicture]:
    from bigcorr.maps import ncc
    from bigcorr.report.figures import pair_panel

    for pair in chosen.itertuples(index=False):
        first, second = str(pair.a), str(pair.b)
        a, b = grids[first], grids[second]
        # A view of a single row or column has no windows.
        local = ncc(a, b, window) if window >= 3 else np.full(a.shape, np.nan)
        label = f"{first} and {second}"
        value = f"{pair.value:.3f}".replace("-", "−")
        caption = f"<b>{escape(label)}</b> · rank {pair.rank:,} of {total:,} · {measure} {value}"
        yield PairPicture(pair_panel(a, b, local, (first, second)), caption, label)


def _chosen(pairs: pd.DataFrame, few_counts: float) -> pd.DataFrame:
    """The first and the last pairs, of those not flagged if there are any."""
    import pandas as pd

    known = pairs[pairs["value"].notna()]
    sound = known[~few_counts_of(known, few_counts)]
    known = sound if len(sound) else known
    first = known.iloc[: min(_EACH, -(-len(known) // 2))]
    last = known.iloc[len(first) :].iloc[-_EACH:]
    return pd.concat([first, last])


def channel_numbers(stack: RasterSource, names: list[str]) -> list[int]:
    place = {name: number for number, name in enumerate(stack.channels)}
    unknown = [str(name) for name in names if str(name) not in place]
    if unknown:
        raise InputError(f"source: {stack.path} has no channel {unknown[0]!r} of the result")
    return [place[str(name)] for name in names]


def view_sigma(view: View, sigma: float, stack: RasterSource) -> float:
    """The result's blur in pixels of the view; counts are blurred by at least one."""
    wanted = max(sigma / view.factor, 1.0 if stack.dtype.kind in "ui" else 0.0)
    return wanted if wanted >= 0.5 else 0.0


def blurred(grids: FloatArray, sigma: float) -> FloatArray:
    from bigcorr.maps import gaussian_blur

    return np.stack([gaussian_blur(grid, sigma) for grid in grids]) if sigma else grids


def _said_of_view(view: View, sigma: float, window: int) -> str:
    f = view.factor
    text = (
        "Every pixel is shown" if f == 1 else f"A pixel of the view is the mean of {f} × {f} pixels"
    )
    text += f", then blurred with sigma {sigma:g} pixels of the view" if sigma else ""
    return text + (f"; the windows are {window} × {window} of these." if window >= 3 else ".")
