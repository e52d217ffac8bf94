"""Spatial patterns and Poisson counts of simulated tissue, as functions of the global pixel.

Kernels only: a key, a corner and a tile in, pixels out. Every random number is a hash of the key
and of global integer coordinates, and every formula takes global coordinates, so a pixel has the
same value in any tile of any raster. Which channel has which pattern is `tissue.py`'s part.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit

Codes = NDArray[np.uint8]
"""A pattern in 256 steps: 0 is the background, 255 the full level."""

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_S11, _S27, _S30, _S31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)
_ULP = 2.0**-53

_PAINTER = "void(uint8[:, ::1], int64, int64, uint64, float64"


@njit(cache=True, nogil=True, inline="always")
def _mix(z: Any) -> Any:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    z = (z ^ (z >> _S30)) * _MIX_A
    z = (z ^ (z >> _S27)) * _MIX_B
    return z ^ (z >> _S31)


@njit(cache=True, nogil=True, inline="always")
def _site(key: Any, i: int, j: int) -> Any:
    """64 random bits for the site (i, j) of the lattice `key`."""
    return _mix(_mix(key + np.uint64(i) * _STEP) + np.uint64(j) * _STEP)


@njit("float64(uint64, int64)", cache=True, nogil=True)
def uniform(bits: Any, draw: int) -> float:
    """The draw-th uniform number in [0, 1) of a key or of a site's bits."""
    return np.float64(_mix(bits + np.uint64(draw) * _STEP) >> _S11) * _ULP


@njit("uint64(uint64, int64)", cache=True, nogil=True)
def derive(key: Any, index: int) -> Any:
    """A key of its own for each index."""
    return _mix(_mix(key) ^ (np.uint64(index) * _STEP + _MIX_B))


@njit(cache=True, nogil=True, inline="always")
def _ease(t: float) -> float:
    """From 0 to 1 without a kink at either end."""
    return t * t * (3.0 - 2.0 * t)


@njit("float64(uint64, int64, int64)", cache=True, nogil=True)
def _height(key: Any, i: int, j: int) -> float:
    """A height in [0, 1) at a site, low more often than high."""
    u = uniform(_site(key, i, j), 0)
    return u * u * u


@njit(_PAINTER + ")", cache=True, nogil=True)
def paint_blobs(out: Codes, y0: int, x0: int, key: Any, cell: float) -> None:
    """Round patches of 2 to 4 cells radius with soft edges, on 6 of 10 sites."""
    pitch, reach = 16.0 * cell, 4.0 * cell
    h, w = out.shape
    for i in range(math.floor((y0 - reach) / pitch), math.floor((y0 + h + reach) / pitch) + 1):
        for j in range(math.floor((x0 - reach) / pitch), math.floor((x0 + w + reach) / pitch) + 1):
            bits = _site(key, i, j)
            if uniform(bits, 0) >= 0.6:
                continue
            cy, cx = (i + uniform(bits, 1)) * pitch, (j + uniform(bits, 2)) * pitch
            radius = (2.0 + 2.0 * uniform(bits, 3)) * cell
            for y in range(max(y0, math.floor(cy - radius)), min(y0 + h, math.ceil(cy + radius))):
                for x in range(
                    max(x0, math.floor(cx - radius)), min(x0 + w, math.ceil(cx + radius))
                ):
                    inside = 1.0 - ((y - cy) ** 2 + (x - cx) ** 2) / (radius * radius)
                    if inside > 0.0:
                        code = np.uint8(255.0 * min(1.0, 2.0 * inside) + 0.5)
                        out[y - y0, x - x0] = max(out[y - y0, x - x0], code)


@njit(_PAINTER + ")", cache=True, nogil=True)
def paint_arcs(out: Codes, y0: int, x0: int, key: Any, cell: float) -> None:
    """Circular arcs 1 to 2 cells wide, of 6 to 12 cells radius and 120 to 215 degrees."""
    pitch, reach = 24.0 * cell, 13.0 * cell
    h, w = out.shape
    for i in range(math.floor((y0 - reach) / pitch), math.floor((y0 + h + reach) / pitch) + 1):
        for j in range(math.floor((x0 - reach) / pitch), math.floor((x0 + w + reach) / pitch) + 1):
            bits = _site(key, i, j)
            cy, cx = (i + uniform(bits, 1)) * pitch, (j + uniform(bits, 2)) * pitch
            radius = (6.0 + 6.0 * uniform(bits, 3)) * cell
            half_width = (0.5 + 0.5 * uniform(bits, 4)) * cell
            angle = 2.0 * math.pi * uniform(bits, 5)
            toward_y, toward_x = math.sin(angle), math.cos(angle)
            opening = 0.5 - 0.8 * uniform(bits, 6)  # cosine of half the arc's angle
            outer, inner = radius + half_width, radius - half_width
            for y in range(max(y0, math.floor(cy - outer)), min(y0 + h, math.ceil(cy + outer))):
                dy = y - cy
                for x in range(max(x0, math.floor(cx - outer)), min(x0 + w, math.ceil(cx + outer))):
                    dx = x - cx
                    squared = dy * dy + dx * dx
                    if inner * inner < squared < outer * outer:
                        distance = math.sqrt(squared)
                        if dy * toward_y + dx * toward_x > opening * distance:
                            across = (distance - radius) / half_width
                            inside = 1.0 - across * across
                            code = np.uint8(255.0 * min(1.0, 2.0 * inside) + 0.5)
                            out[y - y0, x - x0] = max(out[y - y0, x - x0], code)


@njit(_PAINTER + ", int64, int64)", cache=True, nogil=True)
def paint_layers(
    out: Codes, y0: int, x0: int, key: Any, cell: float, number: int, layers: int
) -> None:
    """Layer `number` of a periodic sequence of `layers` bands, each 12 cells thick and wavy."""
    angle = 2.0 * math.pi * uniform(key, 0)
    period = 12.0 * layers * cell
    step_y, step_x = math.sin(angle) / period, math.cos(angle) / period
    start = number / layers
    width, edge = 1.0 / layers, 0.15 / layers
    pitch = 32.0 * cell
    h, w = out.shape
    for i in range(math.floor(y0 / pitch), math.floor((y0 + h) / pitch) + 1):
        for j in range(math.floor(x0 / pitch), math.floor((x0 + w) / pitch) + 1):
            # How far the layers are bent, between the corners of this square of the lattice.
            a, b = uniform(_site(key, i, j), 1), uniform(_site(key, i, j + 1), 1)
            c, d = uniform(_site(key, i + 1, j), 1), uniform(_site(key, i + 1, j + 1), 1)
            for y in range(max(y0, math.ceil(i * pitch)), min(y0 + h, math.ceil((i + 1) * pitch))):
                v = _ease(y / pitch - i)
                left, right = a + (c - a) * v, b + (d - b) * v
                for x in range(
                    max(x0, math.ceil(j * pitch)), min(x0 + w, math.ceil((j + 1) * pitch))
                ):
                    bend = 1.5 * width * (left + (right - left) * _ease(x / pitch - j))
                    depth = y * step_y + x * step_x + bend - start
                    depth -= math.floor(depth)
                    inside = min(depth, width - depth) / edge
                    if inside > 0.0:
                        out[y - y0, x - x0] = np.uint8(255.0 * min(1.0, inside) + 0.5)


@njit(_PAINTER + ")", cache=True, nogil=True)
def paint_gradient(out: Codes, y0: int, x0: int, key: Any, cell: float) -> None:
    """Slow slopes in every direction, between random heights 40 cells apart."""
    pitch = 40.0 * cell
    h, w = out.shape
    for i in range(math.floor(y0 / pitch), math.floor((y0 + h) / pitch) + 1):
        for j in range(math.floor(x0 / pitch), math.floor((x0 + w) / pitch) + 1):
            a, b = _height(key, i, j), _height(key, i, j + 1)
            c, d = _height(key, i + 1, j), _height(key, i + 1, j + 1)
            for y in range(max(y0, math.ceil(i * pitch)), min(y0 + h, math.ceil((i + 1) * pitch))):
                v = _ease(y / pitch - i)
                left, right = a + (c - a) * v, b + (d - b) * v
                for x in range(
                    max(x0, math.ceil(j * pitch)), min(x0 + w, math.ceil((j + 1) * pitch))
                ):
                    height = left + (right - left) * _ease(x / pitch - j)
                    out[y - y0, x - x0] = np.uint8(255.0 * height + 0.5)


@njit(
    [
        "void(uint8[:, ::1], uint8[:, ::1], int64, int64, uint64, uint64[:, ::1])",
        "void(uint16[:, ::1], uint8[:, ::1], int64, int64, uint64, uint64[:, ::1])",
        "void(uint32[:, ::1], uint8[:, ::1], int64, int64, uint64, uint64[:, ::1])",
    ],
    cache=True,
    nogil=True,
)
def draw_counts(
    out: NDArray[Any], codes: Codes, y0: int, x0: int, key: Any, limits: NDArray[np.uint64]
) -> None:
    """Counts by inversion: the number of limits of the pixel's code that its hash exceeds."""
    first = limits[:, 0].copy()
    last = limits.shape[1]
    for y in range(out.shape[0]):
        row = _mix(key + np.uint64(y0 + y) * _STEP)
        for x in range(out.shape[1]):
            bits = _mix(row + np.uint64(x0 + x) * _STEP)
            code = codes[y, x]
            count = 0
            if bits > first[code]:
                count = 1
                while count < last and bits > limits[code, count]:
                    count += 1
            out[y, x] = count
