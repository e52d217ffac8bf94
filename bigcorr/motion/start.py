"""What a displacement may start from: a registration, a vector, or a flow on a grid of nodes.

Only the conversion to a `Flow`; looking it up is `grids`' part.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError, MissingFileError
from bigcorr.motion.grids import ArrayGrid, Flow, constant_flow, given_flow
from bigcorr.motion.stored import displacement_at
from bigcorr.operators import real_number
from bigcorr.tiles import Shape

_TAKES = (
    "a Registration, a vector (dy, dx), a Dataset with dy and dx on (y, x), or the path of a "
    "displacement or of what `bigcorr register --json` printed"
)
_MOST_NODES = 2048
_AFFINE_NODES = 8
_MARGIN = 3
_FARTHEST = 2.0**20
"""Nodes along each side of a start at most: it need not be finer; nodes along the longer side that
an affine map is laid on, and how many beyond each end, so that the flow's spline is exact inside;
pixels that a start may lead."""

FloatArray = NDArray[np.float64]


def as_flow(initial: Any, shape: Shape) -> Flow | None:
    """The flow that the first pass over a raster of `shape` starts from.

    A registration's shift is what to apply to `moving`: the flow is minus that, and its matrix
    leads from `reference` to `moving` as the flow does. One vector is rounded to whole pixels, so
    that nothing need be interpolated.
    """
    if initial is None:
        return None
    if isinstance(initial, (str, os.PathLike)):
        return _stored(Path(initial), shape)
    if hasattr(initial, "data_vars"):
        return _grid(initial)
    if hasattr(initial, "shift"):
        model = getattr(initial, "model", "translation")
        return _registered(initial.shift, model, getattr(initial, "matrix", None), shape)
    if isinstance(initial, np.ndarray) and initial.ndim == 1:
        initial = initial.tolist()
    if isinstance(initial, (tuple, list)):
        return _vector([real_number("initial", each, _TAKES) for each in initial])
    raise InputError(f"initial: got {type(initial).__name__}, takes {_TAKES}")


def turned(start: Flow | None) -> Flow | None:
    """The same start for the way back: the vectors of the nodes the other way round."""
    if start is None:
        return None
    grid = _held(start)
    return replace(start, grid=replace(grid, values=-grid.values))


def span_of(start: Flow | None) -> float:
    """Pixels by which the vectors of a start differ at most along an axis."""
    return 0.0 if start is None else float(np.ptp(_held(start).values[:2], axis=(1, 2)).max())


def in_words(start: Flow | None) -> str | None:
    """What tells one start from another, short enough for a message."""
    if start is None:
        return None
    values = _held(start).values[:2]
    if start.shape == (1, 1):
        return "({:g}, {:g})".format(*values[:, 0, 0].tolist())
    place = repr((start.first, start.spacing)).encode()
    digest = hashlib.sha256(np.ascontiguousarray(values).tobytes() + place).hexdigest()
    return f"{start.shape[0]} x {start.shape[1]} nodes, sha256 {digest[:16]}"


def _held(start: Flow) -> ArrayGrid:
    assert isinstance(start.grid, ArrayGrid)
    return start.grid


def _stored(path: Path, shape: Shape) -> Flow:
    """A start that lies in a file: a registration as JSON, or a displacement."""
    if not path.exists():
        raise MissingFileError(f"initial: no such file or folder: {path}")
    if path.is_dir():
        found = displacement_at(path)
        if found is None:
            raise InputError(f"initial: got {path}, which is no displacement; takes {_TAKES}")
        return _grid(found)
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        shift = [float(each) for each in said["shift"]]
        model = said.get("model", "translation")
        matrix = np.array(said["matrix"], np.float64) if model == "affine" else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"initial: got {path}, which is not what `bigcorr register --json` printed "
            f"({type(error).__name__}); takes {_TAKES}"
        ) from error
    return _registered(shift, model, matrix, shape)


def _registered(shift: Any, model: str, matrix: Any, shape: Shape) -> Flow:
    if model != "affine" or matrix is None:
        return _vector([-float(each) for each in shift])
    matrix = np.asarray(matrix, np.float64)
    if matrix.shape not in ((3, 3), (2, 3)) or not np.isfinite(matrix).all():
        raise InputError("initial: got a registration whose matrix is none, takes (3, 3) numbers")
    spacing = float(max(math.ceil(max(shape) / _AFFINE_NODES), 1))
    first = -_MARGIN * spacing
    y, x = (
        first + spacing * np.arange(math.ceil((n - 1) / spacing) + 1 + 2 * _MARGIN) for n in shape
    )
    places = np.stack([*np.meshgrid(y, x, indexing="ij"), np.ones((y.size, x.size))])
    there = np.tensordot(matrix[:2], places, 1)
    return given_flow(*_bounded(*(there - places[:2])), (first, first), spacing)


def _vector(pair: list[float]) -> Flow:
    if len(pair) != 2 or not all(abs(each) < _FARTHEST for each in pair):
        raise InputError(f"initial: got {tuple(pair)}, takes {_TAKES}, finite and below 2**20")
    return constant_flow(float(round(pair[0])), float(round(pair[1])))


def _grid(flow: Any) -> Flow:
    missing = {"dy", "dx", "y", "x"} - {*flow.data_vars, *flow.coords}
    if missing or flow["dy"].dims != ("y", "x") or flow["dx"].dims != ("y", "x"):
        raise InputError(f"initial: got a Dataset with {list(flow.data_vars)}, takes {_TAKES}")
    few = {axis: slice(None, None, -(-flow.sizes[axis] // _MOST_NODES) or 1) for axis in "yx"}
    part = flow[["dy", "dx"]].isel(few)
    y, x = (_places(axis, np.asarray(part[axis].values, np.float64)) for axis in "yx")
    dy, dx = (np.asarray(part[name].values, np.float64) for name in ("dy", "dx"))
    if y.size > 1 and y[0] > y[-1]:
        y, dy, dx = y[::-1], dy[::-1], dx[::-1]
    if x.size > 1 and x[0] > x[-1]:
        x, dy, dx = x[::-1], dy[:, ::-1], dx[:, ::-1]
    steps = np.concatenate([np.diff(y), np.diff(x)])
    if steps.size == 0:
        return given_flow(*_bounded(dy, dx), (float(y[0]), float(x[0])), 1.0)
    if np.allclose(steps, steps[0], rtol=0, atol=1e-6):
        return given_flow(*_bounded(dy, dx), (float(y[0]), float(x[0])), float(steps[0]))
    return _on_squares(y, x, *_bounded(dy, dx))


def _places(axis: str, places: FloatArray) -> FloatArray:
    steps = np.diff(places)
    one_way = (steps > 0).all() or (steps < 0).all()
    if places.size == 0 or not np.isfinite(places).all() or not one_way:
        raise InputError(
            f"initial: got nodes along {axis} that do not follow one another, takes coordinates in "
            "pixels that all ascend or all descend"
        )
    return places


def _bounded(dy: FloatArray, dx: FloatArray) -> tuple[FloatArray, FloatArray]:
    known = np.isfinite(dy) & np.isfinite(dx)
    if max(np.abs(dy[known]).max(initial=0), np.abs(dx[known]).max(initial=0)) >= _FARTHEST:
        raise InputError("initial: got vectors of 2**20 pixels and more, takes shorter ones")
    return dy, dx


def _on_squares(y: FloatArray, x: FloatArray, dy: FloatArray, dx: FloatArray) -> Flow:
    """Nodes at unequal steps laid on squares of the least of them, in straight lines between."""
    step = max(float(min(np.diff(axis).min() for axis in (y, x) if axis.size > 1)), 1.0)
    rough = given_flow(dy, dx, (0.0, 0.0), 1.0)  # nodes that nothing is known of are filled
    values = [np.asarray(each, np.float64) for each in _held(rough).values[:2]]
    for axis, places in ((0, y), (1, x)):
        count = min(math.ceil((places[-1] - places[0]) / step) + 1, 4 * _MOST_NODES)
        at = np.interp(places[0] + step * np.arange(count), places, np.arange(places.size))
        low = np.minimum(np.floor(at).astype(int), max(places.size - 2, 0))
        high = np.minimum(low + 1, places.size - 1)
        share = (at - low)[:, None] if axis == 0 else at - low
        values = [
            np.take(each, low, axis) * (1 - share) + np.take(each, high, axis) * share
            for each in values
        ]
    return given_flow(values[0], values[1], (float(y[0]), float(x[0])), step)
