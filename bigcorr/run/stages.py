"""One stage of a job: many units through a pool, merged in the order of the units.

The order in which units finish says nothing about the result: they are folded 0, 1, 2, ... and
kept on disk until their turn. Knows nothing of what a unit computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bigcorr.run.checkpoint import Arrays, Checkpoint
from bigcorr.run.cluster import Pool
from bigcorr.run.progress import Progress

Fold = Callable[[Arrays, int, Arrays], None]
"""``fold(total, index, unit)`` adds the arrays of a unit to the total in place."""

PREFIX_BYTES = 64 * 2**20
"""A merged prefix is written once the units behind the last one hold more than this, or than
twice the total: then prefixes cost no more than units."""


def run_stage(
    pool: Pool,
    stage: str,
    function: Callable[..., Arrays],
    units: Sequence[tuple],
    fold: Fold,
    *,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> tuple[Arrays, int]:
    """Run ``function(*unit)`` for all units and fold the results in order.

    Returns
    -------
    total : dict of arrays
    found : int
        Units that an earlier run had done already.
    """
    total: Arrays = {}
    merged, stored = checkpoint.done(stage) if checkpoint else (0, set[int]())
    if merged and checkpoint:
        total = checkpoint.read_prefix(stage, merged)
    found = merged + len(stored)
    if found:
        progress.note(f"{stage}: {found} of {len(units)} units are done already")
    pending = [index for index in range(merged, len(units)) if index not in stored]
    waiting: dict[int, Arrays | None] = dict.fromkeys(stored)
    since = 0
    progress(stage, found, len(units))

    def fold_ready() -> None:
        nonlocal merged, since
        while merged in waiting:
            arrays = waiting.pop(merged)
            if arrays is None:
                assert checkpoint is not None
                arrays = checkpoint.read_unit(stage, merged)
            since += sum(array.nbytes for array in arrays.values())
            fold(total, merged, arrays)
            merged += 1
            if checkpoint and (
                merged == len(units)
                or since > max(PREFIX_BYTES, 2 * sum(a.nbytes for a in total.values()))
            ):
                checkpoint.write_prefix(stage, merged, total)
                since = 0

    fold_ready()
    tasks = ((checkpoint, stage, index, function, units[index]) for index in pending)
    for count, (position, arrays) in enumerate(pool.imap(_run_unit, tasks), 1):
        waiting[pending[position]] = arrays
        fold_ready()
        progress(stage, found + count, len(units))
    return total, found


def _run_unit(
    checkpoint: Checkpoint | None,
    stage: str,
    index: int,
    function: Callable[..., Arrays],
    unit: tuple,
) -> Any:
    """In the worker: compute a unit and keep it where all can see it, or hand it back."""
    arrays = function(*unit)
    if checkpoint is None:
        return arrays
    checkpoint.write_unit(stage, index, arrays)
    return None
