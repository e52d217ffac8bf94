"""Detrending: the surface of least squares is taken off in any tile, and trends are told."""

from __future__ import annotations

import numpy as np
import pytest
from calibration import smooth_noise
from scipy.stats import spearmanr

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.pairs.trend import Trends, exponents
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.pairs_job import ask, compute, plan_for
from bigcorr.run.progress import SILENT
from bigcorr.tiles import Box, grid


def residuals(stack, valid, order):
    """What np.linalg.lstsq leaves of each channel over its valid pixels."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in stack.shape[1:]), indexing="ij")
    terms = np.stack([y**a * x**b for a, b in exponents(order)], axis=-1)
    out = np.zeros(stack.shape)
    for c, channel in enumerate(stack):
        ok = valid[c]
        fit = np.linalg.lstsq(terms[ok], channel[ok], rcond=None)[0]
        out[c][ok] = channel[ok] - terms[ok] @ fit
    return out


def trended(rng, count, shape):
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    fields = smooth_noise(rng, count, shape, 3)
    fields /= fields.std(axis=(1, 2), keepdims=True)
    angle = rng.uniform(0, 2 * np.pi, (count, 1, 1))
    return fields + np.cos(angle) * y + np.sin(angle) * x


@pytest.mark.parametrize(("detrend", "order"), [("plane", 1), ("quadratic", 2)])
@pytest.mark.parametrize("missing", [False, True])
def test_pairs_are_those_of_the_residuals_of_least_squares(detrend, order, missing):
    rng = np.random.default_rng(0)
    stack = trended(rng, 4, (60, 71)) * 5 + 1000
    valid = np.ones(stack.shape, bool)
    if missing:
        valid = rng.random(stack.shape) > 0.2
    sim = bc.pairwise(np.where(valid, stack, np.nan), ["pearson"], detrend=detrend, progress=False)
    left = residuals(stack, valid, order)
    for i in range(4):
        for j in range(4):
            ok = valid[i] & valid[j]
            expected = np.corrcoef(left[i][ok], left[j][ok])[0, 1]
            assert sim["pearson"].values[i, j] == pytest.approx(expected, abs=1e-9)
    assert sim.attrs["detrend"] == detrend


def test_ranks_are_those_of_the_residuals_of_whole_numbers_too():
    # Counts less a surface are no longer whole numbers, nor zero where a channel is empty.
    stack = np.random.default_rng(8).poisson(0.3, (3, 70, 90)).astype(np.uint8)
    stack[2, :, :60] = 0
    sim = bc.pairwise(stack, ["spearman"], detrend="plane", progress=False)
    left = residuals(stack.astype(float), np.ones(stack.shape, bool), 1).reshape(3, -1)
    # Ranks are taken in bins, and these values lie in narrow bands, one for each count.
    np.testing.assert_allclose(sim["spearman"], spearmanr(left, axis=1).statistic, atol=5e-3)


def test_a_surface_is_taken_off_with_the_same_bits_in_any_tile():
    rng = np.random.default_rng(1)
    trends = Trends(rng.normal(size=(1, 6)), 2, (50, 70))
    values = rng.normal(size=(50, 70))
    whole = values.copy()
    trends.remove(whole, 0, Box(0, 50, 0, 70))
    for box in grid((50, 70), (13, 17)):
        part = values[box.slices].copy()
        trends.remove(part, 0, box)
        assert np.array_equal(part, whole[box.slices])


def test_large_rasters_are_fitted_by_regions_and_any_plan_gives_the_same_bits():
    rng = np.random.default_rng(2)
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (1500, 1450)), indexing="ij")
    stack = rng.normal(size=(3, 1500, 1450)).astype(np.float32)
    stack[:2] += 2 * y + x
    stack[2] = 0

    def run(workers):
        pool = ThreadPool(workers)
        asked = ask(stack, measures=["pearson"], detrend="plane", pool=pool)
        return compute(asked, plan_for(asked, pool), pool, None, SILENT).dataset()

    one, two = run(1), run(2)
    assert np.array_equal(one["pearson"], two["pearson"], equal_nan=True)
    left = residuals(stack[:2].astype(float), np.ones((2, 1500, 1450), bool), 1)
    expected = np.corrcoef(left[0].ravel(), left[1].ravel())[0, 1]
    assert float(one["pearson"][0, 1]) == pytest.approx(expected, abs=1e-6)
    assert np.isnan(one["pearson"].values[2]).all()


def test_a_trend_breaks_the_rate_is_told_and_taken_off():
    fields = trended(np.random.default_rng(3), 30, (200, 180))

    def share(sim):
        return (bc.rank_pairs(sim, by="pearson")["p_value"] < 0.05).mean()

    plain = bc.pairwise(fields, ["pearson", "moran"], progress=False)
    assert share(plain) > 0.2
    (warning,) = plain.attrs["warnings"]
    assert "30 of 30 channels (c0, c1, c2, ...)" in warning
    assert "pearson, moran" in warning
    flat = bc.pairwise(fields, ["pearson"], detrend="plane", progress=False)
    assert 0.02 < share(flat) < 0.08
    assert flat.attrs["warnings"] == []


def test_fields_without_a_trend_are_not_warned_of():
    fields = smooth_noise(np.random.default_rng(4), 20, (256, 256), 3)
    assert bc.pairwise(fields, ["pearson"], progress=False).attrs["warnings"] == []


def test_a_large_raster_with_a_trend_is_warned_of():
    y = np.linspace(-1, 1, 1500)[:, None]
    stack = np.random.default_rng(5).normal(size=(3, 1500, 1450)).astype(np.float32)
    stack[1] += y
    (warning,) = bc.pairwise(stack, ["pearson"], progress=False).attrs["warnings"]
    assert "1 of 3 channels (c1)" in warning


def test_a_plane_itself_and_a_constant_have_nothing_left():
    y, x = np.mgrid[0:50, 0:60].astype(float)
    noise = np.random.default_rng(6).normal(size=(50, 60))
    stack = np.stack([3e5 + 17 * y - 0.3 * x, np.full((50, 60), 7.7), noise])
    sim = bc.pairwise(stack, ["pearson"], detrend="plane", progress=False)
    assert np.isnan(sim["pearson"].values[:2]).all()
    assert sim["pearson"].values[2, 2] == 1.0


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (2, 2)])
def test_rasters_too_small_for_a_surface_are_no_error(shape):
    stack = np.random.default_rng(7).normal(size=(2, *shape))
    sim = bc.pairwise(stack, ["pearson"], detrend="quadratic", progress=False)
    assert sim["pearson"].shape == (2, 2)


def test_an_unknown_surface_is_refused():
    with pytest.raises(InputError, match="detrend: got 'cubic', takes one of none, plane, quad"):
        bc.pairwise(np.zeros((2, 5, 5)), detrend="cubic", progress=False)
