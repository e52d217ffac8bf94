"""The rows of an image as one stretch of memory, whether or not other pixels lie between them.

Kernels walk tiles row by row. Taken so, a tile may be a part of a larger array, which is neither
copied before nor written to twice, and loops still see rows without gaps. Kernels that work in
float64 whatever the pixels are take them as bytes: only what reads and writes a row is compiled for
every dtype then, not all of the kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from bigcorr.kernels.jit import njit

_LINE = 64
"""Bytes that come from memory at a time."""


def is_rows(image: NDArray[Any]) -> bool:
    """Whether `rows_of` takes an array as it is."""
    y, x = image.strides
    item = image.itemsize
    without_gaps = (x == item or image.shape[1] == 1) and (
        image.shape[0] == 1 or (y >= item * image.shape[1] and y % item == 0)
    )
    return bool(without_gaps and image.flags.aligned and image.flags.writeable and image.size)


def rows_of(image: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """The pixels from the first to the last, and from one row to the next.

    An array whose rows have gaps, or that is read-only (a mapped file: loops would have to be
    compiled for it once more), is copied.

    Returns
    -------
    flat : ndarray of one dimension
        Row y is ``flat[y * pitch : y * pitch + width]``.
    pitch : int

    Examples
    --------
    >>> image = np.arange(20).reshape(4, 5)
    >>> flat, pitch = rows_of(image[1:3, 2:4])
    >>> flat[pitch : pitch + 2], pitch
    (array([12, 13]), 5)
    """
    if not is_rows(image):
        image = np.array(image, order="C")
    height, width = image.shape
    pitch = image.strides[0] // image.itemsize if height > 1 else width
    return as_strided(image, ((height - 1) * pitch + width,), (image.itemsize,)), pitch


def target_rows(image: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """`rows_of` an array to be written to, which is never copied."""
    if not is_rows(image):
        raise ValueError(
            f"out: got strides {image.strides} for {image.itemsize} bytes a pixel, takes rows "
            "without gaps that can be written to"
        )
    return rows_of(image)


def raw_rows(image: NDArray[Any]) -> tuple[NDArray[np.uint8], int, int]:
    """`rows_of` an image of uint8, float32 or float64 as bytes.

    Returns
    -------
    raw : ndarray of uint8
    item : int
        Bytes of a pixel, which tell the dtype.
    pitch : int
        Pixels from one row to the next.
    """
    flat, pitch = rows_of(image)
    return flat.view(np.uint8), image.itemsize, pitch


def raw_target(image: NDArray[Any]) -> tuple[NDArray[np.uint8], int, int]:
    """The same of an array to be written to, which is never copied."""
    flat, pitch = target_rows(image)
    return flat.view(np.uint8), image.itemsize, pitch


@njit(cache=True, nogil=True)
def read_row(
    raw: NDArray[np.uint8], item: int, start: int, offset: float, out: NDArray[np.float64]
) -> None:
    """Pixels from number `start` on, less an offset."""
    stop = start + out.size
    if item == 8:
        _subtract(raw.view(np.float64)[start:stop], offset, out)
    elif item == 4:
        _subtract(raw.view(np.float32)[start:stop], offset, out)
    else:
        _subtract(raw[start:stop], offset, out)


@intrinsic
def fetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line that holds an element of an array, to be read from soon.

    Only in compiled functions; the element need not exist.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        name = "llvm.prefetch.p0i8"  # the form of pointers before LLVM 17, which still takes it
        fetch = cgutils.get_or_insert_function(builder.module, kind, name)
        at = builder.bitcast(builder.gep(data, [args[1]]), byte)
        builder.call(fetch, [at, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.none(array, types.intp), codegen


@njit(cache=True, nogil=True)
def fetch_row(raw: NDArray[np.uint8], item: int, start: int, size: int) -> None:
    """Ask for `size` pixels from number `start` on, which `read_row` will read soon.

    A processor foresees what is read next in a row, but not the next row of a part of an image.
    """
    stop = min((start + size) * item, raw.size)
    for at in range(start * item, stop, _LINE):
        fetch(raw, at)


@njit(cache=True, nogil=True)
def _subtract(line: NDArray[Any], offset: float, out: NDArray[np.float64]) -> None:
    for j in range(out.size):
        out[j] = line[j] - offset


@njit(cache=True, nogil=True)
def write_row(line: NDArray[np.float64], raw: NDArray[np.uint8], item: int, start: int) -> None:
    """Numbers to the pixels from number `start` on, rounded once."""
    stop = start + line.size
    if item == 8:
        _copy(line, raw.view(np.float64)[start:stop])
    else:
        _copy(line, raw.view(np.float32)[start:stop])


@njit(cache=True, nogil=True)
def _copy(line: NDArray[np.float64], out: NDArray[Any]) -> None:
    for j in range(line.size):
        out[j] = line[j]
