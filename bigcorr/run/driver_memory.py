"""What the process that puts a run of pairs together holds: it grows with channels, not pixels.

Pure arithmetic, beside the plan, whose tasks run elsewhere or in other threads.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from bigcorr.errors import InputError
from bigcorr.pairs.measure import Measure
from bigcorr.pairs.selection import Selection
from bigcorr.pairs.significance import SpectrumSpec
from bigcorr.run.memory import DRIVER_BYTES, mebibytes
from bigcorr.run.plan import Plan, coarse_side
from bigcorr.run.results import BLOCK_BYTES, SIDE

_MOMENTS = 5 * 8 + 4
"""Bytes of a channel and a region: the moments, and which regions are looked at."""

_COARSE_FEATURES = 8 * 3100
"""Most bytes of a channel's features of long waves."""

_UNIT = 1000
"""Bytes of a unit of work that waits for its turn, about."""

_ALWAYS = 2**30
"""Bytes that are held without a look at the machine."""

_BLOCKS = 8
"""Blocks of a matrix that are held while one is made and written: values, their mirror image,
null means and deviations, and what these are made of."""


def driver_bytes(
    plan: Plan,
    specs: Collection[SpectrumSpec],
    tiles: list[Selection],
    measures: Collection[Measure],
) -> tuple[int, int]:
    """Most bytes of arrays while the tasks of the pair pass run, and while none runs.

    Parameters
    ----------
    specs : what standard errors are made of
    tiles : of the matrix
    measures : which are made of the sums
    """
    spectra = plan.channels * sum(spec.nbytes() for spec in set(specs)) // 2
    # Sums of blurs that are done are on disk; features of standard errors are kept for each.
    kept = plan.sigmas * spectra
    side = coarse_side(plan.raster) if any(spec.wants_coarse for spec in specs) else 0
    cells = math.prod(-(-n // side) for n in plan.raster) if side else 0
    widest = max(tile.channels for tile in tiles)
    coarse = 4 * cells * widest
    moments = plan.channels * plan.regions * _MOMENTS
    sampled = plan.channels if plan.field_on_the_way else 0
    waiting = len(plan.blocks) * len(tiles) * (_UNIT * (1 + plan.n_shifts) + sampled)
    # The sum so far, and the unit that is added; of all blurs that go together.
    together = plan.sigmas if plan.held_blocks else 1
    beside = kept + moments + waiting + together * (2 * plan.unit_bytes + coarse)
    features = kept + spectra + 2 * coarse + bool(side) * 2 * plan.channels * _COARSE_FEATURES
    blocks = max(_block_bytes(tile) for tile in tiles)
    finishing = [m.finalize_bytes(plan.raster) for m in measures if hasattr(m, "finalize_bytes")]
    writing = kept + plan.unit_bytes + _BLOCKS * blocks + max(finishing, default=0)
    return beside, max(moments, features, writing)


def _block_bytes(tile: Selection) -> int:
    rows, columns = tile.shape
    step = SIDE * max(1, BLOCK_BYTES // (8 * SIDE * max(columns, 1)))
    return 8 * min(rows, step) * columns


def refuse_too_much(held: int) -> None:
    """Raise an `InputError` where this process would have to hold more than the machine has."""
    if held < _ALWAYS:
        return
    from distributed.system import MEMORY_LIMIT

    if held + DRIVER_BYTES > MEMORY_LIMIT:
        raise InputError(
            f"memory: the process that puts the result together would hold {mebibytes(held)}, and "
            f"this machine has {mebibytes(MEMORY_LIMIT)}: ask for fewer channels or measures, for "
            "no standard errors, or for a smaller grid (grid=) of sinkhorn or emd"
        )
