"""Sliced Wasserstein distances of all pairs: equal to POT, whole and in any plan."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.pairs_job import ask, compute, plan_for
from bigcorr.run.progress import SILENT


def distances(stack, **options):
    measure = bc.measures.Wasserstein(**options)
    return bc.pairwise(stack, [measure], progress=False)["wasserstein"].values


def coarse(stack, side):
    """Sums over square cells, and the places of the cells' centres."""
    starts = [np.arange(0, n, side) for n in stack.shape[1:]]
    sums = np.add.reduceat(np.add.reduceat(stack.astype(float), starts[0], 1), starts[1], 2)
    ends = [np.minimum(a + side, n) for a, n in zip(starts, stack.shape[1:], strict=True)]
    centres = [(a + b - 1) / 2 for a, b in zip(starts, ends, strict=True)]
    places = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1).reshape(-1, 2)
    return sums.reshape(len(stack), -1), places


def sliced(a, b, places, directions):
    """The distance by its definition: exact quantile functions, one direction at a time."""
    total = 0.0
    for direction in directions.T:
        place = places @ direction
        order = np.argsort(place)
        place, below = place[order], [np.cumsum(m[order]) / m.sum() for m in (a, b)]
        levels = np.unique(np.concatenate([np.clip(c, 0, 1) for c in below]))
        widths = np.diff(np.concatenate([[0.0], levels]))
        middle = levels - widths / 2
        p, q = (place[np.minimum(np.searchsorted(c, middle), len(c) - 1)] for c in below)
        total += float((widths * (p - q) ** 2).sum())
    return np.sqrt(total / directions.shape[1])


def varied(rng, shape):
    """Smooth, sparse, very sparse and dense channels."""
    few = np.zeros(shape)
    np.add.at(few.ravel(), rng.integers(0, few.size, 3), 1)
    return np.stack(
        [
            ndimage.gaussian_filter(rng.random(shape), 3) ** 4,
            rng.poisson(0.02, shape),
            np.bincount(rng.integers(0, np.prod(shape), 3), minlength=np.prod(shape)).reshape(
                shape
            ),
            rng.poisson(2.0, shape),
        ]
    )


def test_pot_agrees_on_the_same_directions():
    ot = pytest.importorskip("ot")
    stack = varied(np.random.default_rng(0), (47, 60))
    measure = bc.measures.Wasserstein()
    found = bc.pairwise(stack, [measure], progress=False)["wasserstein"].values
    mass, places = coarse(stack, 1)
    for i, j in ((0, 1), (1, 2), (2, 3), (3, 0)):
        a, b = mass[i] / mass[i].sum(), mass[j] / mass[j].sum()
        expected = ot.sliced_wasserstein_distance(
            places, places, a, b, projections=measure.directions
        )
        assert found[i, j] == pytest.approx(expected, rel=1e-3)


@settings(max_examples=10)
@given(
    shape=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    grid=st.integers(8, 64),
    seed=st.integers(0, 999),
)
def test_a_coarse_grid_equals_the_definition(shape, grid, seed):
    stack = varied(np.random.default_rng(seed), shape)
    measure = bc.measures.Wasserstein(grid=grid, projections=5, seed=seed)
    found = bc.pairwise(stack, [measure], progress=False)["wasserstein"].values
    side = -(-max(shape) // grid)
    mass, places = coarse(stack, side)
    for i in range(4):
        for j in range(i):
            expected = sliced(mass[i], mass[j], places, measure.directions)
            assert found[i, j] == pytest.approx(expected, rel=1e-3, abs=0.01 * side)
    assert np.array_equal(found, found.T)


def test_a_shift_has_the_length_that_it_has():
    stack = np.zeros((2, 2000, 1500), np.uint8)
    stack[0, 300:400, 200:300] = 1
    stack[1, 700:800, 500:600] = 1
    measure = bc.measures.Wasserstein(projections=64)
    found = bc.pairwise(stack, [measure], progress=False)["wasserstein"].values
    assert found[0, 1] == pytest.approx(500 / np.sqrt(2), rel=5e-3)


@pytest.mark.parametrize("against", [None, ["c270", "c5"]])
def test_any_plan_gives_the_same_bits(against):
    stack = np.random.default_rng(2).poisson(0.02, (300, 70, 50)).astype(np.float32)

    def run(group=None, workers=1, measures=("wasserstein",)):
        pool = ThreadPool(workers)
        measures = [bc.measures.Wasserstein(projections=4, quantiles=64), *measures[1:]]
        asked = ask(stack, measures=measures, against=against, pool=pool)
        plan = plan_for(asked, pool)
        plan = dataclasses.replace(plan, group=group or plan.group)
        return compute(asked, plan, pool, None, SILENT).dataset()["wasserstein"].values

    whole = run()
    assert np.isfinite(whole).all()
    assert np.array_equal(whole, run(group=256, workers=2))
    assert np.array_equal(whole, run(measures=("wasserstein", "pearson")))


def test_missing_pixels_hold_no_mass_and_may_differ():
    stack = np.random.default_rng(3).random((3, 40, 40))
    missing = stack.copy()
    missing[0, 5:9] = np.nan
    missing[2, :, 30:] = np.nan
    assert np.array_equal(distances(missing), distances(np.nan_to_num(missing)))


def test_without_mass_there_is_no_distance_and_of_equal_channels_it_is_zero():
    stack = np.random.default_rng(4).random((5, 40, 40))
    stack[1] = 0
    stack[2] = np.nan
    stack[3] = 7 * stack[0]
    stack[4] = 3.0
    found = distances(stack)
    assert np.isnan(found[[1, 2]]).all()
    assert found[0, 0] == 0
    assert found[0, 3] == pytest.approx(0, abs=1e-4)
    assert found[0, 4] > 0.01
    assert distances(stack[:1]).tolist() == [[0.0]]


def test_negative_values_are_refused_by_the_name_of_the_channel():
    stack = xr.DataArray(
        np.ones((3, 20, 20)), dims=("channel", "y", "x"), coords={"channel": ["a", "b", "c"]}
    )
    stack[1, 3, 4] = -0.5
    with pytest.raises(InputError, match=r"values of at least 0: channel b has -0\.5"):
        bc.pairwise(stack, ["wasserstein"], progress=False)


def test_counts_of_64_bits_and_several_blurs():
    stack = np.random.default_rng(5).poisson(0.1, (3, 50, 50)).astype(np.uint64)
    several = bc.pairwise(stack, ["wasserstein"], sigma=[1, 3], progress=False)["wasserstein"]
    one = bc.pairwise(stack, ["wasserstein"], sigma=3, progress=False)["wasserstein"]
    assert np.array_equal(several.sel(sigma=3.0).values, one.values)


def test_it_is_ranked_with_the_smallest_distance_first():
    stack = np.zeros((3, 30, 30))
    stack[0, 5, 5] = stack[1, 5, 9] = stack[2, 25, 25] = 1
    sim = bc.pairwise(stack, ["wasserstein"], progress=False)
    assert bc.rank_pairs(sim, by="wasserstein")[["a", "b"]].to_numpy().tolist()[0] == ["c0", "c1"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"grid": 0}, "grid: got 0"),
        ({"grid": 5000}, "grid: got 5000"),
        ({"projections": 1.5}, "projections: got 1.5"),
        ({"quantiles": 0}, "quantiles: got 0"),
        ({"seed": -1}, "seed: got -1"),
    ],
)
def test_bad_parameters_are_refused_by_name(options, named):
    with pytest.raises(InputError, match=named):
        distances(np.ones((2, 20, 20)), **options)
