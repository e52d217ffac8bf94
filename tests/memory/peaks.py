"""`make memory`: what every operator and measure takes, beside what was projected, in a table.

Each job runs in processes of its own, all of which are watched: on rasters of three sizes, with
worker processes and in threads. It is asked: is the peak at most what was projected; is that at
most 2.5 times the peak; does a raster eight times as large take as much, within 10 %.
``peaks.py [NAME...]`` runs those of these names alone, and with ``--quick`` before them on the
second raster in threads alone. Ends with status 1 if anything is wrong.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from measuring import Measured, make_stack, measure

from bigcorr.measures import MEASURES

MiB = 2**20
MOST = 2.5
"""How many times the peak a projection may be."""
SAME = 0.10
"""By what part the peak may change with the raster's area."""

SIDES = {"small": (1024, 1024), "middle": (4096, 4096), "large": (8192, 16384)}
"""The large one has eight times the area of the middle one, which is several tasks already."""
CHANNELS = 2

POOLS: dict[str, Any] = {
    "threads": {"threads": 2, "memory": "4GiB"},
    "workers": {"cluster": "local", "workers": 2, "threads": 1, "memory": "2GiB"},
}

OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "ncc": ("map", {"name": "ncc"}),
    "ncc 61 gaussian": ("map", {"name": "ncc", "window": 61, "weights": "gaussian"}),
    "ssim": ("map", {"name": "ssim"}),
    "blur": ("map", {"name": "blur", "sigma": 2.0}),
    "blurs": ("map", {"name": "blurs", "sigma": [1.0, 4.0]}),
    "lbp": ("map", {"name": "lbp"}),
    "lbp var": ("map", {"name": "lbp", "method": "var"}),
    "blur+ncc": ("map", {"name": "ncc", "blur": 2.0}),
    "shift": ("map", {"name": "shift", "shift": [3.3, -2.7]}),
    "affine": ("map", {"name": "affine", "matrix": [[1, 0.01, 2], [-0.01, 1, 3], [0, 0, 1]]}),
    "ncc registered": ("registered", {"name": "ncc"}),
    "displacement": ("displacement", {}),
    "displacement dense": ("displacement", {"window": 32, "search": 8, "step": 1}),
}

CHOSEN = ("sinkhorn", "emd")
"""Measures of chosen channels alone."""


def pairs() -> dict[str, tuple[str, dict[str, Any]]]:
    """Every measure, blurred and not, with standard errors and without where it has any."""
    jobs: dict[str, tuple[str, dict[str, Any]]] = {}
    for name in MEASURES:
        chosen = {"against": ["c0"]} if name in CHOSEN else {}
        given = {"measures": [name], **chosen}
        jobs[f"{name} sigma"] = ("pairs", {**given, "sigma": 2.0})
        jobs[f"{name} plain"] = ("pairs", {**given, "significance": False})
    jobs["pearson sigmas"] = ("pairs", {"measures": ["pearson"], "sigma": [1.0, 4.0]})
    jobs["pearson ncc"] = ("pairs", {"measures": ["pearson", "ncc"]})
    return jobs


JOBS = {**OPERATORS, **pairs()}

MANY: dict[str, tuple[int, dict[str, Any]]] = {
    "cosine 2000": (2000, {"measures": ["cosine"], "significance": False}),
    "pearson 500": (500, {"measures": ["pearson"]}),
    "pearson 2000": (2000, {"measures": ["pearson"]}),
    "lee 2000": (2000, {"measures": ["lee"]}),
    "ncc 2000": (2000, {"measures": ["ncc"]}),
    "spearman 2000": (2000, {"measures": ["spearman"]}),
}
"""Many channels of 96 x 96 pixels: what the driver holds."""


@dataclass
class Row:
    """One run."""

    name: str
    size: str
    pool: str
    measured: Measured

    @property
    def ratio(self) -> float:
        return self.measured.projected / self.measured.peak

    @property
    def wrong(self) -> str:
        if self.ratio < 1:
            return "more than projected"
        return "" if self.ratio <= MOST else f"projected more than {MOST} times"

    def __str__(self) -> str:
        m = self.measured
        text = f"{self.name:20}{self.size:8}{self.pool:9}{m.projected / MiB:10.0f}"
        text += f"{m.peak / MiB:10.0f}{self.ratio:7.2f}{m.seconds:8.1f}  {self.wrong}"
        return text.rstrip()


HEAD = f"{'job':20}{'raster':8}{'on':9}{'projected':>10}{'measured':>10}{'ratio':>7}{'seconds':>8}"


def growth(rows: list[Row]) -> list[tuple[str, str, float]]:
    """(job, pool, part by which the peak is higher with eight times the area)."""
    peaks = {(row.name, row.pool, row.size): row.measured.peak for row in rows}
    return [
        (name, pool, large / peaks[name, pool, "middle"] - 1)
        for (name, pool, size), large in peaks.items()
        if size == "large" and (name, pool, "middle") in peaks
    ]


def main(names: list[str]) -> int:
    """Run the jobs of these names, or all, and print the table; the exit status."""
    quick = "--quick" in names
    names = [name for name in names if name != "--quick"]
    pools = {"threads": POOLS["threads"]} if quick else POOLS
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bigcorr-memory-") as folder:
        place = Path(folder)
        print("MiB of all processes together", HEAD, sep="\n", flush=True)

        def run(name: str, size: str, kind: str, what: dict[str, Any], stack: Path) -> None:
            for pool, options in pools.items():
                found = measure(kind, what, stack, place / "o.zarr", options)
                rows.append(Row(name, size, pool, found))
                print(rows[-1], flush=True)

        wanted = {"middle"} if quick else set(SIDES)
        sides = {k: v for k, v in SIDES.items() if k in wanted}
        stacks = {
            size: make_stack(place / f"{size}.zarr", (CHANNELS, *side))
            for size, side in sides.items()
        }
        for name, (kind, what) in JOBS.items():
            if names and name not in names:
                continue
            if name.startswith("emd") and find_spec("ot") is None:
                print(f"{name:20}skipped: needs POT")
                continue
            # Kernels are compiled before anything is measured.
            if not quick:
                measure(kind, what, stacks["small"], place / "o.zarr", {"threads": 2})
            for size, stack in stacks.items():
                run(name, size, kind, what, stack)
        for name, (channels, what) in MANY.items():
            if names and name not in names:
                continue
            stack = place / f"{channels}.zarr"
            if not stack.exists():
                make_stack(stack, (channels, 96, 96))
            run(name, "96 x 96", "pairs", what, stack)
    grown = growth(rows)
    print(f"{len(rows)} runs, {sum(bool(row.wrong) for row in rows)} wrong; ratios", end=" ")
    print(f"{min(row.ratio for row in rows):.2f} to {max(row.ratio for row in rows):.2f}")
    for name, pool, part in grown:
        if abs(part) > SAME:
            print(f"{name} on {pool}: {part:+.0%} with eight times the area")
    changed = [part for _, _, part in grown if part > SAME]
    return int(any(row.wrong for row in rows) or bool(changed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
