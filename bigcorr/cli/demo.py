"""``bigcorr demo``: what the demo found, as tables."""

from __future__ import annotations

from typing import Any

from bigcorr.cli import tables
from bigcorr.demo import MEASURES, SIGMA, run_demo
from bigcorr.run.lazy_pool import LazyPool
from bigcorr.run.progress import Progress

BLIND = 0.5
"""A measure of a smaller average precision is called blind to that kind of pattern."""


def demo(folder: str, pool: LazyPool, progress: Progress) -> tuple[dict[str, Any], list[Any]]:
    """Run the demo: facts for ``--json``, and the same as tables."""
    made = run_demo(folder, progress=progress, cluster=pool)
    first = MEASURES[0]
    ranked = made.rankings[first]
    certain = ranked[ranked["value"].notna()]
    precision = made.precision
    rows = [
        (
            row["pattern"],
            row["pairs"],
            row["same_group"],
            *(tables.decimal(row[measure], 3) for measure in MEASURES),
            ", ".join(m for m in MEASURES if row[m] < BLIND) or "",
        )
        for _, row in precision.iterrows()
    ]
    header = ("pairs of", "pairs", "same group", *MEASURES, "blind")
    shown = [
        "",
        f"Most similar of {len(ranked)} pairs by {first} at sigma {SIGMA:g}",
        *tables.ranking(certain.head(10), first),
        "",
        "Least similar",
        *tables.ranking(certain.tail(3), first),
        "",
        "How early the pairs of one group are found (average precision; 1: before all others)",
        tables.grid(header, rows, left=("pairs of", "blind")),
        "",
        f"NCC of red and blue light of the Hubble Deep Field at every pixel: {made.ncc_map}",
        f"median {made.image_ncc['median']:.3f}, mean {made.image_ncc['mean']:.3f}",
        "",
        f"Picture: {made.picture}",
        f"Report:  {made.report}",
    ]
    summary = {
        "average_precision": precision.to_dict(orient="records"),
        "image_ncc": made.image_ncc,
        "stack": made.stack,
        "result": made.result,
        "output": made.report,
    }
    return summary, shown
