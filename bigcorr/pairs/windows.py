"""Mean windowed NCC of all pairs: patches of each channel as rows of a matrix product.

The local similarity of two patterns: every stride window is centred and scaled on its own and
weighted by its contrast, so broad gradients and absolute levels do not count.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.kernels.cells import CELL
from bigcorr.kernels.patches import CONSTANT, patch_rows
from bigcorr.pairs.measure import ChannelStatistics, PairTile, Partial, Timer
from bigcorr.pairs.products import add_gram, mirror
from bigcorr.pairs.selection import CHANNEL_CHUNK, Selection
from bigcorr.tiles import lattice

Matrix = NDArray[np.float64]

SLICE = 1024
"""Most pixels in one float32 product: it keeps the error against float64 under 1e-6."""
LOW_FLOOR = 0.05
"""Below this contrast floor windows of hardly any contrast count, and float32 is not enough."""


@dataclass(frozen=True)
class Patches:
    """Sums over stride windows of u_i . u_j, k_i^2 k_j^2 and k_i^2.

    A window valid in every channel, or in none, adds to ``product`` and ``weight_product``
    (row, channel) and ``weight`` (channel); where channels differ its weights go to ``pair_weight``
    and ``other_weight`` (row, channel: the row's k^2 where the other is valid, and vice versa).
    """

    window: int
    stride: int
    contrast_floor: float
    min_valid: float
    raster: tuple[int, int]

    @property
    def extent(self) -> int:
        return self.window - 1

    @property
    def margin(self) -> int:
        return 0

    @property
    def wide(self) -> bool:
        return self.contrast_floor < LOW_FLOOR

    def add(self, tile: PairTile, selection: Selection, partial: Partial, timer: Timer) -> None:
        started = time.perf_counter()
        products = 0.0
        if not partial:
            partial["weight"] = np.zeros(selection.channels)
            partial["product"] = np.zeros(selection.shape)
            partial["weight_product"] = np.zeros(selection.shape)
        window, area = self.window, self.window**2
        top, left = tile.reach.y0, tile.reach.x0
        first_y, count_y = lattice(tile.core.y0, tile.core.y1, window, self.stride, self.raster[0])
        first_x, count_x = lattice(tile.core.x0, tile.core.x1, window, self.stride, self.raster[1])
        if not count_y or not count_x:
            return
        corners = first_x - left + self.stride * np.arange(count_x)
        least = max(2, int(np.ceil(self.min_valid * area)))
        statistics = tile.statistics
        sd = statistics.sd / statistics.scale
        floors = self.contrast_floor**2 * sd**2 * area
        channels = selection.channels
        batch = max(1, SLICE // area)
        kind = tile.z.dtype
        rows = np.empty((channels, batch * area), kind)
        weights = np.empty((channels, count_x), kind)
        alive = np.empty((channels, count_x), np.uint8)
        # Long patches are cut into slices of whole pixel rows, each added up in float64.
        cuts = range(0, area, window * max(1, SLICE // window))
        for k in range(count_y):
            y = first_y - top + k * self.stride
            candidates = self._candidates(tile, y, int(corners[0]), int(corners[-1]) + window)
            weights[:] = 0
            alive[:] = 1
            for first in range(0, count_x, batch):
                part = corners[first : first + batch]
                active = candidates.copy()
                width = len(part) * area
                slice_weights = np.zeros((channels, len(part)), kind)
                slice_alive = np.ones((channels, len(part)), np.uint8)
                kept = patch_rows(
                    tile.z, tile.valid, active, tile.marks, y, part, window, least, floors,
                    CONSTANT[kind], rows, slice_weights, slice_alive,
                )  # fmt: skip
                weights[:, first : first + len(part)] = slice_weights
                alive[:, first : first + len(part)] = slice_alive
                if kept:
                    start = time.perf_counter()
                    active = active[:kept]
                    if area <= SLICE:
                        a = rows[:kept, :width]
                        add_gram(partial["product"], a, a, active, selection)
                    else:
                        for cut in cuts:
                            a = rows[:kept, cut : min(cut + cuts.step, area)]
                            add_gram(partial["product"], a, a, active, selection)
                    products += time.perf_counter() - start
            if len(tile.valid) == 1:
                # One mask for all: what patch_rows said of the channels that it looked at.
                alive[:] = alive[candidates[0]] if len(candidates) else 0
            start = time.perf_counter()
            self._add_weights(weights, alive, selection, partial)
            products += time.perf_counter() - start
        timer["GEMM"] += products
        timer["features"] += time.perf_counter() - started - products

    @staticmethod
    def _candidates(tile: PairTile, y: int, x0: int, x1: int) -> NDArray[np.int64]:
        """The channels worth looking at in a row of windows.

        With masks of their own all are, since it must be known where each is valid.
        """
        if len(tile.valid) > 1:
            return np.arange(len(tile.z))
        height = tile.reach.shape[0]
        bottom = min(height, y + tile.marks.shape[1] * CELL)
        band = tile.marks[:, y // CELL : -(-bottom // CELL), x0 // CELL : -(-x1 // CELL)]
        return np.flatnonzero(band.any(axis=(1, 2)))

    @staticmethod
    def _add_weights(
        weights: NDArray[np.floating],
        alive: NDArray[np.uint8],
        selection: Selection,
        partial: Partial,
    ) -> None:
        channels = np.arange(selection.channels)
        same = (alive == alive[:1]).all(axis=0)
        partial["weight"] += weights[:, same].astype(np.float64).sum(axis=1)
        active = np.flatnonzero(weights.any(axis=1))
        if len(active):
            a = np.ascontiguousarray(weights[active])
            add_gram(partial["weight_product"], a, a, active, selection)
        if not same.all():
            for name in ("pair_weight", "other_weight"):
                if name not in partial:
                    partial[name] = np.zeros(selection.shape)
            k = np.ascontiguousarray(weights[:, ~same])
            v = np.ascontiguousarray(alive[:, ~same].astype(weights.dtype))
            add_gram(partial["pair_weight"], k, v, channels, selection)
            add_gram(partial["other_weight"], v, k, channels, selection)

    def workspace_bytes(self, channels: int) -> int:
        batch = max(1, SLICE // self.window**2)
        width = max(self.raster) // self.stride + 1
        return channels * (batch * self.window**2 * 8 + 9 * min(width, 1024)) + CHANNEL_CHUNK**2 * 8

    def partial_bytes(self, selection: Selection, differing: bool) -> int:
        matrices = 4 if differing else 2
        return 8 * (matrices * selection.shape[0] * selection.shape[1] + selection.channels)


@dataclass(frozen=True)
class NCC:
    """Mean normalised cross-correlation over stride windows, weighted by contrast.

    Parameters
    ----------
    window : int
        Side of the window in pixels.
    stride : int
        Distance between neighbouring windows; corners at multiples of it from the origin.
    contrast_floor : float
        c >= 0. A window weighs k^2 = ss / (ss + c^2 s^2 w^2) with ss its centred sum of squares
        and s the channel's standard deviation: empty background says nothing, a pattern against a
        flat field counts as 0. 0: every window that varies weighs the same.
    min_valid : float
        Part of its pixels that must be valid for a window to count.

    Notes
    -----
    A broad gradient is invisible to windows much smaller than it: blur and widen the window to
    compare gradients, or use `Pearson`.

    Examples
    --------
    >>> import bigcorr as bc
    >>> bc.measures.NCC(window=32, stride=16)
    NCC(window=32, stride=16, contrast_floor=1.0, min_valid=0.5)
    """

    window: int = 16
    stride: int = 8
    contrast_floor: float = 1.0
    min_valid: float = 0.5

    name: ClassVar[str] = "ncc"
    kind: ClassVar[Literal["similarity"]] = "similarity"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    symmetric: ClassVar[bool] = True
    distribution: ClassVar[Literal["normal"]] = "normal"

    def __post_init__(self) -> None:
        for name, least in (("window", 2), ("stride", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                raise InputError(f"{name}: got {value!r}, takes a whole number of at least {least}")
        floor = self.contrast_floor
        if isinstance(floor, (bool, str)) or not 0 <= floor < np.inf:
            raise InputError(f"contrast_floor: got {floor!r}, takes a number >= 0")
        if isinstance(self.min_valid, (bool, str)) or not 0 < self.min_valid <= 1:
            raise InputError(f"min_valid: got {self.min_valid!r}, takes a number in (0, 1]")

    def features(self, raster: tuple[int, int]) -> Patches:
        return Patches(self.window, self.stride, self.contrast_floor, self.min_valid, raster)

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "window": self.window,
            "stride": self.stride,
            "contrast_floor": self.contrast_floor,
            "min_valid": self.min_valid,
        }

    def coarsened(self, cell: int) -> NCC:
        """The same question to means of cells of so many pixels a side: windows of whole cells."""
        if self.window % cell or self.stride % cell or self.window < 2 * cell:
            raise InputError(
                f"coarsen: got {cell}, and ncc has windows of {self.window} pixels every "
                f"{self.stride}; it takes a common divisor of both, at most half the window"
            )
        return replace(self, window=self.window // cell, stride=self.stride // cell)

    def check(self, shape: tuple[int, int]) -> None:
        if self.window > min(shape):
            raise InputError(
                f"window: got {self.window}, takes at most the raster's shorter side, "
                f"{min(shape)} (the raster is {shape[0]} x {shape[1]})"
            )

    def denominator(self, partial: Partial, selection: Selection, rows: slice) -> Matrix:
        """``n_i + n_j - n_ij``, (rows, channel)."""
        chosen = selection.rows[rows]
        total = partial["weight"][chosen][:, None] + partial["weight"][selection.columns][None, :]
        if "pair_weight" in partial:
            total = total + (partial["pair_weight"][rows] + partial["other_weight"][rows])
        return total - _whole(partial["weight_product"], selection, rows)

    @staticmethod
    def _own(partial: Partial, selection: Selection, rows: slice) -> Matrix:
        """n_i of the rows over all windows where the channel is valid."""
        own = partial["weight"][selection.rows[rows]]
        if "pair_weight" in partial:
            # A channel meets itself on the diagonal: there the row's weight is its own.
            same = selection.same(rows)
            own = own + np.where(same, partial["pair_weight"][rows], 0.0).sum(axis=1)
        return own

    def finalize(
        self, partial: Partial, selection: Selection, rows: slice, statistics: ChannelStatistics
    ) -> Matrix:
        denominator = self.denominator(partial, selection, rows)
        product = _whole(partial["product"], selection, rows)
        # u . u is k^2 by its making; a float32 product would say it less well.
        same = selection.same(rows)
        own = np.broadcast_to(self._own(partial, selection, rows)[:, None], same.shape)
        product = np.where(same, own, product)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = product / denominator
        # No window of either channel varies: no pattern to compare.
        return np.where(denominator > 1e-12, np.clip(value, -1.0, 1.0), 0.0)


def _whole(matrix: Matrix, selection: Selection, rows: slice) -> Matrix:
    return mirror(matrix, rows) if selection.symmetric else matrix[rows]
