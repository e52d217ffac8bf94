"""Chips searched by Fourier transforms: for windows and searches so large that it costs less.

The same sums of products as of `chips`, and all else is done there. Each chip is transformed by
itself, in arrays of one shape, so that where tiles are cut changes no bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from bigcorr.kernels.chips import PARTS, Room, score_chip, take_area, take_chip
from bigcorr.kernels.peaks import find_peak
from bigcorr.kernels.products import ROWS


def padded_side(window: int, search: int) -> int:
    """Side of the arrays that are transformed: no shift within the search wraps around."""
    return int(fft.next_fast_len(window + 2 * search, real=True))


def work_bytes(window: int, search: int) -> int:
    """Bytes that a chip's transforms take beside the `Room` of `chips`."""
    n = padded_side(window, search)
    return 16 * n * (n // 2 + 1) * 8 + 8 * n * n


def match_chips_fft(
    reference: NDArray[np.float64],
    moving: NDArray[np.float64],
    step: int,
    method: int,
    temperature: float,
    room: Room,
    out: NDArray[np.float64],
) -> None:
    """Search every chip of a tile; parameters as for `chips.match_chips`."""
    a, b = reference.reshape(-1), moving.reshape(-1)
    window, side, edge = room.window, room.side, ROWS - 1
    width = window + side - 1
    n = padded_side(window, side // 2)
    score = room.surfaces[len(PARTS) * room.surface :]
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            begin = i * step * reference.shape[1] + j * step
            whole, square = take_chip(a, begin, reference.shape[1], room)
            if square == 0:
                out[i, j] = np.nan
                continue
            begin = i * step * moving.shape[1] + j * step
            whole &= take_area(b, begin, moving.shape[1], room)
            parts = PARTS[:1] if whole else PARTS
            chips = room.chips.reshape(3, window + 2 * edge, window)[:, edge:-edge]
            areas = room.areas.reshape(3, -1, room.pitch)[:, :width, :width]
            spectra = {
                part: (fft.rfft2(chips[part[0]], (n, n)), fft.rfft2(areas[part[1]], (n, n)))
                for part in parts
            }
            for k, part in enumerate(parts):
                chip, area = spectra[part]
                products = fft.irfft2(np.conj(chip) * area, (n, n))
                surface = room.surfaces[k * room.surface : (k + 1) * room.surface]
                surface.reshape(-1, room.pitch_out)[:side, :side] = products[:side, :side]
            score_chip(whole, square, room)
            find_peak(score, 0, room.pitch_out, 1, side, method, temperature, out[i, j])
