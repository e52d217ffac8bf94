"""Figures: the order of channels, what is drawn, and odd input."""

from __future__ import annotations

import numpy as np
import pytest

from bigcorr.report import figures, ordering
from bigcorr.report.figures import heatmap, pair_panel
from bigcorr.report.ordering import cluster
from bigcorr.report.svg import figure_svg


def groups(sizes, seed=0):
    """Similarity of shuffled groups, and the group of each channel."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    matrix = np.where(group[:, None] == group, 0.8, 0.0) + rng.uniform(0, 0.05, (len(group),) * 2)
    matrix = (matrix + matrix.T) / 2
    np.fill_diagonal(matrix, 1)
    return matrix, group


def runs(values):
    return 1 + int((np.diff(values) != 0).sum())


def image_of(figure):
    return next(axes for axes in figure.axes if axes.images).images[0].get_array()


def test_similar_channels_stand_together():
    matrix, group = groups([4, 3, 5])
    order = cluster(matrix).order
    assert sorted(order) == list(range(12))
    assert runs(group[order]) == 3
    assert runs(group[cluster(1 - matrix, "distance").order]) == 3


def test_channels_without_a_value_come_last():
    matrix, _ = groups([3, 3])
    matrix[[1, 4]], matrix[:, [1, 4]] = np.nan, np.nan
    matrix[0, 2] = matrix[2, 0] = np.nan
    clusters = cluster(matrix)
    assert clusters.order[-2:].tolist() == [1, 4]
    assert len(clusters.linkage) == 3
    assert cluster(np.full((3, 3), np.nan)).order.tolist() == [0, 1, 2]


def test_very_many_channels_are_ordered_by_a_sample(monkeypatch):
    monkeypatch.setattr(ordering, "_CLUSTERED", 20)
    matrix, group = groups([15, 15, 20])
    clusters = cluster(matrix)
    assert clusters.linkage is None
    assert sorted(clusters.order) == list(range(50))
    assert runs(group[clusters.order]) == 3


def test_the_heatmap_shows_the_matrix_in_the_order_of_its_labels():
    matrix, _ = groups([2, 3])
    names = [f"n{i}" for i in range(5)]
    figure = heatmap(matrix, names)
    axes = next(axes for axes in figure.axes if axes.images)
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    index = [names.index(label) for label in labels]
    np.testing.assert_allclose(axes.images[0].get_array(), matrix[np.ix_(index, index)])
    assert labels == [tick.get_text() for tick in axes.get_xticklabels()]


def test_a_large_matrix_is_binned_by_means():
    matrix, _ = groups([60, 70])
    shown = image_of(heatmap(matrix, [str(i) for i in range(130)], max_cells=50))
    assert shown.shape == (44, 44)
    assert shown.mean() == pytest.approx(matrix.mean(), rel=0.05)


def test_some_channels_against_all_are_drawn_by_row():
    matrix, _ = groups([3, 4])
    names = [f"n{i}" for i in range(7)]
    figure = heatmap(matrix[:2], names[:2], names)
    assert image_of(figure).shape == (2, 7)


@pytest.mark.parametrize("matrix", [[[1.0]], [[np.nan]], [[0.0, 0.0], [0.0, 0.0]]])
def test_odd_matrices_are_drawn(matrix):
    figure = heatmap(matrix, [str(i) for i in range(len(matrix))])
    assert figure_svg(figure, "x", "p").startswith("<svg ")


def test_a_pair_is_drawn_with_its_map_in_minus_one_to_one():
    rng = np.random.default_rng(0)
    a, b = rng.poisson(0.5, (2, 20, 30)).astype(float)
    a[:3] = np.nan
    figure = pair_panel(a, b, np.clip(a - b, -1, 1), ("first", "second"))
    images = [axes for axes in figure.axes if axes.images and axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in images] == ["first", "second", "local NCC"]
    assert images[2].images[0].get_clim() == (-1, 1)
    assert images[0].images[0].get_array().mask[:3].all()


@pytest.mark.parametrize("value", [np.nan, 0.0, -3.0, 7.0])
def test_a_flat_pair_is_drawn(value):
    flat = np.full((4, 1), value)
    svg = figure_svg(pair_panel(flat, flat, flat * np.nan, ("a", "b")), "x", "p")
    assert "<svg" in svg


def test_inline_svg_keeps_text_and_takes_the_colour_of_the_page():
    svg = figure_svg(heatmap(np.eye(3), ["aa", "bb", "cc"]), 'a "label"', "f7")
    assert ">bb</text>" in svg
    assert "currentColor" in svg
    assert figures.INK not in svg
    assert 'aria-label="a &quot;label&quot;"' in svg
    assert 'id="f7-' in svg


def test_pictures_in_svg_are_the_pixels_that_were_drawn():
    import base64
    import io
    import re

    from PIL import Image

    grid = np.arange(12.0).reshape(3, 4)
    svg = figure_svg(pair_panel(grid, grid, grid / 11, ("a", "b")), "x", "p")
    first = re.search(r'base64,([^"]+)"', svg)[1]
    with Image.open(io.BytesIO(base64.b64decode(first))) as picture:
        assert picture.size == (4, 3)
        assert picture.mode == "P"
        assert len(np.unique(np.asarray(picture.convert("RGBA")).reshape(-1, 4), axis=0)) == 12
