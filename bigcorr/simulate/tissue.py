"""Simulated tissue: which channel has which pattern, level and name, and writing it to a stack.

Pixels are made by `patterns.py`. A tissue has no size of its own: `tissue_tile` is a function of
the global pixel, and `tissue` writes the part of it that was asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bigcorr.errors import InputError
from bigcorr.simulate import patterns
from bigcorr.tiles import Box

PATTERNS = ("blobs", "layers", "arcs", "gradients")
UNPATTERNED, EMPTY = "unpatterned", "empty"

# A set of 16 channels: one group of 3 for each pattern, then 2 unpatterned and 2 nearly empty.
_GROUP = 3
_EXTRA = (UNPATTERNED, UNPATTERNED, EMPTY, EMPTY)
_SET = _GROUP * len(PATTERNS) + len(_EXTRA)

_LAYERS = 4
"""Layers of a sequence: as many groups share one geometry, each a layer of its own."""

_COVERAGE = {"blobs": 0.050, "layers": 0.211, "arcs": 0.058, "gradients": 0.25}
"""Mean of each pattern over a large area, as a share of its full level."""

_EMPTY_SHARE = 3e-4
"""Mean of a nearly empty channel, as a share of what it would be."""


class Channel(NamedTuple):
    """What one channel is made of."""

    name: str
    kind: str
    group: int
    mean: float


@dataclass(frozen=True)
class Tissue:
    """A tissue: everything but its extent.

    Parameters
    ----------
    channels : number of channels. Every 16 hold a group of 3 of each pattern (blobs, layers,
        arcs, gradients), 2 unpatterned and 2 nearly empty ones, so that fewer channels are the
        first of more.
    seed : any integer.
    cell : the spatial unit in pixels: arcs are 1 to 2 cells wide, blobs 4 to 8, layers 12, and a
        gradient rises over 40. A larger raster holds more structures, not larger ones.
    level : the highest mean count of a pixel. The levels of channels are spread over a factor of
        10 below it, also within a group.
    background : count outside a pattern, as a share of that inside.
    """

    channels: int = 64
    seed: int = 0
    cell: float = 4.0
    level: float = 0.06
    background: float = 0.02

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise InputError(f"channels: got {self.channels}, takes 1 or more")
        if not self.cell >= 1:
            raise InputError(f"cell: got {self.cell}, takes 1 pixel or more")
        if not 0 < self.level <= 100:
            raise InputError(f"level: got {self.level}, takes a mean count above 0, at most 100")
        if not 0 <= self.background <= 0.03:
            raise InputError(f"background: got {self.background}, takes a share of 0 to 0.03")

    @cached_property
    def plan(self) -> tuple[Channel, ...]:
        """What each channel is made of."""
        return tuple(self._channel(index) for index in range(self.channels))

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The smallest unsigned type that holds every count."""
        highest = max(range(self.channels), key=lambda index: self._full(self.plan[index]))
        return np.min_scalar_type(self.limits(highest).shape[1])

    def truth(self) -> dict[str, Any]:
        """The answer, as kept in ``attrs["truth"]``: equally long lists by channel.

        ``channel`` names, ``group`` (-1 for none), ``kind`` of pattern, ``mean`` count of a
        pixel that was aimed at.
        """
        columns = zip(*self.plan, strict=True)
        return dict(zip(("channel", "kind", "group", "mean"), map(list, columns), strict=True))

    def key(self, *path: int) -> np.uint64:
        """A random key of its own for each path of indices."""
        key = np.uint64(self.seed % 2**64)
        for index in path:
            key = np.uint64(patterns.derive(key, index))
        return key

    def codes(self, group: int, box: Box) -> patterns.Codes:
        """The pattern of a group in a box; without a group, the full level everywhere."""
        if group < 0:
            return np.full(box.shape, 255, np.uint8)
        out = np.zeros(box.shape, np.uint8)
        number, which = divmod(group, len(PATTERNS))
        kind, place = PATTERNS[which], (box.y0, box.x0)
        key, cell = self.key(1, group), float(self.cell)
        if kind == "blobs":
            patterns.paint_blobs(out, *place, key, cell)
        elif kind == "arcs":
            patterns.paint_arcs(out, *place, key, cell)
        elif kind == "layers":
            sequence, layer = divmod(number, _LAYERS)
            patterns.paint_layers(out, *place, self.key(2, sequence), cell, layer, _LAYERS)
        else:
            patterns.paint_gradient(out, *place, key, cell)
        return out

    def limits(self, index: int) -> NDArray[np.uint64]:
        """For each code of the pattern, the hashes at which the Poisson count steps up."""
        from scipy import special

        full = self._full(self.plan[index])
        rate = full * np.linspace(self.background, 1, 256)
        longest = int(np.ceil(full + 12 * np.sqrt(full) + 16))
        # P(count > k); a count beyond the last one that is kept has a chance below 2**-64.
        above = special.pdtrc(np.arange(longest), rate[:, None])
        above = above[:, : max(1, int((above.max(axis=0) >= 2.0**-64).sum()))]
        steps = np.minimum(np.floor(above * 2.0**64), 2.0**64 - 2048).astype(np.uint64)
        return np.ascontiguousarray(np.uint64(2**64 - 1) - steps)

    def _full(self, channel: Channel) -> float:
        """The mean count inside the pattern."""
        coverage = _COVERAGE.get(channel.kind, 1.0)
        return channel.mean / (self.background + (1 - self.background) * coverage)

    def _channel(self, index: int) -> Channel:
        number, place = divmod(index, _SET)
        mean = self.level * 10.0 ** -patterns.uniform(self.key(0, index), 0)
        if place < _GROUP * len(PATTERNS):
            which, member = divmod(place, _GROUP)
            name = f"{PATTERNS[which].removesuffix('s')}{number}{'abc'[member]}"
            return Channel(name, PATTERNS[which], number * len(PATTERNS) + which, mean)
        kind = _EXTRA[place - _GROUP * len(PATTERNS)]
        name = f"{kind}{number}{'ab'[(place - _GROUP * len(PATTERNS)) % 2]}"
        return Channel(name, kind, -1, mean * (_EMPTY_SHARE if kind == EMPTY else 1.0))


def tissue_tile(spec: Tissue, channel: int, box: Box) -> NDArray[Any]:
    """The counts of one channel in one box, of ``spec.dtype``.

    The same pixel has the same count in any box, whatever the extent of the raster.

    Examples
    --------
    >>> spec = Tissue(channels=16, seed=1)
    >>> whole = tissue_tile(spec, 3, Box(0, 200, 0, 200))
    >>> bool((tissue_tile(spec, 3, Box(50, 90, 10, 30)) == whole[50:90, 10:30]).all())
    True
    """
    out = np.empty((1, *box.shape), spec.dtype)
    _fill(out, spec, [channel], box)
    return out[0]


def tissue(
    path: str | os.PathLike[str],
    channels: int = 64,
    size: int | tuple[int, int] = 10_000,
    seed: int = 0,
    *,
    cell: float = 4.0,
    level: float = 0.06,
    background: float = 0.02,
    dtype: DTypeLike | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write a stack of simulated tissue with known truth, tile by tile.

    Parameters
    ----------
    path : the stack store to make.
    size : pixels, one number or (y, x).
    channels, seed, cell, level, background : see `Tissue`.
    dtype : unsigned integer type of the pixels; by default the smallest that holds them.
    threads : shards made at once; by default the number of CPU cores.
    overwrite : start afresh, and replace a store that is there. Without it a simulation that was
        killed is gone on with, and one that is done is left as it is.
    progress : called with (shards done, shards in all).

    Returns
    -------
    dict
        ``path``, ``shape`` (channel, y, x), ``dtype``, ``counts`` (total count, all channels)
        and ``truth``, which is also kept in the attributes of the store (`Tissue.truth`).

    Raises
    ------
    InputError
        A parameter out of its range, a `dtype` too small, a store that exists.

    Examples
    --------
    >>> import tempfile
    >>> made = tissue(tempfile.mkdtemp() + "/tissue.zarr", channels=4, size=(96, 128), seed=1)
    >>> made["shape"], made["truth"]["kind"]
    ((4, 96, 128), ['blobs', 'blobs', 'blobs', 'layers'])
    """
    from bigcorr.simulate.write import write_stack

    spec = Tissue(int(channels), int(seed), float(cell), float(level), float(background))
    shape = image_shape(size)
    pixel = np.dtype(spec.dtype if dtype is None else dtype)
    if pixel.kind != "u" or pixel.itemsize > 4 or pixel.itemsize < spec.dtype.itemsize:
        raise InputError(f"dtype: got {pixel}, takes an unsigned type from {spec.dtype} to uint32")

    parameters = {name: getattr(spec, name) for name in ("seed", "cell", "level", "background")}
    attrs = {
        "truth": spec.truth(),
        "source": f"simulated tissue, seed {spec.seed}",
        "simulation": parameters,
    }

    def make(block: slice, box: Box) -> NDArray[Any]:
        data = np.empty((block.stop - block.start, *box.shape), pixel)
        _fill(data, spec, range(block.start, block.stop), box)
        return data

    counts = write_stack(
        Path(path),
        {"kind": "tissue", **parameters},
        [channel.name for channel in spec.plan],
        shape,
        pixel,
        attrs,
        make,
        threads=threads,
        overwrite=overwrite,
        progress=progress,
    )
    return {
        "path": os.fspath(path),
        "shape": (spec.channels, *shape),
        "dtype": str(pixel),
        "counts": int(sum(counts)),
        "truth": attrs["truth"],
    }


def image_shape(size: int | tuple[int, int]) -> tuple[int, int]:
    """(y, x) of a size given as one number or two."""
    sides = (size, size) if isinstance(size, int | np.integer) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        raise InputError(f"size: got {size}, takes one number of pixels or (y, x), 1 or more")
    return int(sides[0]), int(sides[1])


def _fill(out: NDArray[Any], spec: Tissue, channels: Sequence[int], box: Box) -> None:
    """Draw the counts of channels in a box; neighbours of one group share its pattern."""
    codes, painted = None, None
    for row, index in enumerate(channels):
        group = spec.plan[index].group
        if codes is None or group != painted:
            codes, painted = spec.codes(group, box), group
        limits = spec.limits(index)
        patterns.draw_counts(out[row], codes, box.y0, box.x0, spec.key(3, index), limits)
