"""What is asked of a run of pairs: arguments checked, channels chosen, masks found.

Everything that can be refused is refused here, before a pixel is computed. Nothing is run, but for
counting channels where a store does not know their totals.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr import __version__
from bigcorr.errors import InputError
from bigcorr.measures import parse_all
from bigcorr.operators import MOST_SIGMA
from bigcorr.pairs.measure import Features, Measure
from bigcorr.pairs.selection import Selection, matrix_tiles
from bigcorr.pairs.trend import ORDERS
from bigcorr.pairs.variance import null_features
from bigcorr.raster.base import RasterSource
from bigcorr.raster.mask import Mask, empty_fraction, resolve_mask
from bigcorr.raster.source import as_source
from bigcorr.run.cluster import Pool
from bigcorr.run.coarse import CellMask, CellMeans, KeptCells, coarsened
from bigcorr.run.loader import TileLoader
from bigcorr.run.passes import count_unit
from bigcorr.run.progress import SILENT, Progress
from bigcorr.tiles import grid

LARGEST_CELL = 512
"""Pixels along a side of the largest cells: tasks hold a few of them."""
EMPTY_SHARE = 0.5
"""Part of the raster that may be empty in all channels before the run says so."""


@dataclass(frozen=True)
class PairsQuestion:
    """What is asked, checked: everything that the result depends on.

    measures : of the raster that is compared; windows are in its cells.
    stated : the same as they were asked for, in pixels.
    coarsen : side in pixels of the cells of the raster that is compared; 1: its pixels.
    cells_in : folder in which cells are kept once they are made; None: made whenever read.
    """

    source: RasterSource
    measures: tuple[Measure, ...]
    stated: tuple[Measure, ...]
    sigmas: tuple[tuple[float, float] | None, ...]
    many_sigmas: bool
    significance: bool
    mask: Mask | None
    nodata: float | None
    against: tuple[int, ...] | None
    counts: NDArray[Any] | None
    warnings: tuple[str, ...]
    detrend: str = "none"
    n_shifts: int = 0
    shift_seed: int = 0
    coarsen: int = 1
    cells_in: Path | None = None

    @property
    def raster(self) -> tuple[int, int]:
        """Of what is compared: rows and columns of pixels, or of cells."""
        return coarsened((self.source.shape[1], self.source.shape[2]), self.coarsen)

    def job(self) -> dict[str, Any]:
        """The fingerprint: two runs with the same one have the same result."""
        return {
            "command": "pairs",
            "version": __version__,
            "input": self.source.path,
            "channels": len(self.source.channels),
            "measures": {m.name: m.parameters for m in self.stated},
            "sigma": [s if s is None else list(s) for s in self.sigmas],
            "coarsen": None if self.coarsen == 1 else self.coarsen,
            "significance": self.significance,
            "detrend": None if self.detrend == "none" else self.detrend,
            "n_shifts": self.n_shifts or None,
            "shift_seed": self.shift_seed if self.n_shifts else None,
            "mask": None if self.mask is None else self.mask.fingerprint(),
            "nodata": self.nodata,
            "against": None if self.against is None else list(self.against),
            # Last: where several things differ, the ones above say more.
            "input fingerprint": self.source.fingerprint(),
        }

    @property
    def analytic(self) -> bool:
        """Whether standard errors come from spectra; shifts take their place."""
        return self.significance and not self.n_shifts

    def dataset_bytes(self) -> int:
        """Most that all matrices take in memory: values, null means and deviations."""
        rows = self.channels if self.against is None else len(self.against)
        each = 3 if self.significance or self.n_shifts else 1
        return 8 * len(self.sigmas) * len(self.measures) * each * rows * self.channels

    def loader(self, sigma: tuple[float, float] | None) -> TileLoader:
        """Tiles of the raster that is compared."""
        fine = TileLoader(self.source, sigma, self.nodata, self.mask)
        if self.coarsen == 1:
            return fine
        mask = None if self.mask is None else CellMask(self.mask, self.coarsen)
        cells = CellMeans(fine, self.coarsen)
        if self.cells_in is None:
            return TileLoader(cells, mask=mask)
        name = "cells" if sigma is None else f"cells-{sigma[0]!r}-{sigma[1]!r}"
        return TileLoader(KeptCells(cells, self.cells_in / name), mask=mask)

    def smoothness(self, sigma: tuple[float, float] | None) -> tuple[float, float] | None:
        """A blur's sigma in pixels, or cells, of the raster that is compared."""
        return None if sigma is None else (sigma[0] / self.coarsen, sigma[1] / self.coarsen)

    @property
    def channels(self) -> int:
        return self.source.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the pair matrices."""
        return self.channels if self.against is None else len(self.against), self.channels

    def tiles(self, group: int | None) -> list[Selection]:
        """The tiles of the pair matrices, `group` channels along a side."""
        return matrix_tiles(self.channels, self.against, group)

    def features(self) -> tuple[Features, ...]:
        """The distinct features of the measures, in the order of the measures."""
        wanted = [m.features(self.raster) for m in self.measures]
        extra = null_features(self.measures) if self.analytic else ()
        return tuple(dict.fromkeys([*wanted, *extra]))


def ask(
    stack: Any,
    *,
    measures: Any,
    sigma: Any = None,
    window: int | None = None,
    stride: int | None = None,
    contrast_floor: float | None = None,
    significance: bool = True,
    mask: Any = None,
    against: Sequence[str] | str | None = None,
    nodata: float | None = None,
    min_count: float | None = None,
    detrend: str = "none",
    n_shifts: int = 0,
    shift_seed: int = 0,
    coarsen: int = 1,
    pool: Pool | None = None,
    progress: Progress = SILENT,
) -> PairsQuestion:
    """Check everything that can be checked before a pixel is computed.

    Raises
    ------
    InputError
        Names the argument, what it got and what it takes.
    """
    defaults = {"window": window, "stride": stride, "contrast_floor": contrast_floor}
    chosen = parse_all(measures, {k: v for k, v in defaults.items() if v is not None})
    sigmas, many = _sigmas(sigma)
    if detrend not in ORDERS:
        raise InputError(f"detrend: got {detrend!r}, takes one of {', '.join(ORDERS)}")
    source = as_source(stack)
    if source.dtype.kind not in "buif":
        raise InputError(f"{source.path}: pairs take real numbers, got dtype {source.dtype}")
    stated = chosen
    chosen = _coarsened(coarsen, chosen)
    raster = coarsened((source.shape[1], source.shape[2]), coarsen)
    for measure in chosen:
        measure.check(raster)
        if against is None and getattr(measure, "chosen_only", False):
            raise InputError(
                f"measure {measure.name}: is made for chosen channels alone; name some with "
                "against (--against)"
            )
    nodata = source.nodata if nodata is None else nodata
    counts = source.counts
    if min_count is not None:
        if counts is None:
            counts = _count(source, nodata, pool, progress)
        keep = np.flatnonzero(np.asarray(counts) >= min_count)
        if len(keep) == 0:
            raise InputError(
                f"min_count: got {min_count}; no channel has as many, the largest has "
                f"{np.max(counts):g}"
            )
        source, counts = source.select(keep), np.asarray(counts)[keep]
    elif counts is None and coarsen > 1:  # cells do not tell
        counts = _count(source, nodata, pool, progress)
    names = list(source.channels)
    chosen_rows = None
    if against is not None:
        wanted = [against] if isinstance(against, str) else list(against)
        if not wanted:
            raise InputError("against: got no channel, takes at least one name")
        chosen_rows = [_position(name, names) for name in dict.fromkeys(map(str, wanted))]
    resolved = resolve_mask(mask, source)
    _check_shifts(n_shifts, shift_seed, chosen, resolved)
    warnings = []
    if mask is None and resolved is None and len(names) > 1:
        share = empty_fraction(source)
        if share > EMPTY_SHARE:
            warnings.append(
                f"{share:.0%} of the raster is empty in all channels and counts as zeros, which "
                "makes every pair look similar; give --mask auto (mask='auto') or a mask"
            )
            progress.note(warnings[-1])
    if coarsen > 1 and any(sigma is None or min(sigma) < coarsen for sigma in sigmas):
        warnings.append(
            f"cells of {coarsen} pixels are wider than the blur, and what is finer than they are "
            "is averaged away; the measured error says how much that matters"
        )
        progress.note(warnings[-1])
    return PairsQuestion(
        source=source,
        measures=chosen,
        stated=stated,
        sigmas=sigmas,
        many_sigmas=many,
        significance=significance,
        mask=resolved,
        nodata=nodata,
        against=None if chosen_rows is None else tuple(chosen_rows),
        counts=counts,
        warnings=tuple(warnings),
        detrend=detrend,
        n_shifts=n_shifts,
        shift_seed=shift_seed,
        coarsen=int(coarsen),
    )


def _coarsened(cell: Any, measures: Sequence[Measure]) -> tuple[Measure, ...]:
    """The measures of a raster in cells, where they have a meaning there."""
    whole = isinstance(cell, (int, np.integer)) and not isinstance(cell, bool)
    if not whole or not 1 <= cell <= LARGEST_CELL:
        raise InputError(
            f"coarsen: got {cell!r}, takes a whole number of pixels from 1 (none) to {LARGEST_CELL}"
        )
    if cell == 1:
        return tuple(measures)
    fine = [measure.name for measure in measures if not hasattr(measure, "coarsened")]
    if fine:
        raise InputError(
            f"coarsen: {' and '.join(fine)} would be another question to cells than to pixels; it "
            "goes with pearson, cosine, spearman and ncc"
        )
    return tuple(measure.coarsened(int(cell)) for measure in measures)  # type: ignore[attr-defined]


def _check_shifts(n: Any, seed: Any, measures: Sequence[Measure], mask: Mask | None) -> None:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0 or n == 1:
        raise InputError(f"n_shifts: got {n!r}, takes 0 (none) or a number of shifts from 2 up")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"shift_seed: got {seed!r}, takes a whole number from 0 up")
    alike = [measure.name for measure in measures if getattr(measure, "one_mask", False)]
    if n and mask is not None and alike:
        raise InputError(
            f"n_shifts: with a mask {' and '.join(alike)} cannot be shifted: a channel takes the "
            "mask along, and they need one mask for all channels; leave out the mask or n_shifts"
        )


def _count(
    source: RasterSource, nodata: float | None, pool: Pool | None, progress: Progress
) -> NDArray[np.float64]:
    """Totals of all channels where the store does not know them: one pass over the data."""
    loader = TileLoader(source, None, nodata, None)
    boxes = list(grid((source.shape[1], source.shape[2]), 2048))
    total = np.zeros(source.shape[0])
    if pool is None:
        for box in boxes:
            total += count_unit(loader, box)
        return total
    parts: dict[int, NDArray[np.float64]] = {}
    for number, (index, part) in enumerate(
        pool.imap(count_unit, [(loader, box) for box in boxes]), 1
    ):
        parts[index] = part
        progress("count", number, len(boxes))
    for index in range(len(boxes)):
        total += parts[index]
    return total


def _position(name: str, names: list[str]) -> int:
    if name in names:
        return names.index(name)
    if name.isdigit() and int(name) < len(names):
        return int(name)
    near = difflib.get_close_matches(name, names, 3)
    hint = f"; close to it: {', '.join(near)}" if near else f"; there are {len(names)}"
    raise InputError(f"against: no channel {name!r}{hint}")


def _sigmas(sigma: Any) -> tuple[tuple[tuple[float, float] | None, ...], bool]:
    """One blur or several: (y, x) pairs. A list asks for several, a tuple is one (y, x)."""
    if sigma is None:
        return (None,), False
    if isinstance(sigma, (list, np.ndarray)):
        if len(sigma) == 0:
            raise InputError("sigma: got an empty list, takes one or more numbers > 0")
        return tuple(_one_sigma(value) for value in sigma), True
    return (_one_sigma(sigma),), False


def _one_sigma(value: Any) -> tuple[float, float]:
    pair = value if isinstance(value, tuple) else (value, value)
    try:
        y, x = (float(v) for v in pair)
    except (TypeError, ValueError):
        y = x = float("nan")
    if not (0 < y <= MOST_SIGMA and 0 < x <= MOST_SIGMA):
        raise InputError(
            f"sigma: got {value!r}, takes a number of pixels > 0, at most {MOST_SIGMA:,}, or (y, x)"
        )
    return y, x
