"""Several blurs in one pass: pixels are read once, and each has the bits of a run of its own."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import bigcorr as bc
from bigcorr.kernels.cells import CELL
from bigcorr.pairs.measure import Timer
from bigcorr.raster.base import BaseSource
from bigcorr.raster.memory import DaskSource
from bigcorr.run.checkpoint import Checkpoint
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.loader import TileLoader
from bigcorr.run.memory import FILL, PROCESS_BYTES
from bigcorr.run.pairs_job import ask, compute, plan_for, run_pairs
from bigcorr.run.progress import SILENT, Silent
from bigcorr.run.together import HeldPixels
from bigcorr.tiles import Box

SIGMAS = [1.0, (2.0, 5.0), 4.0]
MANY = 1 << 40


def store(path, stack):
    bc.save_raster(xr.DataArray(stack, dims=("channel", "y", "x")), path)
    return path


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    """Dense counts: every box holds something, so that the plan knows what is read."""
    stack = np.random.default_rng(0).poisson(1.0, (4, 500, 420)).astype(np.uint16) + 1
    return store(tmp_path_factory.mktemp("counts") / "a.zarr", stack)


@pytest.fixture(scope="module")
def gaps(tmp_path_factory):
    """Channels that miss pixels of their own, in part of the raster only; one is empty."""
    stack = np.random.default_rng(1).normal(size=(4, 300, 260)).astype(np.float32)
    stack[1, 140:150, 30:200] = np.nan
    stack[2, :, 250:] = np.nan
    stack[3, :, :] = 0
    return store(tmp_path_factory.mktemp("gaps") / "a.zarr", stack)


@pytest.fixture
def read(monkeypatch):
    """Bytes that sources hand out."""
    total = [0]
    original = BaseSource.read

    def counted(self, channels, box):
        out = original(self, channels, box)
        total[0] += out.nbytes
        return out

    monkeypatch.setattr(BaseSource, "read", counted)
    return total


def run(path, sigma, limit=MANY, change=None, read=None, **question):
    asked = ask(path, sigma=sigma, **question)
    pool = ThreadPool(2, limit)
    plan = plan_for(asked, pool)
    if change:
        plan = dataclasses.replace(plan, **change)
    if read is not None:
        read[0] = 0  # a raster is looked at before it is planned as well
    return plan, compute(asked, plan, pool, None, SILENT).dataset()


def assert_each_alone(many, path, **question):
    for index, sigma in enumerate(SIGMAS):
        _, one = run(path, sigma, **question)
        assert set(one.data_vars) == set(many.data_vars)
        for name in one.data_vars:
            found = many[name]
            found = found.isel(sigma=index) if "sigma" in found.dims else found
            assert np.array_equal(found.values, one[name].values, equal_nan=True), (name, sigma)


QUESTIONS = {
    "moments, windows and lags with significance": {"measures": ["pearson", "ncc", "lee"]},
    "summaries and a trend": {"measures": ["spearman", "ssim"], "detrend": "plane"},
    "shifts": {"measures": ["pearson"], "n_shifts": 2, "against": ["c1", "c3"]},
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_each_blur_has_the_bits_of_a_run_of_its_own_and_pixels_are_read_once(
    counts, read, question
):
    plan, many = run(counts, SIGMAS, read=read, **question)
    assert plan.held_blocks
    assert plan.held_regions
    # Where shifted pieces end at the raster's edge they have less of a halo than the plan says.
    least = 0.98 if "n_shifts" in question else 1.0
    assert least * plan.bytes_read <= read[0] <= plan.bytes_read
    widest, _ = run(counts, (4.0, 5.0), **question)
    assert plan.bytes_read == widest.bytes_read
    assert_each_alone(many, counts, **question)


@pytest.mark.parametrize("masked", [False, True])
def test_missing_pixels_are_each_blurs_own(gaps, masked):
    mask = np.ones((300, 260), np.uint8)
    mask[60:90, 10:250] = 0
    question = {"measures": ["pearson", "ncc", "cosine"], "mask": mask if masked else None}
    plan, many = run(gaps, SIGMAS, **question)
    assert plan.held_blocks
    assert np.isnan(many["pearson"].values[:, 3]).all()
    assert_each_alone(many, gaps, **question)


def test_strips_and_tiles_of_the_matrix_share_as_well(counts, read):
    question = {"measures": ["pearson", "ncc"]}
    _, many = run(counts, SIGMAS, change={"strip": 2 * CELL}, **question)
    assert_each_alone(many, counts, **question)
    asked = ask(counts, sigma=SIGMAS, against=["c2"], **question)
    assert plan_for(asked, ThreadPool(1, MANY)).held_blocks


def test_blocks_whose_spectra_are_taken_on_the_way_share_as_well(tmp_path, read):
    stack = np.random.default_rng(5).poisson(0.4, (2, 3080, 4100)).astype(np.uint8) + np.uint8(1)
    stack[1, :1500] = 0
    path = store(tmp_path / "wide.zarr", stack)
    for change in (None, {"strip": 512}):
        plan, many = run(path, [1.0, 2.0], change=change, read=read, measures=["pearson"])
        assert plan.field_on_the_way
        if change is None:
            assert read[0] <= plan.bytes_read < 1.3 * stack.nbytes
    for index, sigma in enumerate((1.0, 2.0)):
        _, one = run(path, sigma, measures=["pearson"])
        for name in ("pearson", "pearson_sd"):
            assert np.array_equal(many[name].values[index], one[name].values), name


def test_where_memory_is_short_fewer_channels_serve_all_and_the_plan_says_so(tmp_path, read):
    stack = np.ones((300, 120, 130), np.float64)
    stack += np.random.default_rng(2).normal(size=stack.shape)
    path = store(tmp_path / "many.zarr", stack)
    question = {"measures": ["pearson"], "significance": False}
    plans, bits = [], []
    room = [int((PROCESS_BYTES + (mebibytes << 20)) / FILL) + 1 for mebibytes in (155, 125, 102)]
    for limit in (MANY, *room):
        plan, many = run(path, SIGMAS, limit, read=read, **question)
        plans.append(plan)
        bits.append(many["pearson"].values)
        assert plan.worker_bytes <= FILL * limit
        assert 0.6 * plan.bytes_read < read[0] <= plan.bytes_read
    assert all(np.array_equal(one, bits[0]) for one in bits)
    reads = [plan.bytes_read for plan in plans]
    assert reads == sorted(reads)
    assert reads[0] < reads[-1]
    assert plans[0].held_blocks > plans[-1].held_blocks
    shown = [dict(plan.rows())["blurs"] for plan in plans]
    assert shown[0].startswith("3, together; ")
    assert plans[-1].held_blocks or "each reads for itself" in shown[-1]


def test_pixels_in_memory_are_not_kept_twice():
    stack = np.random.default_rng(3).poisson(1.0, (3, 90, 80)).astype(np.uint8)
    asked = ask(stack, measures=["pearson"], sigma=SIGMAS)
    plan = plan_for(asked, ThreadPool(1, MANY))
    assert (plan.held_blocks, plan.held_regions) == (0, 0)
    assert dict(plan.rows())["blurs"] == "3, each reads for itself"


@given(
    st.integers(0, 30), st.integers(1, 40), st.integers(0, 25), st.integers(1, 30),
    st.integers(0, 4000), st.sampled_from([(0.5, 2.0), (3.0, 0.7), (2.0, 2.0)]),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_a_tile_of_kept_pixels_has_the_same_bits_however_many_are_kept(y, h, x, w, room, sigma):
    import dask.array

    stack = np.random.default_rng(4).normal(size=(3, 41, 37)).astype(np.float32)
    source = DaskSource(dask.array.from_array(stack))
    box = Box(y, min(y + h, 41), x, min(x + w, 37))
    held = HeldPixels((14, 9), room)
    alone = TileLoader(source, sigma)
    for channels in (np.array([0, 2]), np.arange(3)):
        timer: Timer = dict.fromkeys(("read", "blur"), 0.0)  # type: ignore[assignment]
        found = dataclasses.replace(alone, held=held).channels(box, channels, timer)
        for a, b in zip(found, alone.channels(box, channels, timer), strict=True):
            assert np.array_equal(a.values, b.values)
    assert held._used <= room


class Stopped(BaseException):
    """Somebody pulled the plug."""


class StopAt(Silent):
    def __init__(self, stage, units):
        self.at = stage, units

    def __call__(self, stage, done, total=None):
        if (stage, done) == self.at:
            raise Stopped


def assert_same_bits(a, b):
    for name in b.data_vars:
        assert np.array_equal(a[name].values, b[name].values, equal_nan=True), name


def test_a_run_goes_on_whatever_each_blur_has_done(counts, tmp_path):
    question = {"measures": ["pearson", "roi_pearson"]}
    _, expected = run(counts, SIGMAS, **question)
    # An earlier run worked on the blurs one by one and was cut off in the second.
    asked = ask(counts, sigma=SIGMAS, **question)
    pool = ThreadPool(1)
    checkpoint = Checkpoint(tmp_path / "r.zarr.partial")
    checkpoint.begin(asked.job(), True)
    apart = dataclasses.replace(plan_for(asked, pool), held_blocks=0, held_regions=0)
    with pytest.raises(Stopped):
        compute(asked, apart, pool, checkpoint, StopAt("blur-1-pairs", 5))
    for stage, units in (("pairs", 24), ("pairs", 40)):
        with pytest.raises(Stopped):
            run_pairs(counts, tmp_path / "r.zarr", sigma=SIGMAS, threads=1,
                      progress=StopAt(stage, units), **question)  # fmt: skip
    summary = run_pairs(counts, tmp_path / "r.zarr", sigma=SIGMAS, **question)
    assert summary["units_found_done"] >= 40
    assert_same_bits(xr.open_zarr(tmp_path / "r.zarr"), expected)


def test_a_cluster_that_is_killed_and_started_again_gives_the_same_bits(tmp_path):
    stack = np.random.default_rng(6).poisson(0.7, (6, 1100, 900)).astype(np.float32)
    stack[2, 100:200, 300:700] = np.nan
    path = store(tmp_path / "a.zarr", stack)
    command = [sys.executable, "-m", "bigcorr", "pairs", str(path), "-o",
               str(tmp_path / "r.zarr"), "--measure", "pearson", "--measure", "ncc",
               "--sigma", "1,3", "--workers", "2"]  # fmt: skip
    _, expected = run(path, [1.0, 3.0], measures=["pearson", "ncc"])
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    partial = tmp_path / "r.zarr.partial"
    try:
        until = time.monotonic() + 120
        while len(list(partial.glob("blur-1-pairs/unit-*.npz"))) < 3:
            assert process.poll() is None, "finished before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "done already" in done.stderr
    assert_same_bits(xr.open_zarr(tmp_path / "r.zarr"), expected)


PEAK = """
import sys
from bigcorr.run.pairs_job import run_pairs
s = run_pairs(sys.argv[1], sys.argv[2], measures=["pearson"], sigma=[1, 2, 4], threads=1)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(s["projected_bytes"], 1024 * int(peak.split()[1]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_the_measured_peak_stays_under_the_projection(tmp_path):
    stack = np.random.default_rng(7).poisson(0.7, (40, 1100, 900)).astype(np.uint16) + 1
    path = store(tmp_path / "a.zarr", stack)
    plan = plan_for(ask(path, measures=["pearson"], sigma=[1, 2, 4]), ThreadPool(1, MANY))
    assert plan.held_blocks > 5 << 20
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), str(tmp_path / "r.zarr")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    projected, measured = map(int, done.stdout.split())
    assert measured <= projected <= 2.5 * measured


def test_looks_at_parts_of_regions_take_more_channels_at_a_time(tmp_path, read):
    stack = np.random.default_rng(8).poisson(0.7, (17, 1500, 1500)).astype(np.uint8) + np.uint8(1)
    path = store(tmp_path / "a.zarr", stack)
    plan, _ = run(path, SIGMAS, read=read, measures=["pearson"], significance=False)
    assert plan.regions > 1
    assert read[0] == plan.bytes_read
