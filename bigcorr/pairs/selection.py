"""Which part of the pair matrix a unit of work fills: pure indices.

A matrix that does not fit in memory is made tile by tile, each of some channels against some. The
tiles are cut at multiples of the canonical chunk of channels, so that the matrix products, and with
them the last bits, are the same however many tiles there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHANNEL_CHUNK = 256
"""Channels in one matrix product. Fixed: a plan that could change it would change last bits."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Selection:
    """One tile of the pair matrix.

    Attributes
    ----------
    numbers : (n,) ascending numbers of the channels that are read for it
    rows, columns : positions in `numbers` of the tile's rows and columns
    symmetric : rows and columns are the same channels, all that are read
    place : first row and first column of the tile in the whole matrix
    first : whether each column meets its channel for the first time here, so that what is wanted
        once a channel is taken from this tile
    """

    numbers: Indices
    rows: Indices
    columns: Indices
    symmetric: bool
    place: tuple[int, int] = (0, 0)
    first: bool = True

    @property
    def channels(self) -> int:
        return len(self.numbers)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), len(self.columns)

    @property
    def mirrored(self) -> bool:
        """Whether the tile stands for its mirror image below the diagonal as well."""
        return not self.first

    def same(self, rows: slice) -> NDArray[np.bool_]:
        """(row, column) True where both are the same channel."""
        return self.rows[rows][:, None] == self.columns[None, :]


def matrix_tiles(
    channels: int, against: Sequence[int] | None, group: int | None = None
) -> list[Selection]:
    """The tiles of a pair matrix: all with all, or the channels `against` with all.

    Parameters
    ----------
    channels : int
    against : channel numbers of the rows, in the order wanted; None: all with all.
    group : int, optional
        Channels along a side of a tile, a multiple of 256; None: one tile.
    """
    size = max(channels, 1) if group is None else group
    groups = [np.arange(a, min(a + size, channels)) for a in range(0, channels, size)]
    if against is not None:
        wanted = np.asarray(against, dtype=np.int64)
        tiles = []
        for columns in groups:
            numbers = np.union1d(wanted, columns)
            tiles.append(
                Selection(
                    numbers,
                    np.searchsorted(numbers, wanted),
                    np.searchsorted(numbers, columns),
                    False,
                    (0, int(columns[0])),
                )
            )
        return tiles
    tiles = []
    for i, rows in enumerate(groups):
        own = np.arange(len(rows))
        tiles.append(Selection(rows, own, own, True, (int(rows[0]), int(rows[0]))))
        for columns in groups[i + 1 :]:
            numbers = np.concatenate([rows, columns])
            other = len(rows) + np.arange(len(columns))
            place = (int(rows[0]), int(columns[0]))
            tiles.append(Selection(numbers, own, other, False, place, first=False))
    return tiles
