"""Pair matrices: equal to brute force, and the same bits whatever the plan."""

from __future__ import annotations

import dataclasses

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import oracle

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.pairs_job import ask, compute, plan_for
from bigcorr.run.progress import SILENT

MEASURES = ["pearson", "cosine", "ncc"]


def sparse(rng, shape, rate=0.3):
    return rng.poisson(rate, shape).astype(np.uint8)


def assert_equals_oracle(sim, expected, tolerance=1e-6):
    for name, matrix in expected.items():
        np.testing.assert_allclose(sim[name].values, matrix, rtol=0, atol=tolerance, err_msg=name)


def run(stack, workers=1, strip=None, group=None, **question):
    """The matrices with a plan of our own choosing: threads, rows and channels held at once."""
    pool = ThreadPool(workers)
    asked = ask(stack, measures=MEASURES, window=8, stride=4, pool=pool, **question)
    plan = plan_for(asked, pool)
    if strip is not None:
        plan = dataclasses.replace(plan, strip=strip)
    if group is not None:
        plan = dataclasses.replace(plan, group=group)
    return compute(asked, plan, pool, None, SILENT).dataset()


def assert_same_bits(a, b):
    for name in a.data_vars:
        assert np.array_equal(a[name].values, b[name].values, equal_nan=True), name


@pytest.mark.parametrize("sigma", [None, 2.0, (1.0, 3.0)])
def test_sparse_counts_equal_brute_force(sigma):
    stack = sparse(np.random.default_rng(0), (5, 70, 83))
    valid = np.ones(stack.shape, bool)
    sim = bc.pairwise(stack, MEASURES, sigma=sigma, window=8, stride=4, progress=False)
    assert_equals_oracle(sim, oracle.matrices(stack, valid, sigma))


@pytest.mark.parametrize(
    ("offset", "spread", "dtype"),
    [(60000, 1, np.uint16), (1e6, 1.0, np.float64), (-3e4, 3.0, np.float32), (0, 1e-30, float)],
)
def test_a_small_signal_on_a_large_offset_keeps_its_correlation(offset, spread, dtype):
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(4, 60, 60))
    noise[1] += noise[0]
    stack = (offset + (np.round(noise) if dtype == np.uint16 else spread * noise)).astype(dtype)
    sim = bc.pairwise(stack, ["pearson", "ncc"], window=8, stride=8, progress=False)
    expected = oracle.matrices(stack.astype(float), np.ones(stack.shape, bool), stride=8)
    np.testing.assert_allclose(sim["pearson"], expected["pearson"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(sim["ncc"], expected["ncc"], rtol=0, atol=1e-6)


def test_without_a_contrast_floor_ncc_is_the_mean_over_windows_that_vary():
    stack = sparse(np.random.default_rng(2), (4, 64, 64), 0.02)
    sim = bc.pairwise(stack, ["ncc"], window=8, stride=8, contrast_floor=0, progress=False)
    expected = oracle.matrices(stack, np.ones(stack.shape, bool), None, 8, 8, 0.0)
    np.testing.assert_allclose(sim["ncc"], expected["ncc"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [None, 1.5])
def test_missing_pixels_leave_windows_and_sums_pair_by_pair(sigma):
    rng = np.random.default_rng(3)
    stack = rng.normal(size=(5, 66, 75)).astype(np.float32)
    stack[0, :20] = np.nan
    stack[1, 30:50, 10:40] = np.nan
    stack[2][rng.random(stack.shape[1:]) < 0.3] = np.nan
    sim = bc.pairwise(stack, MEASURES, sigma=sigma, window=8, stride=4, progress=False)
    assert_equals_oracle(sim, oracle.matrices(stack, np.isfinite(stack), sigma))


@pytest.mark.parametrize("sigma", [None, 2.0])
def test_a_shared_mask_is_the_same_as_missing_pixels_in_all_channels(sigma):
    rng = np.random.default_rng(4)
    stack = rng.poisson(0.5, (4, 64, 70)).astype(np.float32)
    mask = np.hypot(*np.mgrid[-32:32, -35:35]) < 28
    valid = np.repeat(mask[None], 4, axis=0)
    given_mask = bc.pairwise(
        stack, MEASURES, sigma=sigma, window=8, stride=4, mask=mask, progress=False
    )
    expected = oracle.matrices(stack, valid, sigma)
    assert_equals_oracle(given_mask, expected)
    as_nan = bc.pairwise(
        np.where(valid, stack, np.nan), MEASURES, sigma=sigma, window=8, stride=4, progress=False
    )
    assert_equals_oracle(as_nan, expected)


def test_a_declared_nodata_value_is_missing():
    stack = sparse(np.random.default_rng(5), (3, 50, 50), 1.0)
    stack[:, 10:20] = 255
    sim = bc.pairwise(stack, MEASURES, window=8, stride=4, nodata=255, progress=False)
    assert_equals_oracle(sim, oracle.matrices(stack, stack != 255))


@settings(max_examples=25)
@given(data=st.data())
def test_any_plan_chunking_and_number_of_workers_gives_the_same_bits(data):
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(8, 300), st.integers(8, 300)))
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16, np.int32, np.float32, np.float64]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    stack = rng.poisson(0.4, shape).astype(dtype)
    if np.dtype(dtype).kind == "f":
        pattern = data.draw(st.sampled_from(["none", "shared", "differing"]))
        if pattern == "shared":
            stack[:, rng.random(shape[1:]) < 0.2] = np.nan
        elif pattern == "differing":
            stack[rng.random(shape) < 0.2] = np.nan
    sigma = data.draw(st.sampled_from([None, 1.0, 4.0]))
    whole = run(stack, sigma=sigma)
    chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
    chunked = da.from_array(stack, chunks=(chunks[0], max(chunks[1], 16), max(chunks[2], 16)))
    other = run(
        chunked,
        workers=data.draw(st.integers(1, 3)),
        strip=32 * data.draw(st.integers(1, 3)),
        sigma=sigma,
    )
    assert_same_bits(whole, other)


@settings(max_examples=25)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 999),
    missing=st.sampled_from([0.0, 0.3]),
    window=st.integers(2, 9),
    stride=st.integers(1, 9),
)
def test_small_rasters_of_any_shape_equal_brute_force(shape, seed, missing, window, stride):
    rng = np.random.default_rng(seed)
    stack = rng.poisson(1.0, shape) + rng.normal(size=shape)
    stack[rng.random(shape) < missing] = np.nan
    valid = np.isfinite(stack)
    measures = ["pearson", "cosine"]
    if window <= min(shape[1:]):
        measures.append("ncc")
    sim = bc.pairwise(stack, measures, window=window, stride=stride, progress=False)
    expected = oracle.matrices(stack, valid, None, window, stride)
    assert_equals_oracle(sim, {name: expected[name] for name in measures})


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("against", [None, ["c700", "c3", "c300"]])
def test_tiles_of_the_matrix_have_the_bits_of_the_whole(missing, against):
    rng = np.random.default_rng(14)
    stack = rng.poisson(0.3, (710, 24, 20)).astype(np.float32)
    if missing:
        stack[rng.random(stack.shape) < 0.1] = np.nan
    whole = run(stack, against=against)
    tiled = run(stack, group=256, workers=2, against=against)
    assert_same_bits(whole, tiled)
    assert np.array_equal(whole["count"].values, tiled["count"].values)


def test_against_gives_the_rows_of_the_whole_matrix():
    stack = sparse(np.random.default_rng(6), (6, 80, 80))
    names = [f"g{i}" for i in range(6)]
    array = xr.DataArray(stack, dims=("channel", "y", "x"), coords={"channel": names})
    whole = bc.pairwise(array, MEASURES, sigma=1.0, progress=False)
    some = bc.pairwise(array, MEASURES, sigma=1.0, against=["g4", "g1"], progress=False)
    assert some["pearson"].dims == ("channel", "other")
    assert list(some["channel"].values) == ["g4", "g1"]
    assert list(some["other"].values) == names
    for name in some.data_vars:
        np.testing.assert_allclose(
            some[name].values, whole[name].sel(channel=["g4", "g1"]).values, rtol=0, atol=1e-7
        )
    assert some["count"].values.tolist() == stack.sum(axis=(1, 2))[[4, 1]].tolist()


def test_against_with_differing_masks_equals_brute_force():
    rng = np.random.default_rng(7)
    stack = rng.normal(size=(4, 40, 40))
    stack[rng.random(stack.shape) < 0.2] = np.nan
    sim = bc.pairwise(stack, MEASURES, window=8, stride=4, against=["c3", "c0"], progress=False)
    expected = oracle.matrices(stack, np.isfinite(stack))
    assert_equals_oracle(sim, {name: matrix[[3, 0]] for name, matrix in expected.items()})


def test_a_list_of_sigmas_adds_a_leading_dimension():
    stack = sparse(np.random.default_rng(8), (3, 60, 60))
    several = bc.pairwise(stack, ["pearson"], sigma=[1, 3], progress=False)
    assert several["pearson"].dims == ("sigma", "channel", "other")
    assert several["sigma"].values.tolist() == [1.0, 3.0]
    one = bc.pairwise(stack, ["pearson"], sigma=3, progress=False)
    assert np.array_equal(several["pearson"].sel(sigma=3.0).values, one["pearson"].values)


def test_constant_and_missing_channels_have_the_documented_values():
    rng = np.random.default_rng(9)
    stack = rng.normal(size=(5, 40, 40))
    stack[1] = 7.3
    stack[2] = np.nan
    stack[3] = 0.0
    stack[4] = stack[0]
    sim = bc.pairwise(stack, MEASURES, window=8, stride=8, progress=False)
    r = sim["pearson"].values
    assert np.isnan(r[1]).all()
    assert np.isnan(r[2]).all()
    assert np.isnan(r[3]).all()
    assert r[0, 4] == pytest.approx(1, abs=1e-12)
    assert sim["ncc"].values[0, 1] == 0
    assert np.isnan(sim["cosine"].values[3]).all()
    assert np.isfinite(sim["pearson_sd"].values[0, 4])
    assert np.isnan(sim["pearson_sd"].values[1]).all()


@pytest.mark.parametrize("channels", [1, 2])
def test_one_or_two_channels_are_enough(channels):
    stack = sparse(np.random.default_rng(10), (channels, 30, 30))
    sim = bc.pairwise(stack, MEASURES, progress=False)
    assert sim["pearson"].shape == (channels, channels)
    assert len(bc.rank_pairs(sim, by="pearson")) == channels - 1


def test_more_channels_than_one_product_holds_equal_numpy():
    rng = np.random.default_rng(11)
    stack = rng.poisson(0.2, (300, 24, 24)).astype(np.uint8)
    sim = bc.pairwise(stack, ["pearson"], significance=False, progress=False)
    expected = np.corrcoef(stack.reshape(300, -1))
    np.testing.assert_allclose(sim["pearson"], expected, rtol=0, atol=1e-6)


def test_the_active_client_gives_the_same_bits():
    from distributed import Client

    stack = sparse(np.random.default_rng(12), (4, 200, 200))
    here = bc.pairwise(stack, MEASURES, sigma=2, progress=False)
    with Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None):
        there = bc.pairwise(stack, MEASURES, sigma=2, progress=False)
    assert_same_bits(here, there)


def test_the_input_is_left_as_it_was():
    stack = np.random.default_rng(13).normal(size=(3, 40, 40))
    before = stack.copy()
    bc.pairwise(stack, MEASURES, sigma=1, progress=False)
    assert np.array_equal(stack, before)


@pytest.mark.parametrize(
    ("question", "named"),
    [
        ({"measures": []}, "measures"),
        ({"measures": ["pearsom"]}, "did you mean pearson"),
        ({"measures": ["ncc:windw=3"]}, "windw"),
        ({"measures": ["ncc"], "window": 0}, "window"),
        ({"measures": ["ncc"], "window": 31}, "window"),
        ({"measures": ["ncc"], "stride": 0}, "stride"),
        ({"measures": ["ncc"], "contrast_floor": -1}, "contrast_floor"),
        ({"measures": ["pearson"], "sigma": 0}, "sigma"),
        ({"measures": ["pearson"], "sigma": -1.5}, "sigma"),
        ({"measures": ["pearson"], "sigma": []}, "sigma"),
        ({"measures": ["pearson"], "against": ["nobody"]}, "nobody"),
        ({"measures": ["pearson"], "against": []}, "against"),
        ({"measures": ["pearson"], "mask": np.ones((3, 3))}, "mask"),
        ({"measures": ["pearson"], "min_count": 1e9}, "min_count"),
    ],
)
def test_bad_questions_are_refused_by_name(question, named):
    stack = np.ones((2, 30, 30), np.uint8)
    with pytest.raises(InputError, match=named):
        bc.pairwise(stack, progress=False, **question)


@pytest.mark.parametrize("stack", [np.zeros((2, 3, 4), complex), np.array([["a", "b"]]), 3])
def test_what_is_not_a_raster_is_refused(stack):
    with pytest.raises(ValueError, match=r"raster|dtype|dimension"):
        bc.pairwise(stack, ["pearson"], progress=False)


@pytest.mark.parametrize("sigma", [0, -1.0, 1e23, float("nan"), (1, 2, 3), "wide"])
def test_a_blur_that_is_none_is_refused(sigma):
    with pytest.raises(InputError, match=r"sigma: got .*, takes a number of pixels > 0, at most"):
        bc.pairwise(np.ones((2, 20, 20)), ["pearson"], sigma=sigma, progress=False)
