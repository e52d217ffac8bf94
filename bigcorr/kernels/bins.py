"""Bins of a channel's values: counting them, and looking up what each bin stands for.

65 536 bins. Whole numbers of at most 16 bits have one each. Other values are binned by their
standardised float32 ``z = (x - offset) / scale``, shifted where the bins should be finest somewhere
else: 1024 bins for each of 32 octaves of its size and each sign, and one for zero, so that a bin
spans at most a thousandth of the distance from there, however skewed the values are. Nothing here
knows of channels' names, files or measures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit

BINS = 65536
ZERO_BIN = 32768
OCTAVES = 32
KEYS_A_BIN = 13
"""Bits of a float32 below those that say its bin."""
INFINITE = 0x7F800000
"""The bits of infinity: larger than those of all finite magnitudes."""

FloatArray = NDArray[np.float64]
TileArray = NDArray[np.floating]
ByteArray = NDArray[np.uint8]
CountArray = NDArray[np.int64]


def base_of(largest: float) -> int:
    """The 18 leading bits of the least |z| that is told from its neighbours.

    largest : |z| that the octaves should reach up to. What is larger shares the outermost bins,
        what is 2^32 times smaller the innermost ones.
    """
    top = np.floor(np.log2(largest)) + 1 if 0 < largest < np.inf else 0.0
    return (127 - OCTAVES + int(np.clip(top, -90, 127))) << (23 - KEYS_A_BIN)


@njit(cache=True, nogil=True)
def float_bin(bits: int, base: int) -> int:
    """The bin of the float32 with these bits."""
    magnitude = bits & 0x7FFFFFFF
    if magnitude == 0:
        return 32768
    k = (magnitude >> 13) - base
    if k < 0:
        k = 0
    if bits >> 31:
        return 32767 - min(k, 32767)
    return 32769 + min(k, 32766)


def magnitudes_of(index: int, base: int) -> tuple[int, int]:
    """First bits of |z| in a bin of floats, and first ones behind it."""
    if index == ZERO_BIN:
        return 0, 1
    negative = index < ZERO_BIN
    k = ZERO_BIN - 1 - index if negative else index - ZERO_BIN - 1
    last = ZERO_BIN - 1 if negative else ZERO_BIN - 2
    low = 1 if k == 0 else (base + k) << KEYS_A_BIN
    high = INFINITE + 1 if k == last else (base + k + 1) << KEYS_A_BIN
    return low, high


@njit(cache=True, nogil=True)
def count_bins(
    x: FloatArray,
    valid: ByteArray,
    masked: bool,
    whole: bool,
    lowest: int,
    offset: float,
    inverse_scale: float,
    shift: float,
    base: int,
    counts: CountArray,
) -> None:
    """Add the pixels of a tile to their bins.

    x : (h, w) float64; valid : (h, w) uint8, read only if `masked`; whole : whether values are
    whole numbers from `lowest` on, else they are binned by ``float32(z) + shift``, `shift` a
    float32; counts : (65537,), the last one of values that are exactly 0.
    """
    height, width = x.shape
    single = np.empty(width, np.float32)
    bits = single.view(np.uint32)
    zeros = 0
    for i in range(height):
        row = x[i]
        if whole:
            for j in range(width):
                if not masked or valid[i, j]:
                    counts[np.int64(row[j]) - lowest] += 1
                    zeros += row[j] == 0
        else:
            for j in range(width):
                single[j] = np.float32((row[j] - offset) * inverse_scale) + shift
            for j in range(width):
                if not masked or valid[i, j]:
                    counts[float_bin(np.int64(bits[j]), base)] += 1
                    zeros += row[j] == 0
    counts[65536] += zeros


@njit(cache=True, nogil=True)
def count_within(
    x: FloatArray,
    valid: ByteArray,
    masked: bool,
    nonzero: bool,
    offset: float,
    inverse_scale: float,
    low: int,
    high: int,
    shift: int,
    negative: bool,
    counts: CountArray,
) -> None:
    """Add the pixels of one bin to the parts of it, in ascending order of z.

    low, high : bits of |z| in the bin; shift : a part is ``2**shift`` of them; negative : the sign
    of the bin; nonzero : leave out values that are exactly 0. The others are as in `count_bins`.
    """
    height, width = x.shape
    single = np.empty(width, np.float32)
    bits = single.view(np.uint32)
    sign = 1 if negative else 0
    for i in range(height):
        row = x[i]
        for j in range(width):
            single[j] = (row[j] - offset) * inverse_scale
        for j in range(width):
            key = np.int64(bits[j])
            magnitude = key & 0x7FFFFFFF
            if low <= magnitude < high and key >> 31 == sign and (not masked or valid[i, j]):
                if nonzero and row[j] == 0:
                    continue
                part = (high - 1 - magnitude) if negative else (magnitude - low)
                counts[part >> shift] += 1


@njit(cache=True, nogil=True)
def look_up(
    z: TileArray,
    valid: ByteArray,
    masked: bool,
    whole: bool,
    lowest: int,
    offset: float,
    scale: float,
    shift: float,
    base: int,
    table: NDArray[np.float32],
    out: TileArray,
) -> None:
    """Write what the bin of each pixel stands for to `out`, 0 where not valid.

    z, out : (h, w) standardised values; table : (bins,). The others are as in `count_bins`.
    """
    height, width = z.shape
    single = np.empty(width, np.float32)
    bits = single.view(np.uint32)
    for i in range(height):
        row, target = z[i], out[i]
        if whole:
            for j in range(width):
                target[j] = 0
                if not masked or valid[i, j]:
                    target[j] = table[np.int64(np.rint(row[j] * scale + offset)) - lowest]
        else:
            for j in range(width):
                single[j] = np.float32(row[j]) + shift
            for j in range(width):
                target[j] = 0
                if not masked or valid[i, j]:
                    target[j] = table[float_bin(np.int64(bits[j]), base)]


@njit(cache=True, nogil=True)
def keep_from(
    z: TileArray,
    valid: ByteArray,
    masked: bool,
    threshold: float,
    other: float,
    out: TileArray,
) -> None:
    """Write z where its float32 is at least `threshold`, else `other`; 0 where not valid."""
    height, width = z.shape
    for i in range(height):
        row, target = z[i], out[i]
        for j in range(width):
            value = row[j] if np.float32(row[j]) >= threshold else other
            target[j] = value if not masked or valid[i, j] else 0.0


@njit(cache=True, nogil=True)
def peak_rows(
    tiles: TileArray,
    valid: NDArray[np.uint8],
    channels: NDArray[np.int64],
    thresholds: FloatArray,
    y0: int,
    y1: int,
    x0: int,
    x1: int,
    region: TileArray,
    inside: TileArray,
    outside: TileArray,
    sums: FloatArray,
) -> None:
    """One cell of the given channels as rows: where z is at least the threshold, z there, z else.

    tiles : (channel, h, w); valid : (0, 1 or channel, h, w); thresholds : (channel,), compared with
    z as float32; region, inside, outside : (len(channels), 1024), zeros behind the cell;
    sums : (len(channels), 3) number, sum and sum of squares of z in the region, written.
    """
    height, width = y1 - y0, x1 - x0
    for k in range(channels.shape[0]):
        c = channels[k]
        plane = min(c, valid.shape[0] - 1)
        threshold = thresholds[c]
        count = 0.0
        total = 0.0
        square = 0.0
        for i in range(height):
            part = tiles[c, y0 + i, x0:x1]
            own = region[k, i * width : (i + 1) * width]
            high = inside[k, i * width : (i + 1) * width]
            low = outside[k, i * width : (i + 1) * width]
            for j in range(width):
                ok = plane < 0 or valid[plane, y0 + i, x0 + j] != 0
                value = part[j]
                if ok and np.float32(value) >= threshold:
                    own[j] = 1
                    high[j] = value
                    low[j] = 0
                    count += 1
                    total += value
                    square += np.float64(value) * np.float64(value)
                else:
                    own[j] = 0
                    high[j] = 0
                    low[j] = value
        size = height * width
        region[k, size:] = 0
        inside[k, size:] = 0
        outside[k, size:] = 0
        sums[k, 0] = count
        sums[k, 1] = total
        sums[k, 2] = square
