"""Means over every window of maps and volumes, weighted by the softmax of the window's values.

Each window is added up by itself, in the order of its pixels, and shifted by its own maximum: what
it gives does not depend on where a tile was cut, on the block it is worked out in, nor on the rest
of the map. What users call is in `soft_argmax`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bigcorr.errors import InputError
from bigcorr.subpix.arguments import Whole, positive, whole_numbers
from bigcorr.subpix.maxima import strict_maxima

_BLOCK = 1 << 15
"""Windows worked out at a time: their sums stay in a near cache, and a large map needs no more
memory than itself and its result."""


def window_means(
    x: NDArray[Any],
    numbers: tuple[Whole, Whole, Whole, Whole],
    temperature: ArrayLike,
    normalized: bool,
    output_value: bool,
    bonus: float | None,
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """The windows over the last two or three axes, whose order of coordinates is [depth,] x, y."""
    axes, shape = x.ndim - 2, x.shape[2:]
    kernel, stride, padding, origin = (
        whole_numbers(name, value, axes, least)
        for name, value, least in zip(
            ("kernel_size", "stride", "padding", "origin"), numbers, (1, 1, 0, None), strict=True
        )
    )
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise InputError(f"padding: got {padding}, takes at most half of kernel_size, {kernel}")
    if normalized and any(origin):
        raise InputError(f"origin: got {origin} with normalized coordinates, takes pixel ones")
    out = tuple(
        (n + 2 * p - k) // s + 1 for n, p, k, s in zip(shape, padding, kernel, stride, strict=True)
    )
    if min(out) < 1:
        raise InputError(f"kernel_size: got {kernel}, takes at most {shape} and twice the padding")
    maps = x.reshape(-1, *shape)
    temperature = np.broadcast_to(positive(temperature, maps[:, None]), maps[:, None].shape)[:, 0]
    offsets = np.empty((len(maps), axes, *out), x.dtype)
    values = np.empty((len(maps), *out), x.dtype) if output_value else None
    for block in _blocks((len(maps), *out)):
        _soft_argmax(maps, temperature, kernel, stride, padding, block, offsets, values)
    for axis in range(axes):
        start = (kernel[axis] - 1) / 2 - padding[axis] + origin[axis]
        centre = np.arange(out[axis]) * stride[axis] + start
        place = offsets[:, axis]
        place += centre.astype(x.dtype).reshape(-1, *[1] * (axes - 1 - axis))
        if normalized and shape[axis] > 1:
            place *= x.dtype.type(2 / (shape[axis] - 1))
            place -= 1
    # Axes are (..., y, x), coordinates (..., x, y).
    order = [*range(axes - 2), axes - 1, axes - 2]
    coordinates = offsets[:, order].reshape(*x.shape[:2], axes, *out)
    if values is not None:
        values = values.reshape(*x.shape[:2], *out)
        if bonus is not None:
            peaks = _at_centres(strict_maxima(x, kernel), kernel, stride, padding, out)
            np.multiply(values, x.dtype.type(1 + bonus), out=values, where=peaks)
    return coordinates, values


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Blocks of about `_BLOCK` windows that together are all of them: rows of single maps, or
    several maps where these are small."""
    wide = shape[-1]
    rows = max(1, min(shape[-2], _BLOCK // wide))
    rest = list(shape[:-2])
    sides = [1] * len(rest)
    room = max(1, _BLOCK // (wide * rows))
    for axis in reversed(range(len(rest))):
        sides[axis] = max(1, min(rest[axis], room))
        room = max(1, room // sides[axis])
    starts = [range(0, n, side) for n, side in zip(shape[:-1], [*sides, rows], strict=True)]
    for at in itertools.product(*starts):
        ends = zip(at, [*sides, rows], shape[:-1], strict=True)
        yield (*(slice(a, min(a + side, n)) for a, side, n in ends), slice(0, wide))


def _soft_argmax(
    maps: NDArray[Any],
    temperature: NDArray[Any],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    block: tuple[slice, ...],
    offsets: NDArray[Any],
    values: NDArray[Any] | None,
) -> None:
    """Offsets from the windows' centres, and values, of one block of windows, into their arrays."""
    which, *spans = block
    reads = [
        _read(span, k, s, p, n)
        for span, k, s, p, n in zip(spans, kernel, stride, padding, maps.shape[1:], strict=True)
    ]
    near: tuple[slice, ...] = (which, *(slice(lo, hi) for lo, hi, _ in reads))
    x = maps[near]
    logits = x / temperature[near]
    shape = (which.stop - which.start, *(span.stop - span.start for span in spans))
    # Padding is no pixel at all here: a position of the window takes part where it is on the map.
    taps = []
    for at in np.ndindex(*kernel):
        into, source = zip(
            *(taken[i] for (_, _, taken), i in zip(reads, at, strict=True)), strict=True
        )
        taps.append((at, (slice(None), *into), (slice(None), *source)))
    greatest = np.full(shape, -np.inf, x.dtype)
    total = np.zeros(shape, x.dtype)
    sums = np.zeros((len(kernel), *shape), x.dtype)
    value = None if values is None else np.zeros(shape, x.dtype)
    for _, into, source in taps:
        np.maximum(greatest[into], logits[source], out=greatest[into])
    with np.errstate(invalid="ignore"):  # inf - inf and 0 * inf are the NaN that is meant
        for at, into, source in taps:
            weight = logits[source] - greatest[into]
            np.exp(weight, out=weight)
            total[into] += weight
            for axis, (i, k) in enumerate(zip(at, kernel, strict=True)):
                if 2 * i != k - 1:
                    sums[axis][into] += weight * x.dtype.type(i - (k - 1) / 2)
            if value is not None:
                weight *= x[source]
                value[into] += weight
        for axis, each in enumerate(sums):
            offsets[:, axis][block] = each / total
        if values is not None and value is not None:
            values[block] = value / total


def _read(
    span: slice, k: int, s: int, p: int, n: int
) -> tuple[int, int, list[tuple[slice, slice]]]:
    """The pixels lo to hi of an axis that a span of windows reads and, for each position of the
    window, which windows of the span have it on the map and where these pixels are from lo on."""
    lo = max(0, span.start * s - p)
    hi = min(n, (span.stop - 1) * s - p + k)
    taken = []
    for i in range(k):
        first = max(span.start, -((i - p) // s))
        last = max(first, min(span.stop, (n - 1 + p - i) // s + 1))
        start = first * s - p + i - lo
        pixels = slice(start, start + (last - first - 1) * s + 1 if last > first else start, s)
        taken.append((slice(first - span.start, last - span.start), pixels))
    return lo, hi, taken


def _at_centres(
    mask: NDArray[np.bool_],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    out: tuple[int, ...],
) -> NDArray[np.bool_]:
    """A mask of pixels, taken at the centre of every window; False where that is off the map."""
    for axis, (k, s, p, count) in enumerate(zip(kernel, stride, padding, out, strict=True), 2):
        at = np.arange(count) * s - p + (k - 1) // 2
        inside = (at >= 0) & (at < mask.shape[axis])
        mask = mask.take(np.where(inside, at, 0), axis)
        mask &= inside.reshape(-1, *[1] * (mask.ndim - 1 - axis))
    return mask
