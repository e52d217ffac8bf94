"""The benchmark of `displacement` runs, and compares ways that find the same."""

from __future__ import annotations

import displacement_speed as bench
import numpy as np


def test_the_comparison_runs_and_all_find_the_shift() -> None:
    a, b = bench.images(160)
    found = bench.compare(160)
    assert set(found) >= {"windows", "matchTemplate", "dense", "box filters"}
    assert min(found.values()) > 0
    inner = (slice(8, -8),) * 2
    assert abs(np.nanmedian(bench.ours(a, b, 7, 4, 1)) + 3) < 0.01
    shift = bench.by_box_filters(a, b, 7, 4)[inner]
    assert np.median(shift) == (4 - 3) * 9 + 4 + 2
