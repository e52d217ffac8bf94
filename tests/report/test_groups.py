"""Clusters in the report: which are shown, and that their mean pattern is a mean."""

from __future__ import annotations

import numpy as np

from bigcorr.raster import as_source
from bigcorr.report import groups as module
from bigcorr.report.groups import Group, group_table, groups_of, mean_patterns
from bigcorr.report.ordering import cluster


def clustered(sizes, seed=0):
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    matrix = np.where(group[:, None] == group, 0.8, 0.0) + rng.uniform(0, 0.1, (len(group),) * 2)
    matrix = (matrix + matrix.T) / 2
    return cluster(matrix, labelled=True), [f"g{i}" for i in range(len(group))]


def test_groups_are_the_largest_clusters_with_the_most_typical_channel_first(monkeypatch):
    clusters, names = clustered([5, 3, 4, 1, 6])
    found = groups_of(clusters, names, "similarity")
    assert sorted(len(group.members) for group in found) == [3, 4, 5, 6]
    assert [group.number for group in found] == [1, 2, 3, 4]
    for group in found:
        inside = [clusters.within[names.index(name)] for name in group.members]
        assert inside == sorted(inside, reverse=True)
        assert group.within == np.mean(inside)
    monkeypatch.setattr(module, "_SHOWN", 2)
    assert sorted(len(group.members) for group in groups_of(clusters, names, "similarity")) == [
        5,
        6,
    ]


def test_one_group_or_none_is_not_worth_a_table():
    assert groups_of(*clustered([2]), "similarity") == []
    assert groups_of(cluster(np.eye(5)), list("abcde"), "similarity") == []


def test_names_are_escaped_and_long_lists_cut_short():
    many = [f"n<{i}>" for i in range(40)]
    table = group_table([Group(1, many, 0.5), Group(2, ["a", "b"], -0.25)], "pearson")
    assert "n&lt;0&gt;" in table
    assert "n<0>" not in table
    assert "and 26 more" in table
    assert "a, b" in table


def test_a_pattern_is_the_mean_of_standardised_channels(monkeypatch):
    rng = np.random.default_rng(1)
    stack = rng.uniform(0, 1, (5, 30, 40))
    stack[4] = 7.0
    stack[2, :5] = np.nan
    source = as_source(stack)
    drawn = [Group(1, ["c0", "c2"], 0.5), Group(2, ["c4", "c1"], 0.4)]
    figure, said = mean_patterns(drawn, source, 0.0)
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    standard = [(g - np.nanmean(g)) / (np.nanstd(g) or 1) for g in stack]
    np.testing.assert_allclose(shown[0].filled(np.nan), np.nanmean(standard[:3:2], axis=0))
    np.testing.assert_allclose(shown[1].filled(np.nan), (standard[4] + standard[1]) / 2)
    assert "mean of up to 6" in said
    monkeypatch.setattr(module, "_PIXELS", 1)  # a raster too large to read so many channels of
    assert "mean of up to 1 " in mean_patterns(drawn, source, 0.0)[1]
