"""How memory is handed out in the processes that are ours: a command's own and its workers'.

Said once, for glibc's allocator; others are left as they are. A program that uses the library keeps
its own settings.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

HEAP = {
    # Tiles of a few MiB are made and dropped all the time: keep their pages instead of faulting
    # them in again (dask's own default gives every page back at once).
    "MALLOC_MMAP_THRESHOLD_": 32 * 2**20,
    "MALLOC_TRIM_THRESHOLD_": 128 * 2**20,
    # One heap: each thread, and each of a decoder's, would keep freed pages in a heap of its own,
    # and what a process takes would grow with the number of tasks.
    "MALLOC_ARENA_MAX": 1,
}
"""Settings by the names that glibc reads from the environment when a process starts."""

_OPTIONS = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3, "MALLOC_ARENA_MAX": -8}


def set_heap() -> bool:
    """Give this process the settings of `HEAP`; best before it has started a thread.

    What the environment says already stays. False where the allocator takes no such settings.
    """
    try:
        mallopt: Callable[[int, int], int] = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc
        return False
    untold = [name for name in HEAP if name not in os.environ]
    taken = [mallopt(_OPTIONS[name], HEAP[name]) == 1 for name in untold]
    return all(taken)
