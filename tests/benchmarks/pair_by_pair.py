"""All pairs beside the pair-by-pair way of the libraries that people use for it today.

    python tests/benchmarks/pair_by_pair.py --channels 64 --size 1024 --pairs 30

Ours is the whole call of `bigcorr.pairwise` on an array in memory, without blur and significance;
the others are called for some pairs one after the other and extrapolated to all, with what is
prepared once (weights, coarse grids) left out. Wall time, and processor time of all threads.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import bigcorr as bc

Stack = np.ndarray
Pair = Callable[[int, int], Any]


class Peer(NamedTuple):
    """A measure of ours, whose it is otherwise, and a function of two channels' numbers."""

    measure: Any
    library: str
    pair: Pair


def scikit_image(stack: Stack) -> Peer:
    from skimage.metrics import structural_similarity

    low = stack.min(axis=(1, 2), keepdims=True)
    scaled = (stack - low) / (stack.max(axis=(1, 2), keepdims=True) - low)
    return Peer(
        bc.measures.SSIM(window=7, stride=1),
        "scikit-image structural_similarity",
        lambda i, j: structural_similarity(scaled[i], scaled[j], data_range=1.0),
    )


def pot(stack: Stack) -> Peer:
    import ot

    measure = bc.measures.Wasserstein()
    side = -(-max(stack.shape[1:]) // measure.grid)
    starts = [np.arange(0, n, side) for n in stack.shape[1:]]
    mass = np.add.reduceat(np.add.reduceat(stack.astype(float), starts[0], 1), starts[1], 2)
    places = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 2).astype(float)
    mass = mass.reshape(len(stack), -1)
    mass /= mass.sum(axis=1, keepdims=True)
    return Peer(
        measure,
        "POT sliced_wasserstein_distance",
        lambda i, j: ot.sliced_wasserstein_distance(
            places, places, mass[i], mass[j], projections=measure.directions
        ),
    )


def esda(stack: Stack) -> Iterator[Peer]:
    import esda
    import libpysal

    weights = libpysal.weights.lat2W(*stack.shape[1:], rook=False)
    weights.transform = "r"
    matrix = weights.sparse
    flat = stack.reshape(len(stack), -1).astype(float)
    yield Peer(
        bc.measures.Moran(),
        "esda Moran_BV",
        lambda i, j: esda.Moran_BV(flat[i], flat[j], weights, permutations=0).I,
    )
    yield Peer(
        bc.measures.Lee(),
        "esda Spatial_Pearson",
        lambda i, j: (
            esda.Spatial_Pearson(connectivity=matrix, permutations=0)
            .fit(flat[i][:, None], flat[j][:, None])
            .association_[0, 1]
        ),
    )


def spent(function: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def row(peer: Peer, stack: Stack, pairs: int) -> str:
    """Times of all pairs, ours and theirs, after a small run that compiles."""

    def ours(channels: Stack) -> None:
        bc.pairwise(channels, [peer.measure], significance=False, progress=False)

    ours(stack[:2, :64, :64])
    own = spent(lambda: ours(stack))
    count = len(stack) * (len(stack) - 1) // 2
    chosen = list(itertools.islice(itertools.combinations(range(len(stack)), 2), pairs))
    some = spent(lambda: [peer.pair(i, j) for i, j in chosen])
    other = [seconds * count / len(chosen) for seconds in some]
    return (
        f"{peer.measure.name:12} {own[0]:9.2f} s {own[1]:9.2f} s   {other[0]:10.1f} s "
        f"{other[1]:10.1f} s   {other[0] / own[0]:8.0f} {other[1] / own[1]:8.0f}   {peer.library}"
    )


def table(channels: int, size: int, pairs: int, only: list[str]) -> str:
    stack = np.random.default_rng(0).gamma(2.0, size=(channels, size, size)).astype(np.float32)
    makers: dict[str, Callable[[], list[Peer]]] = {
        "ssim": lambda: [scikit_image(stack)],
        "wasserstein": lambda: [pot(stack)],
        "esda": lambda: list(esda(stack)),
    }
    lines = [
        f"{channels} channels of {size} x {size}, {channels * (channels - 1) // 2} pairs; theirs "
        f"from {pairs}",
        "measure       ours wall        cpu    theirs wall          cpu  ratio wall      cpu",
    ]
    for name in only or makers:
        lines += [row(peer, stack, pairs) for peer in makers[name]()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--only", nargs="*", default=[], choices=["ssim", "wasserstein", "esda"])
    given = parser.parse_args()
    print(table(given.channels, given.size, given.pairs, given.only))


if __name__ == "__main__":
    main()
