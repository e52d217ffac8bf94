"""What a measure is: the protocol, the tile it sees, and how partial results add up.

A measure of similarity over all pairs is a Gram matrix of suitable features and a formula on it.
`Features` turns tiles into partial sums (several measures may share one), `Measure` turns the sums
into a matrix. Adding a measure is adding one file with both. No I/O and no dask here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.pairs.selection import Selection
from bigcorr.pairs.summaries import NOTHING, Known
from bigcorr.tiles import Box

Timer = defaultdict[str, float]
"""Seconds by what they were spent on."""

Partial = dict[str, NDArray[np.float64]]
"""Sums by name; partials of disjoint tiles add up element by element."""


@dataclass(frozen=True)
class ChannelStatistics:
    """What the statistics pass knows of each channel of the blurred stack.

    All arrays are (channel,) float64. ``z = (x - offset) / scale`` are the values that features are
    made of; `offset` and `scale` are exact in float32 for integer data, so z is too. `known` are
    the summaries that measures asked for. `lowest` is the least value of the data's type where
    values are whole numbers of at most 16 bits, else None.
    """

    n: NDArray[np.float64]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    offset: NDArray[np.float64]
    scale: NDArray[np.float64]
    known: Known = NOTHING
    lowest: int | None = None

    def select(self, channels: Any) -> ChannelStatistics:
        """The same for some of the channels."""
        arrays = {k: v[channels] for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        return replace(self, **arrays, known=self.known.select(channels))


@dataclass
class PairTile:
    """One tile of all channels, blurred and standardised.

    Attributes
    ----------
    core : Box
        The pixels (and window corners) that this tile stands for.
    reach : Box
        What the arrays cover: the core and what measures need around it, on the raster. The core
        begins at whole cells of it.
    z : (channel, h, w) float32, or float64 for small rasters and measures that need it
        Standardised values, 0 where missing.
    valid : (0, 1 or channel, h, w) uint8
        Valid pixels: none stored where all are, one plane where all channels share it.
    marks : (channel, ceil(h / 32), ceil(w / 32)) uint8
        0 where a cell of z is all zero.
    statistics : ChannelStatistics
    """

    core: Box
    reach: Box
    z: NDArray[np.floating]
    valid: NDArray[np.uint8]
    marks: NDArray[np.uint8]
    statistics: ChannelStatistics


@dataclass
class CellTile:
    """One tile of all channels as rows of cells, for features that need nothing around a cell.

    Attributes
    ----------
    core : Box
        The pixels that this tile stands for; cells are counted from its corner.
    cells : (rows of cells, columns of cells, channel, 1024) float32 or float64
        Standardised values of each 32 x 32 cell, 0 where missing and behind a smaller cell.
    sums, squares : (channel, rows of cells, columns of cells) float64
        Moments of the values of each cell.
    marks : (channel, rows of cells, columns of cells) uint8
        0 where a cell is all zero.
    valid : (h, w) uint8, or None
        Pixels that are valid, in all channels; None: all of them.
    """

    core: Box
    cells: NDArray[np.floating]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]
    marks: NDArray[np.uint8]
    valid: NDArray[np.uint8] | None


def shared_mask(tile: PairTile, who: str) -> NDArray[np.uint8] | None:
    """The (h, w) mask of all channels that have any pixels, None where all are valid.

    Raises
    ------
    InputError
        If these miss different pixels; it begins with `who`, such as "ssim needs".
    """
    if len(tile.valid) == 0:
        return None
    if len(tile.valid) == 1:
        return tile.valid[0]
    there = tile.statistics.n > 0
    if not there.any():
        return tile.valid[0]
    mask = tile.valid[there.argmax()]
    # A channel that misses everything has no value anyway and need not spoil those of the others.
    planes = zip(tile.valid, there, strict=True)
    if any((plane != (mask if some else 0)).any() for plane, some in planes):
        raise InputError(
            f"{who} one mask for all channels: they miss different pixels in rows "
            f"{tile.core.y0} to {tile.core.y1}, columns {tile.core.x0} to {tile.core.x1}; "
            "give a mask that leaves these out"
        )
    return mask


class View(Protocol):
    """Another face of a tile. Frozen and hashable: features of equal views share it."""

    def show(self, tile: PairTile, out: NDArray[np.floating]) -> None:
        """Write what features should see instead of ``tile.z``; 0 where missing."""
        ...


class Features(Protocol):
    """Tiles to sums. Frozen and hashable: equal features are computed once for all measures.

    Features that have a `view`, a `View`, see the tile through it. Those that also have `add_cells`
    take a `CellTile` in place of a tile of which all channels miss the same pixels, and add the
    same sums.
    """

    @property
    def extent(self) -> int:
        """Pixels needed below and to the right of the core."""
        ...

    @property
    def margin(self) -> int:
        """Pixels needed on all sides of the core."""
        ...

    @property
    def wide(self) -> bool:
        """Whether float32 values are not enough for it."""
        ...

    def add(self, tile: PairTile, selection: Selection, partial: Partial, timer: Timer) -> None:
        """Add the tile's sums to `partial`, and the seconds to `timer`."""
        ...

    def workspace_bytes(self, channels: int) -> int:
        """Bytes that `add` needs beside the tile and the partial."""
        ...

    def partial_bytes(self, selection: Selection, differing: bool) -> int:
        """Bytes of a partial; `differing` where channels may miss different pixels."""
        ...


class Measure(Protocol):
    """Sums to a matrix.

    A measure that wants to know more of each channel also has `summaries`, a tuple of `Summary`
    objects: they are in ``statistics.known`` in the pair pass and in `finalize`. One that is too
    slow for all pairs has `chosen_only`, True: it is refused without ``against``. One that scales
    channels by their least and greatest value has `scales_by_range`, True: the result tells them.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["similarity", "distance"]]
    range: ClassVar[tuple[float, float | None]]
    symmetric: ClassVar[bool]
    distribution: ClassVar[Literal["t", "normal", "none"]]

    def features(self, raster: tuple[int, int]) -> Features:
        """What must be summed on a raster of this shape."""
        ...

    @property
    def parameters(self) -> dict[str, Any]: ...

    def check(self, shape: tuple[int, int]) -> None:
        """Raise `InputError` where the parameters do not fit a raster of `shape`."""
        ...

    def finalize(
        self, partial: Partial, selection: Selection, rows: slice, statistics: ChannelStatistics
    ) -> NDArray[np.float64]:
        """Rows of the pair matrix, (len(rows), columns) float64.

        A measure that is not symmetric also has `mirrored`, for the tile across the diagonal.
        """
        ...


def matrices(
    measures: Sequence[Measure],
    partials: Mapping[Features, Partial],
    raster: tuple[int, int],
    tile: Selection,
    rows: slice,
    statistics: ChannelStatistics,
) -> Iterator[tuple[Measure, NDArray[np.float64], NDArray[np.float64]]]:
    """Some rows of a tile of each measure's matrix, and their mirror image across the diagonal.

    partials : whole sums of the tile; statistics : of the tile's channels.
    """
    for measure in measures:
        partial = partials[measure.features(raster)]
        value = measure.finalize(partial, tile, rows, statistics)
        turned = value.T
        if tile.mirrored and not measure.symmetric:
            turned = measure.mirrored(partial, tile, rows, statistics)  # type: ignore[attr-defined]
        yield measure, value, turned


def view_of(features: Features) -> View | None:
    """What the features see the tile through; None: they see its values."""
    return getattr(features, "view", None)


def by_cells(features: Features) -> bool:
    """Whether the features take a `CellTile`."""
    return hasattr(features, "add_cells") and view_of(features) is None


def merge(total: Partial, part: Partial) -> None:
    """Add `part` to `total` in place. The caller keeps the order of merges fixed."""
    for name, value in part.items():
        if name in total:
            total[name] += value
        else:
            total[name] = value.copy()
