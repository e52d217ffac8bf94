"""The comparison of all pairs with the pair-by-pair way runs, at a size that says nothing."""

from __future__ import annotations

import pytest
from benchmarks.pair_by_pair import table


@pytest.mark.parametrize("peer", ["ssim", "wasserstein", "esda"])
def test_the_comparison_runs(peer):
    for package in {"ssim": ["skimage"], "wasserstein": ["ot"], "esda": ["esda", "libpysal"]}[peer]:
        pytest.importorskip(package)
    text = table(channels=3, size=24, pairs=2, only=[peer])
    assert "3 channels of 24 x 24, 3 pairs; theirs from 2" in text
    assert len(text.splitlines()) == (4 if peer == "esda" else 3)
