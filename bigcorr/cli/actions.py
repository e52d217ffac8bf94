"""Carrying a step out: the library is called, and what it says is put into words.

The same functions serve a command and a step of a job file. Heavy imports stay inside them.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bigcorr.cli import tables
from bigcorr.cli.results import measures_in, open_result
from bigcorr.errors import InputError
from bigcorr.jobs import COMMANDS, Settings, Step, build, load_job, models
from bigcorr.raster.lock import force_unlock
from bigcorr.run.peak import PeakMemory
from bigcorr.run.progress import HeldBack, Progress, clock, open_progress

if TYPE_CHECKING:
    from bigcorr.run.lazy_pool import LazyPool

SHOWN_PAIRS = 20
"""How many pairs `rank` prints where nobody says how many."""


@dataclass
class Outcome:
    """What a step did: facts for ``--json``, and what to show to people."""

    summary: dict[str, Any]
    shown: list[Any] = field(default_factory=list)
    is_answer: bool = False
    """True where what is shown is what was asked for, which ``--quiet`` does not silence."""
    status: int = 0
    """The exit status."""


@dataclass(frozen=True)
class Run:
    """How steps are carried out: the same for all of a job."""

    settings: Settings
    progress: Progress
    pool: LazyPool


def command(
    name: str, given: dict[str, Any], common: dict[str, Any], quiet: bool, as_json: bool
) -> int:
    """Carry out one command line, print its outcome and return the exit status."""
    given = {key: value for key, value in given.items() if value is not None}
    common = {key: value for key, value in common.items() if value is not None}
    started = time.monotonic()
    with PeakMemory() as peak, open_progress(quiet=quiet) as shown:
        progress = HeldBack(shown)
        with force_unlock(_warn if common.pop("force_unlock", False) else None):
            outcome = _carry_out(name, given, common, progress)
        progress.release()
    seconds = time.monotonic() - started
    if as_json:
        facts = {"command": name, **outcome.summary}
        print(to_json(facts | {"seconds": round(seconds, 3), "peak_bytes": peak.bytes}))
    elif outcome.is_answer:
        tables.show(*outcome.shown)
    elif not quiet:
        tables.show(*outcome.shown, f"{clock(seconds)}, peak memory {tables.size(peak.bytes)}")
    return outcome.status


def _warn(text: str) -> None:
    """What is to be read even with ``--quiet``."""
    print(f"bigcorr: {text}", file=sys.stderr, flush=True)


def _carry_out(
    name: str, given: dict[str, Any], common: dict[str, Any], progress: Progress
) -> Outcome:
    if name == "info":
        from bigcorr.cli.info import describe

        return Outcome(*describe(given["path"]), is_answer=True)
    if name == "check":
        return _check(given["path"], progress)
    if name == "run":
        return run_job(given["job"], common, progress)
    settings = build(Settings, common)
    with _pool(settings, progress) as pool:
        if name == "demo":
            from bigcorr.cli.demo import demo

            return Outcome(*demo(given["output"], pool, progress))
        return perform(build(COMMANDS[name], given), Run(settings, progress, pool))


@contextmanager
def _pool(settings: Settings, progress: Progress) -> Iterator[LazyPool]:
    from bigcorr.run.lazy_pool import open_lazy_pool

    s = settings
    with open_lazy_pool(s.cluster, s.workers, s.threads, s.memory, progress) as pool:
        yield pool


def to_json(facts: Any) -> str:
    """One line of JSON; NaN and infinity, which JSON has not, become null.

    >>> to_json({"value": float("nan"), "shape": (2, 3)})
    '{"value": null, "shape": [2, 3]}'
    """
    return json.dumps(_plain(facts), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def run_job(path: str, common: dict[str, Any], progress: Progress) -> Outcome:
    """Carry out a job file; what the command line says of the running overrides the file."""
    job = load_job(path)
    settings = build(Settings, {**job.model_dump(include=set(Settings.model_fields)), **common})
    done = []
    with _pool(settings, progress) as pool:
        for number, step in enumerate(job.steps, start=1):
            progress.note(f"step {number} of {len(job.steps)}: {step.command}")
            done.append(perform(step, Run(settings, progress, pool)))
    steps = [
        {"command": step.command, **outcome.summary}
        for step, outcome in zip(job.steps, done, strict=True)
    ]
    shown = [part for outcome in done for part in outcome.shown]
    return Outcome({"job": path, "steps": steps}, shown)


def perform(step: Step, run: Run) -> Outcome:
    """Carry out one step."""
    actions: dict[type[Step], Callable[..., Outcome]] = {
        models.Ingest: _ingest,
        models.Simulate: _simulate,
        models.Register: _register,
        models.NCC: _ncc,
        models.SSIM: _ssim,
        models.Blur: _blur,
        models.LBP: _lbp,
        models.Displacement: _displacement,
        models.Pairs: _pairs,
        models.Rank: _rank,
        models.Clusters: _clusters,
        models.Report: _report,
    }
    return actions[type(step)](step, run)


def _ingest(step: models.Ingest, run: Run) -> Outcome:
    from bigcorr.raster.ingest import ingest

    options = step.model_dump(exclude={"sources", "output"}, exclude_none=True)
    restart = not run.settings.resume
    summary = ingest(step.sources, step.output, overwrite=restart, progress=run.progress, **options)
    for warning in summary["warnings"]:
        run.progress.note(f"note: {warning}")
    summary["shape"] = [summary["channels"], *summary["shape"]]
    outcome = _stack(step.output, summary)
    if before := summary["units_done_before"]:
        outcome.shown.append(f"{before} of {summary['units']} units were done before")
    return outcome


def _simulate(step: models.Simulate, run: Run) -> Outcome:
    from bigcorr.simulate import tissue
    from bigcorr.simulate.store import write_images

    write = tissue if step.kind == "tissue" else write_images
    summary = write(
        step.output,
        threads=_threads(run.settings),
        overwrite=not run.settings.resume,
        progress=lambda done, total: run.progress("simulate", done, total),
        **step.model_dump(exclude={"output", "kind"}, exclude_none=True),
    )
    return _stack(step.output, {key: value for key, value in summary.items() if key != "truth"})


def _stack(output: str, summary: dict[str, Any]) -> Outcome:
    shape = " x ".join(str(n) for n in summary["shape"])
    text = f"{output}: {shape} (channels, rows, columns), {summary['dtype']}"
    return Outcome({**summary, "output": output}, [text])


def _rank(step: models.Rank, run: Run) -> Outcome:
    from bigcorr.pairs.listing import PairListing
    from bigcorr.pairs.ranking import rank_pairs, write_pairs
    from bigcorr.run.rank_job import DEFAULT_MEMORY, write_ranking

    asked: dict[str, Any] = {
        "order": step.order,
        "sigma": step.sigma,
        "against": step.against or None,
    }
    ends = {"top": step.top, "bottom": step.bottom}
    some = step.top is not None or step.bottom is not None
    with open_result(step.result) as result:
        by = step.by or measures_in(result)[0]
        summary: dict[str, Any] = {"result": step.result, "by": by}
        if step.output is not None and not some:
            made = write_ranking(
                result,
                by,
                step.output,
                memory=run.settings.memory or DEFAULT_MEMORY,
                resume=run.settings.resume,
                progress=run.progress,
                **asked,
            )
            summary |= {**made, "written": made["pairs"]}
            return Outcome(summary, [f"{step.output}: {made['pairs']:,} pairs by {by}"])
        chosen = rank_pairs(result, by, **asked, **(ends if some else {"top": SHOWN_PAIRS}))
        summary["pairs"] = PairListing(result, by, **asked).total
    if step.output is not None:
        write_pairs(chosen, step.output)
        summary |= {"output": step.output, "written": len(chosen)}
        return Outcome(summary, [f"{step.output}: {len(chosen):,} pairs by {by}"])
    head = chosen if step.bottom is None else chosen[chosen["rank"] <= (step.top or 0)]
    for name, part in (("top", head), ("bottom", chosen.iloc[len(head) :])):
        if name == "top" or step.bottom is not None:
            summary[name] = json.loads(part.to_json(orient="records", double_precision=15))
    return Outcome(summary, tables.ranking(chosen, by), is_answer=True)


def _clusters(step: models.Clusters, run: Run) -> Outcome:
    from bigcorr.pairs.clusters import cluster_channels
    from bigcorr.pairs.ranking import write_pairs

    with open_result(step.result) as result:
        by = step.by or measures_in(result)[0]
        found = cluster_channels(
            result, by, n_clusters=step.clusters, threshold=step.threshold, sigma=step.sigma
        )
    count = int(found["cluster"].max()) if len(found) else 0
    summary = {"result": step.result, "by": by, "channels": len(found), "clusters": count}
    if step.output is not None:
        write_pairs(found, step.output)
        shown = f"{step.output}: {len(found):,} channels in {count} clusters by {by}"
        return Outcome({**summary, "output": step.output}, [shown])
    summary["members"] = json.loads(found.to_json(orient="records", double_precision=15))
    return Outcome(summary, tables.clusters(found, by), is_answer=True)


def _register(step: models.Register, run: Run) -> Outcome:
    from bigcorr.cli.registration import register

    return Outcome(*register(step, run.settings, run.pool, run.progress), is_answer=True)


def _ncc(step: models.NCC, run: Run) -> Outcome:
    from bigcorr.operators import NCC

    operator = NCC(**step.model_dump(exclude={"a", "b", "output", "nodata", "blur", "align"}))
    return _map(_after_blur(operator, step.blur), [step.a, step.b], step, run)


def _ssim(step: models.SSIM, run: Run) -> Outcome:
    from bigcorr.operators_ssim import SSIM

    operator = SSIM(**step.model_dump(exclude={"a", "b", "output", "nodata", "blur", "align"}))
    return _map(_after_blur(operator, step.blur), [step.a, step.b], step, run)


def _after_blur(operator: Any, sigma: float | None) -> Any:
    """The same on rasters that are blurred first, without a raster in between."""
    from bigcorr.operators import GaussianBlur
    from bigcorr.operators_chain import Blurred

    return operator if sigma is None else Blurred(operator, GaussianBlur(sigma))


def _blur(step: models.Blur, run: Run) -> Outcome:
    from bigcorr.operators import GaussianBlur
    from bigcorr.operators_chain import GaussianBlurs

    options = step.truncate, step.fill
    if isinstance(step.sigma, list):
        return _map(GaussianBlurs(tuple(step.sigma), *options), [step.source], step, run)
    return _map(GaussianBlur(step.sigma, *options), [step.source], step, run)


def _lbp(step: models.LBP, run: Run) -> Outcome:
    from bigcorr.operators_lbp import LocalBinaryPattern
    from bigcorr.raster.source import open_source
    from bigcorr.tiles import Box

    source = open_source(step.source)
    masked = source.mask(Box(0, 1, 0, 1)) is not None
    may_miss = masked or source.nodata is not None or step.nodata is not None
    operator = LocalBinaryPattern(step.points, step.radius, step.method, may_miss)
    missing = operator.nodata(source.dtype)
    attrs = {} if missing is None else {"nodata": missing}
    return _map(operator, [step.source], step, run, attrs)


def _map(
    operator: Any,
    sources: list[str],
    step: models.NCC | models.SSIM | models.Blur | models.LBP,
    run: Run,
    attrs: dict[str, Any] | None = None,
) -> Outcome:
    from bigcorr.run.map_job import run_map
    from bigcorr.run.registered_job import run_registered_map

    options: dict[str, Any] = {
        "nodata": step.nodata,
        "progress": run.progress,
        "resume": run.settings.resume,
        "cluster": run.pool,
    }
    model = getattr(step, "align", None)
    if model is None:
        summary = run_map(operator, sources, step.output, attrs=attrs, **options)
    else:
        summary = run_registered_map(operator, sources, step.output, model=model, **options)
    shape = " x ".join(map(str, summary["shape"]))
    shown = [f"{step.output}: {shape}, {summary['dtype']}"]
    if summary["units_done_before"]:
        done = f"{summary['units_done_before']} of {summary['units']} shards were done before"
        shown.append(done)
    if model is not None:
        found = summary["registration"]
        shown.append(
            "registered by a shift of ({:.3f}, {:.3f}) pixels".format(*found["shift"])
            + f": correlation {found['score']:.4f}, before {found['score_before']:.4f}"
        )
    return Outcome({**summary, "output": step.output}, shown)


def _displacement(step: models.Displacement, run: Run) -> Outcome:
    from bigcorr.run.displacement_job import run_displacement

    options = step.model_dump(exclude={"a", "b", "output"}, exclude_none=True)
    summary = run_displacement(
        step.a,
        step.b,
        step.output,
        progress=run.progress,
        resume=run.settings.resume,
        cluster=run.pool,
        **options,
    )
    rows, columns = summary["shape"]
    share = 100 * summary["valid"] / (rows * columns)
    shown = [f"{step.output}: {rows} x {columns} nodes, {share:.1f} % with a vector"]
    if summary["units_done_before"]:
        done = f"{summary['units_done_before']} of {summary['units']} shards were done before"
        shown.append(done)
    return Outcome({**summary, "output": step.output}, shown)


def _pairs(step: models.Pairs, run: Run) -> Outcome:
    from bigcorr.pairs.coarsening import coarse_error_told
    from bigcorr.run.pairs_job import run_pairs

    options = step.model_dump(exclude={"stack", "output", "measures"}, exclude_none=True)
    summary = run_pairs(
        step.stack,
        step.output,
        measures=[(measure.name, measure.parameters) for measure in step.measures],
        progress=run.progress,
        resume=run.settings.resume,
        cluster=run.pool,
        **options,
    )
    if step.plan_only:
        facts = {**summary, "plan": dict(summary["plan"])}
        return Outcome(facts, [tables.facts(facts["plan"])], is_answer=True)
    if summary.get("done_before"):
        return Outcome(summary, [f"{step.output} holds this very result already"])
    measures = ", ".join(summary["measures"])
    shown = [f"{step.output}: {summary['pairs']:,} pairs of {summary['channels']} by {measures}"]
    if summary["units_found_done"]:
        shown.append(f"{summary['units_found_done']} of {summary['units']} units were done before")
    times = sorted(summary["timings"].items(), key=lambda item: -item[1])
    shown.append(
        "time of all workers: " + ", ".join(f"{k} {v:.1f} s" for k, v in times if v >= 0.05)
    )
    for name, error in (summary["coarsen_error"] or {}).items():
        shown.append(f"{name} of cells of {step.coarsen} pixels: {coarse_error_told(error)}")
    return Outcome(summary, shown)


def _check(path: str, progress: Progress) -> Outcome:
    from bigcorr.run.check import check_store

    found = check_store(path, progress=progress)
    size = f"{found.kind}, {found.state}, {found.files} files read"
    if found.units:
        size += f", {found.units_done} of {found.units} shards done"
    count = len(found.damages)
    verdict = "nothing wrong" if found.ok else f"{count} damage{'s' * (count > 1)}"
    shown = [f"{found.path}: {size}: {verdict}", *map(str, found.damages)]
    if found.without_checksum:
        shown.append(
            f"note: no checksums in {', '.join(found.without_checksum)}: there a flipped bit may "
            "go unseen"
        )
    return Outcome(found.to_dict(), shown, is_answer=True, status=0 if found.ok else 1)


def _report(step: models.Report, run: Run) -> Outcome:
    from bigcorr.motion.stored import displacement_at
    from bigcorr.report import write_report

    if (moved := displacement_at(step.result)) is not None:
        from bigcorr.report.displacement import write_displacement_report

        if step.by is not None:
            raise InputError("by: got a measure, takes none for a displacement")
        write_displacement_report(moved, step.output, reference=step.stack)
        return Outcome({"output": step.output}, [step.output])

    with open_result(step.result) as result:
        write_report(result, step.output, source=step.stack, by=step.by)
    return Outcome({"output": step.output}, [step.output])


def _threads(settings: Settings) -> int | None:
    """Threads for work that stays in this process: as many as the workers would have in all."""
    if settings.workers is None and settings.threads is None:
        return None
    return (settings.workers or 1) * (settings.threads or 1)
