"""Standard errors of windowed NCC: how the patches of a channel vary together.

As for whole fields (see `significance`), with the covariance matrices of patches at lags of the
window lattice in place of autocovariances. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.spectra import PatchField, block_means, low_modes
from bigcorr.tiles import Shape

Floats = NDArray[np.float64]
Arrays = dict[str, Floats]

LATTICE = 63
"""Side in windows of the lattices that windowed NCC's covariances are taken from."""
ENERGY_WINDOWS = 256
"""Most windows of a lattice that are looked at in all their modes."""


@dataclass(frozen=True)
class PatchSpectrum:
    """How the patches of a region vary together (for windowed NCC).

    The smooth modes of the patches by their covariance at lags of the window lattice, near ones
    one by one and far ones on a widening grid; the other modes by their energy.
    """

    region_shape: Shape
    raster: Shape
    window: int
    stride: int
    contrast_floor: float
    min_valid: float
    whole: bool
    decimate: int

    @property
    def small(self) -> Shape:
        """Window and stride in decimated pixels."""
        return self.window // self.decimate, self.stride // self.decimate

    @cached_property
    def lattice(self) -> Shape:
        return tuple(  # type: ignore[return-value]
            max(0, min(LATTICE, (side - self.window) // self.stride + 1))
            for side in self.region_shape
        )

    @cached_property
    def lags(self) -> tuple[NDArray[np.int64], Floats]:
        """Lags (n, 2) of the half plane, and how many lags of the whole plane each stands for."""
        y, weight_y = _ladder(self.lattice[0])
        x, weight_x = _ladder(self.lattice[1])
        lag = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
        weight = np.outer(weight_y, weight_x).ravel()
        half = (lag[:, 1] > 0) | ((lag[:, 1] == 0) & (lag[:, 0] >= 0))
        double = np.where((lag == 0).all(axis=1), 1.0, 2.0)
        return lag[half], (weight * double)[half]

    @cached_property
    def energy_bins(self) -> NDArray[np.intp]:
        starts = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
        return np.array([k for k in starts if k < self.small[0]], dtype=np.intp)

    @property
    def wants_coarse(self) -> bool:
        return False

    @property
    def name(self) -> str:
        return f"patch.{self.window}.{self.stride}.{self.contrast_floor}.{self.min_valid}"

    def region(
        self, values: Floats, valid: NDArray[np.uint8] | None, mean: float, sd: float
    ) -> Arrays:
        window, stride = self.small
        modes = len(low_modes(window))
        lags, _ = self.lags
        products = np.zeros((len(lags), modes, modes))
        pairs = np.zeros(len(lags))
        energy = np.zeros((window, window))
        known = None
        if valid is None:
            field = block_means(values, self.decimate)
        else:
            share = block_means((valid != 0).astype(np.float64), self.decimate)
            known = (share >= 0.5).astype(np.uint8)
            field = block_means(values * (valid != 0), self.decimate) / np.maximum(share, 0.5)
        field = (field - mean) / (sd if sd > 0 else np.inf)
        span_y, span_x = ((n - 1) * stride + window for n in self.lattice)
        floor = (self.contrast_floor * window) ** 2
        least = max(2, int(np.ceil(self.min_valid * window**2)))
        for y in _starts(field.shape[0], span_y, stride, self.whole):
            for x in _starts(field.shape[1], span_x, stride, self.whole):
                place = np.s_[y : y + span_y, x : x + span_x]
                patches = PatchField.of(
                    field[place], None if known is None else known[place], window, stride,
                    floor, least,
                )  # fmt: skip
                more, count = patches.lag_products(lags)
                products += more
                pairs += count
                total, stands_for = patches.mode_energy(ENERGY_WINDOWS)
                energy += total * stands_for
        for p, q in [(0, 0), *low_modes(window)]:
            energy[p, q] = 0.0
        bins = self.energy_bins
        return {
            f"{self.name}.products": products.reshape(len(lags), -1),
            f"{self.name}.pairs": pairs,
            f"{self.name}.energy": np.add.reduceat(
                np.add.reduceat(energy, bins, axis=0), bins, axis=1
            ),
        }

    def nbytes(self) -> int:
        modes = len(low_modes(self.small[0]))
        return 8 * (len(self.lags[0]) * (modes * modes + 1) + len(self.energy_bins) ** 2)


def _ladder(count: int) -> tuple[NDArray[np.int64], Floats]:
    """Signed lags below `count`: near ones all, far ones spaced by a third; and their widths."""
    steps = [0, 1, 2, 3, 4, 5]
    while steps[-1] < count:
        steps.append(max(steps[-1] + 1, round(steps[-1] * 1.35)))
    up = np.array([s for s in steps if s < max(count // 2, 1)], dtype=np.int64)
    # Each lag stands for those nearer to it than to its neighbours.
    middle = (up[1:] + up[:-1]) / 2
    low = np.concatenate([[-0.5], middle])
    high = np.concatenate([middle, [up[-1] + 0.5]])
    width = high - low
    width[0] = 1.0 if len(up) > 1 else width[0]
    return (
        np.concatenate([-up[:0:-1], up]),
        np.concatenate([width[:0:-1], width]),
    )


def _starts(size: int, span: int, stride: int, both_ends: bool) -> list[int]:
    """Where a lattice of windows is laid along an axis: at both ends, or in the middle."""
    if span > size or span <= 0:
        return []
    last = (size - span) // stride * stride
    if last < span // 2 or not both_ends:
        return [last // 2 // stride * stride]
    return [0, last]


def patch_variance(sums: Arrays, spec: PatchSpectrum) -> tuple[Floats, Floats, Floats]:
    """Features whose Gram matrices make the variance of a sum of window products, per window.

    Returns
    -------
    lags : (channel, m) of the smooth modes at all lags; its Gram may be negative by chance
    same : (channel, k) of the smooth modes at lag 0: its Gram never is, and bounds it from below
    rest : (channel, r) of the other modes
    """
    lag, weight = spec.lags
    pairs = sums[f"{spec.name}.pairs"]
    products = sums[f"{spec.name}.products"]
    rasters = [(side - spec.window) // spec.stride + 1 for side in spec.raster]
    room = [np.maximum(1 - np.abs(lag[:, axis]) / max(rasters[axis], 1), 0.0) for axis in (0, 1)]
    places = [
        np.maximum(1 - np.abs(lag[:, axis]) / max(spec.lattice[axis], 1), 0.0) for axis in (0, 1)
    ]
    origin = int(np.flatnonzero((lag == 0).all(axis=1))[0])
    whole = np.maximum(pairs[:, [origin]], 1.0)
    # Pairs of valid windows at a lag, against what the lattice's edge alone would leave.
    share = np.minimum(pairs / (whole * np.maximum(places[0] * places[1], 1e-9)), 1.0)
    mean = np.where(pairs[..., None] > 0, products / np.maximum(pairs[..., None], 1.0), 0.0)
    lags = mean * np.sqrt(weight * room[0] * room[1] * share)[..., None]
    window, stride = spec.small
    sizes = np.diff([*spec.energy_bins.tolist(), window])
    inside = np.outer(sizes, sizes).astype(np.float64)
    for p, q in [(0, 0), *low_modes(window)]:
        inside[
            np.searchsorted(spec.energy_bins, p, "right") - 1,
            np.searchsorted(spec.energy_bins, q, "right") - 1,
        ] -= 1
    energy = sums[f"{spec.name}.energy"] / whole[..., None]
    overlap = np.sqrt(_overlap(window, stride))
    rest = energy / np.sqrt(np.maximum(inside, 1.0)) * overlap
    count = len(lags)
    return lags.reshape(count, -1), mean[:, origin], rest.reshape(count, -1)


def _overlap(window: int, stride: int) -> float:
    """How often a pixel pair is counted because windows overlap: about (window / stride)^2."""
    reach = (window - 1) // stride
    along = sum(1 - abs(h) * stride / window for h in range(-reach, reach + 1))
    return along**2
