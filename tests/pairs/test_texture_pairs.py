"""Texture of pairs: histograms of patterns as scikit-image's, whole and in any plan."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial import distance

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.pairs.texture import METRICS
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.pairs_job import ask, compute, plan_for
from bigcorr.run.progress import SILENT

BY_DEFINITION = {
    "bhattacharyya": lambda p, q: np.sqrt(p * q).sum(),
    "hellinger": lambda p, q: np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum() / 2),
    "chi2": lambda p, q: (
        sum((a - b) ** 2 / (a + b) for a, b in zip(p, q, strict=True) if a + b) / 2
    ),
    "intersection": lambda p, q: np.minimum(p, q).sum(),
    "jensenshannon": distance.jensenshannon,
    "euclidean": distance.euclidean,
}


def lbp(stack, mask=None, **options):
    measure = bc.measures.LBP(**options)
    return bc.pairwise(stack, [measure], mask=mask, progress=False)["lbp"].values


def textures(rng, shape=(70, 83)):
    """Noise, stripes, sparse counts, steps."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    noise = rng.integers(0, 6, shape)
    return np.stack([noise, (x // 2 + noise // 5) % 4, rng.poisson(0.05, shape), (x + y) // 16])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("points", "radius", "method"), [(8, 1, "uniform"), (12, 2.5, "ror"), (8, 1, "nri_uniform")]
)
def test_each_metric_of_histograms_equals_scikit_image_and_its_definition(
    metric, points, radius, method
):
    feature = pytest.importorskip("skimage.feature")
    stack = textures(np.random.default_rng(0)).astype(np.uint8)
    codes = {"uniform": points + 2, "ror": 2**points, "nri_uniform": points * (points - 1) + 3}
    histograms = []
    for channel in stack:
        patterns = feature.local_binary_pattern(channel, points, radius, method).astype(int)
        histograms.append(np.bincount(patterns.ravel(), minlength=codes[method]) / channel.size)
    found = lbp(stack, points=points, radius=radius, method=method, metric=metric)
    for i in range(4):
        for j in range(4):
            expected = BY_DEFINITION[metric](histograms[i], histograms[j])
            assert found[i, j] == pytest.approx(expected, abs=1e-7 if i == j else 1e-12)


def test_several_circles_are_averaged_and_can_be_written_as_text():
    stack = textures(np.random.default_rng(1))
    measure = bc.measures.parse("lbp:points=8+16,radius=1+2,metric=chi2")
    assert measure == bc.measures.LBP((8, 16), (1, 2.0), metric="chi2")
    found = bc.pairwise(stack, [measure], progress=False)["lbp"].values
    each = [lbp(stack, points=p, radius=r, metric="chi2") for p, r in ((8, 1), (16, 2))]
    np.testing.assert_allclose(found, (each[0] + each[1]) / 2, rtol=0, atol=1e-15)


@pytest.mark.parametrize("shared", [False, True])
def test_missing_pixels_are_left_out_as_in_lbp_histogram(shared):
    rng = np.random.default_rng(2)
    stack = textures(rng).astype(float)
    mask = None
    if shared:
        mask = rng.random(stack.shape[1:]) < 0.95
        gaps = np.where(mask, stack, np.nan)
    else:
        gaps = stack = np.where(rng.random(stack.shape) < 0.05, np.nan, stack)
    found = lbp(stack, mask, metric="euclidean")
    histograms = [bc.lbp_histogram(channel) for channel in gaps]
    for i in range(4):
        for j in range(4):
            expected = distance.euclidean(histograms[i], histograms[j])
            assert found[i, j] == pytest.approx(expected, abs=1e-14)


def test_patterns_reach_over_the_seams_of_blocks_of_a_large_raster():
    rng = np.random.default_rng(3)
    stack = rng.integers(0, 4, (2, 1100, 2000)).astype(np.uint8)
    stack[1, :, :1500] = 0
    found = lbp(stack, radius=2.5)
    p, q = (bc.lbp_histogram(channel, 8, 2.5) for channel in stack)
    assert found[0, 1] == pytest.approx(np.sqrt(p * q).sum(), abs=1e-14)


@pytest.mark.parametrize("against", [None, ["c270", "c5"]])
def test_any_plan_gives_the_same_bits(against):
    stack = np.random.default_rng(4).poisson(0.2, (300, 50, 40)).astype(np.float32)

    def run(group=None, workers=1):
        pool = ThreadPool(workers)
        asked = ask(stack, measures=["lbp"], against=against, pool=pool, sigma=1.0)
        plan = plan_for(asked, pool)
        plan = dataclasses.replace(plan, group=group or plan.group)
        return compute(asked, plan, pool, None, SILENT).dataset()["lbp"].values

    whole = run()
    assert np.array_equal(whole, run(group=256, workers=2))
    if against is None:
        assert np.array_equal(whole, whole.T)


def test_constant_missing_and_identical_channels_have_the_documented_values():
    stack = np.random.default_rng(5).random((4, 30, 30))
    stack[1] = 7.3
    stack[2] = np.nan
    stack[3] = stack[0]
    found = lbp(stack)
    assert found[0, 0] == found[1, 1] == 1.0
    assert found[0, 3] == pytest.approx(1.0, abs=1e-12)
    assert 0 < found[0, 1] < 1
    assert np.isnan(found[2]).all()
    assert np.isnan(found[:, 2]).all()
    assert lbp(stack[:1]).tolist() == [[1.0]]
    assert lbp(stack[[1, 1], :1, :1].astype(np.uint64), metric="hellinger").tolist() == [
        [0, 0],
        [0, 0],
    ]


def test_distances_are_ranked_as_such():
    sim = bc.pairwise(
        textures(np.random.default_rng(6)), [bc.measures.LBP(metric="chi2")], progress=False
    )
    assert sim["lbp"].attrs["kind"] == "distance"
    assert bc.rank_pairs(sim, by="lbp")["value"].is_monotonic_increasing


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"metric": "manhattan"}, "metric: got 'manhattan'"),
        ({"method": "var"}, "method: got 'var'"),
        ({"method": "other"}, "method: got 'other'"),
        ({"points": 0}, "points: got 0"),
        ({"points": "8+x"}, r"points: got '8\+x'"),
        ({"points": 20, "method": "default"}, "points: got 20 for 'default'"),
        ({"radius": 0}, "radius: got 0"),
        ({"points": (8, 16)}, "radius: got 1 of them for 2"),
    ],
)
def test_bad_parameters_are_refused_by_name(options, named):
    with pytest.raises(InputError, match=named):
        lbp(np.ones((2, 20, 20)), **options)
