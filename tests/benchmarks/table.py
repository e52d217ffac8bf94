"""One table of the maps beside the libraries that people use for them today, all in one run.

    python tests/benchmarks/table.py --size 4096 --rounds 5

One thread each, by the thread's own processor time, best of the rounds; the rounds of all
competitors are taken in turn, so that what else the machine does falls on all of them alike. The
floor is the time to move each input and output once, at the speed at which a large array is copied
in the same run. "two threads" is wall time: two halves of the image one after the other, over both
at once.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import dask
import dask.array as da
import dask_image.ndfilters
import numpy as np
from scipy import ndimage
from skimage.feature import local_binary_pattern
from skimage.metrics import structural_similarity

import bigcorr as bc
from bigcorr.kernels.gaussian import gaussian_taps

Image = np.ndarray
Map = Callable[[Image, Image], object]


class Row(NamedTuple):
    """A map: ours and the others' way to it, and the bytes a pixel that it must read and write."""

    name: str
    ours: Map
    others: dict[str, Map]
    bytes_per_pixel: int
    dtype: str = "float32"


def by_means(mean: Callable[[Image], Image]) -> Map:
    """NCC as people write it with a mean filter."""

    def ncc(a: Image, b: Image) -> Image:
        a, b = a.astype(np.float64), b.astype(np.float64)
        mean_a, mean_b = mean(a), mean(b)
        top = mean(a * b) - mean_a * mean_b
        return top / np.sqrt((mean(a * a) - mean_a**2) * (mean(b * b) - mean_b**2))

    return ncc


def scipy_mean(window: int) -> Callable[[Image], Image]:
    return lambda x: ndimage.uniform_filter(x, window)


def opencv_mean(window: int) -> Callable[[Image], Image]:
    size = (window, window)
    return lambda x: cv2.boxFilter(x, cv2.CV_64F, size, borderType=cv2.BORDER_REFLECT)


def opencv_blur(sigma: float) -> Map:
    size = (gaussian_taps(sigma).size,) * 2
    return lambda a, _: cv2.GaussianBlur(a, size, sigma, borderType=cv2.BORDER_REFLECT)


def lazily(function: Callable[[da.Array], da.Array]) -> Map:
    """A function of dask arrays, in chunks of 1024 on one thread."""

    def compute(a: Image, _: Image) -> Image:
        with dask.config.set(scheduler="synchronous"):
            return function(da.from_array(a, chunks=1024)).compute()

    return compute


def rows() -> list[Row]:
    found = [
        Row(
            f"ncc, window {window}",
            lambda a, b, w=window: bc.ncc(a, b, w),
            {
                "scipy": by_means(scipy_mean(window)),
                "opencv": by_means(opencv_mean(window)),
            },
            12,
        )
        for window in (7, 31)
    ]
    for gaussian in (False, True):
        options = {"data_range": 8.0, "gaussian_weights": gaussian}
        found.append(
            Row(
                "ssim, 11 x 11 gaussian" if gaussian else "ssim, window 7",
                lambda a, b, o=options: bc.ssim(a, b, **o),
                {
                    "scikit-image": lambda a, b, o=options: structural_similarity(
                        a, b, full=True, **o
                    )
                },
                12,
            )
        )
    for sigma in (2.0, 20.0):
        found.append(
            Row(
                f"gaussian blur, sigma {sigma:g}",
                lambda a, _, s=sigma: bc.gaussian_blur(a, s),
                {
                    "scipy": lambda a, _, s=sigma: ndimage.gaussian_filter(a, s),
                    "opencv": opencv_blur(sigma),
                    "dask-image": lazily(
                        lambda x, s=sigma: dask_image.ndfilters.gaussian_filter(x, s)
                    ),
                },
                8,
            )
        )
    for points, radius in ((8, 1), (24, 3)):
        arguments = (points, radius, "uniform")
        found.append(
            Row(
                f"lbp uniform, P {points} R {radius}, uint8",
                lambda a, _, x=arguments: bc.local_binary_pattern(a, *x),
                {"scikit-image": lambda a, _, x=arguments: local_binary_pattern(a, *x)},
                2,
                "uint8",
            )
        )
    return found


def nanoseconds(
    functions: dict[str, Callable[[], object]], pixels: int, rounds: int
) -> dict[str, float]:
    """Processor time of each, a pixel; taken in turn, best of the rounds after one to warm up."""
    best = dict.fromkeys(functions, np.inf)
    for turn in range(rounds + 1):
        for name, function in functions.items():
            start = time.thread_time()
            function()
            if turn:
                best[name] = min(best[name], time.thread_time() - start)
    return {name: seconds / pixels * 1e9 for name, seconds in best.items()}


def gain_of_two_threads(function: Map, a: Image, b: Image, rounds: int) -> float:
    half = len(a) // 2
    parts = [(a[:half], b[:half]), (a[half:], b[half:])]
    best = [np.inf, np.inf]
    for _ in range(rounds):
        for k, threads in enumerate((1, 2)):
            with ThreadPoolExecutor(threads) as pool:
                start = time.perf_counter()
                list(pool.map(lambda part: function(*part), parts))
                best[k] = min(best[k], time.perf_counter() - start)
    return best[0] / best[1]


def table(size: int, rounds: int) -> str:
    """The table in Markdown."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    a = rng.normal(size=(size, size)).astype(np.float32)
    b = (a + rng.normal(size=a.shape)).astype(np.float32)
    levels = rng.integers(0, 256, a.shape).astype(np.uint8)
    images = {"float32": (a, b), "uint8": (levels, levels)}
    to = np.zeros_like(a)
    copy = nanoseconds({"copy": lambda: np.copyto(to, a)}, a.size, 10)["copy"]
    lines = [
        "| map | bigcorr | others | times as fast | over the floor | two threads |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows():
        pair = images[row.dtype]
        functions = {"bigcorr": row.ours, **row.others}
        found = nanoseconds(
            {name: lambda f=f, pair=pair: f(*pair) for name, f in functions.items()}, a.size, rounds
        )
        ours = found.pop("bigcorr")
        others = ", ".join(f"{name} {each:.1f}" for name, each in found.items())
        ratios = ", ".join(f"{each / ours:.1f}" for each in found.values())
        floor = row.bytes_per_pixel * copy / 8
        gain = gain_of_two_threads(row.ours, *pair, rounds)
        lines.append(
            f"| {row.name} | {ours:.1f} | {others} | {ratios} | {ours / floor:.0f} | {gain:.2f} |"
        )
    cv2.setNumThreads(threads)
    lines += [
        "",
        f"Nanoseconds a pixel of {size} x {size} pixels, float32 unless said, one thread of "
        f"{processor()}; copying moves {8 / copy:.1f} bytes a nanosecond.",
    ]
    return "\n".join(lines)


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, help="side of the images in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed")
    given = parser.parse_args()
    print(table(given.size, given.rounds))
