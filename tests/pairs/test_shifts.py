"""Toroidal shifts: the moments of rolled channels by brute force, in any plan, for any measure."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from calibration import smooth_noise
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.pairs.shifts import add_draw, null_moments, pieces, shift_vectors
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.pairs_job import ask, compute, plan_for, run_pairs
from bigcorr.run.progress import SILENT
from bigcorr.tiles import Box

MEASURES = ["pearson", "cosine", "ncc", "moran", "lee", "spearman", "roi_pearson"]


def rolled(stack, draw, seed=0):
    vectors = shift_vectors(seed, draw, len(stack), stack.shape[1:])
    return np.stack([np.roll(x, v, axis=(0, 1)) for x, v in zip(stack, vectors, strict=True)])


@given(
    raster=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    shift=st.tuples(st.integers(0, 8), st.integers(0, 8)),
    data=st.data(),
)
def test_pieces_make_up_any_box_of_a_rolled_raster(raster, shift, data):
    y0, x0 = (data.draw(st.integers(0, n - 1)) for n in raster)
    y1, x1 = (data.draw(st.integers(a + 1, n)) for a, n in zip((y0, x0), raster, strict=True))
    whole = np.arange(raster[0] * raster[1]).reshape(raster)
    vector = np.array(shift) % raster
    out = np.full((y1 - y0, x1 - x0), -1)
    parts = list(pieces(Box(y0, y1, x0, x1), vector, raster))
    assert len(parts) <= 4
    for to, source in parts:
        out[to.slices] = whole[source.slices]
    assert np.array_equal(out, np.roll(whole, vector, axis=(0, 1))[y0:y1, x0:x1])


@pytest.mark.parametrize("sigma", [None, 2.0])
def test_null_and_sd_are_the_moments_of_rolled_channels(sigma):
    rng = np.random.default_rng(0)
    stack = rng.poisson(0.3, (4, 70, 90)).astype(float)
    sim = bc.pairwise(stack, MEASURES, sigma=sigma, n_shifts=5, shift_seed=7, progress=False)
    blurred = stack if sigma is None else ndimage.gaussian_filter(stack, (0, sigma, sigma))
    draws = [
        bc.pairwise(rolled(blurred, k, 7), MEASURES, significance=False, progress=False)
        for k in range(5)
    ]
    off = ~np.eye(4, dtype=bool)
    for name in MEASURES:
        values = np.stack([draw[name].values for draw in draws])
        null, sd = sim[f"{name}_null"].values, sim[f"{name}_sd"].values
        np.testing.assert_allclose(null[off], values.mean(axis=0)[off], rtol=0, atol=1e-6)
        np.testing.assert_allclose(sd[off], values.std(axis=0, ddof=1)[off], rtol=0, atol=1e-6)
        assert sim[name].attrs["distribution"] == "shifts"
    assert np.isnan(sim["pearson_sd"].values[~off]).all()
    assert (sim.attrs["n_shifts"], sim.attrs["shift_seed"]) == (5, 7)


@pytest.mark.parametrize("own", [False, True])
def test_a_shifted_channel_takes_its_missing_pixels_along(own):
    rng = np.random.default_rng(1)
    stack = smooth_noise(rng, 3, (50, 60), 2)
    valid = np.ones((3, 50, 60), bool)
    valid[:, :20, :25] = False
    mask = None
    if own:
        valid[1, 30:, 50:] = False
        stack = np.where(valid, stack, np.nan)
    else:
        mask = valid[0]
    sim = bc.pairwise(stack, ["pearson"], mask=mask, n_shifts=4, progress=False)
    values = []
    for k in range(4):
        moved, there = rolled(stack, k), rolled(valid, k)
        ok = there[0] & there[1]
        values.append(np.corrcoef(moved[0][ok], moved[1][ok])[0, 1])
    assert float(sim["pearson_null"][0, 1]) == pytest.approx(np.mean(values), abs=1e-6)
    assert float(sim["pearson_sd"][0, 1]) == pytest.approx(np.std(values, ddof=1), abs=1e-6)


@pytest.mark.parametrize("against", [None, ["c290", "c5"]])
def test_any_plan_gives_the_same_bits(against):
    rng = np.random.default_rng(2)
    stack = rng.poisson(0.2, (300, 140, 30)).astype(np.float32)

    def run(strip=None, group=None, workers=1):
        pool = ThreadPool(workers)
        asked = ask(
            stack, measures=["pearson", "moran"], against=against, pool=pool, n_shifts=3,
            detrend="plane",
        )  # fmt: skip
        plan = plan_for(asked, pool)
        plan = dataclasses.replace(plan, strip=strip or plan.strip, group=group or plan.group)
        return compute(asked, plan, pool, None, SILENT).dataset()

    whole = run()
    for other in (run(strip=32, workers=2), run(group=256, workers=2)):
        for name in whole.data_vars:
            assert np.array_equal(whole[name].values, other[name].values, equal_nan=True), name


def test_the_spread_of_shifts_is_that_of_the_spectra_and_its_p_is_honest():
    fields = smooth_noise(np.random.default_rng(3), 30, (128, 128), 2)
    by_spectra = bc.pairwise(fields, ["pearson", "lee"], progress=False)
    by_shifts = bc.pairwise(fields, ["pearson", "lee", "cosine"], n_shifts=40, progress=False)
    off = ~np.eye(30, dtype=bool)
    ratio = (by_shifts["pearson_sd"] / by_spectra["pearson_sd"]).values[off]
    assert np.sqrt((ratio**2).mean()) == pytest.approx(1.0, abs=0.05)
    for name in ("pearson", "lee", "cosine"):
        p = bc.rank_pairs(by_shifts, by=name)["p_value"]
        assert 0.025 < (p < 0.05).mean() < 0.08


def test_cosine_of_counts_is_judged_by_shifts():
    # All cosines of these counts are near 1; only the planted pair is alike beyond chance.
    rng = np.random.default_rng(4)
    fields = smooth_noise(rng, 6, (128, 128), 3)
    fields /= fields.std(axis=(1, 2), keepdims=True)
    fields[1] = 0.7 * fields[0] + 0.7 * fields[1]
    sim = bc.pairwise(np.maximum(4 + fields, 0), ["cosine"], n_shifts=30, progress=False)
    assert sim["cosine"].values.min() > 0.9
    pairs = bc.rank_pairs(sim, by="cosine", order="z").set_index(["a", "b"])
    assert pairs.index[0] == ("c0", "c1")
    assert pairs["q_value"].iloc[0] < 0.001
    assert pairs["q_value"].iloc[1] > 0.05


def test_a_run_that_was_cut_off_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    from bigcorr.run import stages

    # Every unit is worth a prefix, so that the run goes on from moments as well as from units.
    monkeypatch.setattr(stages, "PREFIX_BYTES", -(10**9))
    rng = np.random.default_rng(5)
    stack = rng.poisson(0.2, (3, 150, 140)).astype(np.float32)
    np.save(tmp_path / "stack.npy", stack)
    question = {"measures": ["pearson", "moran"], "sigma": [1.0, 2.0], "n_shifts": 3}

    class CutOff:
        def __init__(self, stage, after):
            self.stage, self.after = stage, after

        def note(self, text): ...

        def __call__(self, stage, done, total=None):
            if stage == self.stage and done >= self.after:
                raise KeyboardInterrupt

    out = tmp_path / "out.zarr"
    for stage, after in (("shifts", 5), ("shifts", 17)):
        with pytest.raises(KeyboardInterrupt):
            run_pairs(tmp_path / "stack.npy", out, progress=CutOff(stage, after), **question)
    assert run_pairs(tmp_path / "stack.npy", out, **question)["units_found_done"] > 0
    import xarray as xr

    whole = bc.pairwise(stack, progress=False, **question)
    found = xr.open_zarr(out)
    for name in whole.data_vars:
        assert np.array_equal(found[name].values, whole[name].values, equal_nan=True), name


def test_the_plan_tells_what_shifts_cost():
    stack = np.zeros((300, 300, 300), np.uint8)
    plans = []
    for n in (0, 10):
        pool = ThreadPool(1)
        asked = ask(stack, measures=["pearson"], pool=pool, n_shifts=n, significance=False)
        plans.append(plan_for(asked, pool))
    pixels = stack.size * stack.itemsize
    assert plans[1].bytes_read - plans[0].bytes_read == 10 * pixels
    assert plans[1].task_bytes > plans[0].task_bytes
    assert dict(plans[1].rows())["shifts"].startswith("10,")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_shifts": 1}, "n_shifts: got 1, takes 0"),
        ({"n_shifts": -2}, "n_shifts: got -2"),
        ({"n_shifts": 2.5}, "n_shifts: got 2.5"),
        ({"n_shifts": 4, "shift_seed": -1}, "shift_seed: got -1"),
        (
            {"n_shifts": 4, "measures": ["lee"], "mask": np.eye(20) > 0},
            "n_shifts: with a mask lee cannot be shifted",
        ),
    ],
)
def test_what_cannot_be_shifted_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        bc.pairwise(np.random.default_rng(6).normal(size=(2, 20, 20)), progress=False, **given)


def test_missing_pixels_of_all_channels_are_refused_for_lee_by_name():
    stack = np.random.default_rng(7).normal(size=(2, 40, 40))
    stack[:, :5] = np.nan
    with pytest.raises(InputError, match="n_shifts: a shifted channel takes the pixels"):
        bc.pairwise(stack, ["lee"], n_shifts=3, progress=False)


def test_moments_are_those_of_numpy_and_leave_nan_out():
    rng = np.random.default_rng(9)
    draws = 3.0 + rng.normal(size=(6, 2, 3))
    draws[2, 0, 0] = draws[1:, 1, 1] = np.nan
    draws[:, 1, 2] = 0.1
    moments = {}
    for values in draws:
        add_draw(moments, "x", slice(0, 2), values, (2, 3))
    null, sd = null_moments(moments, "x", slice(0, 2), (2, 3))
    four = draws.reshape(6, -1)[:, :4]
    np.testing.assert_allclose(null.ravel()[:4], np.nanmean(four, axis=0), rtol=1e-12)
    np.testing.assert_allclose(sd.ravel()[:4], np.nanstd(four, axis=0, ddof=1), rtol=1e-12)
    # One draw, or draws that do not differ, are no distribution.
    assert np.isnan(null[1, 1:]).all()
    assert np.isnan(sd[1, 1:]).all()
    nothing = null_moments({}, "x", slice(0, 2), (2, 3))
    assert np.isnan(nothing).all()


def test_constant_channels_and_single_channels_have_no_null():
    stack = np.random.default_rng(8).normal(size=(3, 30, 30))
    stack[1] = 2.0
    sim = bc.pairwise(stack, ["pearson", "cosine"], n_shifts=3, progress=False)
    assert np.isnan(sim["pearson_sd"].values[1]).all()
    assert np.isfinite(sim["pearson_sd"].values[0, 2])
    alone = bc.pairwise(stack[:1], ["pearson"], n_shifts=3, progress=False)
    assert np.isnan(alone["pearson_sd"].values).all()
