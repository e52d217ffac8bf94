"""Measures of what lies next to what: bivariate Moran's I and Lee's L.

Both are Gram matrices of a channel and its spatial lag, the mean over a pixel's neighbours.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.kernels.cells import CELL, cell_rows
from bigcorr.kernels.lags import lag_rows, neighbour_counts
from bigcorr.pairs.lag_spectra import expected_share
from bigcorr.pairs.measure import ChannelStatistics, PairTile, Partial, Timer, shared_mask
from bigcorr.pairs.moments import CONSTANT, DUST
from bigcorr.pairs.products import add_gram, mirror
from bigcorr.pairs.selection import CHANNEL_CHUNK, Selection
from bigcorr.tiles import grid

Matrix = NDArray[np.float64]
CONTIGUITY = ("queen", "rook")
SHARES = np.array([0.0, *(1.0 / k for k in range(1, 9))])
"""Each neighbour's weight by how many there are."""


@dataclass(frozen=True)
class Lags:
    """Sums of z, of its lag Wz, and of products with the lag, over the pixels of a shared mask.

    ``n`` pixels, ``linked`` of them with a neighbour, ``trace`` of W'W; ``sum``, ``square``,
    ``linked_sum`` (sum of z over linked pixels) and ``lag`` (channel); ``product`` (row, column):
    z_i . Wz_j if `cross`, and ``turned`` Wz_i . z_j, else Wz_i . Wz_j.
    """

    contiguity: str
    cross: bool

    @property
    def extent(self) -> int:
        return 0

    @property
    def margin(self) -> int:
        return 1

    @property
    def wide(self) -> bool:
        return False

    def add(self, tile: PairTile, selection: Selection, partial: Partial, timer: Timer) -> None:
        started = time.perf_counter()
        products = 0.0
        mask = shared_mask(tile, "moran and lee need")
        channels = selection.channels
        if not partial:
            for name in ("n", "linked", "trace"):
                partial[name] = np.zeros(1)
            for name in ("sum", "square", "linked_sum", "lag"):
                partial[name] = np.zeros(channels)
            for name in ("product", "turned") if self.cross else ("product",):
                partial[name] = np.zeros(selection.shape)
        queen = self.contiguity == "queen"
        height, width = tile.reach.shape
        counts = np.empty((height, width), np.uint8)
        masked = mask is not None
        plane = np.zeros((0, 0), np.uint8) if mask is None else mask
        neighbour_counts(plane, masked, height, width, queen, counts)
        own = np.empty((channels, CELL * CELL), tile.z.dtype)
        lag = np.empty_like(own)
        own_sum = np.zeros(channels)
        core = tile.core.relative_to(tile.reach)
        near_marks = _spread(tile.marks)
        for cell in grid(tile.core.shape, CELL):
            box = cell.shifted(core.y0, core.x0)
            linked = counts[box.slices] > 0
            partial["n"] += int(plane[box.slices].sum()) if masked else box.size
            partial["linked"] += int(linked.sum())
            partial["trace"] += SHARES[counts[box.slices]].sum()
            active = np.flatnonzero(near_marks[:, box.y0 // CELL, box.x0 // CELL])
            if len(active) == 0:
                continue
            a, b = own[: len(active)], lag[: len(active)]
            own_sum[active] = 0.0
            cell_rows(tile.z, active, *box, a, own_sum, partial["square"])
            partial["sum"][active] += own_sum[active]
            lag_rows(tile.z, active, counts, *box, queen, b, partial["lag"])
            if linked.all():
                partial["linked_sum"][active] += own_sum[active]
            else:
                partial["linked_sum"][active] += a[:, : box.size][:, linked.ravel()].sum(
                    axis=1, dtype=np.float64
                )
            start = time.perf_counter()
            if self.cross:
                add_gram(partial["product"], a, b, active, selection)
                if not selection.symmetric:
                    add_gram(partial["turned"], b, a, active, selection)
            else:
                add_gram(partial["product"], b, b, active, selection)
            products += time.perf_counter() - start
        timer["GEMM"] += products
        timer["features"] += time.perf_counter() - started - products

    def workspace_bytes(self, channels: int) -> int:
        return channels * CELL * CELL * 2 * 8 + CHANNEL_CHUNK**2 * 8

    def partial_bytes(self, selection: Selection, differing: bool) -> int:
        matrices = 2 if self.cross else 1
        return 8 * (matrices * selection.shape[0] * selection.shape[1] + 4 * selection.channels)


def _spread(marks: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Cells that are marked or next to one that is: where a lag may be other than zero."""
    padded = np.pad(marks != 0, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros(marks.shape, dtype=bool)
    for i in range(3):
        for j in range(3):
            out |= padded[:, i : i + marks.shape[1], j : j + marks.shape[2]]
    return out


@dataclass(frozen=True)
class _Neighbours:
    """What the measures of neighbours share: which pixels are neighbours."""

    one_mask: ClassVar[bool] = True
    """Whether all channels must miss the same pixels."""
    contiguity: str = "queen"

    def __post_init__(self) -> None:
        if self.contiguity not in CONTIGUITY:
            raise InputError(f"contiguity: got {self.contiguity!r}, takes queen or rook")

    @property
    def parameters(self) -> dict[str, Any]:
        return {"contiguity": self.contiguity}

    def check(self, shape: tuple[int, int]) -> None:
        """Fits every raster."""


def _moments(partial: Partial) -> tuple[Matrix, Matrix, NDArray[np.bool_]]:
    """Mean, standard deviation and whether it varies, of each channel, in z."""
    n = max(float(partial["n"][0]), 1.0)
    mean = partial["sum"] / n
    ss = partial["square"] - partial["sum"] ** 2 / n
    varies = ss > np.maximum(CONSTANT * partial["square"], DUST * n)
    return mean, np.sqrt(np.where(varies, ss / n, 1.0)), varies


@dataclass(frozen=True)
class Moran(_Neighbours):
    """Bivariate Moran's I, z_x' W z_y / n, with row-standardised contiguity.

    How much y around a pixel resembles x at it. Not symmetric: the row of the matrix is x, its
    column the y whose neighbours are looked at. Channels must miss the same pixels; one that misses
    all of them has no value (NaN). Standard errors allow for spatial autocorrelation.

    Parameters
    ----------
    contiguity : {"queen", "rook"}
        8 or 4 neighbours.

    Examples
    --------
    >>> import bigcorr as bc
    >>> bc.measures.Moran()
    Moran(contiguity='queen')
    """

    name: ClassVar[str] = "moran"
    kind: ClassVar[Literal["similarity"]] = "similarity"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    symmetric: ClassVar[bool] = False
    distribution: ClassVar[Literal["normal"]] = "normal"

    def features(self, raster: tuple[int, int]) -> Lags:
        return Lags(self.contiguity, True)

    def finalize(
        self, partial: Partial, selection: Selection, rows: slice, statistics: ChannelStatistics
    ) -> Matrix:
        x, y = selection.rows[rows], selection.columns
        return self._values(partial, partial["product"][rows], x, y)

    def mirrored(
        self, partial: Partial, selection: Selection, rows: slice, statistics: ChannelStatistics
    ) -> Matrix:
        """The tile below the diagonal, (column, row): its columns' channels as x."""
        x, y = selection.columns, selection.rows[rows]
        return self._values(partial, partial["turned"][rows].T, x, y)

    @staticmethod
    def _values(
        partial: Partial, product: Matrix, x: NDArray[np.int64], y: NDArray[np.int64]
    ) -> Matrix:
        mean, sd, varies = _moments(partial)
        n, linked = (max(float(partial[name][0]), 1.0) for name in ("n", "linked"))
        cov = (
            product
            - partial["linked_sum"][x][:, None] * mean[y][None, :]
            - mean[x][:, None] * partial["lag"][y][None, :]
            + linked * mean[x][:, None] * mean[y][None, :]
        )
        value = cov / (n * sd[x][:, None] * sd[y][None, :])
        return np.where(varies[x][:, None] & varies[y][None, :], value, np.nan)


@dataclass(frozen=True)
class Lee(_Neighbours):
    """Lee's L, (W z_x)'(W z_y) / n, with row-standardised contiguity.

    Pearson correlation of the neighbourhood means, scaled by how smooth the channels are. Channels
    must miss the same pixels; one that misses all of them has no value (NaN).

    Its null value is r (tr W'W - 1) / (n - 1), what two channels of Pearson correlation r have
    where their pixels are laid anyhow; the standard error is that of the value less this null, and
    allows for spatial autocorrelation.

    Parameters
    ----------
    contiguity : {"queen", "rook"}
        8 or 4 neighbours.

    Examples
    --------
    >>> import bigcorr as bc
    >>> bc.measures.Lee(contiguity="rook")
    Lee(contiguity='rook')
    """

    name: ClassVar[str] = "lee"
    kind: ClassVar[Literal["similarity"]] = "similarity"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    symmetric: ClassVar[bool] = True
    distribution: ClassVar[Literal["normal"]] = "normal"

    def features(self, raster: tuple[int, int]) -> Lags:
        return Lags(self.contiguity, False)

    def null(self, partial: Partial, correlation: Matrix) -> Matrix:
        """Mean over all ways to lay pairs of values on the pixels, from Pearson's matrix."""
        n, linked, trace = (float(partial[name][0]) for name in ("n", "linked", "trace"))
        return correlation * expected_share(trace, linked, n)

    def finalize(
        self, partial: Partial, selection: Selection, rows: slice, statistics: ChannelStatistics
    ) -> Matrix:
        mean, sd, varies = _moments(partial)
        n, linked = (max(float(partial[name][0]), 1.0) for name in ("n", "linked"))
        x, y = selection.rows[rows], selection.columns
        product = (
            mirror(partial["product"], rows) if selection.symmetric else partial["product"][rows]
        )
        # Grouped so that a pair and its mirror image round alike.
        mixed = partial["lag"][x][:, None] * mean[y] + mean[x][:, None] * partial["lag"][y]
        cov = product - mixed + linked * (mean[x][:, None] * mean[y])
        value = cov / (n * (sd[x][:, None] * sd[y]))
        return np.where(varies[x][:, None] & varies[y][None, :], value, np.nan)
