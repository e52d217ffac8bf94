"""What a search is asked for: parameters, passes, and where the nodes of a pass lie.

Checks and integers only; no pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.operators import SIDE_OF_SIGMA, check_share, real_number, whole_number
from bigcorr.tiles import Box, Shape

SUBPIXEL = ("quadratic", "gaussian", "soft_argmax", "none")

_LEAST_WINDOW = 3
_LEAST_SEARCH = 2
_MOST_LEVELS = 10
_SHARE = 4
"""Least side of a window; least search of a pass that follows another; times that resolution can be
halved; a pass that another follows has so many nodes, and searches so far, for each window."""


@dataclass(frozen=True)
class Pass:
    """One search of the whole raster.

    window, search, step : in pixels of the level.
    level : times that the images are made smaller by two.
    """

    window: int
    search: int
    step: int
    level: int = 0

    @property
    def scale(self) -> int:
        """Pixels of the raster in one of the level."""
        return int(2**self.level)

    def nodes(self, shape: Shape) -> Shape:
        """How many nodes a raster has: windows that lie wholly inside it."""
        rows, columns = (((n // self.scale) - self.window) // self.step + 1 for n in shape)
        return rows, columns

    @property
    def first(self) -> tuple[float, float]:
        """Where the first node lies on the raster: the true centre of its window."""
        at = self.window / 2 * self.scale - 0.5
        return at, at

    @property
    def spacing(self) -> float:
        """Pixels of the raster from node to node."""
        return float(self.step * self.scale)

    def centres(self, start: int, stop: int) -> NDArray[np.float64]:
        """Pixels of the raster at which the nodes of an axis lie.

        >>> Pass(32, 8, 16).centres(0, 3).tolist()
        [15.5, 31.5, 47.5]
        """
        return self.first[0] + self.spacing * np.arange(start, stop, dtype=np.float64)

    def reference_box(self, nodes: Box) -> Box:
        """The pixels of the level that the windows of a box of nodes cover."""
        y0, y1, x0, x1 = nodes
        reach = self.window - self.step
        return Box(y0 * self.step, y1 * self.step + reach, x0 * self.step, x1 * self.step + reach)


@dataclass(frozen=True)
class Search:
    """All that the numbers of a displacement depend on beside the pixels.

    passes : in their order.
    subpixel, temperature : how peaks are refined.
    weights : of a window's pixels, "uniform" or "gaussian".
    min_valid : share of a window's weight that must be valid in both images.
    threshold, tolerance : of the normalised median test.
    smooth : whether the last pass is tested and smoothed as those before it are.
    """

    passes: tuple[Pass, ...]
    subpixel: str = "quadratic"
    temperature: float = 0.1
    weights: str = "uniform"
    min_valid: float = 0.5
    threshold: float = 2.0
    tolerance: float = 0.1
    smooth: bool = False

    def taps(self, window: int) -> NDArray[np.float64]:
        """Weights of a window along each axis."""
        if self.weights == "uniform":
            return np.ones(window)
        far = (np.arange(window, dtype=np.float64) - (window - 1) / 2) * (SIDE_OF_SIGMA / window)
        return np.asarray(np.exp(-0.5 * far**2), np.float64)

    def pixels(self, window: int) -> float:
        """How many pixels of a window count as independent."""
        taps = self.taps(window)
        return float((taps.sum() ** 2 / (taps * taps).sum()) ** 2)


def plan_search(
    shape: Shape,
    window: Any = 32,
    search: Any = 8,
    step: Any = 16,
    passes: Any = 1,
    *,
    levels: Any = 0,
    subpixel: Any = "quadratic",
    temperature: Any = 0.1,
    weights: Any = None,
    min_valid: Any = 0.5,
    outlier_threshold: Any = 2.0,
    smooth: Any = None,
) -> Search:
    """Check the parameters of a displacement of rasters of `shape` and lay out its passes.

    Raises
    ------
    InputError
        A parameter is none that is taken, or a window is larger than the raster.

    Examples
    --------
    >>> plan = plan_search((512, 512), window=16, search=8, step=8, passes=3)
    >>> [(each.window, each.search, each.step) for each in plan.passes]
    [(64, 8, 16), (32, 8, 8), (16, 4, 8)]
    """
    search = _at_least("search", search, 1)
    step = _at_least("step", step, 1)
    levels = _at_least("levels", levels, 0)
    if levels > _MOST_LEVELS:
        raise InputError(f"levels: got {levels}, takes at most {_MOST_LEVELS}")
    windows = _windows(window, passes, shape)
    if weights not in (None, "uniform", "gaussian"):
        raise InputError(f"weights: got {weights!r}, takes 'uniform' or 'gaussian'")
    if subpixel not in SUBPIXEL:
        raise InputError(f"subpixel: got {subpixel!r}, takes one of {', '.join(SUBPIXEL)}")
    several = len(windows) > 1 or levels > 0
    return Search(
        tuple(_passes(windows, search, step, levels, shape)),
        subpixel,
        _positive("temperature", temperature),
        weights or ("gaussian" if several else "uniform"),
        check_share("min_valid", min_valid),
        _positive("outlier_threshold", outlier_threshold),
        smooth=several if smooth is None else bool(smooth),
    )


def _windows(window: Any, passes: Any, shape: Shape) -> list[int]:
    takes = f"a whole number of at least {_LEAST_WINDOW}"
    several = isinstance(passes, Sequence) and not isinstance(passes, (str, bytes))
    if several or isinstance(passes, np.ndarray):
        windows = [
            _at_least("passes", each, _LEAST_WINDOW, "windows that are whole numbers")
            for each in passes
        ]
        if not windows:
            raise InputError("passes: got an empty list, takes at least one window")
        name = "passes"
    else:
        count = _at_least("passes", passes, 1, "a list of windows, or a whole number")
        last = _at_least("window", window, _LEAST_WINDOW)
        # More than the raster is of no use to a pass that another one follows.
        most = max(min(shape), last)
        windows = [min(last * 2**k, most) for k in range(min(count, 32) - 1, -1, -1)]
        name = "window"
    if max(windows) > min(shape):
        raise InputError(
            f"{name}: got {max(windows)} for a raster of {shape[0]} x {shape[1]} pixels, takes "
            f"{takes} that is not larger than its shorter side"
        )
    return windows


def _passes(windows: list[int], search: int, step: int, levels: int, shape: Shape) -> list[Pass]:
    """The passes from the coarsest level to the last window."""
    found: list[Pass] = []
    for level in range(levels, 0, -1):
        window = min(windows[0], min(shape) // 2**level)
        if window < _LEAST_WINDOW:
            raise InputError(
                f"levels: got {levels} for a raster of {shape[0]} x {shape[1]} pixels, takes "
                f"fewer: a window must have {_LEAST_WINDOW} pixels there"
            )
        reach = math.ceil(search / 2**level) + 1 if not found else _residual(window, search)
        found.append(Pass(window, reach, max(window // _SHARE, 1), level))
    for k, window in enumerate(windows):
        last = k == len(windows) - 1
        reach = _residual(window, search) if found else search
        found.append(Pass(window, reach, step if last else max(round(window / _SHARE), 1)))
    return found


def _residual(window: int, search: int) -> int:
    """How far a pass looks that follows another: what that could not see is smaller."""
    return min(search, max(math.ceil(window / _SHARE), _LEAST_SEARCH))


def _at_least(name: str, value: Any, least: int, what: str = "a whole number") -> int:
    takes = f"{what} of at least {least}"
    number = whole_number(name, value, takes)
    if number < least:
        raise InputError(f"{name}: got {number}, takes {takes}")
    return number


def _positive(name: str, value: Any) -> float:
    number = real_number(name, value, "a number > 0")
    if not 0 < number < math.inf:
        raise InputError(f"{name}: got {number:g}, takes a number > 0")
    return number
