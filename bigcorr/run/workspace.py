"""Large tiles that a thread keeps from one task of a stage to the next.

Fresh pages from the system for a tile of a gigabyte cost as much time as decoding what goes into
it. What is kept is within the projection of a task, and a pool drops it at the end of a stage.
"""

from __future__ import annotations

import math
import threading

import numpy as np
from numpy.typing import DTypeLike, NDArray

_kept: dict[tuple[int, str], NDArray[np.uint8]] = {}


def tile_memory(shape: tuple[int, ...], dtype: DTypeLike, name: str) -> NDArray[np.floating]:
    """An array with whatever it holds, the calling thread's own under `name`."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    key = threading.get_ident(), name
    memory = _kept.get(key)
    if memory is None or memory.size < size:
        # The old one goes first: both at once are in no projection.
        memory = None
        _kept.pop(key, None)
        memory = _kept[key] = np.empty(size, np.uint8)
    return memory[:size].view(dtype).reshape(shape)


def release() -> None:
    """Forget what the threads of this process keep; a task under way still holds its own."""
    _kept.clear()
