"""Ranking of pairs against loops over pairs, and the precision with which a truth is found."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bigcorr.errors import InputError, MissingFileError, RunError
from bigcorr.pairs import listing, ranking
from bigcorr.pairs.listing import COLUMNS
from bigcorr.pairs.matrices import measures_of
from bigcorr.pairs.ranking import rank_pairs, write_pairs
from bigcorr.run import external_sort


def result(
    matrix,
    names=None,
    others=None,
    *,
    name="pearson",
    sd=None,
    null=None,
    counts=None,
    **attrs,
) -> xr.Dataset:
    """A small result with the attributes of the contract, one measure."""
    matrix = np.asarray(matrix, dtype=float)
    names = [f"c{i}" for i in range(len(matrix))] if names is None else list(names)
    others = names if others is None else list(others)
    attrs = {"kind": "similarity", "symmetric": True, "distribution": "t", "n_max": 10**6} | attrs
    count = np.arange(len(names)) if counts is None else np.asarray(counts)
    index = dict(zip(names, count, strict=True))
    variables = {name: (("channel", "other"), matrix, attrs)}
    if sd is not None:
        variables[f"{name}_sd"] = (("channel", "other"), np.asarray(sd, dtype=float))
        null = np.zeros_like(matrix) if null is None else np.asarray(null, dtype=float)
        variables[f"{name}_null"] = (("channel", "other"), null)
    return xr.Dataset(
        variables,
        coords={
            "channel": names,
            "other": others,
            "count": ("channel", count),
            "count_other": ("other", [index.get(n, -1) for n in others]),
        },
    )


def symmetric(rng, size):
    half = rng.uniform(-1, 1, (size, size))
    return (half + half.T) / 2


def benjamini_hochberg(p):
    """The definition, as a loop: the least p m / k over the ranks from this one up."""
    order = np.argsort(p)
    q, least = np.empty(len(p)), 1.0
    for k in range(len(p), 0, -1):
        least = min(least, p[order[k - 1]] * len(p) / k)
        q[order[k - 1]] = least
    return q


def test_columns_are_exactly_those_promised():
    pairs = rank_pairs(result(np.eye(3)), "pearson")
    assert tuple(pairs.columns) == COLUMNS
    assert pairs["rank"].tolist() == [1, 2, 3]
    assert pairs["rank"].dtype.kind == "i"


@given(
    size=st.integers(1, 9),
    seed=st.integers(0, 99),
    levels=st.integers(1, 4),
    distance=st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_order_is_that_of_a_loop_over_pairs(size, seed, levels, distance):
    rng = np.random.default_rng(seed)
    matrix = np.round(symmetric(rng, size) * levels) / levels  # many ties
    matrix[rng.random((size, size)) < 0.1] = np.nan
    matrix = np.minimum(matrix, matrix.T)  # NaN on both sides
    names = [f"g{i}" for i in rng.permutation(20)[:size]]
    sim = result(matrix, names, kind="distance" if distance else "similarity")
    listed = []
    for i, j in itertools.combinations(range(size), 2):
        value = matrix[i, j]
        key = value if distance else -value
        listed.append((np.isnan(value), 0 if np.isnan(value) else key, names[i], names[j]))
    expected = [(a, b) for *_, a, b in sorted(listed)]
    pairs = rank_pairs(sim, "pearson")
    assert list(zip(pairs["a"], pairs["b"], strict=True)) == expected
    at = {name: i for i, name in enumerate(names)}
    looked_up = [matrix[at[a], at[b]] for a, b in expected]
    np.testing.assert_array_equal(pairs["value"], looked_up)
    np.testing.assert_array_equal(pairs["count_a"], [at[a] for a, _ in expected])
    np.testing.assert_array_equal(pairs["count_b"], [at[b] for _, b in expected])


def test_p_and_q_of_a_correlation_are_those_of_t_on_the_effective_sample_size():
    rng = np.random.default_rng(1)
    matrix, sd = symmetric(rng, 12) * 0.6, np.abs(symmetric(rng, 12)) * 1.5 + 1e-3
    pairs = rank_pairs(result(matrix, sd=sd, n_max=5000), "pearson")
    at = pairs["a"].str[1:].astype(int), pairs["b"].str[1:].astype(int)
    for row, i, j in zip(pairs.itertuples(), *at, strict=True):
        n_eff = min(1 + 1 / sd[i, j] ** 2, 5000)
        r = matrix[i, j]
        assert row.z == pytest.approx(r / sd[i, j])
        if n_eff <= 3:
            assert np.isnan(row.p_value)
        else:
            t = r * np.sqrt((n_eff - 2) / (1 - r * r))
            assert row.p_value == pytest.approx(2 * stats.t.sf(abs(t), n_eff - 2), rel=1e-8)
    p = pairs["p_value"].to_numpy()
    known = np.isfinite(p)
    assert 0 < known.sum() < len(p)
    np.testing.assert_allclose(pairs["q_value"][known], benjamini_hochberg(p[known]))
    assert pairs["q_value"][~known].isna().all()


def test_p_of_a_normal_statistic_is_two_sided_about_its_null():
    value, sd, null = np.full((2, 2), 0.5), np.full((2, 2), 0.1), np.full((2, 2), 0.2)
    sim = result(value, sd=sd, null=null, distribution="normal")
    pairs = rank_pairs(sim, "pearson")
    assert pairs["z"][0] == pytest.approx(3)
    assert pairs["p_value"][0] == pytest.approx(2 * stats.norm.sf(3))


def test_identical_channels_have_p_zero_and_no_spread_has_no_p():
    assert (
        rank_pairs(result(np.ones((2, 2)), sd=np.full((2, 2), 0.1)), "pearson")["p_value"][0] == 0
    )
    flat = rank_pairs(result(np.ones((2, 2)), sd=np.zeros((2, 2))), "pearson")
    assert flat[["z", "p_value", "q_value"]].isna().all(axis=None)


def test_without_significance_the_evidence_is_missing_and_order_z_says_so():
    sim = result(np.eye(3))
    assert rank_pairs(sim, "pearson")[["z", "p_value", "q_value"]].isna().all(axis=None)
    with pytest.raises(InputError, match=r"order: 'z'.*'pearson'"):
        rank_pairs(sim, "pearson", order="z")


def test_order_z_ranks_by_evidence():
    matrix = np.array([[1, 0.9, 0.3], [0.9, 1, 0.2], [0.3, 0.2, 1.0]])
    sd = np.array([[1, 0.9, 0.01], [0.9, 1, 0.1], [0.01, 0.1, 1]])
    pairs = rank_pairs(result(matrix, sd=sd), "pearson", order="z")
    assert list(pairs["a"] + pairs["b"]) == ["c0c2", "c1c2", "c0c1"]
    assert pairs["z"].is_monotonic_decreasing
    distances = rank_pairs(result(matrix, sd=sd, kind="distance"), "pearson", order="z")
    assert distances["z"].is_monotonic_increasing


def test_a_measure_with_two_directions_is_ranked_by_their_mean():
    matrix = np.array([[1, 0.2, 0.9], [0.4, 1, 0.0], [0.1, 0.8, 1.0]])
    pairs = rank_pairs(result(matrix, name="moran", symmetric=False), "moran")
    assert dict(zip(pairs["a"] + pairs["b"], pairs["value"], strict=True)) == pytest.approx(
        {"c0c2": 0.5, "c1c2": 0.4, "c0c1": 0.3}
    )


def test_against_leaves_out_identity_and_double_pairs():
    others = ["a", "b", "c", "d"]
    matrix = [[0.3, 0.1, 1.0, 0.4], [1.0, 0.2, 0.3, 0.5]]
    pairs = rank_pairs(result(matrix, ["c", "a"], others), "pearson")
    assert list(zip(pairs["a"], pairs["b"], pairs["value"], strict=True)) == [
        ("a", "d", 0.5),
        ("c", "d", 0.4),
        ("c", "a", 0.3),
        ("a", "b", 0.2),
        ("c", "b", 0.1),
    ]


def test_either_end_is_that_of_the_whole_table(monkeypatch):
    monkeypatch.setattr(listing, "SIDE", 5)
    rng = np.random.default_rng(4)
    matrix = np.round(symmetric(rng, 23) * 3) / 3  # many ties
    matrix[rng.random((23, 23)) < 0.1] = np.nan
    matrix = np.minimum(matrix, matrix.T)
    sd = np.abs(symmetric(rng, 23)) * 0.2
    names = [f"g{i}" for i in rng.permutation(23)]
    for kind, order in (("similarity", "value"), ("similarity", "z"), ("distance", "value")):
        sim = result(matrix, names, sd=sd, kind=kind)
        whole = rank_pairs(sim, "pearson", order)
        known = whole[whole["value" if order == "value" else "z"].notna()]
        for top, bottom in ((1, 0), (7, 3), (0, 40), (253, 0), (999, 5), (200, 999), (0, 0)):
            ends = rank_pairs(sim, "pearson", order, top=top, bottom=bottom)
            rows = whole["rank"].le(top) | whole["rank"].isin(known["rank"].iloc[-bottom or 999 :])
            pd.testing.assert_frame_equal(ends, whole[rows].reset_index(drop=True))
    with pytest.raises(InputError, match="top: got -1, takes a number of pairs"):
        rank_pairs(sim, "pearson", top=-1)


def test_q_of_either_end_rests_on_all_p_also_when_these_go_through_files(monkeypatch):
    monkeypatch.setattr(listing, "SIDE", 5)
    whole_sort = external_sort.Sorted
    monkeypatch.setattr(external_sort, "Sorted", lambda: whole_sort(rows=20))
    rng = np.random.default_rng(5)
    sim = result(np.round(symmetric(rng, 19), 1), sd=np.round(np.abs(symmetric(rng, 19)), 1))
    whole = rank_pairs(sim, "pearson")
    ends = rank_pairs(sim, "pearson", top=9, bottom=5)
    assert ends["q_value"].notna().any()
    pd.testing.assert_frame_equal(
        ends, pd.concat([whole.head(9), whole.tail(5)]).reset_index(drop=True)
    )


def test_against_takes_the_pairs_of_some_channels_out_of_a_whole_result():
    rng = np.random.default_rng(6)
    matrix, names = rng.uniform(-1, 1, (9, 9)), [f"n{i}" for i in rng.permutation(9)]
    sim = result(matrix, names, symmetric=False)
    chosen = [names[7], names[2]]
    whole = rank_pairs(sim, "pearson")
    pairs = rank_pairs(sim, "pearson", against=chosen)
    part = whole[whole["a"].isin(chosen) | whole["b"].isin(chosen)]
    np.testing.assert_array_equal(pairs["value"], part["value"])
    assert pairs["a"].isin(chosen).all()
    assert len(pairs) == 8 + 7
    expected = [frozenset(pair) for pair in zip(part["a"], part["b"], strict=True)]
    assert [frozenset(pair) for pair in zip(pairs["a"], pairs["b"], strict=True)] == expected
    assert len(rank_pairs(sim, "pearson", against=names[0])) == 8
    with pytest.raises(InputError, match="against: got 'x'"):
        rank_pairs(sim, "pearson", against=["x"])


def test_a_table_that_memory_cannot_hold_is_refused(monkeypatch):
    monkeypatch.setattr(ranking, "BYTES_PER_PAIR", 2**60)
    with pytest.raises(InputError, match="write_ranking"):
        rank_pairs(result(np.eye(3)), "pearson")
    assert len(rank_pairs(result(np.eye(3)), "pearson", top=2)) == 2


def test_one_channel_has_no_pairs():
    pairs = rank_pairs(result(np.ones((1, 1)), sd=np.ones((1, 1))), "pearson")
    assert tuple(pairs.columns) == COLUMNS
    assert pairs.empty


def test_several_sigmas_need_one_to_be_chosen():
    one = result(np.eye(2))
    sigmas = pd.Index([np.nan, 1.0, 2.5], name="sigma")
    sim = xr.concat([one, one + 1, one + 2], dim=sigmas, coords="minimal")
    sim["pearson"].attrs = one["pearson"].attrs
    assert rank_pairs(sim, "pearson", sigma=2.5)["value"][0] == 2
    assert rank_pairs(sim, "pearson", sigma=0)["value"][0] == 0
    with pytest.raises(InputError, match=r"sigma: got None, .*0 \(no blur\), 1, 2\.5"):
        rank_pairs(sim, "pearson")
    with pytest.raises(InputError, match=r"sigma: got 3, .*1, 2\.5"):
        rank_pairs(sim, "pearson", sigma=3)
    assert len(rank_pairs(sim.isel(sigma=[1]), "pearson")) == 1


def test_a_sigma_that_a_result_was_not_made_at_is_refused():
    plain = result(np.eye(2))
    assert len(rank_pairs(plain, "pearson", sigma=0)) == 1
    with pytest.raises(InputError, match=r"sigma: got 3, this result has 0 \(no blur\)"):
        rank_pairs(plain, "pearson", sigma=3)
    blurred = result(np.eye(2)).assign_attrs(sigma=2.0)
    assert len(rank_pairs(blurred, "pearson", sigma=2)) == 1
    with pytest.raises(InputError, match="sigma: got 3, this result has 2"):
        rank_pairs(blurred, "pearson", sigma=3)


def test_counts_are_found_among_the_variables_of_a_store_as_well():
    sim = result(np.eye(2), counts=[3, 9]).reset_coords(["count", "count_other"])
    assert rank_pairs(sim, "pearson")[["count_a", "count_b"]].to_numpy().tolist() == [[3, 9]]
    bare = rank_pairs(sim.drop_vars(["count", "count_other"]), "pearson")
    assert bare[["count_a", "count_b"]].isna().all(axis=None)


def test_measures_come_in_the_order_that_they_were_asked_for():
    sim = xr.merge([result(np.eye(2), name=name, sd=np.eye(2)) for name in ("lee", "ncc", "moran")])
    assert measures_of(sim) == ["lee", "ncc", "moran"]
    asked = {"parameters": {"moran": {}, "lee": {}}}
    assert measures_of(sim.assign_attrs(asked)) == ["moran", "lee", "ncc"]


def test_unknown_names_are_answered_with_what_there_is():
    sim = result(np.eye(2), sd=np.eye(2))
    assert measures_of(sim) == ["pearson"]
    with pytest.raises(InputError, match=r"by: got 'lee', this result has: pearson"):
        rank_pairs(sim, "lee")
    with pytest.raises(InputError, match="order: got 'p'"):
        rank_pairs(sim, "pearson", order="p")


def test_a_million_pairs_are_ranked():
    rng = np.random.default_rng(0)
    matrix = symmetric(rng, 1500)
    sim = result(matrix, sd=np.full_like(matrix, 0.1))
    table = rank_pairs(sim, "pearson", order="z")
    values = matrix[np.triu_indices(1500, 1)]
    assert np.array_equal(table["value"], np.sort(values)[::-1])


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_written_table_reads_back_the_same(tmp_path, suffix):
    rng = np.random.default_rng(3)
    pairs = rank_pairs(result(symmetric(rng, 6), sd=np.eye(6)), "pearson")
    pairs.loc[2, "a"] = 'odd, "name"'
    path = tmp_path / f"pairs.{suffix}"
    write_pairs(pairs, path)
    read = pd.read_parquet(path) if suffix == "parquet" else pd.read_csv(path)
    if suffix == "parquet":  # the names are dictionary columns there
        assert [read[side].dtype.name for side in "ab"] == ["category"] * 2
        read = read.astype({"a": pairs["a"].dtype, "b": pairs["b"].dtype})
    pd.testing.assert_frame_equal(read, pairs, check_exact=suffix == "parquet")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_writing_refuses_other_formats_and_missing_folders_and_leaves_nothing(
    tmp_path, monkeypatch
):
    pairs = rank_pairs(result(np.eye(2)), "pearson")
    with pytest.raises(InputError, match=r"\.parquet or \.csv"):
        write_pairs(pairs, tmp_path / "pairs.xlsx")
    with pytest.raises(MissingFileError, match="no such folder"):
        write_pairs(pairs, tmp_path / "absent" / "pairs.csv")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(RunError, match="no space left on the device while writing"):
        write_pairs(pairs, tmp_path / "pairs.csv")
    assert not list(tmp_path.iterdir())
