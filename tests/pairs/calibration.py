"""How honest p is: the share of pairs of independent fields below .05, by measure.

    python tests/pairs/calibration.py --seeds 20 --fields 60
    python tests/pairs/calibration.py --seeds 20 --shifts 40 --measures pearson cosine

Prints the table of docs/pairs.md: by the standard errors of the spectra, or with --shifts by
toroidal shifts; the naive test of correlation beside them; and how often a planted correlation of
.1 is found. `FIELDS` are the fields that the tests of standard errors use as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from scipy import fft, ndimage, stats

import bigcorr as bc

Fields = np.ndarray
MEASURES = ("pearson", "ncc", "moran", "lee")


def smooth_noise(
    rng: np.random.Generator, count: int, shape: tuple[int, int], sigma: float | tuple[float, float]
) -> Fields:
    """White noise blurred by a Gaussian, (count, y, x)."""
    noise = rng.normal(size=(count, *shape))
    return np.stack([ndimage.gaussian_filter(x, sigma) for x in noise])


def exponential_fields(rng: np.random.Generator, count: int, side: int, length: float) -> Fields:
    """Gaussian fields of covariance exp(-d / length), from a torus of twice the side."""
    n = 2 * side
    k = np.minimum(np.arange(n), n - np.arange(n))
    power = fft.fft2(np.exp(-np.hypot(k[:, None], k[None]) / length)).real
    root = np.sqrt(np.maximum(power, 0))
    fields = [fft.ifft2(root * fft.fft2(rng.normal(size=(n, n)))).real for _ in range(count)]
    return np.stack([field[:side, :side] for field in fields])


def counts(rng: np.random.Generator, count: int, mean: float) -> Fields:
    """Poisson counts over a smooth intensity, blurred."""
    intensity = smooth_noise(rng, count, (256, 256), 12)
    intensity /= intensity.std(axis=(1, 2), keepdims=True)
    values = rng.poisson(mean * np.maximum(1 + 0.3 * intensity, 0)).astype(float)
    return np.stack([ndimage.gaussian_filter(x, 3) for x in values])


FIELDS: dict[str, Callable[[np.random.Generator, int], Fields]] = {
    "white noise blurred by 3": lambda rng, n: smooth_noise(rng, n, (256, 256), 3),
    "white noise blurred by 5": lambda rng, n: smooth_noise(rng, n, (128, 200), 5),
    "anisotropic": lambda rng, n: smooth_noise(rng, n, (256, 256), (2, 10)),
    "exponential covariance": lambda rng, n: exponential_fields(rng, n, 256, 8),
    "counts of mean .05": lambda rng, n: counts(rng, n, 0.05),
    "counts of mean .005": lambda rng, n: counts(rng, n, 0.005),
}


def share_below(sim: object, by: str, level: float = 0.05) -> float:
    """Share of pairs with p below the level; all p must be known."""
    p = bc.rank_pairs(sim, by=by)["p_value"].to_numpy()
    assert np.isfinite(p).all()
    return float((p < level).mean())


def naive_share(fields: Fields, level: float = 0.05) -> float:
    """The same by the t-test that takes every pixel for independent."""
    r = np.corrcoef(fields.reshape(len(fields), -1))[np.triu_indices(len(fields), 1)]
    freedom = fields[0].size - 2
    t = np.abs(r) * np.sqrt(freedom / (1 - r**2))
    return float((2 * stats.t.sf(t, freedom) < level).mean())


def planted(rng: np.random.Generator, count: int, correlation: float) -> Fields:
    """Fields whose pairs all share `correlation`; else white noise blurred by 3, 256 x 256."""
    fields = smooth_noise(rng, count + 1, (256, 256), 3)
    fields /= fields.std(axis=(1, 2), keepdims=True)
    return np.sqrt(1 - correlation) * fields[:-1] + np.sqrt(correlation) * fields[-1]


def table(
    seeds: int, fields: int, measures: tuple[str, ...] = MEASURES, shifts: int = 0
) -> dict[str, dict[str, float]]:
    """Mean shares over the seeds, {kind of fields: {measure or "naive": share}}."""
    options = {"window": 8, "stride": 4, "n_shifts": shifts, "progress": False}
    out: dict[str, dict[str, float]] = {}
    for kind, make in FIELDS.items():
        shares: dict[str, list[float]] = {name: [] for name in (*measures, "naive")}
        for seed in range(seeds):
            stack = make(np.random.default_rng(seed), fields)
            sim = bc.pairwise(stack, list(measures), **options)
            for name in measures:
                shares[name].append(share_below(sim, name))
            shares["naive"].append(naive_share(stack))
        out[kind] = {name: float(np.mean(values)) for name, values in shares.items()}
    found: dict[str, list[float]] = {name: [] for name in measures}
    for seed in range(seeds):
        stack = planted(np.random.default_rng(seed), fields, 0.1)
        sim = bc.pairwise(stack, list(measures), **options)
        for name in measures:
            found[name].append(share_below(sim, name))
    out["planted correlation of .1 found"] = {k: float(np.mean(v)) for k, v in found.items()}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--fields", type=int, default=60)
    parser.add_argument("--shifts", type=int, default=0)
    parser.add_argument("--measures", nargs="+", default=list(MEASURES))
    given = parser.parse_args()
    columns = [*given.measures, "naive"]
    print("| fields | " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * len(columns))
    for kind, shares in table(
        given.seeds, given.fields, tuple(given.measures), given.shifts
    ).items():
        cells = [f"{shares[name]:.1%}" if name in shares else "" for name in columns]
        print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
