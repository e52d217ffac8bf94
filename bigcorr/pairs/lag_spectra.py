"""Standard errors of Moran's I and Lee's L: spectra of each channel and of its spatial lag.

Both measures are z_x' A z_y / n: A = W for Moran, and for Lee A = W'W - t, where t = E[L] / r is
what two channels' own correlation r gives. So each is a covariance of the fields z_x and A z_y,
and between independent channels its variance is the sum over all lags of the product of *their*
autocovariances, as for Pearson: over frequencies, periodogram of x times periodogram of A y.
A z is computed from the pixels with the same weights as the measure, so that edges and missing
neighbours count as they do there. No I/O.

References
----------
Lee (2001), "Developing a bivariate spatial association measure", J. Geogr. Syst. 3.
Clifford, Richardson, Hemon (1989), Biometrics 45.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from bigcorr.pairs.significance import CoarseFeatures, FieldSpectrum, field_variance
from bigcorr.tiles import Shape

Floats = NDArray[np.float64]
Arrays = dict[str, Floats]


@dataclass(frozen=True)
class LagSpectrum:
    """Spectra of z and of A z over a region.

    field : how spectra are taken.
    contiguity : "queen" or "rook"
    squared : A = W'W - t (Lee) instead of W (Moran).
    """

    field: FieldSpectrum
    contiguity: str
    squared: bool

    @property
    def name(self) -> str:
        return f"{'lee' if self.squared else 'moran'}.{self.contiguity}"

    @property
    def wants_coarse(self) -> bool:
        return self.field.wants_coarse

    @cached_property
    def parts(self) -> tuple[FieldSpectrum, FieldSpectrum]:
        """How the spectra of z and of A z are taken, under names of their own."""
        f = self.field
        own, lag = (
            FieldSpectrum(f.region_shape, f.whole, f.padded, f.decimate, f"{self.name}.{part}")
            for part in ("own", "lag")
        )
        return own, lag

    def region(
        self, values: Floats, valid: NDArray[np.uint8] | None, mean: float, sd: float
    ) -> Arrays:
        own, lag = self.parts
        out = own.region(values, valid, mean, sd)
        z = (values - mean) / (sd if sd > 0 else np.inf)
        ok = None
        if valid is None:
            share = _shares(z.shape, self.contiguity)
        else:
            ok = valid != 0
            z[~ok] = 0.0
            share = _share(ok, self.contiguity)
        u = _neighbour_sums(z, self.contiguity) * share
        t = 0.0
        if self.squared:
            n = float(z.size if ok is None else ok.sum())
            t = expected_share(float(share.sum()), float(np.count_nonzero(share)), n)
            u = _neighbour_sums(u * share, self.contiguity) - t * z
            if ok is not None:
                u[~ok] = 0.0
        count = u.size if ok is None else max(int(ok.sum()), 1)
        more = lag.region(u, valid, float(u.sum()) / count, 1.0)
        # Which pixels are there is the same for both.
        wanted = (f"{lag.name}.power", f"{lag.name}.lags")
        out |= {name: more[name] for name in wanted if name in more}
        out[f"{self.name}.t"] = np.array([t * out[f"{own.name}.n"][0]])
        return out

    def nbytes(self) -> int:
        return 2 * self.field.nbytes() + 8


def expected_share(trace: float, linked: float, n: float) -> float:
    """E[L] / r over all ways to lay pairs of values on n pixels.

    trace : of W'W, the sum of 1 / neighbours over the `linked` pixels, which have some.
    """
    return (trace - linked / n) / (n - 1) if n > 1 else 0.0


def lag_variance(
    sums: Arrays, spec: LagSpectrum, coarse: CoarseFeatures | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Twin features of the spectrum and of the short lags, as `field_variance` gives single ones.

    Returns
    -------
    spectrum, lags : (channel, 2 m), those of z and, behind them, those of A z
    """
    own, lag = spec.parts
    shared = {
        f"{lag.name}.{part}": sums[f"{own.name}.{part}"]
        for part in ("n", "lacking")
        if f"{own.name}.{part}" in sums
    }
    far = None
    if coarse is not None:
        # At wavelengths of many pixels a lag is the value itself.
        number = np.maximum(sums[f"{own.name}.n"][:, 0], 1.0)
        gain = 1.0 - sums[f"{spec.name}.t"][:, 0] / number
        far = coarse._replace(features=coarse.features * gain[:, None] ** 2)
    first = field_variance(sums, own, coarse)
    second = field_variance({**sums, **shared}, lag, far)
    # Twice as many numbers as for Pearson: single precision, as the sums are, is plenty.
    spectrum, lags = (
        np.concatenate(parts, axis=1, dtype=np.float32) for parts in zip(first, second, strict=True)
    )
    return spectrum, lags


def _neighbour_sums(x: Floats, contiguity: str) -> Floats:
    """Sum over each pixel's neighbours; what lies outside is nothing."""

    def add_sides(a: Floats, out: Floats, axis: int) -> None:
        low = np.s_[:-1] if axis == 0 else np.s_[:, :-1]
        high = np.s_[1:] if axis == 0 else np.s_[:, 1:]
        out[low] += a[high]
        out[high] += a[low]

    if contiguity == "rook":
        out = np.zeros_like(x)
        add_sides(x, out, 0)
        add_sides(x, out, 1)
        return out
    rows = x.copy()
    add_sides(x, rows, 0)
    out = rows.copy()
    add_sides(rows, out, 1)
    return out - x


def _share(ok: NDArray[np.bool_], contiguity: str) -> Floats:
    """1 / valid neighbours of each valid pixel, 0 where it has none."""
    number = _neighbour_sums(ok.astype(np.float64), contiguity)
    return np.where(ok & (number > 0), 1.0 / np.maximum(number, 1.0), 0.0)


@lru_cache(maxsize=4)
def _shares(shape: Shape, contiguity: str) -> Floats:
    """The same where no pixel is missing; read only."""
    share = _share(np.ones(shape, dtype=bool), contiguity)
    share.setflags(write=False)
    return share
