"""Spearman, peak regions and cosine above the median: equal to their definitions in any plan."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import oracle
from scipy import stats

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.kernels.bins import BINS
from bigcorr.pairs.distribution import Histogram
from bigcorr.pairs.statistics import (
    combine,
    probes,
    region_moments,
    regions_of,
    sample_regions,
)
from bigcorr.pairs.summaries import ChannelTile
from bigcorr.raster.stack import StackWriter
from bigcorr.run import summaries as stage_module
from bigcorr.run.checkpoint import Checkpoint
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.pairs_job import ask, compute, plan_for, run_pairs
from bigcorr.run.progress import SILENT
from bigcorr.tiles import Box

MEASURES = ["spearman", "roi_pearson:nonzero=true,q=0.9", "cosine:threshold=median"]


def spearman(x, y, valid_x, valid_y):
    """Pearson over the shared pixels of the mid-ranks among each channel's own."""
    ranks = []
    for values, valid in ((x, valid_x), (y, valid_y)):
        rank = np.zeros(values.shape)
        rank[valid] = stats.rankdata(values[valid])
        ranks.append(rank)
    return oracle.pearson(*ranks, valid_x & valid_y)


def region(x, valid, q, nonzero):
    values = x[valid & (x != 0)] if nonzero else x[valid]
    return valid & (x >= np.quantile(values, q)) if values.size else np.zeros(x.shape, bool)


def roi(x, y, valid_x, valid_y, q=0.9, nonzero=True):
    union = region(x, valid_x, q, nonzero) | region(y, valid_y, q, nonzero)
    return oracle.pearson(x, y, union & valid_x & valid_y)


def median_cosine(x, y, valid_x, valid_y):
    if not valid_x.any() or not valid_y.any():
        return np.nan
    a, b = (np.where(v >= np.median(v[ok]), v, 0.0) for v, ok in ((x, valid_x), (y, valid_y)))
    return oracle.cosine(a, b, valid_x & valid_y)


def matrices(values, valid):
    """Of a (channel, y, x) stack that is blurred already."""
    count = range(len(values))
    functions = {"spearman": spearman, "roi_pearson": roi, "cosine": median_cosine}
    return {
        name: np.array(
            [[f(values[i], values[j], valid[i], valid[j]) for j in count] for i in count]
        )
        for name, f in functions.items()
    }


def assert_equals(sim, expected, tolerance=1e-6, ranks=1e-6):
    for name, matrix in expected.items():
        atol = ranks if name == "spearman" else tolerance
        np.testing.assert_allclose(sim[name].values, matrix, rtol=0, atol=atol, err_msg=name)


def assert_same_bits(a, b):
    for name in a.data_vars:
        assert np.array_equal(a[name].values, b[name].values, equal_nan=True), name


def pairwise(stack, **more):
    return bc.pairwise(stack, MEASURES, progress=False, **more)


@pytest.mark.parametrize(
    "dtype", [bool, np.uint8, np.int8, np.uint16, np.int16, np.int64, np.float32]
)
def test_counts_of_any_type_and_whole_numbers_of_16_bits_are_ranked_exactly(dtype):
    rng = np.random.default_rng(0)
    stack = rng.poisson(0.4, (5, 60, 71))
    if np.dtype(dtype).itemsize == 2:
        stack[2] = rng.integers(0, 32768, stack[2].shape)
    if np.dtype(dtype).kind in "if":
        stack[3] -= rng.integers(0, 30, stack[3].shape)
    stack = stack.astype(dtype)
    sim = pairwise(stack)
    assert_equals(sim, matrices(stack.astype(float), np.ones(stack.shape, bool)), 1e-7, 1e-7)
    x = stack.reshape(5, -1)
    assert float(sim["spearman"][0, 2]) == pytest.approx(stats.spearmanr(x[0], x[2])[0], abs=1e-7)


@pytest.mark.parametrize(
    ("draw", "shape"),
    [
        (lambda rng, shape: rng.normal(size=shape), (4, 60, 70)),
        (lambda rng, shape: rng.gamma(0.3, size=shape), (4, 60, 70)),
        (lambda rng, shape: (1e6 + rng.normal(size=shape)).astype(np.float32), (3, 40, 50)),
        (lambda rng, shape: rng.integers(0, 2**63, shape).astype(np.uint64), (3, 40, 50)),
        (lambda rng, shape: np.round(rng.normal(size=shape), 1), (3, 530, 540)),
    ],
)
def test_other_values_are_ranked_within_the_bound_and_have_exact_regions(draw, shape):
    stack = draw(np.random.default_rng(1), shape)
    values, valid = stack.astype(float), np.ones(stack.shape, bool)
    assert_equals(pairwise(stack), matrices(values, valid), 1e-6, error_bound(values))


def error_bound(values):
    """What the docstring of Spearman promises, from the bins and values that there are."""
    box = Box(0, values.shape[1], 0, values.shape[2])
    sample = sample_regions(values.shape[1:], len(values), lambda region: None)
    moments = np.array([[region_moments(channel, None)] for channel in values])
    statistics = combine(moments, sample, np.array([float(box.size)]))
    bound = 0.0
    for row, channel in enumerate(values):
        tile = ChannelTile(box, box, box.shape, channel, None, box.size, False, row, statistics)
        counts = np.zeros(BINS + 1, np.int64)
        Histogram(skewed=True).add(counts, tile)
        p = counts[:BINS] / box.size
        atoms = np.unique(channel, return_counts=True)[1] / box.size
        several = max((p**3).sum() - (atoms**3).sum(), 0)
        bound = max(bound, 2 * np.sqrt(several / (1 - (p**3).sum())))
    assert bound < 2e-3
    return bound + 1e-6


@pytest.mark.parametrize("rate", [0.002, 0.05, 3.0])
def test_blurred_counts_of_any_density_are_ranked_within_the_bound(rate):
    stack = np.random.default_rng(2).poisson(rate, (4, 120, 130)).astype(np.uint16)
    values = np.stack([bc.gaussian_blur(channel.astype(float), 2.0) for channel in stack])
    expected = matrices(values, np.ones(values.shape, bool))
    # Values that differ by rounding alone are ties here and not in the oracle.
    assert_equals(pairwise(stack, sigma=2.0), expected, 1e-6, 1e-4)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_missing_pixels_are_left_out(shared, whole):
    rng = np.random.default_rng(3)
    stack = rng.poisson(0.7, (5, 66, 75)) * 2 if whole else rng.normal(size=(5, 66, 75))
    lost = rng.random(stack.shape[1:] if shared else stack.shape) < 0.3
    stack[np.broadcast_to(lost, stack.shape)] = 7 if whole else np.nan
    stack = stack.astype(np.int16) if whole else stack
    valid = np.broadcast_to(~lost, stack.shape)
    sim = pairwise(stack, nodata=7 if whole else None)
    values = np.where(valid, stack, 0).astype(float)
    assert_equals(sim, matrices(values, valid), 1e-6, 1e-6 if whole else 1e-4)
    if shared:
        masked = pairwise(np.where(valid, stack, 0).astype(stack.dtype), mask=~lost)
        assert_equals(masked, matrices(values, valid), 1e-6, 1e-6 if whole else 1e-4)


def test_regions_of_all_pixels_and_of_a_zero_quantile():
    rng = np.random.default_rng(4)
    stack = rng.poisson([[[0.02]], [[0.5]], [[3.0]]], (3, 64, 70)).astype(np.uint8)
    sim = bc.pairwise(stack, ["roi_pearson"], progress=False)
    x, all_valid = stack.astype(float), np.ones(stack.shape[1:], bool)
    for i in range(3):
        for j in range(3):
            expected = roi(x[i], x[j], all_valid, all_valid, 0.95, False)
            assert float(sim["roi_pearson"][i, j]) == pytest.approx(expected, abs=1e-7)


def test_a_quantile_among_the_rarest_values_is_exact():
    stack = np.zeros((2, 200, 200), np.float32)
    stack[0, 100, 100:104] = [1e-9, 1.0, 1e5, 3e5]
    stack[1, 100, 100:104] = [1.0, -1e4, -1.0, -3e4]
    stack[1, 150, :9] = -2e4
    values, valid = stack.astype(float), np.ones(stack.shape, bool)
    for q in (0.01, 0.5, 0.7, 0.99):
        sim = bc.pairwise(stack, [bc.measures.RoiPearson(q, True)], progress=False)
        expected = roi(values[0], values[1], valid[0], valid[1], q)
        assert float(sim["roi_pearson"][0, 1]) == pytest.approx(expected, abs=1e-6, nan_ok=True), q


def run(stack, workers=1, checkpoint=None, measures=MEASURES, **question):
    strip, group = question.pop("strip", None), question.pop("group", None)
    pool = ThreadPool(workers)
    asked = ask(stack, measures=measures, pool=pool, **question)
    plan = plan_for(asked, pool)
    plan = dataclasses.replace(plan, strip=strip or plan.strip, group=group or plan.group)
    return compute(asked, plan, pool, checkpoint, SILENT).dataset()


@settings(max_examples=15)
@given(data=st.data())
def test_any_plan_chunking_and_number_of_workers_gives_the_same_bits(data):
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 300), st.integers(1, 300)))
    dtype = data.draw(st.sampled_from([np.uint8, np.int16, np.uint32, np.float32]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    stack = rng.poisson(0.4, shape).astype(dtype)
    if np.dtype(dtype).kind == "f":
        pattern = data.draw(st.sampled_from(["none", "shared", "differing"]))
        if pattern != "none":
            lost = rng.random(shape[1:] if pattern == "shared" else shape) < 0.2
            stack[np.broadcast_to(lost, shape)] = np.nan
    sigma = data.draw(st.sampled_from([None, 1.0, 4.0]))
    whole = run(stack, sigma=sigma)
    chunks = (data.draw(st.integers(1, shape[0])), *(max(16, n // 3) for n in shape[1:]))
    other = run(da.from_array(stack, chunks=chunks), 2, strip=32, sigma=sigma)
    assert_same_bits(whole, other)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("against", [None, ["c590", "c3", "c300"]])
def test_tiles_of_the_matrix_have_the_bits_of_the_whole(missing, against):
    rng = np.random.default_rng(5)
    stack = rng.poisson(0.5, (600, 24, 20)).astype(np.float32)
    if missing:
        stack[rng.random(stack.shape) < 0.05] = np.nan
    whole = run(stack, against=against)
    assert_same_bits(run(stack, against=against, group=256), whole)
    valid = np.isfinite(stack)
    values = np.where(valid, stack, 0).astype(float)
    rows = range(600) if against is None else [590, 3, 300]
    for name, f in (("spearman", spearman), ("roi_pearson", roi), ("cosine", median_cosine)):
        for i in (0, 2):
            for j in (1, 299, 550):
                expected = f(values[rows[i]], values[j], valid[rows[i]], valid[j])
                assert float(whole[name][i, j]) == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_a_raster_of_many_regions_with_empty_ones_equals_the_definition(tmp_path):
    rng = np.random.default_rng(6)
    stack = np.zeros((2, 1030, 2050), np.uint8)
    stack[:, :300, :600] = rng.poisson(0.6, (2, 300, 600))
    stack[0, 1010:, 2040:] = 9
    path = tmp_path / "s.zarr"
    with StackWriter(path, ["a", "b"], stack.shape[1:], "uint8") as writer:
        for channels, box in writer.shard_boxes:
            writer.write(channels, box, stack[(channels, *box.slices)])
    for sigma in (None, 1.5):
        sim = run(str(path), 2, sigma=sigma, significance=False)
        assert_same_bits(run(stack, strip=96, sigma=sigma, significance=False), sim)
        values = stack.astype(float)
        if sigma is not None:
            values = np.stack([bc.gaussian_blur(channel, sigma) for channel in values])
        everywhere = np.ones(stack.shape[1:], bool)
        for name, f in (("spearman", spearman), ("roi_pearson", roi), ("cosine", median_cosine)):
            expected = f(values[0], values[1], everywhere, everywhere)
            tolerance = 1e-4 if name == "spearman" and sigma else 1e-6
            assert float(sim[name][0, 1]) == pytest.approx(expected, abs=tolerance)


class Stop(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3, 4])
def test_after_a_stop_the_rest_gives_the_same_bits(tmp_path, monkeypatch, after):
    stack = np.random.default_rng(7).normal(size=(70, 30, 32))
    undisturbed = run(stack, sigma=[1.0])
    unit, calls = stage_module.summary_unit, []

    def stopping(*arguments):
        calls.append(arguments)
        if len(calls) == after:
            raise Stop
        return unit(*arguments)

    monkeypatch.setattr(stage_module, "summary_unit", stopping)
    checkpoint = Checkpoint(tmp_path / "r.partial")
    with pytest.raises(Stop):
        run(stack, checkpoint=checkpoint, sigma=[1.0])
    again = run(stack, checkpoint=checkpoint, sigma=[1.0])
    assert again.attrs["units_found_done"] >= after
    assert_same_bits(undisturbed, again)


def test_constant_missing_and_identical_channels_have_the_documented_values():
    stack = np.random.default_rng(8).normal(size=(5, 40, 40))
    stack[1], stack[2], stack[3], stack[4] = 7.3, np.nan, 0.0, stack[0]
    sim = pairwise(stack)
    for name in ("spearman", "roi_pearson"):
        value = sim[name].values
        assert value[0, 4] == pytest.approx(1, abs=1e-9)
        assert np.isnan(value[1:4]).all()
        assert np.isnan(value[:, 1:4]).all()
    cosine = sim["cosine"].values
    assert cosine[1, 1] == pytest.approx(1)  # a constant is not below its median
    assert np.isnan(cosine[2:4]).all()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("side", [1, 5])
def test_few_channels_and_few_pixels_are_enough(channels, side):
    stack = np.random.default_rng(9).poisson(2.0, (channels, side, side)).astype(np.uint64)
    sim = pairwise(stack)
    assert sim["spearman"].shape == (channels, channels)
    assert_equals(sim, matrices(stack.astype(float), np.ones(stack.shape, bool)))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("roi_pearson:q=1.5", "q: got 1.5"),
        ("roi_pearson:q=high", "q: got 'high'"),
        ("roi_pearson:nonzero=2", "nonzero: got 2"),
        ("cosine:threshold=mean", "threshold: got 'mean'"),
        ("spearman:q=1", "unknown parameter 'q'"),
    ],
)
def test_bad_parameters_are_refused_by_name(text, named):
    with pytest.raises(InputError, match=named):
        bc.pairwise(np.ones((2, 9, 9)), [text], progress=False)


def test_words_for_yes_no_and_nothing_are_read_from_the_command_line():
    assert bc.measures.parse("roi_pearson:nonzero=True") == bc.measures.RoiPearson(nonzero=True)
    assert bc.measures.parse("roi_pearson:nonzero=false") == bc.measures.RoiPearson()
    assert bc.measures.parse("cosine:threshold=none") == bc.measures.Cosine()


def test_worker_processes_and_the_command_line_give_the_same_bits(tmp_path):
    stack = np.random.default_rng(10).poisson(0.4, (9, 200, 210)).astype(np.uint16)
    np.save(tmp_path / "s.npy", stack)
    more = [word for measure in MEASURES for word in ("--measure", measure)]
    subprocess.run(
        [sys.executable, "-m", "bigcorr", "pairs", str(tmp_path / "s.npy"), "-o",
         str(tmp_path / "r.zarr"), *more, "--sigma", "1.5", "--workers", "2", "--quiet"],
        check=True,
    )  # fmt: skip
    assert_same_bits(pairwise(stack, sigma=1.5), xr.open_zarr(tmp_path / "r.zarr"))


def test_the_plan_tells_the_passes_the_bytes_read_and_the_second_tile():
    stack = np.zeros((300, 600, 600), np.uint16)

    def plan(measures, sigma=None):
        asked = ask(stack, measures=measures, sigma=sigma, significance=False)
        return plan_for(asked, ThreadPool(1))

    plain, exact = plan(["pearson"]), plan(["roi_pearson"])
    assert (plain.summary_passes, exact.summary_passes) == (0, 1)
    assert exact.bytes_read >= stack.nbytes * 2
    # A quantile of blurred values takes a second pass; ranks take one.
    assert plan(["roi_pearson"], 2.0).summary_passes == 2
    assert plan(["spearman"], 2.0).summary_passes == 1
    assert plan(["spearman"]).task_bytes >= plain.task_bytes + 4 * 300 * 128 * 128
    assert plan(["spearman"]).unit_bytes >= 8 * BINS  # the counts of one channel at least
    shown = run_pairs(stack, "unused", measures=["roi_pearson"], sigma=2.0, plan_only=True)["plan"]
    assert ("passes for summaries", "2") in shown


def test_probes_are_a_quarter_of_each_region_in_turn() -> None:
    regions = regions_of((2048, 3000))
    parts = probes(regions)
    assert [part.size for part in parts[:2]] == [512 * 512] * 2
    assert len({(part.y0 % 1024, part.x0 % 1024) for part in parts if part.size == 512 * 512}) > 2
    for part, region in zip(parts, regions, strict=True):
        assert part.clipped((region.y1, region.x1)) == part
        assert part.y0 >= region.y0
        assert part.x0 >= region.x0
        assert region.shape[1] == 1024 or part.shape[1] == region.shape[1]
