"""Clusters of channels against SciPy's own on the full matrix, and odd input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from bigcorr.errors import InputError
from bigcorr.pairs import clusters
from bigcorr.pairs.clusters import cluster_channels, cut, link


def groups(sizes, seed=0):
    """Similarity of shuffled groups, and the group of each channel."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    matrix = np.where(group[:, None] == group, 0.8, 0.0) + rng.uniform(0, 0.1, (len(group),) * 2)
    matrix = (matrix + matrix.T) / 2
    np.fill_diagonal(matrix, 1)
    return matrix, group


def result(matrix, **attrs):
    names = [f"c{i:03d}" for i in range(len(matrix))]
    variables = {"pearson": (("channel", "other"), matrix, {"kind": "similarity", **attrs})}
    count = np.arange(len(names))
    coords = {"channel": names, "other": names, "count": ("channel", count)}
    return xr.Dataset(variables, coords=coords)


def by_name(table):
    return table.sort_values("channel")["cluster"].to_numpy()


def same_partition(a, b):
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


@pytest.mark.parametrize("step", [3, 512])
def test_labels_are_those_of_scipy_on_the_whole_matrix(monkeypatch, step):
    monkeypatch.setattr(clusters, "_STEP", step)
    rng = np.random.default_rng(1)
    matrix = np.corrcoef(rng.standard_normal((40, 6)))
    tree = hierarchy.linkage(squareform(1 - matrix, checks=False), "average")
    for n in (1, 2, 7, 40):
        found = by_name(cluster_channels(result(matrix), "pearson", n))
        assert same_partition(found, hierarchy.fcluster(tree, n, "maxclust"))
    for threshold in (-0.5, 0.2, 0.9):
        found = by_name(cluster_channels(result(matrix), "pearson", threshold=threshold))
        assert same_partition(found, hierarchy.fcluster(tree, 1 - threshold, "distance"))
    distance = result(1 - matrix, kind="distance")
    found = by_name(cluster_channels(distance, "pearson", threshold=0.8))
    assert same_partition(found, hierarchy.fcluster(tree, 0.8, "distance"))


def test_clusters_are_numbered_in_the_order_of_the_leaves_and_are_whole_there():
    matrix, group = groups([5, 9, 3, 6])
    table = cluster_channels(result(matrix), "pearson", 4)
    assert table["cluster"].is_monotonic_increasing
    assert same_partition(by_name(table), group)
    sizes = table.groupby("cluster")["size"].agg(["first", "count"])
    assert (sizes["first"] == sizes["count"]).all()


def test_without_a_number_the_one_that_stands_apart_best_is_taken(monkeypatch):
    matrix, group = groups([5, 9, 3, 6, 4])
    for judged in (2000, 15):
        monkeypatch.setattr(clusters, "_JUDGED", judged)
        assert same_partition(by_name(cluster_channels(result(matrix), "pearson")), group)
    two = cluster_channels(result(np.eye(2)), "pearson")
    assert two["cluster"].tolist() == [1, 1]


def test_within_is_the_mean_over_the_others_of_the_cluster():
    matrix, _ = groups([5, 1, 6])
    matrix *= 3  # a measure may exceed 1
    table = cluster_channels(result(matrix), "pearson", 3).set_index("channel")
    names = list(result(matrix)["channel"].values)
    for name, row in table.iterrows():
        others = [n for n in names if table["cluster"][n] == row["cluster"] and n != name]
        values = [matrix[names.index(name), names.index(n)] for n in others]
        assert row["within"] == pytest.approx(np.mean(values) if values else np.nan, nan_ok=True)
    assert table["count"].to_dict() == {name: i for i, name in enumerate(names)}


def test_channels_without_a_value_are_in_no_cluster():
    matrix, group = groups([4, 5])
    matrix[[1, 6]], matrix[:, [1, 6]] = np.nan, np.nan
    matrix[0, 2] = matrix[2, 0] = np.nan
    table = cluster_channels(result(matrix), "pearson", 2)
    assert table["cluster"].tolist()[-2:] == [0, 0]
    assert table["channel"].tolist()[-2:] == ["c001", "c006"]
    known = np.setdiff1d(np.arange(9), [1, 6])
    assert same_partition(by_name(table)[known], group[known])
    nothing = cluster_channels(result(np.full((3, 3), np.nan)), "pearson")
    assert nothing["cluster"].tolist() == [0, 0, 0]
    one = cluster_channels(result(np.ones((1, 1))), "pearson")
    assert one["cluster"].tolist() == [0]


def test_two_directions_count_by_their_mean():
    rng = np.random.default_rng(2)
    matrix = rng.uniform(-1, 1, (15, 15))
    mean = cluster_channels(result((matrix + matrix.T) / 2, symmetric=True), "pearson", 4)
    pd.testing.assert_frame_equal(
        cluster_channels(result(matrix, symmetric=False), "pearson", 4), mean
    )


def test_a_store_gives_the_clusters_of_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "_STEP", 4)
    sim = result(groups([4, 5, 6])[0], symmetric=True)
    sim.to_zarr(tmp_path / "r.zarr", zarr_format=3, consolidated=False)
    lazy = xr.open_zarr(tmp_path / "r.zarr", chunks=None, consolidated=False)
    pd.testing.assert_frame_equal(
        cluster_channels(lazy, "pearson", 3), cluster_channels(sim, "pearson", 3)
    )


def test_equal_heights_still_give_the_number_asked_for():
    found = link(np.full((6, 6), 0.5), distance=False)
    for n in range(1, 7):
        assert len(set(cut(found, n))) == n


def test_what_cannot_be_done_is_told(monkeypatch):
    sim = result(groups([3, 3])[0])
    with pytest.raises(InputError, match="got both"):
        cluster_channels(sim, "pearson", 2, 0.5)
    with pytest.raises(InputError, match="n_clusters: got 7, takes 1 to 6"):
        cluster_channels(sim, "pearson", 7)
    with pytest.raises(InputError, match="threshold: got nan"):
        cluster_channels(sim, "pearson", threshold=np.nan)
    with pytest.raises(InputError, match="got 2 channels against 6"):
        cluster_channels(sim.isel(channel=slice(2)), "pearson", 2)
    with pytest.raises(InputError, match="by: got 'ncc'"):
        cluster_channels(sim, "ncc", 2)
    monkeypatch.setattr(clusters, "MOST_CHANNELS", 5)
    with pytest.raises(InputError, match="got 6 channels, clusters take at most 5"):
        cluster_channels(sim, "pearson", 2)
