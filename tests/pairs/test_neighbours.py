"""Bivariate Moran and Lee: equal to their definition and to esda, whole and in any plan."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.pairs_job import ask, compute, plan_for
from bigcorr.run.progress import SILENT


def weights(valid, contiguity):
    """Row-standardised contiguity over the valid pixels of a raster."""
    h, w = valid.shape
    number = -np.ones((h, w), int)
    number[valid] = np.arange(valid.sum())
    rows, columns = [], []
    for i, j in np.argwhere(valid):
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                y, x = i + di, j + dj
                if (di, dj) == (0, 0) or (contiguity == "rook" and di and dj):
                    continue
                if 0 <= y < h and 0 <= x < w and valid[y, x]:
                    rows.append(number[i, j])
                    columns.append(number[y, x])
    n = int(valid.sum())
    matrix = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (n, n))
    degree = np.asarray(matrix.sum(axis=1)).ravel()
    return sparse.diags(1 / np.maximum(degree, 1)) @ matrix


def brute(stack, valid, contiguity):
    w = weights(valid, contiguity)
    x = stack[:, valid].astype(float)
    z = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    lag = (w @ z.T).T
    return z @ lag.T / z.shape[1], lag @ lag.T / z.shape[1]


@settings(max_examples=25)
@given(
    shape=st.tuples(st.integers(2, 5), st.integers(1, 60), st.integers(2, 60)),
    contiguity=st.sampled_from(["queen", "rook"]),
    missing=st.sampled_from([0.0, 0.3, 0.8]),
    seed=st.integers(0, 999),
)
def test_moran_and_lee_equal_their_definition(shape, contiguity, missing, seed):
    rng = np.random.default_rng(seed)
    stack = rng.poisson(0.5, shape) + rng.normal(size=shape) + 100.0
    mask = rng.random(shape[1:]) >= missing
    mask.flat[:2] = True
    sim = bc.pairwise(
        stack,
        [bc.measures.Moran(contiguity), bc.measures.Lee(contiguity)],
        mask=mask,
        progress=False,
    )
    moran, lee = brute(stack, mask, contiguity)
    np.testing.assert_allclose(sim["moran"], moran, rtol=0, atol=1e-7)
    np.testing.assert_allclose(sim["lee"], lee, rtol=0, atol=1e-7)


def test_sparse_counts_on_more_than_one_block_equal_the_definition():
    rng = np.random.default_rng(0)
    stack = rng.poisson(0.02, (4, 150, 170)).astype(np.uint8)
    sim = bc.pairwise(stack, ["moran", "lee"], progress=False)
    moran, lee = brute(stack, np.ones((150, 170), bool), "queen")
    np.testing.assert_allclose(sim["moran"], moran, rtol=0, atol=1e-6)
    np.testing.assert_allclose(sim["lee"], lee, rtol=0, atol=1e-6)


def test_esda_agrees():
    esda = pytest.importorskip("esda")
    libpysal = pytest.importorskip("libpysal")
    rng = np.random.default_rng(1)
    stack = rng.gamma(2.0, size=(2, 14, 17))
    sim = bc.pairwise(stack, ["moran", "lee"], progress=False)
    w = libpysal.weights.lat2W(14, 17, rook=False)
    x, y = stack.reshape(2, -1)
    w.transform = "r"
    assert (
        pytest.approx(float(sim["moran"][0, 1]), abs=1e-9)
        == esda.Moran_BV(x, y, w, permutations=0).I
    )
    connectivity = w.sparse
    lee = esda.Spatial_Pearson(connectivity=connectivity, permutations=0).fit(
        x[:, None], y[:, None]
    )
    assert lee.association_[0, 1] == pytest.approx(float(sim["lee"][0, 1]), abs=1e-9)


@pytest.mark.parametrize("against", [None, ["c290", "c5"]])
def test_any_plan_gives_the_same_bits(against):
    rng = np.random.default_rng(2)
    stack = rng.poisson(0.2, (300, 140, 30)).astype(np.float32)

    def run(strip=None, group=None, workers=1):
        pool = ThreadPool(workers)
        asked = ask(stack, measures=["moran", "lee", "pearson"], against=against, pool=pool)
        plan = plan_for(asked, pool)
        plan = dataclasses.replace(plan, strip=strip or plan.strip, group=group or plan.group)
        return compute(asked, plan, pool, None, SILENT).dataset()

    whole = run()
    for other in (run(strip=32, workers=2), run(group=256, workers=2)):
        for name in whole.data_vars:
            assert np.array_equal(whole[name].values, other[name].values), name


def test_channels_that_miss_different_pixels_are_refused():
    stack = np.random.default_rng(3).normal(size=(3, 40, 40))
    stack[1, 5, 5] = np.nan
    with pytest.raises(InputError, match="one mask for all channels"):
        bc.pairwise(stack, ["moran"], progress=False)


def test_a_channel_that_misses_everything_spoils_no_other():
    stack = np.random.default_rng(3).normal(size=(4, 70, 90))
    stack[:, :9] = np.nan
    stack[2] = np.nan
    sim = bc.pairwise(stack, ["moran", "lee"], progress=False)
    alone = bc.pairwise(np.delete(stack, 2, axis=0), ["moran", "lee"], progress=False)
    for name in ("moran", "lee"):
        values = sim[name].values
        assert np.isnan(values[2]).all()
        assert np.isnan(values[:, 2]).all()
        rest = np.delete(np.delete(values, 2, axis=0), 2, axis=1)
        np.testing.assert_allclose(rest, alone[name].values, atol=1e-12)


def test_an_unknown_contiguity_is_refused():
    with pytest.raises(InputError, match="contiguity: got 'bishop'"):
        bc.measures.Lee("bishop")


def test_moran_is_ranked_by_the_mean_of_its_two_directions():
    stack = np.random.default_rng(4).normal(size=(3, 30, 30))
    sim = bc.pairwise(stack, ["moran"], progress=False)
    pairs = bc.rank_pairs(sim, by="moran").set_index(["a", "b"])
    values = sim["moran"].values
    assert pairs.loc[("c0", "c1"), "value"] == pytest.approx((values[0, 1] + values[1, 0]) / 2)
