"""NCC and Gaussian blur beside SciPy and OpenCV, one thread each.

Tiny images by default, so that this runs with the other tests and cannot rot. For figures::

    BIGCORR_BENCH_SIZE=4096 pytest tests/benchmarks --benchmark-group-by=group

Times divided by the pixels go to ``ns_per_pixel`` of the report.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

import bigcorr as bc
from bigcorr.kernels.gaussian import gaussian_taps

cv2 = pytest.importorskip("cv2")

SIZE = int(os.environ.get("BIGCORR_BENCH_SIZE", "96"))


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(threads)


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(SIZE, SIZE)).astype(np.float32)
    return a, (a + rng.normal(size=a.shape)).astype(np.float32)


def timed(benchmark: Any, function: Callable[..., np.ndarray], *args: Any) -> np.ndarray:
    result = benchmark.pedantic(function, args, rounds=5, warmup_rounds=1)
    if benchmark.stats:  # none where benchmarks are disabled
        benchmark.extra_info["ns_per_pixel"] = benchmark.stats.stats.min / SIZE**2 * 1e9
    return result


def by_means(mean: Callable[[np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The formula as people write it with a mean filter."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = mean(a), mean(b)
    top = mean(a * b) - mean_a * mean_b
    return top / np.sqrt((mean(a * a) - mean_a**2) * (mean(b * b) - mean_b**2))


PEERS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "bigcorr": bc.ncc,
    "scipy": lambda a, b, w: by_means(lambda x: ndimage.uniform_filter(x, w), a, b),
    "opencv": lambda a, b, w: by_means(
        lambda x: cv2.boxFilter(x, cv2.CV_64F, (w, w), borderType=cv2.BORDER_REFLECT), a, b
    ),
}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("window", [7, 31])
def test_ncc(benchmark: Any, images: Any, window: int, peer: str) -> None:
    benchmark.group = f"ncc window {window}"
    result = timed(benchmark, PEERS[peer], *images, window)
    np.testing.assert_allclose(result, bc.ncc(*images, window), atol=2e-6)


def opencv_blur(a: np.ndarray, sigma: float) -> np.ndarray:
    size = gaussian_taps(sigma).size
    return cv2.GaussianBlur(a, (size, size), sigma, borderType=cv2.BORDER_REFLECT)


BLURS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "bigcorr": bc.gaussian_blur,
    "scipy": ndimage.gaussian_filter,
    "opencv": opencv_blur,
}


@pytest.mark.parametrize("peer", BLURS)
@pytest.mark.parametrize("sigma", [2.0, 20.0])
def test_gaussian_blur(benchmark: Any, images: Any, sigma: float, peer: str) -> None:
    benchmark.group = f"blur sigma {sigma:g}"
    result = timed(benchmark, BLURS[peer], images[0], sigma)
    np.testing.assert_allclose(result, bc.gaussian_blur(images[0], sigma), atol=1e-5)
