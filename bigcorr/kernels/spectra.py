"""Periodograms of tiles in bins of frequency, and the patch spectra of windowed NCC.

One tile in, binned sums out. Sums over all lags of a product of two
autocovariances are sums over all frequencies of a product of two periodograms (Parseval), and those
are never negative: that is why significance works with frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from bigcorr.kernels.cells import NO_MASK, standardise
from bigcorr.kernels.jit import njit
from bigcorr.kernels.rows import rows_of

Floats = NDArray[np.float64]

SAMPLED = 4
"""Columns of a bin that stand for all of them where a sample is enough."""
ROWS = 512
"""Rows that are transformed at a time."""


def _edges(count: int, exact: int, growth: float) -> list[int]:
    """Starts of the bins of the indices 0 .. count - 1: single ones first, then wider and wider."""
    starts = list(range(min(exact, count)))
    position = float(exact)
    while position < count:
        starts.append(int(position))
        position = max(position + 1, position * growth)
    return starts


@dataclass(frozen=True)
class FrequencyBins:
    """Bins of the half plane that ``rfft2`` of a (rows, columns) array gives.

    Fine near frequency zero and wider in proportion further out, so that a spectrum of any size
    becomes a few thousand numbers.
    """

    rows: int
    columns: int
    exact: int = 24
    growth: float = 1.12

    @cached_property
    def row_starts(self) -> NDArray[np.intp]:
        """Starts along the first axis after ``fftshift``: negative frequencies, then the others."""
        negative, positive = self.rows // 2, self.rows - self.rows // 2
        up = _edges(positive, self.exact, self.growth)
        # Bins of negative frequencies mirror the positive ones: -1 is index negative - 1.
        down = [s for s in _edges(negative + 1, self.exact, self.growth) if s > 0]
        ends = [negative - s for s in down]  # last index of each mirrored bin
        starts = sorted({0, *(end + 1 for end in ends[1:])}) if ends else []
        return np.array([*starts, *(negative + s for s in up)], dtype=np.intp)

    @cached_property
    def column_starts(self) -> NDArray[np.intp]:
        return np.array(_edges(self.columns // 2 + 1, self.exact, self.growth), dtype=np.intp)

    @property
    def weights(self) -> Floats:
        """(columns // 2 + 1,) how often each column of the half plane stands in the whole plane."""
        weights = np.full(self.columns // 2 + 1, 2.0)
        weights[0] = 1
        if self.columns % 2 == 0:
            weights[-1] = 1
        return weights

    def sum(self, power: NDArray[Any]) -> Floats:
        """Binned sums over the whole plane, (row bins, column bins) float64."""
        weighted = np.fft.fftshift(power, axes=0) * self.weights
        rows = np.add.reduceat(weighted, self.row_starts, axis=0)
        return np.add.reduceat(rows, self.column_starts, axis=1).astype(np.float64)

    def power(self, transform: NDArray[np.complexfloating]) -> Floats:
        """`sum` of the squared moduli of an ``rfft2`` in single precision."""
        return self._binned(transform, *self._all)

    def sampled_power(self, x: NDArray[Any], offset: float, inverse_scale: float) -> Floats:
        """`power` of ``(x - offset) * inverse_scale``, from a few columns of each bin.

        The others are never transformed. A bin has many rows, so that little is lost: far less
        than by looking at one region less. x : (rows, columns) of a dtype that `standardise` takes.
        """
        taken, ends, times = self._sample
        field = np.empty((min(ROWS, self.rows), self.columns), np.float32)
        out = np.empty((self.rows, len(taken)), np.complex64)
        # Few rows at a time: they stay in the cache, and no large array is asked of the system.
        for start in range(0, self.rows, ROWS):
            lines = x[start : start + ROWS]
            part = field[: len(lines)]
            standardise(*rows_of(lines), NO_MASK, False, offset, inverse_scale, part)
            along = scipy.fft.rfft(part, axis=1)
            np.take(along, taken, axis=1, out=out[start : start + ROWS], mode="clip")
        return self._binned(scipy.fft.fft(out, axis=0, overwrite_x=True), ends, times)

    @cached_property
    def _ends(self) -> NDArray[np.intp]:
        """Where each bin of columns ends, those that stand for themselves at the end left out."""
        last = self.columns // 2 + self.columns % 2
        return np.append(self.column_starts[1:], max(last, self.column_starts[-1]))

    @cached_property
    def _all(self) -> tuple[NDArray[np.intp], Floats]:
        """Ends of the bins among all columns, and how often each column stands in the plane."""
        times = np.full(len(self._ends), 2.0)
        times[0] = 1.0
        if self.columns % 2:
            return self._ends, times
        return np.append(self._ends, self.columns // 2 + 1), np.append(times, 1.0)

    @cached_property
    def _sample(self) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
        """Columns that are looked at, and of these what `_all` tells of all."""
        taken, ends, times = [], [], []
        start = 0
        for stop, time in zip(*self._all, strict=True):
            width = stop - start
            count = min(width, SAMPLED)
            # The middles of as many equal parts.
            taken += [start + (2 * k + 1) * width // (2 * count) for k in range(count)]
            ends.append(len(taken))
            times.append(time * width / count if count else 0.0)
            start = stop
        return np.array(taken), np.array(ends), np.array(times)

    @cached_property
    def _row_bins(self) -> NDArray[np.intp]:
        """The bin of each row, in the order of a transform."""
        rows = np.searchsorted(self.row_starts, np.arange(self.rows), side="right") - 1
        return np.fft.ifftshift(rows)

    def _binned(
        self, transform: NDArray[np.complexfloating], ends: NDArray[np.intp], times: Floats
    ) -> Floats:
        power = np.zeros((len(self.row_starts), transform.shape[1]))
        _add_power(transform.view(transform.real.dtype), self._row_bins, power)
        out = np.zeros((len(power), len(self.column_starts)))
        _add_columns(power, ends, times, out)
        return out

    @cached_property
    def counts(self) -> Floats:
        """Frequencies of the whole plane in each bin."""
        return self.sum(np.ones((self.rows, self.columns // 2 + 1)))

    def index_bounds(self) -> tuple[Floats, Floats]:
        """Least absolute frequency index in each row bin and in each column bin."""
        index = np.abs(np.fft.fftshift(np.fft.fftfreq(self.rows, 1 / self.rows)))
        rows = np.minimum.reduceat(index, self.row_starts)
        columns = self.column_starts.astype(np.float64)
        return rows, columns


@njit(cache=True, nogil=True)
def _add_power(parts: NDArray[np.float32], row_bins: NDArray[np.int64], out: Floats) -> None:
    """Add squared moduli to the bins of their rows.

    parts : (rows, 2 * columns) real and imaginary parts in turn; row_bins : (rows,); out : (bins,
    columns).
    """
    for r in range(parts.shape[0]):
        line, into = parts[r], out[row_bins[r]]
        for j in range(into.size):
            into[j] += np.float64(line[2 * j]) ** 2 + np.float64(line[2 * j + 1]) ** 2


@njit(cache=True, nogil=True)
def _add_columns(power: Floats, ends: NDArray[np.int64], times: Floats, out: Floats) -> None:
    """Sums of columns up to each end, times a factor; those behind the last bin go to it too.

    power : (bins, columns); ends, times : (bins of columns, or one more); out : zeros, (bins, bins
    of columns).
    """
    last = out.shape[1] - 1
    for i in range(power.shape[0]):
        start = 0
        for k in range(ends.size):
            total = 0.0
            for j in range(start, ends[k]):
                total += power[i, j]
            out[i, min(k, last)] += total * times[k]
            start = ends[k]


def transform_of(x: NDArray[np.floating], padded: bool) -> tuple[NDArray[Any], tuple[int, int]]:
    """``rfft2(x)`` and the shape of the transform; `padded` with as many zeros again."""
    shape = (
        (scipy.fft.next_fast_len(2 * x.shape[0]), scipy.fft.next_fast_len(2 * x.shape[1], True))
        if padded
        else x.shape
    )
    # Single precision is plenty for a variance, and half the time.
    return scipy.fft.rfft2(x.astype(np.float32, copy=False), shape), shape


def power_spectrum(x: NDArray[np.floating], padded: bool) -> tuple[NDArray[Any], tuple[int, int]]:
    """``|rfft2(x)|^2`` and the shape of the transform."""
    transform, shape = transform_of(x, padded)
    return transform.real**2 + transform.imag**2, shape


def short_lags(power: NDArray[Any], shape: tuple[int, int], reach: tuple[int, int]) -> Floats:
    """Autocovariance sums at lags of the half plane, (2 ry + 1, rx + 1), from a power spectrum."""
    lags = scipy.fft.irfft2(power, shape)
    half = lags[:, : reach[1] + 1]
    return np.concatenate([half[-reach[0] :] if reach[0] else half[:0], half[: reach[0] + 1]])


def block_means(x: Floats, side: int) -> Floats:
    """Means of side x side blocks; what is left over at the end of an axis is left out."""
    if side == 1:
        return x
    height, width = x.shape[0] // side * side, x.shape[1] // side * side
    blocks = x[:height, :width].reshape(height // side, side, width // side, side)
    return blocks.mean(axis=(1, 3))


def low_modes(window: int) -> list[tuple[int, int]]:
    """The smoothest 2-D cosine modes (y, x) of a window, without its mean: orders up to 3."""
    return [(p, q) for p in range(min(window, 4)) for q in range(min(window, 4)) if 0 < p + q <= 3]


@lru_cache(maxsize=32)
def _dct_rows(window: int, modes: int) -> Floats:
    """The first `modes` orthonormal DCT-II vectors of length `window`, (modes, window)."""
    return scipy.fft.dct(np.eye(window), axis=0, norm="ortho")[:modes]


@dataclass(frozen=True)
class PatchField:
    """The stride windows of a tile as contrast-weighted unit vectors, in a few cosine modes.

    coefficients : (modes, ny, nx), in the order of `low_modes`.
    alive : (ny, nx) bool, windows with enough valid pixels.
    """

    coefficients: NDArray[np.float32]
    alive: NDArray[np.bool_]
    _factor: Floats
    _mean: Floats
    _x: Floats
    _valid: Floats | None
    _window: int
    _stride: int

    @classmethod
    def of(
        cls, x: Floats, valid: NDArray[np.uint8] | None, window: int, stride: int,
        floor: float, least: int,
    ) -> PatchField:  # fmt: skip
        """Cut `x` (h, w) into windows; `floor` is ``contrast_floor^2 sd^2 window^2``."""
        ny, nx = ((side - window) // stride + 1 for side in x.shape)
        modes = low_modes(window)
        basis = _dct_rows(window, max((max(mode) for mode in modes), default=0) + 1)

        def project(field: Floats, rows: Floats) -> Floats:
            """Inner products of all windows with products of `rows`, (p, q, ny, nx)."""
            count = len(rows)
            along_x = np.empty((count, nx, len(field)))
            for j in range(nx):
                along_x[:, j] = rows @ field[:, j * stride : j * stride + window].T
            out = np.empty((count, ny, count, nx))
            for i in range(ny):
                part = along_x[:, :, i * stride : i * stride + window]
                out[:, i] = np.moveaxis(part @ rows.T, -1, 0)
            return np.moveaxis(out, 1, 2)

        known = None if valid is None else (valid != 0).astype(np.float64)
        values = x if known is None else x * known
        full = project(values, basis)
        # The constant mode is 1 / window everywhere: it gives sums over windows.
        flat = basis[:1]
        sums = full[0, 0] * window
        squares = project(values * values, flat)[0, 0] * window
        if known is None:
            count = np.full(sums.shape, float(window * window))
        else:
            count = np.round(project(known, flat)[0, 0] * window)
        alive = count >= least
        mean = sums / np.maximum(count, 1.0)
        ss = squares - count * mean**2
        busy = alive & (ss > 1e-9 * squares)
        ss = np.where(busy, ss, 1.0)
        factor = np.where(busy, 1.0 / np.sqrt(ss + floor), 0.0)
        if known is not None:
            full = full - mean * project(known, basis)
        chosen = [full[p, q] * factor for p, q in modes]
        # Single precision is plenty for a variance, and half the time.
        coefficients = np.array(chosen, dtype=np.float32).reshape(len(modes), *factor.shape)
        return cls(coefficients, alive, factor, mean, values, known, window, stride)

    def lag_products(self, lags: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Sums of ``c(k) c(k + h)'`` over pairs of windows a lag h apart, and how many pairs.

        lags : (n, 2); gives (n, modes, modes) and (n,).
        """
        modes, ny, nx = self.coefficients.shape
        products = np.zeros((len(lags), modes, modes))
        pairs = np.zeros(len(lags))
        for i, (hy, hx) in enumerate(lags.tolist()):
            if abs(hy) >= ny or abs(hx) >= nx:
                continue
            a = np.s_[max(0, -hy) : ny - max(0, hy), max(0, -hx) : nx - max(0, hx)]
            b = np.s_[max(0, hy) : ny + min(0, hy), max(0, hx) : nx + min(0, hx)]
            left = self.coefficients[:, a[0], a[1]].reshape(modes, -1)
            right = self.coefficients[:, b[0], b[1]].reshape(modes, -1)
            products[i] = left @ right.T
            pairs[i] = np.count_nonzero(self.alive[a] & self.alive[b])
        return products, pairs

    def mode_energy(self, most: int) -> tuple[Floats, int]:
        """Sum of squared cosine coefficients of at most `most` windows, (window, window).

        The windows are spread evenly over those that vary; also gives how many they stand for.
        """
        window, stride = self._window, self._stride
        busy = np.argwhere(self._factor > 0)
        if len(busy) == 0:
            return np.zeros((window, window)), 1
        step = -(-len(busy) // most)
        patches = np.empty((len(busy[::step]), window, window), np.float32)
        for k, (y, x) in enumerate(busy[::step].tolist()):
            place = np.s_[y * stride : y * stride + window, x * stride : x * stride + window]
            patches[k] = (self._x[place] - self._mean[y, x]) * self._factor[y, x]
            if self._valid is not None:
                patches[k] *= self._valid[place]
        spectra = scipy.fft.dctn(patches, axes=(1, 2), norm="ortho")
        return np.square(spectra).sum(axis=0, dtype=np.float64), step
