"""Working memory of the kernels: aligned to cache lines, and kept from call to call in each thread.

Loops over rows that straddle cache lines take up to twice as long, and fresh pages from the system
for every small tile would cost more than a sparse tile's arithmetic.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

LINE = 64
"""Bytes of a cache line."""

_mine = threading.local()


def kept(size: int, name: str) -> NDArray[np.float64]:
    """Memory for `size` numbers on a cache line, the calling thread's own under `name`.

    It holds zeros at first, and later what the last call left in it.
    """
    buffers: dict[str, NDArray[np.float64]] = _mine.__dict__
    buffer = buffers.get(name)
    if buffer is None or buffer.size < size or buffer.size > 4 * size:
        raw = np.zeros(size * 8 + LINE, np.uint8)
        start = -raw.ctypes.data % LINE
        buffers[name] = buffer = raw[start : start + 8 * size].view(np.float64)
    return buffer[:size]


def kept_image(shape: tuple[int, int], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """The same as an image of any dtype."""
    size = shape[0] * shape[1]
    numbers = kept(-(-size * dtype.itemsize // 8), name)
    return numbers.view(np.uint8)[: size * dtype.itemsize].view(dtype).reshape(shape)
