"""From the bits of a local binary pattern to its code: what each method makes of them.

Bit i of a pattern is set where sampling point i is not below the centre; `lbp` samples the pixels.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit
from bigcorr.kernels.lbp_circle import METHODS, Method

TABLE_POINTS = 16
"""Most sampling points for which the codes of all patterns are tabulated."""


def code_table(points: int, method: Method) -> NDArray[np.uint16]:
    """Code of every pattern of up to `TABLE_POINTS` points; empty where none is needed."""
    if points > TABLE_POINTS or method in ("default", "var"):
        return np.empty(0, np.uint16)
    return _table(points, method)


@functools.lru_cache(maxsize=16)
def _table(points: int, method: Method) -> NDArray[np.uint16]:
    patterns = np.arange(2**points, dtype=np.uint64)
    encode(patterns, METHODS.index(method), points, np.empty(0, np.uint16))
    return patterns.astype(np.uint16)


@intrinsic
def _ones(typingctx: Any, word: Any) -> Any:
    """Number of bits set in a uint64, by the processor's own instruction where it has one."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        long = ir.IntType(64)
        count = builder.module.declare_intrinsic(
            "llvm.ctpop", [long], ir.FunctionType(long, [long])
        )
        return builder.call(count, args)

    return types.uint64(types.uint64), codegen


@njit(cache=True, nogil=True, error_model="numpy")
def encode(patterns: NDArray[np.uint64], method: int, points: int, table: NDArray[Any]) -> None:
    """Replace patterns by their codes; `method` is its place in `METHODS`."""
    if method == 0:
        return
    if table.size:
        for j in range(patterns.size):
            patterns[j] = table[patterns[j]]
    elif method == 1:
        _least_rotations(patterns, points)
    else:
        _uniform_codes(patterns, method == 3, points)


@njit(cache=True, nogil=True, error_model="numpy")
def _least_rotations(patterns: NDArray[np.uint64], points: int) -> None:
    one, last = np.uint64(1), np.uint64(points - 1)
    for j in range(patterns.size):
        least = word = patterns[j]
        for _ in range(points - 1):
            word = (word >> one) | ((word & one) << last)
            least = min(least, word)
        patterns[j] = least


@njit(cache=True, nogil=True, error_model="numpy")
def _uniform_codes(patterns: NDArray[np.uint64], rotated: bool, points: int) -> None:
    """Number of ones and, if `rotated`, by how much they are turned; one code for all else."""
    one = np.uint64(1)
    p = np.uint64(points)
    within = (one << np.uint64(points - 1)) - one  # between neighbours, not around the end
    if not rotated:
        for j in range(patterns.size):
            word = patterns[j]
            changes = _ones((word ^ (word >> one)) & within)
            patterns[j] = _ones(word) if changes <= np.uint64(2) else p + one
        return
    for j in range(patterns.size):
        word = patterns[j]
        changes = _ones((word ^ (word >> one)) & within)
        ones = _ones(word)
        # The first bit that differs from bit 0 ends the run that the turn is counted from.
        run = ~word if word & one else word
        first = _ones((run & (~run + one)) - one)
        turn = ones - first if word & one else p - first
        code = one + (ones - one) * p + turn
        code = np.uint64(0) if ones == np.uint64(0) else code
        code = p * (p - one) + one if ones == p else code
        patterns[j] = code if changes <= np.uint64(2) else p * (p - one) + np.uint64(2)
