"""The volcano: every pair with a q stands where its value and its q say."""

from __future__ import annotations

import numpy as np
import pytest

from bigcorr.report import volcano as module
from bigcorr.report.svg import figure_svg
from bigcorr.report.volcano import Marked, volcano


def heights(figure):
    return figure.axes[0].collections[0].get_offsets()


def test_points_stand_at_their_value_and_the_surest_at_the_top():
    value, q = [0.5, -0.2, 0.9, 0.1], [1e-20, 0.5, np.nan, 0.0]
    points = heights(volcano(value, q, label="pearson"))
    assert points[:, 0].tolist() == [0.5, -0.2, 0.1]  # the one without a q is left out
    assert np.argsort(points[:, 1]).tolist() == [1, 0, 2]
    ticks = dict(zip(module._TICKS, module._height(np.array(module._TICKS)), strict=True))
    assert points[0, 1] == pytest.approx(ticks[1e-20])
    assert points[2, 1] == pytest.approx(ticks[1e-300])


def test_many_pairs_are_counted_in_cells_and_none_is_lost():
    rng = np.random.default_rng(0)
    value, q = rng.standard_normal(20_000), rng.uniform(0, 1, 20_000) ** 9
    q[:3], value[5] = 0, 4.5
    image = volcano(value, q).axes[0].images[0]
    assert image.get_array().sum() == 20_000


def test_marked_pairs_are_named_on_the_page():
    marked = [Marked("Apod, Kctd12", 0.9, 1e-9), Marked("a<b", -0.9, 0.2)]
    svg = figure_svg(volcano([0.9, -0.9], [1e-9, 0.2], marked, label="ncc"), "label", "v")
    for text in ("Apod, Kctd12", "a&lt;b", "ncc", "0.05"):
        assert text in svg


@pytest.mark.parametrize("values", [[], [0.3], [0.3, 0.3]])
def test_few_or_equal_pairs_can_be_drawn(values):
    assert figure_svg(volcano(values, [1.0] * len(values)), "label", "v").startswith("<svg")
