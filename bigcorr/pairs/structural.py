"""Mean structural similarity (SSIM) of all pairs of channels over stride windows.

What a window says of one channel is computed once for each channel; sums of products go through
one compiled loop over blocks of pairs. A channel that is zero in a patch of the raster is met by
what the other one adds alone, so only pairs of channels that both hold something there cost time.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.kernels.cells import CELL, add_upper
from bigcorr.kernels.row_sums import plan_tree
from bigcorr.kernels.window_pairs import (
    PATCH,
    Channels,
    Corners,
    busy,
    channel_bytes,
    load_channels,
    make_channels,
    make_room,
    ssim_pairs,
)
from bigcorr.pairs.measure import ChannelStatistics, PairTile, Partial, Timer, shared_mask
from bigcorr.pairs.products import mirror
from bigcorr.pairs.selection import Selection
from bigcorr.tiles import Box, grid, lattice

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

BLOCK_BYTES = 8 * 2**20
"""Memory for the channels of one side of a block of pairs."""
MOST_CHANNELS = 64
"""Most channels of a side: loading them is then a small part of the time of their pairs."""


@dataclass(frozen=True)
class Structures:
    """Sums of the index over windows.

    ``n`` windows; ``alone`` (channel): what the index of a channel against one that is zero
    everywhere falls short of n by; ``product`` (row, column): what is to be added to n and both of
    these for the sum of the index of a pair.
    """

    window: int
    stride: int
    data_range: float | None
    c1: float
    c2: float
    sample: bool
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
        return False

    def scaling(self, statistics: ChannelStatistics) -> tuple[Vector, Vector]:
        """(channel,) factor and level that make scaled values of z; NaN where there are none."""
        if self.data_range is None:
            low, span = statistics.minimum, statistics.maximum - statistics.minimum
        else:
            low, span = np.zeros(len(statistics.n)), np.full(len(statistics.n), self.data_range)
        span = np.where((span > 0) & (statistics.n > 0), span, np.nan)
        return statistics.scale / span, (statistics.offset - low) / span

    def add(self, tile: PairTile, selection: Selection, partial: Partial, timer: Timer) -> None:
        started = time.perf_counter()
        if not partial:
            partial["n"] = np.zeros(1)
            partial["alone"] = np.zeros(selection.channels)
            partial["product"] = np.zeros(selection.shape)
        factor, level = self.scaling(tile.statistics)
        mask = shared_mask(tile, "ssim needs")
        core = tile.core.relative_to(tile.reach)
        tree = plan_tree(self.window)
        room = make_room(self.window, tree)
        size = _side(self.window, self.stride)
        left, right = (make_channels(size, self.window, self.stride) for _ in range(2))
        values = np.empty((size, size))
        alone = np.empty(selection.channels)
        for patch in grid(tile.core.shape, PATCH):
            box = patch.shifted(core.y0, core.x0)
            corners = self._corners(patch.shifted(tile.core.y0, tile.core.x0), box, mask)
            if corners is None:
                continue
            partial["n"] += corners.places.size
            active = self._active(tile, box, factor, level)
            alone[:] = 0.0

            def load(part: Side, into: Channels, box: Box = box, corners: Corners = corners) -> int:
                load_channels(
                    tile.z, part.channels, box.y0, box.x0, factor, level,
                    corners, self.window, tree, self.c1, self.c2, room, into,
                )  # fmt: skip
                alone[part.channels] = into.alone[: len(part.channels)]
                return len(part.channels)

            rows, columns = _sides(active, selection, size)
            for index, row in enumerate(rows):
                count = load(row, left)
                for column in columns[index if selection.symmetric else 0 :]:
                    same = column is row
                    other, number = (left, count) if same else (right, load(column, right))
                    ssim_pairs(
                        left, count, other, number, same,
                        corners, self.window, tree, self.c1, self.c2, room, values,
                    )  # fmt: skip
                    found = values[:count, :number]
                    add_upper(partial["product"], found, row.targets, column.targets, same)
            partial["alone"] += alone
        timer["features"] += time.perf_counter() - started

    def _corners(self, patch: Box, box: Box, mask: NDArray[np.uint8] | None) -> Corners | None:
        """The windows of a patch of the raster, which is `box` of the tile; None: none count."""
        places = []
        for start, stop, size in zip(patch[::2], patch[1::2], self.raster, strict=True):
            first, count = lattice(start, stop, self.window, self.stride, size)
            places.append((first - start, count))
        (top, rows), (left, columns) = places
        if not rows or not columns:
            return None
        if mask is not None:
            y1, x1 = (a + side + self.window - 1 for a, side in zip(box[::2], PATCH, strict=True))
            inside = mask[box.y0 : y1, box.x0 : x1]
            if not inside.all():
                return self._masked_corners(inside, top, rows, left, columns)
        return _whole_corners(top, rows, left, columns, self.window, self.stride, self.sample)

    def _masked_corners(
        self, mask: NDArray[np.uint8], top: int, rows: int, left: int, columns: int
    ) -> Corners | None:
        sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
        sums[1:, 1:] = mask.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
        y = top + self.stride * np.arange(rows)
        x = left + self.stride * np.arange(columns)
        below, behind = y + self.window, x + self.window
        n = (sums[np.ix_(below, behind)] - sums[np.ix_(y, behind)]) - (
            sums[np.ix_(below, x)] - sums[np.ix_(y, x)]
        )
        counts = n >= max(2, np.ceil(self.min_valid * self.window**2))
        if not counts.any():
            return None
        ends = np.concatenate([[0], counts.sum(axis=1).cumsum()])
        places = np.broadcast_to(x, counts.shape)[counts]
        return _with_factors(y, ends, places, n[counts], self.sample)

    def _active(self, tile: PairTile, box: Box, factor: Vector, level: Vector) -> NDArray[np.int64]:
        """Channels that are scaled to anything but zeros where a patch's windows reach."""
        shape = tile.reach.shape
        y1, x1 = (
            min(start + side + self.window - 1, size)
            for start, side, size in zip(box[::2], PATCH, shape, strict=True)
        )
        cells = tile.marks[:, box.y0 // CELL : -(-y1 // CELL), box.x0 // CELL : -(-x1 // CELL)].any(
            axis=(1, 2)
        )
        known = np.isfinite(factor)
        # What a cell holds beyond the patch depends on the tile: the patch itself has to tell.
        some = np.flatnonzero(known & cells & (level == 0))
        some = some[: busy(tile.z, some, box.y0, y1, box.x0, x1)]
        return np.union1d(some, np.flatnonzero(known & (level != 0)))

    def workspace_bytes(self, channels: int) -> int:
        size = _side(self.window, self.stride)
        rows = 8 * 4 * (PATCH[1] + self.window) * 16
        return 2 * size * channel_bytes(self.window, self.stride) + 8 * size**2 + rows

    def partial_bytes(self, selection: Selection, differing: bool) -> int:
        return 8 * (selection.shape[0] * selection.shape[1] + selection.channels + 1)


class Side(NamedTuple):
    """Some channels, and their rows or columns in the tile of the matrix."""

    channels: NDArray[np.int64]
    targets: NDArray[np.int64]


def _sides(
    active: NDArray[np.int64], selection: Selection, size: int
) -> tuple[list[Side], list[Side]]:
    """The active channels among the rows and among the columns, in blocks of at most `size`."""

    def cut(wanted: NDArray[np.int64]) -> list[Side]:
        _, places, targets = np.intersect1d(active, wanted, assume_unique=True, return_indices=True)
        channels = active[places]
        # Where there are none on one side, the others still have something to add alone.
        return [
            Side(channels[a : a + size], targets[a : a + size])
            for a in range(0, max(len(channels), 1), size)
        ]

    rows = cut(selection.rows)
    return rows, rows if selection.symmetric else cut(selection.columns)


@functools.lru_cache(maxsize=64)
def _side(window: int, stride: int) -> int:
    return max(4, min(MOST_CHANNELS, BLOCK_BYTES // channel_bytes(window, stride)))


@functools.lru_cache(maxsize=16)
def _whole_corners(
    top: int, rows: int, left: int, columns: int, window: int, stride: int, sample: bool
) -> Corners:
    """The windows of a patch without missing pixels."""
    tops = top + stride * np.arange(rows)
    ends = columns * np.arange(rows + 1)
    places = np.tile(left + stride * np.arange(columns), rows)
    return _with_factors(tops, ends, places, np.full(rows * columns, window**2, float), sample)


def _with_factors(
    tops: NDArray[np.int64],
    ends: NDArray[np.int64],
    places: NDArray[np.int64],
    n: NDArray[np.float64],
    sample: bool,
) -> Corners:
    free = n - 1 if sample else n
    return Corners(tops, ends, np.ascontiguousarray(places), 1 / n, 2 / free, 2 * n / free)


@dataclass(frozen=True)
class SSIM:
    """Mean structural similarity over stride windows, each channel scaled to its own range.

    Parameters
    ----------
    window : int
        Side of the window in pixels.
    stride : int
        Distance between neighbouring windows; corners at multiples of it from the origin.
    data_range : float, optional
        By default every channel is scaled by its own least and greatest value, so that absolute
        levels do not count; these are those of the statistics pass (see the notes). Else all
        channels are divided by this number, and levels count.
    k1, k2 : float
        > 0. The constants of the index, in units of the range.
    use_sample_covariance : bool
        Divide variances by the number of pixels less one.
    min_valid : float
        Part of its pixels that must be valid for a window to count. Its moments are those of the
        valid pixels.

    Notes
    -----
    With ``stride=1`` it is the mean that ``skimage.metrics.structural_similarity`` gives of the
    scaled channels with ``data_range=1``. Channels must miss the same pixels; one that misses all
    of them, or is constant and is to be scaled by its own range, has no value (NaN).

    The range is that of the (blurred) pixels that the statistics pass looks at: all of them on
    rasters of up to 2 million pixels or 64 occupied blocks of 1024 x 1024, else those of 64
    occupied blocks, evenly spread. The result holds them as ``minimum`` and ``maximum``.

    Of two sparse channels the empty windows count as equal: most values are near 1. Texture and
    level are compared, not only pattern; to find channels of the same pattern use `NCC`.

    References
    ----------
    Wang, Bovik, Sheikh, Simoncelli (2004), "Image quality assessment: from error visibility to
    structural similarity", IEEE Transactions on Image Processing 13.

    Examples
    --------
    >>> import bigcorr as bc
    >>> bc.measures.SSIM(window=11)
    SSIM(window=11, stride=1, data_range=None, k1=0.01, k2=0.03, use_sample_covariance=True, \
min_valid=0.5)
    """

    window: int = 7
    stride: int = 1
    data_range: float | None = None
    k1: float = 0.01
    k2: float = 0.03
    use_sample_covariance: bool = True
    min_valid: float = 0.5

    name: ClassVar[str] = "ssim"
    kind: ClassVar[Literal["similarity"]] = "similarity"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    symmetric: ClassVar[bool] = True
    distribution: ClassVar[Literal["none"]] = "none"

    def __post_init__(self) -> None:
        for name, least in (("window", 2), ("stride", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                raise InputError(f"{name}: got {value!r}, takes a whole number of at least {least}")
        for name in ("k1", "k2", "data_range"):
            value = getattr(self, name)
            if name == "data_range" and value is None:
                continue
            if isinstance(value, (bool, str)) or not 0 < value < np.inf:
                raise InputError(f"{name}: got {value!r}, takes a number > 0")
        if not isinstance(self.use_sample_covariance, (bool, np.bool_)):
            got = self.use_sample_covariance
            raise InputError(f"use_sample_covariance: got {got!r}, takes true or false")
        if isinstance(self.min_valid, (bool, str)) or not 0 < self.min_valid <= 1:
            raise InputError(f"min_valid: got {self.min_valid!r}, takes a number in (0, 1]")

    @property
    def scales_by_range(self) -> bool:
        """Whether the result is to tell the range of each channel."""
        return self.data_range is None

    def features(self, raster: tuple[int, int]) -> Structures:
        return Structures(
            int(self.window),
            int(self.stride),
            self.data_range,
            float(self.k1) ** 2,
            float(self.k2) ** 2,
            bool(self.use_sample_covariance),
            self.min_valid,
            raster,
        )

    @property
    def parameters(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def check(self, shape: tuple[int, int]) -> None:
        if self.window > min(shape):
            raise InputError(
                f"window: got {self.window}, takes at most the raster's shorter side, "
                f"{min(shape)} (the raster is {shape[0]} x {shape[1]})"
            )

    def finalize(
        self, partial: Partial, selection: Selection, rows: slice, statistics: ChannelStatistics
    ) -> Matrix:
        n = float(partial["n"][0])
        product = (
            mirror(partial["product"], rows) if selection.symmetric else partial["product"][rows]
        )
        x, y = selection.rows[rows], selection.columns
        alone = partial["alone"]
        known = np.isfinite(self.features((0, 0)).scaling(statistics)[0])
        if n == 0:
            return np.full(product.shape, np.nan)
        value = 1.0 + ((alone[x][:, None] + alone[y][None, :]) + product) / n
        value[selection.same(rows)] = 1.0
        return np.where(known[x][:, None] & known[y][None, :], np.clip(value, -1.0, 1.0), np.nan)
