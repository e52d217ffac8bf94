"""What a displacement may start from: a registration, a vector, or a flow on a grid of nodes.

Only the conversion to a `Flow`; looking it up is `grids`' part.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.motion.grids import ArrayGrid, Flow, constant_flow, given_flow
from bigcorr.operators import real_number

_TAKES = "a Registration, a vector (dy, dx), or a Dataset with dy and dx on (y, x)"


def as_flow(initial: Any) -> Flow | None:
    """The flow that a pass starts from.

    A registration's shift is what to apply to `moving`: the flow is minus that. One vector is
    rounded to whole pixels, so that nothing need be interpolated.
    """
    if initial is None:
        return None
    if hasattr(initial, "shift") and not hasattr(initial, "data_vars"):
        return _vector([-float(each) for each in initial.shift])
    if hasattr(initial, "data_vars"):
        return _grid(initial)
    if isinstance(initial, (tuple, list)):
        return _vector([real_number("initial", each, _TAKES) for each in initial])
    raise InputError(f"initial: got {type(initial).__name__}, takes {_TAKES}")


def turned(start: Flow | None) -> Flow | None:
    """The same start for the way back: the vectors of the nodes the other way round."""
    if start is None:
        return None
    assert isinstance(start.grid, ArrayGrid)
    return replace(start, grid=replace(start.grid, values=-start.grid.values))


def _vector(pair: list[float]) -> Flow:
    if len(pair) != 2 or not all(abs(each) < 2**20 for each in pair):
        raise InputError(f"initial: got {tuple(pair)}, takes {_TAKES}, finite and below 2**20")
    return constant_flow(float(round(pair[0])), float(round(pair[1])))


def _grid(flow: Any) -> Flow:
    missing = {"dy", "dx", "y", "x"} - {*flow.data_vars, *flow.coords}
    if missing or flow["dy"].dims != ("y", "x") or flow["dx"].dims != ("y", "x"):
        raise InputError(f"initial: got a Dataset with {list(flow.data_vars)}, takes {_TAKES}")
    y, x = (_regular(axis, np.asarray(flow[axis].values, np.float64)) for axis in "yx")
    steps = {step for _, step in (y, x) if step}
    if len(steps) > 1:
        raise InputError(
            f"initial: got nodes {y[1]:g} pixels apart along y and {x[1]:g} along x, takes as many"
        )
    dy, dx = (np.asarray(flow[name].values, np.float64) for name in ("dy", "dx"))
    return given_flow(dy, dx, (y[0], x[0]), steps.pop() if steps else 1.0)


def _regular(axis: str, places: NDArray[np.float64]) -> tuple[float, float]:
    """First place and step of an axis; a step of 0 where there is but one place."""
    steps = np.diff(places)
    if places.size == 0 or (steps.size and not np.allclose(steps, steps[0], rtol=0, atol=1e-6)):
        raise InputError(f"initial: got nodes at unequal steps along {axis}, takes equal ones")
    if steps.size and steps[0] <= 0:
        raise InputError(f"initial: got nodes that descend along {axis}, takes ascending ones")
    return float(places[0]), float(steps[0]) if steps.size else 0.0
