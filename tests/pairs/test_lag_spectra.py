"""Standard errors of Moran and Lee: exact where that is known, honest elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from calibration import FIELDS, share_below, smooth_noise
from test_neighbours import weights

import bigcorr as bc

SHAPE = (40, 44)


def operators(contiguity, valid):
    """W, W'W and E[L] / r as matrices and numbers, by their definitions."""
    w = weights(valid, contiguity).toarray()
    q = w.T @ w
    n = len(w)
    return w, q, (np.trace(q) - q.sum() / n) / (n - 1)


def permutation_sd(x, a):
    """Exact sd of x'A y / n over all permutations of a standardised y."""
    c = a.T @ x
    return np.sqrt(((c - c.mean()) ** 2).sum() / (x.size * (x.size - 1)))


@pytest.mark.parametrize("contiguity", ["queen", "rook"])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_against_a_channel_without_autocorrelation_the_sd_is_the_exact_permutation_sd(
    contiguity, missing
):
    rng = np.random.default_rng(0)
    valid = rng.random(SHAPE) >= missing
    # One channel of each smoothness, and 60 of white noise, over which the estimates are averaged.
    smooth = [smooth_noise(rng, 1, SHAPE, s)[0] for s in (0.3, 1.0, 3.0)]
    stack = np.concatenate([smooth, rng.normal(size=(60, *SHAPE))])
    measures = [bc.measures.Moran(contiguity), bc.measures.Lee(contiguity)]
    sim = bc.pairwise(stack, measures, mask=valid, progress=False)
    w, q, t = operators(contiguity, valid)
    for k in range(3):
        x = stack[k][valid]
        x = (x - x.mean()) / x.std()
        for name, a in (("moran", w), ("lee", q - t * np.eye(len(q)))):
            exact = permutation_sd(x, a)
            found = np.sqrt((sim[f"{name}_sd"].values[k, 3:] ** 2).mean())
            assert found == pytest.approx(exact, rel=0.06), (name, k)


@pytest.mark.parametrize("contiguity", ["queen", "rook"])
def test_the_null_of_lee_is_its_mean_over_joint_permutations(contiguity):
    rng = np.random.default_rng(1)
    stack = rng.normal(size=(2, 14, 17))
    stack[1] += 0.7 * stack[0]
    valid = rng.random((14, 17)) >= 0.4
    sim = bc.pairwise(stack, [bc.measures.Lee(contiguity)], mask=valid, progress=False)
    _, q, t = operators(contiguity, valid)
    x, y = (v - v.mean() for v in stack[:, valid])
    x, y = x / x.std(), y / y.std()
    n = x.size
    assert float(sim["lee_null"][0, 1]) == pytest.approx(x @ y / n * t, abs=1e-9)
    # And by brute force: pixels carry both values along.
    orders = [rng.permutation(n) for _ in range(3000)]
    values = np.array([x[o] @ q @ y[o] / n for o in orders])
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - float(sim["lee_null"][0, 1])) < 4 * error


@pytest.mark.parametrize("kind", ["white noise blurred by 3", "anisotropic", "counts of mean .005"])
def test_independent_fields_come_out_at_their_nominal_rate_by_moran_and_lee(kind):
    shares = {"moran": [], "lee": []}
    for seed in range(2):
        fields = FIELDS[kind](np.random.default_rng(seed), 40)
        sim = bc.pairwise(fields, list(shares), progress=False)
        for measure, values in shares.items():
            values.append(share_below(sim, measure))
    for values in shares.values():
        assert 0.03 < np.mean(values) < 0.08


def test_neighbours_that_resemble_each_other_are_found_by_both():
    # y follows x one pixel to the right of it: Pearson sees little, the neighbours more.
    rng = np.random.default_rng(2)
    x = rng.normal(size=(100, 100))
    y = np.roll(x, 1, axis=1) * 0.5 + rng.normal(size=(100, 100))
    sim = bc.pairwise(np.stack([x, y]), ["pearson", "moran", "lee"], progress=False)
    z = {
        m: float(((sim[m] - sim[f"{m}_null"]) / sim[f"{m}_sd"])[0, 1])
        for m in sim.attrs["parameters"]
    }
    assert abs(z["pearson"]) < 4
    assert z["moran"] > 10
    assert z["lee"] > 10


def test_constant_channels_have_no_standard_error():
    stack = np.random.default_rng(3).normal(size=(3, 30, 30))
    stack[1] = 7.0
    sim = bc.pairwise(stack, ["moran", "lee"], progress=False)
    for name in ("moran", "lee"):
        for part in ("", "_sd", "_null"):
            values = sim[name + part].values
            assert np.isnan(values[1]).all(), name + part
            assert np.isfinite(values[0, 2]), name + part


@pytest.mark.parametrize("shape", [(1, 40), (2, 2), (3, 50)])
def test_rasters_of_few_rows_have_standard_errors(shape):
    stack = np.random.default_rng(4).normal(size=(4, *shape))
    sim = bc.pairwise(stack, ["moran", "lee"], progress=False)
    for name in ("moran", "lee"):
        assert (sim[f"{name}_sd"].values > 0).all()
