"""What a measure may ask to know of each channel before the pair pass: sums over all its pixels.

A `Tally` is an array of sums for one channel, added up block by block; a `Summary` is what a
measure keeps of it. Adding one is writing one small class. Here are the protocols, what a tally
sees and how a finished summary is looked up; the stage that runs them is `bigcorr.run.summaries`.
No I/O and no dask here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bigcorr.tiles import Box

if TYPE_CHECKING:
    from bigcorr.pairs.measure import ChannelStatistics, PairTile, Partial, Timer
    from bigcorr.pairs.selection import Selection


@dataclass(frozen=True)
class ChannelTile:
    """One block of one channel of the blurred stack.

    Attributes
    ----------
    core : Box
        The pixels that are counted here, on the raster. Every pixel is in one core.
    reach : Box
        What the arrays cover: the core and the tally's margin, clipped to the raster.
    raster : (int, int)
        Shape of the whole raster.
    values : (h, w) float64
        Values as blurred, not standardised; 0 where missing. Not to be written to.
    valid : (h, w) uint8 or None
        Valid pixels; None where all are.
    count : int
        Valid pixels of the core.
    empty : bool
        Whether all values are known to be zero: for a short cut, `values` are zeros then.
    row : int
        The channel's place in `statistics`.
    statistics : ChannelStatistics
        Of some channels; with the summaries that this one needs in ``statistics.known``.
    name : str
        The channel's name, for messages.
    """

    core: Box
    reach: Box
    raster: tuple[int, int]
    values: NDArray[np.float64]
    valid: NDArray[np.uint8] | None
    count: int
    empty: bool
    row: int
    statistics: ChannelStatistics
    name: str = ""

    @property
    def inner(self) -> tuple[slice, slice]:
        """Where the core lies in the arrays."""
        return self.core.relative_to(self.reach).slices


class Tally(Protocol):
    """Sums over the pixels of a channel. Frozen and hashable: equal ones are added up once."""

    @property
    def margin(self) -> int:
        """Pixels needed on all sides of the core."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def shape(self, raster: tuple[int, int]) -> tuple[int, ...]:
        """Shape of the array of one channel."""
        ...

    def add(self, total: NDArray[Any], tile: ChannelTile) -> None:
        """Add the sums of the tile's core to `total`, of this shape, in place."""
        ...

    def workspace_bytes(self, pixels: int) -> int:
        """Bytes that `add` needs beside the tile, for a reach of so many pixels."""
        ...

    def idle(self, integers: bool) -> bool:
        """Whether there is nothing to add, so that nothing need be read.

        `integers`: the values are whole numbers of at most 16 bits.
        """
        ...


class Summary(Protocol):
    """What is kept of a tally. Frozen and hashable; it is also the key to look it up by."""

    @property
    def tally(self) -> Tally: ...

    @property
    def needs(self) -> tuple[Summary, ...]:
        """Summaries that must be known before: each step is a further pass over the stack."""
        ...

    def finish(self, total: NDArray[Any], statistics: ChannelStatistics) -> NDArray[Any]:
        """What is kept of some channels, (channel, ...), from their tallies (channel, *shape)."""
        ...


class Part(Protocol):
    """Arrays of a group of channels, in memory or on disk."""

    def load(self, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]: ...


@dataclass(frozen=True)
class Round:
    """The finished summaries of one pass over the stack.

    parts : by number of the run of `group` channels, those that are wanted; the arrays are named
        0, 1, ... as the summaries.
    """

    summaries: tuple[Summary, ...]
    group: int
    parts: dict[int, Part]

    def of_channels(self, numbers: NDArray[np.int64]) -> Round:
        """The same with no more parts than these channels need: it travels to the workers."""
        wanted = np.unique(numbers // self.group).tolist()
        return replace(self, parts={index: self.parts[index] for index in wanted})


@dataclass(frozen=True)
class Known:
    """Finished summaries of some channels, read where they are when they are asked for.

    numbers : (n,) the channels, or None for all.
    """

    rounds: tuple[Round, ...] = ()
    numbers: NDArray[np.int64] | None = None
    _whole: dict[Summary, NDArray[Any]] = field(default_factory=dict, compare=False, repr=False)

    def select(self, channels: Any) -> Known:
        """The same for some of these channels."""
        if not self.rounds:
            return self
        numbers = np.asarray(channels, np.int64) if self.numbers is None else self.numbers[channels]
        return Known(tuple(r.of_channels(numbers) for r in self.rounds), numbers)

    def each(self, summary: Summary) -> Iterator[NDArray[Any]]:
        """The summary of each channel in turn; only one group of channels is held at once."""
        found = [r for r in self.rounds if summary in r.summaries]
        if not found:
            raise KeyError(f"{summary} was not asked for")
        name = str(found[0].summaries.index(summary))
        held, arrays = -1, np.zeros(0)
        if self.numbers is None:
            for part in found[0].parts.values():
                yield from part.load([name])[name]
            return
        for number in self.numbers.tolist():
            group, row = divmod(number, found[0].group)
            if group != held:
                held, arrays = group, found[0].parts[group].load([name])[name]
            yield arrays[row]

    def of(self, summary: Summary) -> NDArray[Any]:
        """The summary of all these channels, (channel, ...), kept for the next time."""
        if summary not in self._whole:
            self._whole[summary] = np.stack(list(self.each(summary)))
        return self._whole[summary]


NOTHING = Known()


def rounds_of(measures: Iterable[Any]) -> list[tuple[Summary, ...]]:
    """The summaries that measures ask for, in the passes in which they can be taken.

    A measure asks by an attribute ``summaries``, a tuple.
    """
    wanted = dict.fromkeys(s for m in measures for s in getattr(m, "summaries", ()))
    depth: dict[Summary, int] = {}

    def place(summary: Summary) -> int:
        if summary not in depth:
            depth[summary] = 1 + max((place(need) for need in summary.needs), default=-1)
        return depth[summary]

    for summary in wanted:
        place(summary)
    return [
        tuple(s for s, at in depth.items() if at == level)
        for level in range(max(depth.values(), default=-1) + 1)
    ]


def tallies_of(summaries: tuple[Summary, ...]) -> tuple[Tally, ...]:
    """The distinct tallies of some summaries."""
    return tuple(dict.fromkeys(s.tally for s in summaries))


def tally_bytes(tallies: tuple[Tally, ...], raster: tuple[int, int]) -> int:
    """Bytes of the tallies of one channel."""
    return sum(int(np.prod(t.shape(raster))) * t.dtype.itemsize for t in tallies)


@dataclass(frozen=True)
class NoFeatures:
    """Features of a measure that is made from summaries alone: nothing of any tile."""

    extent: int = 0
    margin: int = 0
    wide: bool = False

    def add(self, tile: PairTile, selection: Selection, partial: Partial, timer: Timer) -> None:
        """Adds nothing."""

    def workspace_bytes(self, channels: int) -> int:
        return 0

    def partial_bytes(self, selection: Selection, differing: bool) -> int:
        return 0


def idle(features: Iterable[Any]) -> bool:
    """Whether none of the features wants a tile."""
    return all(isinstance(f, NoFeatures) for f in features)
