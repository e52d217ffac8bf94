"""`bigcorr register`: what it shows, and what else it writes if asked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bigcorr.cli import tables
from bigcorr.jobs import Settings, models
from bigcorr.run.progress import Progress

if TYPE_CHECKING:
    from bigcorr.registration.result import Registration
    from bigcorr.run.lazy_pool import LazyPool


def register(
    step: models.Register, settings: Settings, pool: LazyPool, progress: Progress
) -> tuple[dict[str, Any], list[Any]]:
    """Carry the step out; facts for ``--json`` and what to show."""
    from bigcorr.raster.source import open_source
    from bigcorr.registration.images import open_pair
    from bigcorr.registration.register import register_pair
    from bigcorr.run.cluster import ThreadPool, processors

    sources = [open_source(path) for path in (step.a, step.b)]
    pair = open_pair(sources[0], sources[1], step.nodata)
    here = settings.cluster == "local"
    threads = (settings.workers or 1) * (settings.threads or 1)
    if settings.workers is None and settings.threads is None:
        threads = processors()
    chosen: Any = ThreadPool(threads) if here else pool
    found = register_pair(
        pair,
        step.upsample,
        model=step.model,
        sigma=step.sigma,
        tile=step.tile,
        pool=chosen,
    )
    summary = {"reference": step.a, "moving": step.b, **found.summary()}
    shown: list[Any] = [tables.facts(_facts(found))]
    if step.output is not None:
        summary |= {
            "output": step.output,
            "map": _write_moved(step, found, settings, pool, progress),
        }
        shown.append(f"{step.output}: {step.b}, moved")
    if step.report is not None:
        from bigcorr.report.registration import write_registration_report

        write_registration_report(found, step.report, reference=step.a, moving=step.b)
        summary["report"] = step.report
        shown.append(step.report)
    return summary, shown


def _facts(found: Registration) -> dict[str, Any]:
    """The result in words."""
    spread = "one tile tells none"
    if not math.isnan(found.spread[0]):
        spread = "({:.4f}, {:.4f}) pixels between tiles".format(*found.spread)
    facts: dict[str, Any] = {
        "shift (dy, dx)": "({:.4f}, {:.4f}) pixels, to apply to B".format(*found.shift),
        "spread": spread,
        "score": f"{found.score:.4f}",
        "score before": f"{found.score_before:.4f}",
        "tiles": f"{int(found.used.sum())} of {len(found.used)} used",
        "blur": f"sigma {found.sigma:g}" if found.sigma else None,
    }
    if found.model == "affine":
        rows = found.matrix[:2].tolist()
        facts["matrix"] = "; ".join(" ".join(f"{value:.6g}" for value in row) for row in rows)
    return facts


def _write_moved(
    step: models.Register,
    found: Registration,
    settings: Settings,
    pool: LazyPool,
    progress: Progress,
) -> dict[str, Any]:
    """The moving image on the reference's grid, as Zarr."""
    from bigcorr.operators_move import Affine, Shift
    from bigcorr.run.map_job import run_map

    move = Affine(found.matrix.tolist()) if step.model == "affine" else Shift(found.shift)
    assert step.output is not None
    return run_map(
        move,
        [step.b],
        step.output,
        nodata=step.nodata,
        progress=progress,
        resume=settings.resume,
        cluster=pool,
        attrs={"registration": {"reference": step.a, "score": found.score}},
    )
