"""The comparison of the pair pass with a bare product runs, at a size that says nothing."""

from __future__ import annotations

from benchmarks.pair_pass import table


def test_the_comparison_runs():
    text = table(channels=3, size=64, rounds=1)
    assert "3 channels of 64 x 64" in text
    assert text.count("%") == 10
