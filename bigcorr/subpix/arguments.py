"""What the functions of this package take: each check names the argument, what it got and takes.

Nothing is computed here but the dtype that the arithmetic runs in.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bigcorr.errors import InputError

Whole = int | Sequence[int]


def real(name: str, value: ArrayLike, axes: str | None = None) -> NDArray[Any]:
    """An array of real numbers as it is, with the named axes if there are any."""
    array = np.asarray(value)
    if array.dtype.kind not in "buif":
        raise InputError(f"{name}: got dtype {array.dtype}, takes real numbers")
    if axes is not None and array.ndim != len(axes):
        raise InputError(f"{name}: got shape {array.shape}, takes ({', '.join(axes)})")
    return array


def floats(name: str, value: ArrayLike, axes: str | None = None) -> NDArray[Any]:
    """The same in the dtype that is computed in: float32 stays, all else becomes float64."""
    array = real(name, value, axes)
    return array if array.dtype == np.float32 else array.astype(np.float64, copy=False)


def positive(temperature: Any, like: NDArray[Any]) -> Any:
    """A temperature, a number or an array that broadcasts with `like`, in the dtype of `like`."""
    given = np.asarray(temperature)
    if given.dtype.kind not in "buif" or not (given > 0).all():
        raise InputError(
            f"temperature: got {temperature}, takes a positive number or array of them"
        )
    try:
        fits = np.broadcast_shapes(given.shape, like.shape) == like.shape
    except ValueError:
        fits = False
    if not fits:
        raise InputError(
            f"temperature: got shape {given.shape}, takes one that broadcasts with {like.shape}"
        )
    return given.astype(like.dtype)


def whole_numbers(name: str, value: Whole, count: int, least: int | None) -> tuple[int, ...]:
    """One whole number for each axis: as many as there are, or one for all."""
    bound = "" if least is None else f" of at least {least}"
    takes = f"one whole number{bound}, or {count} of them"
    try:
        found = tuple(operator.index(each) for each in np.atleast_1d(np.asarray(value)).tolist())
    except TypeError:
        raise InputError(f"{name}: got {value!r}, takes {takes}") from None
    found = found * count if len(found) == 1 and np.ndim(value) == 0 else found
    if len(found) != count or (least is not None and min(found) < least):
        raise InputError(f"{name}: got {value!r}, takes {takes}")
    return found
