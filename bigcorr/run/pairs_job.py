"""A run of pairs from a raster to a result: statistics, spectra, pair pass, matrices.

Puts the rooms together and says what is done in which order; formulas live in `bigcorr.pairs`,
storage in `bigcorr.raster` and `results`, what happens in a worker in `passes`.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bigcorr.pairs.coarsening import differences
from bigcorr.pairs.significance import SpectrumSpec
from bigcorr.pairs.summaries import rounds_of
from bigcorr.pairs.variance import spectra_of
from bigcorr.raster.begun import refuse_other
from bigcorr.raster.lock import locked
from bigcorr.run.blurs import all_blurs
from bigcorr.run.cells_stage import keep_cells, read_bytes, stage_bytes
from bigcorr.run.channel_stages import sample_of
from bigcorr.run.checkpoint import Checkpoint
from bigcorr.run.cluster import Pool, open_pool
from bigcorr.run.coarse_error import both_questions, share_of
from bigcorr.run.driver_memory import driver_bytes, refuse_too_much
from bigcorr.run.order import order_of
from bigcorr.run.plan import Plan, make_plan
from bigcorr.run.progress import SILENT, Progress
from bigcorr.run.question import PairsQuestion, ask
from bigcorr.run.results import PairResult, existing_job, write_result
from bigcorr.run.worker_memory import telling_projection

if TYPE_CHECKING:
    from distributed import Client


def run_pairs(
    stack: Any,
    out_path: str | Path,
    *,
    resume: bool = True,
    plan_only: bool = False,
    progress: Progress | None = None,
    cluster: str | Client | Pool | None = None,
    workers: int | None = None,
    threads: int | None = None,
    memory: str | int | None = None,
    **question: Any,
) -> dict[str, Any]:
    """Compute pair matrices from storage to a result store, resumable.

    Parameters
    ----------
    stack : path or anything that `as_source` takes
    out_path : path
        The result store; unfinished work stands beside it in ``<out_path>.partial``.
    resume : bool
        Go on with what the same command left; False starts afresh and replaces what is there.
    plan_only : bool
        Say what would be done and do nothing.
    progress : Progress, optional
    cluster, workers, threads, memory
        As in `bigcorr.run.cluster.open_pool`.
    **question
        As in `ask`: measures, sigma, window, stride, contrast_floor, significance, mask, against,
        nodata, min_count, detrend, n_shifts, shift_seed, coarsen.

    Returns
    -------
    dict
        A summary for people and machines.

    Raises
    ------
    InputError
        Bad input, or the output belongs to another run.
    RunError
        A damaged input, a full disk, lost workers.
    """
    progress = progress or SILENT
    started = time.monotonic()
    out = Path(out_path)
    with ExitStack() as held:
        if not plan_only:
            progress = held.enter_context(locked(out, progress)).watch(progress)
        pool = held.enter_context(
            open_pool(cluster, workers=workers, threads=threads, memory=memory)
        )
        if pool.dashboard:
            progress.note(f"dashboard: {pool.dashboard}")
        checkpoint = Checkpoint(out.with_name(out.name + ".partial"))
        asked = ask(stack, pool=pool, progress=progress, **question)
        asked = replace(asked, cells_in=checkpoint.path)
        job = asked.job()
        if resume and not plan_only and (stored := existing_job(out)) is not None:
            refuse_other(f"{out} is the result of another run", stored, job)
            checkpoint.sweep_finished(job)
            return {"output": str(out), "done_before": True, "channels": job["channels"]}
        plan = plan_for(asked, pool)
        if plan_only:
            return {
                "plan": plan.rows(),
                "projected_bytes": plan.worker_bytes,
                "projected_peak_bytes": plan.peak_bytes,
            }
        refuse_too_much(max(plan.driver_bytes))
        checkpoint.begin(job, resume)
        with telling_projection(plan.worker_bytes):
            result = compute(asked, plan, pool, checkpoint, progress)
        result.attrs["wall_seconds"] = round(time.monotonic() - started, 3)
        progress.note(f"writing {out}")
        write_result(result, out, checkpoint.path / "result", job, progress)
        checkpoint.remove()
    return {
        "output": str(out),
        "channels": asked.channels,
        "pairs": plan.pairs,
        "measures": [m.name for m in asked.measures],
        "units": result.attrs["units"],
        "units_found_done": result.attrs["units_found_done"],
        "projected_bytes": plan.worker_bytes,
        "projected_peak_bytes": plan.peak_bytes,
        "timings": result.attrs["timings"],
        "warnings": result.attrs["warnings"],
        "coarsen_error": result.attrs.get("coarsen_error"),
        "seconds": round(time.monotonic() - started, 3),
    }


def compute(
    asked: PairsQuestion,
    plan: Plan,
    pool: Pool,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> PairResult:
    """All stages for all blurs; the matrices themselves are made when the result is read."""
    cells = keep_cells(asked, pool, progress, plan.worker_bytes)
    parts = all_blurs(asked, plan, pool, checkpoint, progress)
    timings: dict[str, float] = {}
    units, found = cells.units, cells.found
    if cells.seconds:
        timings["cells"] = cells.seconds
    for part in parts:
        for name, seconds in part.timings.items():
            timings[name] = timings.get(name, 0.0) + seconds
        units, found = units + part.units, found + part.found
    warned = list(dict.fromkeys(warning for part in parts for warning in part.warnings))
    attrs = {
        "timings": {name: round(value, 3) for name, value in sorted(timings.items())},
        "units": units,
        "units_found_done": found,
        "workers": pool.description,
        "projected_bytes": plan.worker_bytes,
        "warnings": list(asked.warnings) + warned,
        "n_shifts": asked.n_shifts or None,
        "shift_seed": asked.shift_seed if asked.n_shifts else None,
        "detrend": None if asked.detrend == "none" else asked.detrend,
        "coarsen": None if asked.coarsen == 1 else asked.coarsen,
    }
    if asked.coarsen > 1:
        attrs |= _coarse_error(asked, pool, checkpoint, progress)
    counts = asked.counts if asked.counts is not None else parts[0].counts
    return PairResult(
        source=asked.source,
        measures=asked.measures,
        stated=asked.stated,
        against=asked.against,
        sigmas=asked.sigmas if asked.many_sigmas else None,
        sigma=None if asked.many_sigmas else asked.sigmas[0],
        blurs=[replace(part, counts=None) for part in parts],
        counts=np.asarray(counts),
        attrs=attrs,
        raster=asked.raster,
        n_shifts=asked.n_shifts,
    )


def _coarse_error(
    asked: PairsQuestion, pool: Pool, checkpoint: Checkpoint | None, progress: Progress
) -> dict[str, Any]:
    """What is lost by cells, compared twice on pieces of the raster."""
    values = []
    for question, name in zip(both_questions(asked), ("pixels", "cells"), strict=True):
        kept = None if checkpoint is None else Checkpoint(checkpoint.path / f"error in {name}")
        progress.note(f"error of cells: a sample in {name}")
        found = compute(question, plan_for(question, pool), pool, kept, progress).dataset()
        values.append({m.name: found[m.name].values for m in question.measures})
    return {
        "coarsen_error": differences(*values),
        "coarsen_error_from": {"share": share_of(asked), "channels": question.channels},
    }


def plan_for(asked: PairsQuestion, pool: Pool) -> Plan:
    loaders = [asked.loader(sigma) for sigma in asked.sigmas]
    widest = loaders[0]
    if asked.sigmas[0] is not None:
        # What holds for it holds for all: no halo is wider along either axis.
        y, x = (max(sides) for sides in zip(*filter(None, asked.sigmas), strict=True))
        widest = asked.loader((y, x))
    specs: dict[str, SpectrumSpec] = {}
    if asked.analytic:
        each = [
            spectra_of(asked.measures, widest.raster, asked.smoothness(sigma))
            for sigma in asked.sigmas
        ]
        specs = max(each, key=lambda specs: sum(spec.nbytes() for spec in specs.values()))
    plan = make_plan(
        widest,
        asked.features(),
        len(asked.measures),
        asked.channels,
        asked.against,
        [sample_of(loader) for loader in loaders],
        tuple(specs.values()),
        order_of(asked, specs),
        rounds_of(asked.measures),
        asked.counts is None,
        pool.memory_limit,
        pool.slots,
        tuple(loader.halo for loader in loaders),
        asked.measures if asked.n_shifts else (),
        asked.n_shifts,
        asked.detrend != "none",
    )
    driver = driver_bytes(plan, specs.values(), asked.tiles(plan.group), asked.measures)
    plan = replace(plan, processes=getattr(pool, "processes", 0), driver_bytes=driver)
    if asked.coarsen == 1:
        return plan
    # With what is compared twice to measure the error of cells.
    parts = [plan, *(plan_for(question, pool) for question in both_questions(asked))]
    return replace(
        plan,
        task_bytes=max(stage_bytes(asked), *(part.task_bytes for part in parts)),
        driver_bytes=tuple(map(max, zip(*(part.driver_bytes for part in parts), strict=True))),
        bytes_read=read_bytes(asked) + sum(part.bytes_read for part in parts),
        cell=asked.coarsen,
    )
