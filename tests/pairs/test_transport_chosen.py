"""Entropic and exact transport of chosen pairs: equal to POT, for the pairs asked for alone."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import bigcorr as bc
from bigcorr.errors import InputError


def moved(stack, measure, against):
    return bc.pairwise(stack, [measure], against=against, progress=False)[measure.name].values


def clouds(seed, shape, count=4):
    """Counts around a few places; some cells stay empty."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    stack = np.zeros((count, *shape))
    for channel in stack:
        for _ in range(3):
            at = rng.random(2) * shape
            width = rng.uniform(1, 0.2 * max(shape))
            channel += np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / width**2)
    return rng.poisson(5 * stack).astype(np.uint16)


def grids(stack, side):
    """Masses on the coarse grid, each of sum 1, and squared distances of the cells' centres."""
    starts = [np.arange(0, n, side) for n in stack.shape[1:]]
    mass = np.add.reduceat(np.add.reduceat(stack.astype(float), starts[0], 1), starts[1], 2)
    ends = [np.minimum(a + side, n) for a, n in zip(starts, stack.shape[1:], strict=True)]
    y, x = ((a + b - 1) / 2 for a, b in zip(starts, ends, strict=True))
    places = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    cost = ((places[:, None] - places[None, :]) ** 2).sum(axis=-1)
    mass = mass.reshape(len(stack), -1)
    return mass / mass.sum(axis=1, keepdims=True), cost


@pytest.mark.parametrize(("shape", "grid", "side"), [((12, 9), 32, 1), ((50, 61), 10, 7)])
def test_pot_agrees_on_the_exact_and_on_the_entropic_distance(shape, grid, side):
    ot = pytest.importorskip("ot")
    stack = clouds(0, shape)
    mass, cost = grids(stack, side)
    exact = moved(stack, bc.measures.EMD(grid=grid), ["c1", "c3"])
    entropic = moved(stack, bc.measures.Sinkhorn(grid=grid, reg=0.02), ["c1", "c3"])
    for row, i in enumerate((1, 3)):
        for j in range(4):
            a, b = mass[i], mass[j]
            assert exact[row, j] == pytest.approx(np.sqrt(ot.emd2(a, b, cost)), abs=1e-9)
            rows, columns = a > 0, b > 0
            expected = ot.sinkhorn2(
                a[rows],
                b[columns],
                cost[np.ix_(rows, columns)],
                0.02 * cost.max(),
                method="sinkhorn_log",
                numItermax=5000,
            )
            assert entropic[row, j] == pytest.approx(np.sqrt(expected), rel=1e-4)


def test_little_entropy_comes_near_the_exact_distance_from_above():
    pytest.importorskip("ot")
    stack = clouds(1, (20, 24))
    exact = moved(stack, bc.measures.EMD(), "c0")[0, 1:]
    much, little = (moved(stack, bc.measures.Sinkhorn(reg=r), "c0")[0, 1:] for r in (0.02, 0.002))
    assert (exact <= little + 1e-3).all()
    assert (little < much).all()
    np.testing.assert_allclose(little, exact, rtol=0.1)


def test_more_channels_than_are_held_at_once_and_any_blur():
    stack = clouds(2, (16, 16), 150)
    measure = bc.measures.Sinkhorn(grid=8)
    whole = bc.pairwise(stack, [measure], against=["c140", "c2"], sigma=[1, 2], progress=False)
    assert np.isfinite(whole["sinkhorn"].values).all()
    some = bc.pairwise(stack[:3], [measure], against="c2", sigma=2, progress=False)
    assert np.array_equal(some["sinkhorn"].values[0], whole["sinkhorn"].values[1, 1, :3])


def test_without_mass_there_is_no_distance():
    stack = clouds(3, (15, 15)).astype(float)
    stack[1] = 0
    stack[2] = np.nan
    found = moved(stack, bc.measures.Sinkhorn(), ["c0", "c1"])
    assert np.isfinite(found[0, [0, 3]]).all()
    assert np.isnan(found[0, [1, 2]]).all()
    assert np.isnan(found[1]).all()


def test_one_pixel_has_nowhere_to_move():
    assert moved(np.ones((2, 1, 1)), bc.measures.Sinkhorn(), "c0").tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("measure", ["sinkhorn", "emd"])
def test_all_pairs_are_refused(measure):
    if measure == "emd":
        pytest.importorskip("ot")
    with pytest.raises(InputError, match=f"measure {measure}: is made for chosen channels"):
        bc.pairwise(np.ones((2, 20, 20)), [measure], progress=False)


def test_negative_values_are_refused():
    with pytest.raises(InputError, match="values of at least 0: channel c0"):
        moved(-np.ones((2, 20, 20)), bc.measures.Sinkhorn(), "c0")


def test_the_exact_distance_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="measure emd: needs the package POT"):
        moved(np.ones((2, 20, 20)), bc.measures.EMD(), "c0")


@pytest.mark.parametrize(
    ("measure", "options", "named"),
    [
        ("Sinkhorn", {"reg": 0.0}, "reg: got 0.0"),
        ("Sinkhorn", {"reg": "small"}, "reg: got 'small'"),
        ("Sinkhorn", {"grid": 1000}, "grid: got 1000"),
        ("EMD", {"grid": 0}, "grid: got 0"),
    ],
)
def test_bad_parameters_are_refused_by_name(measure, options, named):
    with pytest.raises(InputError, match=named):
        getattr(bc.measures, measure)(**options)
