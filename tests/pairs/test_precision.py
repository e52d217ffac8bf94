"""The precision with which a known truth is found, against its definition."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcorr.errors import InputError
from bigcorr.pairs.precision import average_precision, group_precision


def test_average_precision_is_that_of_its_definition():
    assert average_precision([1, 1, 0, 0], [4, 3, 2, 1]) == 1
    assert average_precision([0, 0, 1], [3, 2, 1]) == pytest.approx(1 / 3)
    assert average_precision([1, 0], [np.nan, 5]) == pytest.approx(1 / 2)
    assert np.isnan(average_precision([0, 0], [1, 2]))
    assert np.isnan(average_precision([], []))
    with pytest.raises(InputError, match="scores"):
        average_precision([1], [1, 2])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_average_precision_does_not_depend_on_the_order_of_ties(rows):
    forward = average_precision([r[0] for r in rows], [r[1] for r in rows])
    backward = average_precision([r[0] for r in rows[::-1]], [r[1] for r in rows[::-1]])
    np.testing.assert_equal(forward, backward)


def test_group_precision_tells_which_kind_is_missed():
    truth = {
        "channel": ["a1", "a2", "b1", "b2", "n"],
        "group": [0, 0, 1, 1, -1],
        "kind": ["arcs", "arcs", "gradients", "gradients", "empty"],
    }
    matrix = np.zeros((5, 5))
    matrix[0, 1] = 0.9  # the arcs are found first, the gradients last
    matrix[2, 3] = -0.9
    rows, columns = np.triu_indices(5, 1)
    names = np.array(truth["channel"])
    pairs = pd.DataFrame({"a": names[rows], "b": names[columns], "value": matrix[rows, columns]})
    pairs = pairs.sort_values(["value", "a", "b"], ascending=[False, True, True])
    table = group_precision(pairs, truth).set_index("pattern")
    assert list(table.index) == ["all", "all but gradients", "arcs", "gradients"]
    assert table["average_precision"].tolist() == pytest.approx([0.6, 1, 1, 1 / 7])
    assert table["same_group"].tolist() == [2, 1, 1, 1]
    assert table["pairs"].tolist() == [10, 3, 7, 7]
    with pytest.raises(InputError, match="'n'"):
        group_precision(pairs, {key: value[:4] for key, value in truth.items()})
