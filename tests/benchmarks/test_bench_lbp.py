"""Local binary patterns beside scikit-image, one thread each.

Run as `test_bench_maps` says.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from skimage.feature import local_binary_pattern

import bigcorr as bc

SIZE = int(os.environ.get("BIGCORR_BENCH_SIZE", "96"))

PEERS: dict[str, Callable[..., np.ndarray]] = {
    "bigcorr": bc.local_binary_pattern,
    "scikit-image": local_binary_pattern,
}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIZE, SIZE)).astype(np.uint8)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("method", ["uniform", "var"])
@pytest.mark.parametrize(("points", "radius"), [(8, 1), (24, 3)])
def test_local_binary_pattern(
    benchmark: Any, image: np.ndarray, points: int, radius: int, method: Any, peer: str
) -> None:
    benchmark.group = f"lbp {method} {points} points, radius {radius}"
    arguments = (image, points, radius, method)
    result = benchmark.pedantic(PEERS[peer], arguments, rounds=3, warmup_rounds=1)
    if benchmark.stats:  # none where benchmarks are disabled
        benchmark.extra_info["ns_per_pixel"] = benchmark.stats.stats.min / SIZE**2 * 1e9
    expected = bc.local_binary_pattern(*arguments)
    assert np.array_equal(result, expected, equal_nan=True)
