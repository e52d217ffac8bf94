"""`displacement` beside OpenCV, and OpenPIV where it is installed: microseconds a window.

    python tests/benchmarks/displacement_speed.py [SIZE]

One thread each, CPU time, the median of three rounds in which all take turns. Windows of 32 pixels
searched within 16 at every 16th pixel: OpenCV's matchTemplate window by window (its surface only,
no peak), and OpenPIV's extended_search_area_piv. Windows of 7 pixels at every pixel, 81 shifts: the
correlations by box filters, shift by shift, and which of them is greatest.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
from scipy import ndimage

from bigcorr.motion.passes import measure_all
from bigcorr.motion.pixels import Image
from bigcorr.motion.plan import plan_search
from bigcorr.motion.tile import make_pair
from bigcorr.raster.memory import ArraySource
from bigcorr.run.cluster import ThreadPool
from bigcorr.tiles import Box

ROUNDS = 3


def images(size: int) -> tuple[np.ndarray, np.ndarray]:
    """A texture, and the same three pixels up and two to the right."""
    rng = np.random.default_rng(0)
    a = ndimage.gaussian_filter(rng.normal(size=(size, size)).astype(np.float32), 1.2)
    a = np.clip(a * (30 / a.std()) + 120, 0, 255).astype(np.uint8)
    return a, np.roll(a, (-3, 2), (0, 1))


def ours(a: np.ndarray, b: np.ndarray, window: int, search: int, step: int) -> np.ndarray:
    """dy at all nodes."""
    pair = make_pair(Image(ArraySource(a), None), Image(ArraySource(b), None))
    plan = plan_search(a.shape, window, search, step)
    grid = measure_all(pair, plan, ThreadPool(1), None).grid
    return grid.read(Box(0, grid.shape[0], 0, grid.shape[1]))[0]


def by_match_template(a: np.ndarray, b: np.ndarray, window: int, search: int, step: int) -> int:
    """The surfaces of all windows whose search lies on the raster; how many these are."""
    count = 0
    for y in range(search, a.shape[0] - window - search + 1, step):
        for x in range(search, a.shape[1] - window - search + 1, step):
            area = b[y - search : y + window + search, x - search : x + window + search]
            chip = a[y : y + window, x : x + window]
            cv2.matchTemplate(area, chip, cv2.TM_CCOEFF_NORMED)
            count += 1
    return count


def by_box_filters(a: np.ndarray, b: np.ndarray, window: int, search: int) -> np.ndarray:
    """The shift of the greatest correlation at every pixel."""
    x, far = a.astype(np.float32), np.pad(b.astype(np.float32), search)
    side = (window, window)

    def deviation(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = cv2.boxFilter(image, -1, side)
        return mean, cv2.boxFilter(image * image, -1, side) - mean * mean

    (mean_a, var_a), (mean_b, var_b) = deviation(x), deviation(far)
    best = np.full(a.shape, -2, np.float32)
    shift = np.zeros(a.shape, np.uint8)
    h, w = a.shape
    for k in range((2 * search + 1) ** 2):
        dy, dx = divmod(k, 2 * search + 1)
        at = slice(dy, dy + h), slice(dx, dx + w)
        product = cv2.boxFilter(x * far[at], -1, side) - mean_a * mean_b[at]
        score = product / np.sqrt(var_a * var_b[at] + 1e-9)
        better = score > best
        np.copyto(best, score, where=better)
        shift[better] = k
    return shift


def by_openpiv(a: np.ndarray, b: np.ndarray, window: int, search: int, step: int) -> int:
    """All vectors by OpenPIV; how many these are."""
    from openpiv.pyprocess import extended_search_area_piv  # type: ignore[import-not-found]

    u, _, _ = extended_search_area_piv(
        a.astype(np.int32),
        b.astype(np.int32),
        window_size=window,
        overlap=window + 2 * search - step,
        search_area_size=window + 2 * search,
        normalized_correlation=True,
        sig2noise_method="peak2peak",
    )
    return int(u.size)


def timed(function: Callable[[], object], units: int) -> float:
    """CPU seconds a unit."""
    start = time.process_time()
    function()
    return (time.process_time() - start) / units


def compare(size: int) -> dict[str, float]:
    """Microseconds a window, and nanoseconds a pixel and shift."""
    cv2.setNumThreads(1)
    a, b = images(size)
    few = a[: max(size // 4, 128)], b[: max(size // 4, 128)]
    windows = ((size - 32) // 16 + 1) ** 2
    chips = by_match_template(*few, 32, 16, 16)
    pixels = few[0].size * 81
    ways: dict[str, Callable[[], float]] = {
        "windows": lambda: timed(lambda: ours(a, b, 32, 16, 16), windows) * 1e6,
        "matchTemplate": lambda: timed(lambda: by_match_template(*few, 32, 16, 16), chips) * 1e6,
        "dense": lambda: timed(lambda: ours(*few, 7, 4, 1), pixels) * 1e9,
        "box filters": lambda: timed(lambda: by_box_filters(*few, 7, 4), pixels) * 1e9,
    }
    try:
        vectors = by_openpiv(*(image[:128, :128] for image in few), 32, 16, 16)
        part = [image[:, : min(size, 512)] for image in few]
        vectors = by_openpiv(*part, 32, 16, 16)
        ways["OpenPIV"] = lambda: timed(lambda: by_openpiv(*part, 32, 16, 16), vectors) * 1e6
    except ImportError:
        pass
    small = images(96)
    ours(*small, 32, 16, 16)  # compiled before it is timed
    ours(*small, 7, 4, 1)
    rounds = [{name: way() for name, way in ways.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(each[name] for each in rounds) for name in ways}


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
    found = compare(size)
    for name, value in found.items():
        print(f"{name:14s} {value:9.2f} {'ns' if name in ('dense', 'box filters') else 'us'}")
    print(f"matchTemplate / windows {found['matchTemplate'] / found['windows']:.2f}")
    print(f"box filters / dense {found['box filters'] / found['dense']:.2f}")
    if "OpenPIV" in found:
        print(f"OpenPIV / windows {found['OpenPIV'] / found['windows']:.1f}")


if __name__ == "__main__":
    main()
