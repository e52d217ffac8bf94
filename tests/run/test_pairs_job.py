"""Runs of pairs from the command line: resume after a kill, plans, memory, finished results."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import xarray as xr

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.run.checkpoint import Checkpoint
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.pairs_job import ask, compute, plan_for, run_pairs
from bigcorr.run.progress import SILENT

QUESTION = {"measures": ["pearson", "ncc"], "sigma": 3.0, "window": 16, "stride": 8}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A stack store of sparse counts that takes a few seconds to work through."""
    path = tmp_path_factory.mktemp("stack") / "stack.zarr"
    from bigcorr.simulate import tissue

    tissue(path, channels=12, size=(1100, 900), seed=3)
    return path


@pytest.fixture(scope="module")
def undisturbed(stack):
    out = stack.parent / "undisturbed.zarr"
    run_pairs(stack, out, threads=2, **QUESTION)
    return xr.open_zarr(out).load()


def assert_same_bits(a, b):
    for name in b.data_vars:
        assert np.array_equal(a[name].values, b[name].values, equal_nan=True), name


def test_the_store_is_what_pairwise_gives(stack, undisturbed):
    sim = bc.pairwise(bc.open_raster(stack), progress=False, **QUESTION)
    assert_same_bits(sim, undisturbed)
    assert list(undisturbed["channel"].values) == list(sim["channel"].values)
    assert np.array_equal(undisturbed["count"].values, sim["count"].values)
    for key in ("blas", "cpu", "bigcorr_version", "parameters", "wall_seconds", "timings"):
        assert key in undisturbed.attrs


def test_a_finished_run_is_found_done_and_another_is_refused(stack, undisturbed, tmp_path):
    out = tmp_path / "r.zarr"
    run_pairs(stack, out, **QUESTION)
    before = (out / "zarr.json").stat().st_mtime_ns
    assert run_pairs(stack, out, **QUESTION)["done_before"]
    assert (out / "zarr.json").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="sigma is"):
        run_pairs(stack, out, **(QUESTION | {"sigma": 2.0}))
    assert_same_bits(xr.open_zarr(out), undisturbed)
    run_pairs(stack, out, resume=False, **(QUESTION | {"sigma": 2.0}))
    assert xr.open_zarr(out).attrs["sigma"] == 2.0


def test_something_else_at_the_output_is_never_replaced(stack, tmp_path):
    out = tmp_path / "notes.txt"
    out.write_text("mine")
    with pytest.raises(InputError, match="not a result of pairs"):
        run_pairs(stack, out, **QUESTION)
    assert out.read_text() == "mine"


def command(stack, out, *more):
    measures = ["--measure", "pearson", "--measure", "ncc"]
    return [
        sys.executable, "-m", "bigcorr", "pairs", str(stack), "-o", str(out), *measures,
        "--sigma", "3", "--window", "16", "--stride", "8", *more,
    ]  # fmt: skip


def kill_tree(process):
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.wait()


def test_after_a_kill_the_same_command_does_the_rest_with_the_same_bits(
    stack, undisturbed, tmp_path
):
    out = tmp_path / "r.zarr"
    process = subprocess.Popen(
        command(stack, out, "--workers", "2"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    partial = tmp_path / "r.zarr.partial"
    try:
        until = time.monotonic() + 120
        while len(list(partial.glob("pairs/unit-*.npz"))) < 3:
            assert process.poll() is None, "finished before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        kill_tree(process)
    assert not out.exists()
    done = len(list(partial.glob("pairs/unit-*.npz")))
    rerun = subprocess.run(
        command(stack, out, "--workers", "3", "--json"),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    summary = json.loads(rerun.stdout.strip().splitlines()[-1])
    assert summary["units_found_done"] >= done + 1
    assert "done already" in rerun.stderr
    assert_same_bits(xr.open_zarr(out), undisturbed)
    assert not partial.exists()


def test_a_smaller_memory_limit_takes_smaller_tiles_or_refuses_with_the_numbers(stack):
    asked = ask(stack, **QUESTION)
    plans = [plan_for(asked, ThreadPool(1, limit << 20)) for limit in (4096, 800)]
    assert plans[0].strip >= plans[1].strip
    assert plans[1].worker_bytes <= 0.75 * (800 << 20)
    with pytest.raises(InputError, match=r"memory: 12 channels need at least \d+ MiB"):
        plan_for(asked, ThreadPool(1, 300 << 20))


def test_plan_only_writes_nothing(stack, tmp_path):
    summary = run_pairs(stack, tmp_path / "r.zarr", plan_only=True, **QUESTION)
    assert ("pairs", "66") in summary["plan"]
    assert list(tmp_path.iterdir()) == []


PEAK = """
import sys
from bigcorr.run.pairs_job import run_pairs
s = run_pairs(sys.argv[1], sys.argv[2], measures=["pearson", "ncc"], sigma=3.0, threads=1)
# Not getrusage: its peak is inherited from the parent process.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(s["projected_bytes"], 1024 * int(peak.split()[1]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_the_measured_peak_stays_under_the_projection(stack, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(stack), str(tmp_path / "r.zarr")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    projected, measured = map(int, done.stdout.split())
    assert measured <= projected
    assert projected <= 2.5 * measured


def test_a_rerun_with_other_tiles_of_the_matrix_never_mixes_their_units(tmp_path):
    rng = np.random.default_rng(0)
    stack = rng.poisson(0.3, (600, 140, 24)).astype(np.uint8)
    question = ask(stack, measures=["pearson"], significance=False)
    pool = ThreadPool(1)
    plan = plan_for(question, pool)
    whole = compute(question, plan, pool, None, SILENT).dataset()
    checkpoint = Checkpoint(tmp_path / "r.partial")
    for group in (None, 256):  # the first leaves finished units that the second must not take
        tiled = dataclasses.replace(plan, group=group)
        result = compute(question, tiled, pool, checkpoint, SILENT).dataset()
        assert_same_bits(result, whole)
