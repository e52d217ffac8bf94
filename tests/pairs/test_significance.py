"""Standard errors: honest on independent autocorrelated fields, positive for every pair."""

from __future__ import annotations

import numpy as np
import pytest
from calibration import FIELDS, naive_share, planted, share_below, smooth_noise, table

import bigcorr as bc


@pytest.mark.parametrize("kind", FIELDS)
def test_independent_fields_come_out_at_their_nominal_rate(kind):
    # A few seeds only: the share over 20 seeds is what the documentation quotes.
    shares = {"pearson": [], "ncc": []}
    for seed in range(3):
        fields = FIELDS[kind](np.random.default_rng(seed), 40)
        sim = bc.pairwise(fields, ["pearson", "ncc"], window=8, stride=4, progress=False)
        for measure, values in shares.items():
            values.append(share_below(sim, measure))
    assert 0.03 < np.mean(shares["pearson"]) < 0.075
    assert 0.03 < np.mean(shares["ncc"]) < 0.09


@pytest.mark.parametrize("kind", ["white noise blurred by 3", "exponential covariance"])
def test_the_naive_test_would_call_most_of_them(kind):
    fields = FIELDS[kind](np.random.default_rng(0), 20)
    assert naive_share(fields) > 0.7
    sim = bc.pairwise(fields, ["pearson"], progress=False)
    assert share_below(sim, "pearson") < 0.12


@pytest.mark.parametrize("measure", ["pearson", "moran", "lee"])
def test_a_planted_correlation_is_found(measure):
    fields = planted(np.random.default_rng(1), 40, 0.1)
    sim = bc.pairwise(fields, [measure], progress=False)
    assert share_below(sim, measure) > 0.9


def test_the_table_of_the_documentation_is_made():
    made = table(seeds=1, fields=4, measures=("pearson", "cosine"), shifts=4)
    assert list(made) == [*FIELDS, "planted correlation of .1 found"]
    for shares in made.values():
        assert all(0 <= share <= 1 for share in shares.values())


def test_every_variance_is_positive_on_gradients_layers_and_arcs():
    y, x = np.mgrid[0:120, 0:150].astype(float)
    fields = []
    for angle in np.linspace(0, np.pi, 10, endpoint=False):
        along = np.cos(angle) * y + np.sin(angle) * x
        fields.append(along)  # gradient
        fields.append((np.abs(along - 40) < 12).astype(float))  # layer
        radius = np.hypot(y - 60 - 20 * np.cos(angle), x - 75)
        fields.append((np.abs(radius - 30 - 2 * angle) < 1.5).astype(float))  # arc
    sim = bc.pairwise(np.stack(fields), ["pearson", "ncc"], progress=False)
    for name in ("pearson_sd", "ncc_sd"):
        sd = sim[name].values
        assert np.isfinite(sd).all()
        assert (sd > 0).all()


def test_scattered_missing_pixels_do_not_make_pairs_look_significant():
    rng = np.random.default_rng(2)
    fields = smooth_noise(rng, 40, (200, 200), 3)
    fields[:, rng.random((200, 200)) < 0.3] = np.nan
    sim = bc.pairwise(fields, ["pearson"], progress=False)
    assert 0.02 < share_below(sim, "pearson") < 0.09


@pytest.mark.slow
def test_a_large_raster_read_by_regions_has_the_same_standard_errors():
    # Past two million pixels the spectra come from blocks and from the coarse raster.
    rng = np.random.default_rng(3)
    fields = smooth_noise(rng, 12, (1600, 1700), 6).astype(np.float32)
    fields[:6] += 0.3 * smooth_noise(rng, 6, (1600, 1700), 60) * 10
    sim = bc.pairwise(fields, ["pearson"], progress=False)
    off = ~np.eye(12, dtype=bool)
    z = (sim["pearson"] / sim["pearson_sd"]).values[off]
    assert 0.6 < np.sqrt((z**2).mean()) < 1.5


def test_without_significance_there_is_none():
    stack = np.random.default_rng(4).normal(size=(3, 40, 40))
    sim = bc.pairwise(stack, ["pearson"], significance=False, progress=False)
    assert list(sim.data_vars) == ["pearson"]
