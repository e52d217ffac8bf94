"""Standard errors: honest on independent autocorrelated fields, positive for every pair."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft, ndimage

import bigcorr as bc


def smooth_noise(rng, count, shape, sigma):
    noise = rng.normal(size=(count, *shape))
    return np.stack([ndimage.gaussian_filter(x, sigma) for x in noise])


def exponential_fields(rng, count, side, length):
    """Gaussian fields of covariance exp(-d / length), from a torus of twice the side."""
    n = 2 * side
    k = np.minimum(np.arange(n), n - np.arange(n))
    power = fft.fft2(np.exp(-np.hypot(k[:, None], k[None]) / length)).real
    root = np.sqrt(np.maximum(power, 0))
    fields = [fft.ifft2(root * fft.fft2(rng.normal(size=(n, n)))).real for _ in range(count)]
    return np.stack([field[:side, :side] for field in fields])


def counts(rng, count, mean):
    """Poisson counts over a smooth intensity, blurred."""
    intensity = smooth_noise(rng, count, (256, 256), 12)
    intensity /= intensity.std(axis=(1, 2), keepdims=True)
    values = rng.poisson(mean * np.maximum(1 + 0.3 * intensity, 0)).astype(float)
    return np.stack([ndimage.gaussian_filter(x, 3) for x in values])


FIELDS = {
    "white noise blurred by 3": lambda rng, n: smooth_noise(rng, n, (256, 256), 3),
    "white noise blurred by 5": lambda rng, n: smooth_noise(rng, n, (128, 200), 5),
    "anisotropic": lambda rng, n: smooth_noise(rng, n, (256, 256), (2, 10)),
    "exponential covariance": lambda rng, n: exponential_fields(rng, n, 256, 8),
    "counts of mean .05": lambda rng, n: counts(rng, n, 0.05),
    "counts of mean .005": lambda rng, n: counts(rng, n, 0.005),
}


def share_below(sim, by, level=0.05):
    p = bc.rank_pairs(sim, by=by)["p_value"].to_numpy()
    assert np.isfinite(p).all()
    return (p < level).mean()


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


def test_the_naive_test_would_call_most_of_them():
    from scipy.stats import pearsonr

    fields = FIELDS["white noise blurred by 3"](np.random.default_rng(0), 12)
    flat = fields.reshape(12, -1)
    p = [pearsonr(flat[i], flat[j]).pvalue for i in range(12) for j in range(i)]
    assert np.mean(np.array(p) < 0.05) > 0.7


def test_a_planted_correlation_is_found():
    rng = np.random.default_rng(1)
    fields = smooth_noise(rng, 41, (256, 256), 3)
    fields /= fields.std(axis=(1, 2), keepdims=True)
    common = fields[-1]
    planted = np.sqrt(0.9) * fields[:-1] + np.sqrt(0.1) * common
    sim = bc.pairwise(planted, ["pearson"], progress=False)
    assert share_below(sim, "pearson") > 0.9


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
