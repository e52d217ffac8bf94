"""A small part of `make memory`: what runs take is what was projected, and does not grow."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bigcorr.measures import EMD, MEASURES
from bigcorr.pairs.selection import matrix_tiles
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.driver_memory import driver_bytes
from bigcorr.run.memory import DRIVER_BYTES, FILL, PROCESS_BYTES, MiB, Projection, task_room
from bigcorr.run.pairs_job import plan_for, run_pairs
from bigcorr.run.question import ask

sys.path.insert(0, str(Path(__file__).parent))
import peaks
from measuring import make_stack, measure

linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")

THREADS = {"threads": 2, "memory": "4GiB"}


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stacks")
    return {
        "small": make_stack(folder / "small.zarr", (2, 512, 512)),
        "large": make_stack(folder / "large.zarr", (2, 2048, 4096)),
        "many": make_stack(folder / "many.zarr", (600, 40, 40)),
    }


@linux
@pytest.mark.parametrize(
    ("size", "kind", "what"),
    [
        ("small", "map", {"name": "ncc"}),
        ("large", "map", {"name": "ncc"}),
        ("large", "pairs", {"measures": ["pearson", "wasserstein"], "sigma": 2.0}),
        ("many", "pairs", {"measures": ["lee"]}),
    ],
)
def test_a_run_takes_what_was_projected(
    stacks: dict[str, Path], tmp_path: Path, size: str, kind: str, what: dict[str, Any]
) -> None:
    found = measure(kind, what, stacks[size], tmp_path / "o.zarr", THREADS)
    assert found.peak <= found.projected
    assert found.projected <= peaks.MOST * found.peak


def test_the_table_says_what_is_wrong_and_what_grows() -> None:
    def row(size: str, projected: int, peak: int) -> peaks.Row:
        return peaks.Row("ncc", size, "workers", peaks.Measured(peak, projected, 1.0))

    rows = [row("middle", 150, 100), row("large", 300, 110), row("small", 90, 100)]
    assert [r.wrong for r in rows] == ["", "projected more than 2.5 times", "more than projected"]
    assert peaks.growth(rows) == [("ncc", "workers", pytest.approx(0.1))]


def test_every_measure_is_measured() -> None:
    asked = {name for _, what in peaks.pairs().values() for name in what["measures"]}
    assert asked == set(MEASURES)


def test_processes_and_tasks_add_up() -> None:
    threads = Projection(task=10, slots=4, processes=0, beside=5, alone=60)
    assert threads.worker_bytes == PROCESS_BYTES + 40
    assert threads.peak_bytes == PROCESS_BYTES + 60
    workers = Projection(task=10, slots=4, processes=2, beside=5, alone=60)
    assert workers.worker_bytes == PROCESS_BYTES + 20
    assert workers.peak_bytes == DRIVER_BYTES + 60 + 2 * PROCESS_BYTES + 40
    assert task_room(None) is None
    assert task_room(1000 * MiB) == int(FILL * 1000 * MiB) - PROCESS_BYTES


def test_the_driver_of_many_channels_is_in_the_plan(stacks: dict[str, Path]) -> None:
    few, many = (
        plan_for(ask(stacks[size], measures=["pearson"]), ThreadPool(1))
        for size in ("small", "many")
    )
    # The numbers of standard errors and the matrices: 600 x 600 of 8 bytes, several at a time.
    assert max(many.driver_bytes) > max(few.driver_bytes) + 8 * 600**2 * 8
    # A thousand cells to a thousand cells, all at once.
    exact = driver_bytes(few, (), matrix_tiles(2, [0]), [EMD()])
    assert max(exact) > 100 * 1024**2
    told = run_pairs(stacks["many"], "r.zarr", measures=["pearson"], plan_only=True, threads=1)
    assert "what puts them together holds" in dict(told["plan"])
    assert told["projected_peak_bytes"] >= told["projected_bytes"]
    assert json.dumps(told)
