"""Pearson correlation where at least one of two channels peaks: the union of their regions.

A sum over the union of A and B is the sum over A and what is outside A but in B, so that all pairs
are matrix products of the regions, of what is inside and of what is outside them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.kernels.bins import peak_rows
from bigcorr.kernels.cells import CELL
from bigcorr.pairs.distribution import Threshold
from bigcorr.pairs.measure import ChannelStatistics, PairTile, Partial, Timer
from bigcorr.pairs.moments import DUST
from bigcorr.pairs.products import add_gram, mirror
from bigcorr.pairs.selection import CHANNEL_CHUNK, Selection
from bigcorr.pairs.summaries import Summary
from bigcorr.tiles import grid

Matrix = NDArray[np.float64]
CONSTANT = 1e-9
"""A channel counts as constant on a region where its variance is below this part of its mean
square: above what products in float32 leave of a plateau."""

SHARED = ("n", "sum", "square")
OWN = ("pair_n", "pair_sum", "pair_square")
OUT = ("out", "out_square", "half_product")


@dataclass(frozen=True)
class PeakRegions:
    """Sums over the unions of the regions where z is at least each channel's threshold.

    With a the region (0 or 1), u = a z inside it, w = z - u outside, in cells where all channels
    miss the same pixels: ``n``, ``sum``, ``square`` (channel) of z over its region; elsewhere
    ``pair_*`` (row, channel) of the row's channel over its region where the other is valid.
    Everywhere ``both`` a_i.a_j, ``out`` w_i.a_j, ``out_square`` w_i^2.a_j, ``half_product``
    u_i.(u_j / 2 + w_j). Where rows and columns differ ``other_*`` are the same turned round.
    """

    threshold: Threshold

    @property
    def extent(self) -> int:
        return 0

    @property
    def margin(self) -> int:
        return 0

    @property
    def wide(self) -> bool:
        return False

    def add(self, tile: PairTile, selection: Selection, partial: Partial, timer: Timer) -> None:
        started = time.perf_counter()
        products = 0.0
        channels = selection.channels
        if not partial:
            for name in SHARED:
                partial[name] = np.zeros(channels)
            for name in ("both", *_names(OUT, selection)):
                partial[name] = np.zeros(selection.shape)
        least = tile.statistics.known.of(self.threshold)
        # Where the background is part of the region it is looked at, empty or not.
        everywhere = least <= 0
        kind = tile.z.dtype
        rows = np.empty((4, channels, CELL * CELL), kind)
        sums = np.empty((channels, 3))
        core = tile.core.relative_to(tile.reach)
        for cell in grid(tile.core.shape, CELL):
            box = cell.shifted(core.y0, core.x0)
            marks = tile.marks[:, box.y0 // CELL, box.x0 // CELL]
            active = np.flatnonzero((marks != 0) | everywhere)
            if len(active) == 0:
                continue
            region, inside, outside, work = rows[:, : len(active)]
            peak_rows(tile.z, tile.valid, active, least, *box, region, inside, outside, sums)
            start = time.perf_counter()
            add_gram(partial["both"], region, region, active, selection)
            _add(partial, "out", outside, region, active, selection)
            np.multiply(outside, outside, out=work)
            _add(partial, "out_square", work, region, active, selection)
            np.multiply(inside, kind.type(0.5), out=work)
            work += outside
            _add(partial, "half_product", inside, work, active, selection)
            valid = tile.valid[:, box.y0 : box.y1, box.x0 : box.x1]
            if len(valid) > 1 and not (valid == valid[:1]).all():
                ok = np.zeros((channels, CELL * CELL), kind)
                ok[:, : box.size] = valid.reshape(len(valid), -1)
                self._add_differing(partial, region, inside, ok, work, active, selection)
            else:
                for k, name in enumerate(SHARED):
                    partial[name][active] += sums[: len(active), k]
            products += time.perf_counter() - start
        timer["GEMM"] += products
        timer["features"] += time.perf_counter() - started - products

    @staticmethod
    def _add_differing(
        partial: Partial,
        region: NDArray[np.floating],
        inside: NDArray[np.floating],
        ok: NDArray[np.floating],
        work: NDArray[np.floating],
        active: NDArray[np.int64],
        selection: Selection,
    ) -> None:
        for name in _names(OWN, selection):
            if name not in partial:
                partial[name] = np.zeros(selection.shape)
        everyone = np.arange(selection.channels)
        # The channels that are not active have no region here, but may miss pixels.
        whole = np.zeros_like(ok)
        for name, rows in (("pair_n", region), ("pair_sum", inside), ("pair_square", None)):
            if rows is None:
                rows = np.multiply(inside, inside, out=work)
            whole[active] = rows
            _add(partial, name, whole, ok, everyone, selection)

    def workspace_bytes(self, channels: int) -> int:
        # Four kinds of rows, for differing masks two more, and one product.
        return channels * CELL * CELL * 6 * 8 + CHANNEL_CHUNK**2 * 8

    def partial_bytes(self, selection: Selection, differing: bool) -> int:
        turned = 1 if selection.symmetric else 2
        matrices = 1 + turned * (len(OUT) + (len(OWN) if differing else 0))
        return 8 * (matrices * selection.shape[0] * selection.shape[1] + 3 * selection.channels)


def _names(names: tuple[str, ...], selection: Selection) -> tuple[str, ...]:
    """The names of matrices that are not symmetric, and of their turned ones where needed."""
    return names if selection.symmetric else (*names, *(f"other_{name}" for name in names))


def _add(
    partial: Partial,
    name: str,
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    active: NDArray[np.int64],
    selection: Selection,
) -> None:
    add_gram(partial[name], a, b, active, selection)
    if not selection.symmetric:
        add_gram(partial[f"other_{name}"], b, a, active, selection)


@dataclass(frozen=True)
class RoiPearson:
    """Pearson correlation over the union of the two channels' peak regions.

    A channel's region are the pixels that are not below its quantile `q`, as `numpy.quantile` gives
    it. It asks whether two channels peak together and to the same degree, whatever they are where
    neither peaks; channels with disjoint regions have -1 and thereabouts.

    Parameters
    ----------
    q : float
        Quantile in (0, 1) of all valid pixels of the channel, each channel's own.
    nonzero : bool
        Of its pixels that are not zero instead. For sparse counts, of which any quantile up to the
        share of zeros is zero, and the region the whole raster.

    Notes
    -----
    NaN where one of the two is constant over the union: for a constant channel against all; for
    a channel without valid pixels. Quantiles are exact; values are compared with them in float32
    of their standardised value, so that values nearer to each other than 1e-7 of their standard
    deviation count as equal.

    Examples
    --------
    >>> import bigcorr as bc
    >>> bc.measures.RoiPearson(nonzero=True)
    RoiPearson(q=0.95, nonzero=True)
    """

    q: float = 0.95
    nonzero: bool = False

    name: ClassVar[str] = "roi_pearson"
    kind: ClassVar[Literal["similarity"]] = "similarity"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    symmetric: ClassVar[bool] = True
    distribution: ClassVar[Literal["none"]] = "none"

    def __post_init__(self) -> None:
        if isinstance(self.q, (bool, str)) or not 0 < self.q < 1:
            raise InputError(f"q: got {self.q!r}, takes a number in (0, 1)")
        if not isinstance(self.nonzero, (bool, np.bool_)):
            raise InputError(f"nonzero: got {self.nonzero!r}, takes true or false")

    @property
    def _threshold(self) -> Threshold:
        return Threshold(float(self.q), bool(self.nonzero))

    def features(self, raster: tuple[int, int]) -> PeakRegions:
        return PeakRegions(self._threshold)

    @property
    def summaries(self) -> tuple[Summary, ...]:
        return (self._threshold,)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"q": self.q, "nonzero": self.nonzero}

    def check(self, shape: tuple[int, int]) -> None:
        """Fits every raster."""

    def finalize(
        self, partial: Partial, selection: Selection, rows: slice, statistics: ChannelStatistics
    ) -> Matrix:
        def turned(name: str) -> Matrix:
            if selection.symmetric:
                return partial[name][:, rows].T
            return partial[f"other_{name}"][rows]

        def over_union(shared: str, own: str, out: str | None) -> tuple[Matrix, Matrix]:
            """A sum over the unions, of the rows' channels and of the columns'."""
            mine = np.broadcast_to(
                partial[shared][selection.rows[rows]][:, None], partial["both"][rows].shape
            )
            theirs = np.broadcast_to(partial[shared][selection.columns][None, :], mine.shape)
            if own in partial:
                mine, theirs = mine + partial[own][rows], theirs + turned(own)
            if out is not None:
                mine, theirs = mine + partial[out][rows], theirs + turned(out)
            return mine, theirs

        both = mirror(partial["both"], rows) if selection.symmetric else partial["both"][rows]
        in_row, in_other = over_union("n", "pair_n", None)
        n = (in_row + in_other) - both
        row, other = over_union("sum", "pair_sum", "out")
        row_square, other_square = over_union("square", "pair_square", "out_square")
        product = partial["half_product"][rows] + turned("half_product")
        with np.errstate(divide="ignore", invalid="ignore"):
            row_ss = row_square - row**2 / n
            other_ss = other_square - other**2 / n
            r = (product - row * other / n) / np.sqrt(row_ss * other_ss)
        varies = (row_ss > np.maximum(CONSTANT * row_square, DUST * n)) & (
            other_ss > np.maximum(CONSTANT * other_square, DUST * n)
        )
        r[selection.same(rows)] = 1.0
        return np.where(varies, np.clip(r, -1.0, 1.0), np.nan)
