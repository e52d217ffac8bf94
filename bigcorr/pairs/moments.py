"""Measures of whole channels from their second moments: Pearson correlation and cosine.

Both come from the same sums, gathered in 32 x 32 cells: Z'Z, or the masked Grams where channels
miss different pixels.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.kernels.cells import CELL, cell_rows
from bigcorr.pairs.distribution import Threshold
from bigcorr.pairs.measure import CellTile, ChannelStatistics, PairTile, Partial, Timer, View
from bigcorr.pairs.products import add_gram, mirror
from bigcorr.pairs.selection import CHANNEL_CHUNK, Selection
from bigcorr.pairs.summaries import Summary
from bigcorr.pairs.views import FromQuantile
from bigcorr.tiles import Box, grid

Matrix = NDArray[np.float64]

MEDIAN = Threshold(0.5)

CONSTANT = 1e-12
"""A channel counts as constant where its variance is below this part of its mean square."""
DUST = 1e-20
"""So does one whose variance is below this in units of its scale: what a blur leaves of it."""


@dataclass(frozen=True)
class Moments:
    """Sums of z, z^2 and z_i z_j over the pixels valid in both channels.

    A cell where all channels miss the same pixels adds to ``n``, ``sum`` (channel), ``square``
    (channel) and ``product`` (row, channel). Any other cell adds to ``pair_n``, ``pair_sum`` and
    ``pair_square`` (row, channel: the sums of the row's channel where the other is valid too) and
    likewise ``other_sum``, ``other_square`` for the column's channel; and to ``own_n``, ``own_sum``
    and ``own_square`` (channel), the sums over the channel's own valid pixels.

    view : what is done to the values first.
    """

    view: View | None = None

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
        self._begin(selection, partial)
        rows = np.empty((selection.channels, CELL * CELL), tile.z.dtype)
        core = tile.core.relative_to(tile.reach)
        for cell in grid(tile.core.shape, CELL):
            box = cell.shifted(core.y0, core.x0)
            valid = tile.valid[:, box.y0 : box.y1, box.x0 : box.x1]
            if len(valid) > 1 and not (valid == valid[:1]).all():
                self._add_differing(tile, box, valid, rows, selection, partial)
                continue
            count = int(valid[0].sum()) if len(valid) else box.size
            if count == 0:
                continue
            partial["n"] += count
            active = np.flatnonzero(tile.marks[:, box.y0 // CELL, box.x0 // CELL])
            if len(active):
                a = rows[: len(active)]
                cell_rows(tile.z, active, *box, a, partial["sum"], partial["square"])
                start = time.perf_counter()
                add_gram(partial["product"], a, a, active, selection)
                products += time.perf_counter() - start
        timer["GEMM"] += products
        timer["features"] += time.perf_counter() - started - products

    def add_cells(
        self, tile: CellTile, selection: Selection, partial: Partial, timer: Timer
    ) -> None:
        """The same sums, bit for bit, of a tile that comes in cells."""
        started = time.perf_counter()
        products = 0.0
        self._begin(selection, partial)
        for cell in grid(tile.core.shape, CELL):
            count = cell.size if tile.valid is None else int(tile.valid[cell.slices].sum())
            if count == 0:
                continue
            partial["n"] += count
            at = cell.y0 // CELL, cell.x0 // CELL
            active = np.flatnonzero(tile.marks[:, *at])
            if len(active):
                rows = tile.cells[at]
                a = rows if len(active) == len(rows) else rows[active]
                partial["sum"][active] += tile.sums[active, *at]
                partial["square"][active] += tile.squares[active, *at]
                start = time.perf_counter()
                add_gram(partial["product"], a, a, active, selection)
                products += time.perf_counter() - start
        timer["GEMM"] += products
        timer["features"] += time.perf_counter() - started - products

    @staticmethod
    def _begin(selection: Selection, partial: Partial) -> None:
        if not partial:
            partial["n"] = np.zeros(1)
            partial["sum"] = np.zeros(selection.channels)
            partial["square"] = np.zeros(selection.channels)
            partial["product"] = np.zeros(selection.shape)

    @staticmethod
    def _add_differing(
        tile: PairTile,
        box: Box,
        valid: NDArray[np.uint8],
        rows: NDArray[np.floating],
        selection: Selection,
        partial: Partial,
    ) -> None:
        """One cell by the masked Grams: every sum runs over the pixels valid in both channels."""
        for name in ("pair_n", "pair_sum", "pair_square", "other_sum", "other_square"):
            if name not in partial:
                partial[name] = np.zeros(selection.shape)
        channels = np.arange(selection.channels)
        unused = np.zeros(selection.channels)
        cell_rows(tile.z, channels, *box, rows, unused, unused)
        # In float64: the pixels that a pair shares may be few and lie far from the offsets.
        wide = rows.astype(np.float64)
        ok = np.zeros_like(wide)
        ok[:, : box.size] = valid.reshape(len(valid), -1)
        squares = wide * wide
        for name, own in (
            ("own_n", ok.sum(axis=1)),
            ("own_sum", wide.sum(axis=1)),
            ("own_square", squares.sum(axis=1)),
        ):
            partial[name] = partial.get(name, 0.0) + own
        # Copies keep "a is b" from folding these to a triangle where it matters: pair_n is
        # symmetric and is filled whole as well, so that rows can be read off directly.
        for name, a, b in (
            ("pair_n", ok, ok.copy()),
            ("pair_sum", wide, ok),
            ("pair_square", squares, ok),
            ("other_sum", ok, wide),
            ("other_square", ok, squares),
        ):
            add_gram(partial[name], a, b, channels, selection)
        add_gram(partial["product"], wide, wide, channels, selection)

    def workspace_bytes(self, channels: int) -> int:
        # Rows, and for differing masks in float64 rows, squares, the mask twice, and one product.
        return channels * CELL * CELL * 5 * 8 + CHANNEL_CHUNK**2 * 8

    def partial_bytes(self, selection: Selection, differing: bool) -> int:
        matrices = 6 if differing else 1
        return 8 * (matrices * selection.shape[0] * selection.shape[1] + 5 * selection.channels)


def channel_moments(partial: Partial) -> tuple[Matrix, Matrix, Matrix]:
    """Number of valid pixels, mean and standard deviation of z of each channel of a partial.

    The deviation of a channel that is constant but for rounding is 0.
    """
    n, total, square = (
        partial[name] + partial.get(f"own_{name}", 0.0) for name in ("n", "sum", "square")
    )
    number = np.maximum(n, 1.0) * np.ones(len(total))
    mean, most = total / number, square / number
    variance = most - mean**2
    varies = variance > np.maximum(CONSTANT * most, DUST)
    return n * np.ones(len(total)), mean, np.sqrt(np.where(varies, variance, 0.0))


@dataclass(frozen=True)
class _Sums:
    """The six sums of some rows of the matrix, each (row, channel), about the offsets, in z."""

    n: Matrix
    row: Matrix
    other: Matrix
    row_square: Matrix
    other_square: Matrix
    product: Matrix


def _sums(partial: Partial, selection: Selection, rows: slice) -> _Sums:
    chosen = selection.rows[rows]
    product = mirror(partial["product"], rows) if selection.symmetric else partial["product"][rows]

    def whole(shared: Matrix | float, name: str) -> Matrix:
        total = np.broadcast_to(np.asarray(shared, dtype=np.float64), product.shape)
        return total + partial[name][rows] if name in partial else total

    return _Sums(
        n=whole(partial["n"][0], "pair_n"),
        row=whole(partial["sum"][chosen][:, None], "pair_sum"),
        other=whole(partial["sum"][selection.columns][None, :], "other_sum"),
        row_square=whole(partial["square"][chosen][:, None], "pair_square"),
        other_square=whole(partial["square"][selection.columns][None, :], "other_square"),
        product=product,
    )


@dataclass(frozen=True)
class Pearson:
    """Pearson correlation over the pixels valid in both channels.

    NaN for a channel that is constant over them. Standard errors allow for spatial
    autocorrelation (Clifford, Richardson, Hemon 1989).

    Examples
    --------
    >>> import bigcorr as bc
    >>> bc.measures.Pearson()
    Pearson()
    """

    name: ClassVar[str] = "pearson"
    kind: ClassVar[Literal["similarity"]] = "similarity"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    symmetric: ClassVar[bool] = True
    distribution: ClassVar[Literal["t"]] = "t"

    def features(self, raster: tuple[int, int]) -> Moments:
        return Moments()

    @property
    def parameters(self) -> dict[str, Any]:
        return {}

    def check(self, shape: tuple[int, int]) -> None:
        """Fits every raster."""

    def coarsened(self, cell: int) -> Pearson:
        """The same question to means of cells of so many pixels a side."""
        return self

    def finalize(
        self, partial: Partial, selection: Selection, rows: slice, statistics: ChannelStatistics
    ) -> Matrix:
        s = _sums(partial, selection, rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            row_ss = s.row_square - s.row**2 / s.n
            other_ss = s.other_square - s.other**2 / s.n
            r = (s.product - s.row * s.other / s.n) / np.sqrt(row_ss * other_ss)
        least_row = np.maximum(CONSTANT * s.row_square, DUST * s.n)
        least_other = np.maximum(CONSTANT * s.other_square, DUST * s.n)
        varies = (row_ss > least_row) & (other_ss > least_other)
        # With itself a channel correlates exactly; float32 products would say 0.9999998.
        r[selection.same(rows)] = 1.0
        return np.where(varies, np.clip(r, -1.0, 1.0), np.nan)


@dataclass(frozen=True)
class Cosine:
    """Cosine of the angle between two channels, x.y / (|x| |y|), over pixels valid in both.

    NaN for a channel that is zero there. It has no standard error of its own: of non-negative data
    it is far from zero for unrelated channels too, and only shifts (``n_shifts=``) say how far.

    Parameters
    ----------
    threshold : "median", optional
        Set values below the channel's median to zero first (the median of all its valid pixels,
        as they are stored or blurred); None: leave them. For intensities above a background that
        says nothing, such as ion images; sparse counts have a median of zero and stay as they are.

    References
    ----------
    Ovchinnikova et al. (2020), "ColocML: machine learning quantifies co-localization between mass
    spectrometry images", Bioinformatics 36.

    Examples
    --------
    >>> import bigcorr as bc
    >>> bc.measures.Cosine(threshold="median")
    Cosine(threshold='median')
    """

    threshold: str | None = None

    name: ClassVar[str] = "cosine"
    kind: ClassVar[Literal["similarity"]] = "similarity"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    symmetric: ClassVar[bool] = True
    distribution: ClassVar[Literal["none"]] = "none"

    def __post_init__(self) -> None:
        if self.threshold not in (None, "median"):
            raise InputError(f"threshold: got {self.threshold!r}, takes median or None")

    def features(self, raster: tuple[int, int]) -> Moments:
        return Moments(FromQuantile(MEDIAN) if self.threshold else None)

    @property
    def summaries(self) -> tuple[Summary, ...]:
        return (MEDIAN,) if self.threshold else ()

    @property
    def parameters(self) -> dict[str, Any]:
        return {"threshold": self.threshold}

    def check(self, shape: tuple[int, int]) -> None:
        """Fits every raster."""

    def coarsened(self, cell: int) -> Cosine:
        """The same question to means of cells of so many pixels a side."""
        return self

    def finalize(
        self, partial: Partial, selection: Selection, rows: slice, statistics: ChannelStatistics
    ) -> Matrix:
        s = _sums(partial, selection, rows)
        # x = scale z + offset: in units of each channel's scale the offset is o.
        offset = statistics.offset / statistics.scale
        o_row = offset[selection.rows[rows]][:, None]
        o_other = offset[selection.columns][None, :]
        # Grouped so that a pair and its mirror image round alike.
        product = s.product + (o_other * s.row + o_row * s.other) + s.n * (o_row * o_other)
        row_square = s.row_square + 2 * o_row * s.row + s.n * o_row**2
        other_square = s.other_square + 2 * o_other * s.other + s.n * o_other**2
        with np.errstate(divide="ignore", invalid="ignore"):
            value = product / np.sqrt(row_square * other_square)
        value[selection.same(rows)] = 1.0
        return np.where((row_square > 0) & (other_square > 0), np.clip(value, -1.0, 1.0), np.nan)
