"""Pairs of an array in memory beside the bare matrix product that they cannot do without.

    python tests/benchmarks/pair_pass.py --channels 256 --size 2048

One thread. The pass: on tiles in planes that are standardised already, which is how measures come
side by side. The run: all of it from an array, float32, without blur and significance, as
`bc.pairwise` does it. The bare product is ``a @ a.T`` of as many channels and as long slices as are
multiplied, in float32.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

import numpy as np
from threadpoolctl import threadpool_limits

import bigcorr as bc
from bigcorr.kernels.cells import CELL
from bigcorr.pairs.measure import ChannelStatistics, PairTile
from bigcorr.pairs.selection import Selection
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.pairs_job import ask, compute, plan_for
from bigcorr.run.progress import SILENT
from bigcorr.tiles import Box

STRIP = 128
"""Rows of a tile, so that a few tiles stand for any raster."""


def strip_of(channels: int, width: int, extent: int) -> PairTile:
    """White noise, with the rows and columns that windows reach beyond the core."""
    rng = np.random.default_rng(0)
    core, reach = Box(0, STRIP, 0, width), Box(0, STRIP + extent, 0, width + extent)
    z = rng.standard_normal((channels, *reach.shape), np.float32)
    marks = np.ones((channels, *(-(-side // CELL) for side in reach.shape)), np.uint8)
    ones = np.ones(channels)
    statistics = ChannelStatistics(
        n=ones * core.size, mean=0 * ones, sd=ones, minimum=-6 * ones, maximum=6 * ones,
        offset=0 * ones, scale=ones,
    )  # fmt: skip
    return PairTile(core, reach, z, np.zeros((0, 0, 0), np.uint8), marks, statistics)


def seconds_of(measure: object, channels: int, size: int, rounds: int) -> float:
    """Best time of the pass over ``size * size`` pixels."""
    features = measure.features((size, size))  # type: ignore[attr-defined]
    tile = strip_of(channels, size, max(features.extent, 0))
    numbers = np.arange(channels)
    selection = Selection(numbers, numbers, numbers, True)
    best = np.inf
    for _ in range(rounds + 1):
        partial: dict = {}
        start = time.perf_counter()
        features.add(tile, selection, partial, defaultdict(float))
        best = min(best, time.perf_counter() - start)
    return best * size / STRIP


def run_seconds(measure: object, stack: np.ndarray, rounds: int) -> float:
    """Best processor time of a run over an array in memory on one thread."""
    pool = ThreadPool(1)
    asked = ask(stack, measures=[measure], significance=False)
    plan = plan_for(asked, pool)
    best = np.inf
    for _ in range(rounds + 1):
        start = time.process_time()
        compute(asked, plan, pool, None, SILENT)
        best = min(best, time.process_time() - start)
    return best


def bare_seconds(channels: int, size: int, rounds: int) -> float:
    a = np.random.default_rng(0).standard_normal((channels, CELL * CELL), np.float32)
    slices = STRIP * size // (CELL * CELL)
    best = np.inf
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for _ in range(slices):
            a @ a.T
        best = min(best, time.perf_counter() - start)
    return best * size / STRIP


def table(channels: int, size: int, rounds: int) -> str:
    """The table in Markdown."""
    with threadpool_limits(1, user_api="blas"):
        bare = bare_seconds(channels, size, rounds)
        found = {
            "pearson": bc.measures.Pearson(),
            "ncc, window 8, stride 8": bc.measures.NCC(window=8, stride=8),
            "ncc, window 8, stride 4": bc.measures.NCC(window=8, stride=4),
            "ncc, window 32, stride 32": bc.measures.NCC(window=32, stride=32),
            "ncc, window 32, stride 16": bc.measures.NCC(window=32, stride=16),
        }
        seconds = {name: seconds_of(m, channels, size, rounds) for name, m in found.items()}
    stack = np.random.default_rng(0).standard_normal((channels, size, size), np.float32)
    runs = {name: run_seconds(m, stack, rounds) for name, m in found.items()}
    lines = [
        f"{channels} channels of {size} x {size}, one thread; the bare product takes {bare:.2f} s",
        "",
        "| measure | pass, s | share of the product's rate | times pearson "
        "| run, s | share of the product's rate | times pearson |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in found:
        cells = []
        for taken in (seconds, runs):
            share, ratio = bare / taken[name], taken[name] / taken["pearson"]
            cells += [f"{taken[name]:.2f}", f"{share:.0%}", f"{ratio:.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    print(table(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
