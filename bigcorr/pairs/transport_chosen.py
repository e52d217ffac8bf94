"""Optimal transport of chosen pairs: entropic (Sinkhorn) and exact (earth mover's distance).

Each pair is a problem of its own, some milliseconds of it, so these are made only for the channels
that are asked for against all others. The masses are those of `transport`, on a coarser grid.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError, RunError
from bigcorr.kernels.transport import entropic_cost
from bigcorr.pairs.measure import ChannelStatistics, Partial
from bigcorr.pairs.selection import Selection
from bigcorr.pairs.summaries import NoFeatures, Tally
from bigcorr.pairs.transport import CellSums, Masses, masses, whole_number

Matrix = NDArray[np.float64]

MOST_CELLS = 128
"""Most cells along a side: beyond it one pair takes seconds."""
TOLERANCE = 1e-7
"""Of the mass that Sinkhorn's steps leave in the wrong place."""
MOST_STEPS = 10_000
SIMPLEX_STEPS = 10_000_000
_SIMPLEX_BYTES = 110
"""Bytes of each move from a cell to a cell, while one pair is solved exactly."""
CHUNK = 64
"""Channels whose masses are held at once."""


@dataclass(frozen=True)
class CoarseMass:
    """The sums of `CellSums`, kept as they are."""

    grid: int

    @property
    def tally(self) -> Tally:
        return CellSums(self.grid)

    @property
    def needs(self) -> tuple[Any, ...]:
        return ()

    def finish(self, total: NDArray[Any], statistics: ChannelStatistics) -> NDArray[Any]:
        return total


@dataclass(frozen=True)
class _Chosen:
    """What both share: the grid, and that they are made for chosen channels alone."""

    grid: int = 32

    kind: ClassVar[Literal["distance"]] = "distance"
    range: ClassVar[tuple[float, float | None]] = (0.0, None)
    symmetric: ClassVar[bool] = True
    distribution: ClassVar[Literal["none"]] = "none"
    chosen_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole_number("grid", self.grid, 1, MOST_CELLS)

    def features(self, raster: tuple[int, int]) -> NoFeatures:
        return NoFeatures()

    @property
    def summaries(self) -> tuple[CoarseMass, ...]:
        return (CoarseMass(self.grid),)

    @property
    def parameters(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def check(self, shape: tuple[int, int]) -> None:
        """Fits every raster."""

    def finalize_bytes(self, raster: tuple[int, int]) -> int:
        """Most bytes that `finalize` holds beside the masses and the matrix."""
        return 0

    def _cost(self, found: Masses) -> Callable[[Matrix, Matrix], float]:
        """The mean squared distance by which one grid of masses is moved to another."""
        raise NotImplementedError

    def finalize(
        self, partial: Partial, selection: Selection, rows: slice, statistics: ChannelStatistics
    ) -> Matrix:
        chosen = selection.rows[rows]
        value = np.full((len(chosen), len(selection.columns)), np.nan)
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for down in _cut(len(chosen)):
                own = self._masses(chosen[down], statistics)
                cost = self._cost(own)
                for across in _cut(len(selection.columns)):
                    other = self._masses(selection.columns[across], statistics).mass
                    for row, a in zip(value[down], own.mass, strict=True):
                        row[across] = list(threads.map(functools.partial(_root, cost, a), other))
        return value

    def _masses(self, channels: NDArray[np.int64], statistics: ChannelStatistics) -> Masses:
        return masses(statistics.known.select(channels).of(self.summaries[0]))


def _cut(count: int) -> list[slice]:
    return [slice(a, min(a + CHUNK, count)) for a in range(0, count, CHUNK)]


def _root(cost: Callable[[Matrix, Matrix], float], a: Matrix, b: Matrix) -> float:
    """Root mean square distance; NaN where there is no mass on one side."""
    total_a, total_b = a.sum(), b.sum()
    if not (total_a > 0 and total_b > 0):
        return np.nan
    return float(np.sqrt(max(cost(a / total_a, b / total_b), 0.0)))


def _squared(places: Matrix) -> Matrix:
    return np.square(places[:, None] - places[None, :])


@dataclass(frozen=True)
class Sinkhorn(_Chosen):
    """Entropic optimal transport of chosen pairs: root mean square distance of the moves, pixels.

    The mass of a channel, scaled to 1 in all, is moved to that of the other at least squared
    distance less `reg` times the entropy of the plan. Only with ``against``.

    Parameters
    ----------
    grid : int
        Cells along the raster's longer side to which it is coarsened before, at most 128.
    reg : float
        Weight of the entropy as a part of the largest squared distance on the grid, at least
        0.002. The smaller, the nearer to `EMD` and the slower.

    Notes
    -----
    Values must not be negative; a missing pixel holds no mass, and a channel without any has no
    distance (NaN). Entropy spreads the plan: values are above those of `EMD`, and that of a channel
    with itself is not 0. Steps end when less than 1e-7 of the mass is in the wrong place, or after
    10 000 of them.

    References
    ----------
    Cuturi (2013), "Sinkhorn distances: lightspeed computation of optimal transport", NIPS.

    Examples
    --------
    >>> import numpy as np, bigcorr as bc
    >>> stack = np.zeros((2, 20, 20))
    >>> stack[0, 5, 5] = stack[1, 8, 9] = 1.0
    >>> sim = bc.pairwise(stack, ["sinkhorn"], against="c0", progress=False)
    >>> sim["sinkhorn"].values.round(6).tolist()
    [[0.0, 5.0]]
    """

    reg: float = 0.01

    name: ClassVar[str] = "sinkhorn"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.reg, (bool, str)) or not 0.002 <= self.reg < np.inf:
            raise InputError(
                f"reg: got {self.reg!r}, takes a number of at least 0.002; emd is the limit of 0"
            )

    def _cost(self, found: Masses) -> Callable[[Matrix, Matrix], float]:
        cost_y, cost_x = _squared(found.y), _squared(found.x)
        largest = float(cost_y.max() + cost_x.max())
        reg = self.reg * (largest or 1.0)
        return lambda a, b: entropic_cost(a, b, cost_y, cost_x, reg, TOLERANCE, MOST_STEPS)


@dataclass(frozen=True)
class EMD(_Chosen):
    """Exact optimal transport of chosen pairs: root mean square distance of the moves, in pixels.

    The 2-Wasserstein distance in the plane of the masses on a coarse grid, each scaled to 1 in all.
    Only with ``against``; it needs POT (``pip install "bigcorr[ot]"``).

    Parameters
    ----------
    grid : int
        Cells along the raster's longer side to which it is coarsened before, at most 128.

    Notes
    -----
    Values must not be negative; a missing pixel holds no mass, and a channel without any has no
    distance (NaN).

    References
    ----------
    Flamary et al. (2021), "POT: Python Optimal Transport", Journal of Machine Learning Research 22.

    Examples
    --------
    >>> import bigcorr as bc
    >>> bc.measures.EMD(grid=24)
    EMD(grid=24)
    """

    name: ClassVar[str] = "emd"

    def check(self, shape: tuple[int, int]) -> None:
        if importlib.util.find_spec("ot") is None:
            raise InputError(
                "measure emd: needs the package POT, which is not installed: pip install "
                '"bigcorr[ot]", or take sinkhorn'
            )

    def finalize_bytes(self, raster: tuple[int, int]) -> int:
        # Every cell to every cell, in as many threads as there are processors.
        cells = self.grid * -(-self.grid * min(raster) // max(raster))
        return _SIMPLEX_BYTES * cells**2 * (os.cpu_count() or 1)

    def _cost(self, found: Masses) -> Callable[[Matrix, Matrix], float]:
        import ot

        places = np.stack(np.meshgrid(found.y, found.x, indexing="ij"), axis=-1).reshape(-1, 2)

        def cost(a: Matrix, b: Matrix) -> float:
            i, j = np.flatnonzero(a), np.flatnonzero(b)
            moves = np.square(places[i][:, None] - places[j][None, :]).sum(axis=-1)
            value, log = ot.emd2(
                a.ravel()[i], b.ravel()[j], moves, numItermax=SIMPLEX_STEPS, log=True
            )
            if log["warning"]:
                raise RunError(f"emd: {log['warning']}")
            return float(value)

        return cost
