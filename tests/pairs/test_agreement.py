"""Agreement of rankings against scipy.stats.spearmanr, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from bigcorr.errors import InputError
from bigcorr.pairs import listing
from bigcorr.pairs.agreement import rank_agreement


def result(size=40, seed=0, missing=0.05):
    rng = np.random.default_rng(seed)
    first = np.round(rng.uniform(-1, 1, (size, size)), 1)
    first = np.minimum(first, first.T)
    second = first + rng.normal(0, 0.4, first.shape)
    third = 3 - first + rng.normal(0, 0.1, first.shape)
    second, third = (second + second.T) / 2, (third + third.T) / 2
    second[rng.random(first.shape) < missing] = np.nan
    dims = ("channel", "other")
    names = [f"g{i}" for i in rng.permutation(size)]
    return xr.Dataset(
        {
            "pearson": (dims, first),
            "lee": (dims, second, {"symmetric": True}),
            "emd": (dims, third, {"kind": "distance"}),
            "pearson_sd": (dims, first),
        },
        coords={"channel": names, "other": names},
    )


@pytest.mark.parametrize("side", [7, 1024])
def test_agreement_is_spearmans_correlation_of_the_pairs_that_all_measures_know(monkeypatch, side):
    monkeypatch.setattr(listing, "SIDE", side)
    sim = result()
    table = rank_agreement(sim)
    assert list(table.index) == list(table.columns) == ["pearson", "lee", "emd"]
    upper = np.triu_indices(40, 1)
    values = {name: sim[name].values[upper] for name in table.index}
    values["emd"] = -values["emd"]
    known = np.isfinite(list(values.values())).all(axis=0)
    assert table.attrs == {"pairs": known.sum(), "of": 780}
    for a in values:
        for b in values:
            expected = stats.spearmanr(values[a][known], values[b][known]).statistic
            assert table.loc[a, b] == pytest.approx(expected, abs=1e-12)
    assert table.loc["pearson", "emd"] > 0.5


def test_of_very_many_pairs_a_fixed_sample_is_compared(monkeypatch):
    sim = result(300, missing=0)
    whole = rank_agreement(sim)
    few = rank_agreement(sim, max_pairs=10_000)
    assert few.attrs["of"] == 44_850
    assert abs(few.attrs["pairs"] - 10_000) < 500
    np.testing.assert_allclose(few, whole, atol=0.03)
    assert not np.array_equal(few, whole)
    monkeypatch.setattr(listing, "SIDE", 64)
    np.testing.assert_allclose(rank_agreement(sim, max_pairs=10_000), few, rtol=0, atol=1e-12)


def test_a_measure_that_tells_nothing_apart_agrees_with_nothing():
    sim = result(missing=0)
    sim["lee"] = xr.full_like(sim["lee"], 1.0)
    table = rank_agreement(sim, ["pearson", "lee"])
    assert table.loc["pearson", "pearson"] == 1
    assert table["lee"].isna().all()


def test_one_channel_and_unknown_measures():
    assert rank_agreement(result(1)).isna().all(axis=None)
    with pytest.raises(InputError, match="by: got 'ncc'"):
        rank_agreement(result(3), ["ncc"])
    with pytest.raises(InputError, match="max_pairs: got 0"):
        rank_agreement(result(3), max_pairs=0)
    with pytest.raises(InputError, match="measures: got none"):
        rank_agreement(result(3), [])
