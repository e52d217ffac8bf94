"""Tiles from storage: read with a halo, leave out what is missing, blur.

The batch wiring's only door to the pixels. The same pixel comes out with the same bits whatever the
tile, because the raster's edge is folded by global indices and the kernels do not look at the tile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.kernels.finite import all_finite
from bigcorr.kernels.gaussian import blur_tile, blur_tile_masked, gaussian_taps, normalise
from bigcorr.pairs.measure import Timer
from bigcorr.pairs.trend import Trends
from bigcorr.raster.base import RasterSource
from bigcorr.raster.mask import Mask
from bigcorr.run.together import HeldPixels
from bigcorr.tiles import Box, reflect_indices

AS_STORED = frozenset(np.dtype(name) for name in ("uint8", "uint16", "float32", "float64"))
"""Dtypes that kernels take as they are."""

READ_BYTES = 24 * 2**20
"""Most bytes of raw pixels read at once: channels are read in groups of about this size."""


@dataclass(frozen=True)
class Loaded:
    """One channel of a tile.

    values : (h, w) float64, or None where the channel is zero throughout the tile. Where they may
        come as stored, of any dtype in `AS_STORED`, part of what may be a larger array.
    valid : (h, w) uint8, or None where all pixels share the tile's own mask.
    raw : the pixels of the inner box as stored (not blurred), or None where all are zero.
    """

    channel: int
    values: NDArray[Any] | None
    valid: NDArray[np.uint8] | None
    raw: NDArray[Any] | None


@dataclass(frozen=True)
class TileLoader:
    """How tiles of a stack are read.

    Parameters
    ----------
    source : RasterSource
    sigma : (float, float) or None
        Gaussian blur in pixels, (y, x); None: none.
    nodata : float or None
        Value that means missing, beside NaN and infinity.
    mask : Mask or None
        Where pixels are valid in all channels; None: everywhere.
    trends : Trends or None
        Surfaces that are taken off the blurred channels; None: none.
    held : HeldPixels or None
        Where pixels are kept for other blurs, in a worker; None: nowhere.
    """

    source: RasterSource
    sigma: tuple[float, float] | None = None
    nodata: float | None = None
    mask: Mask | None = None
    trends: Trends | None = None
    held: HeldPixels | None = None

    @property
    def raster(self) -> tuple[int, int]:
        return self.source.shape[1], self.source.shape[2]

    @property
    def halo(self) -> tuple[int, int]:
        if self.sigma is None:
            return 0, 0
        return len(gaussian_taps(self.sigma[0])) // 2, len(gaussian_taps(self.sigma[1])) // 2

    @property
    def may_miss(self) -> bool:
        """Whether channels may miss different pixels."""
        return self.source.may_miss or self.nodata is not None

    @property
    def lowest(self) -> int | None:
        """Least value of the data's type where values are whole numbers of at most 16 bits."""
        dtype = self.source.dtype
        if (
            self.sigma is not None
            or self.trends is not None
            or dtype.itemsize > 2
            or dtype.kind not in "iub"
        ):
            return None
        return int(np.iinfo(dtype).min) if dtype.kind == "i" else 0

    def peak_bytes(self, shape: tuple[int, int]) -> int:
        """Most bytes in use while a tile of `shape` is read, beside what the caller keeps."""
        halo = self.halo
        padded = (shape[0] + 2 * halo[0]) * (shape[1] + 2 * halo[1])
        item = self.source.dtype.itemsize
        group = max(padded * item, min(READ_BYTES, self.source.shape[0] * padded * item))
        # The group as decoded and as handed over, a padded float64 copy, two masks, the result.
        own = 2 * group + padded * (8 + item + 3) + shape[0] * shape[1] * 24
        return own + self.source.work_bytes

    def mask_tile(self, box: Box) -> NDArray[np.uint8] | None:
        """(h, w) shared mask of a box of the raster, None where all pixels are valid."""
        if self.mask is None:
            return None
        valid = np.ascontiguousarray(self.mask.read(box), dtype=np.uint8)
        return None if valid.all() else valid

    def channels(
        self,
        box: Box,
        channels: NDArray[np.int64],
        timer: Timer,
        inner: Box | None = None,
        *,
        as_stored: bool = False,
        unseen: bool = False,
    ) -> Iterator[Loaded]:
        """Read, mask, blur and detrend the channels of a box of the raster one by one.

        Parameters
        ----------
        box : Box
            What is wanted; it lies on the raster.
        channels : (n,) int
        timer : Counter
            Seconds are added under ``read`` and ``blur``.
        inner : Box, optional
            Where `Loaded.raw` is wanted; None: nowhere.
        as_stored : bool
            Values that are neither blurred nor masked may come as stored: not to be written to.
        unseen : bool
            These need not be looked at first: what is not finite may be among them.
        """
        as_stored = as_stored and self.trends is None and self.source.dtype in AS_STORED
        for loaded in self._channels(box, channels, timer, inner, as_stored, unseen):
            yield loaded if self.trends is None else self._detrended(loaded, box, timer)

    def _detrended(self, loaded: Loaded, box: Box, timer: Timer) -> Loaded:
        assert self.trends is not None
        if self.trends.flat(loaded.channel):
            return loaded
        start = time.perf_counter()
        values = np.zeros(box.shape) if loaded.values is None else loaded.values
        self.trends.remove(values, loaded.channel, box)
        if loaded.valid is not None:
            values[loaded.valid == 0] = 0
        timer["trend"] += time.perf_counter() - start
        return replace(loaded, values=values)

    def _channels(
        self,
        box: Box,
        channels: NDArray[np.int64],
        timer: Timer,
        inner: Box | None,
        as_stored: bool,
        unseen: bool,
    ) -> Iterator[Loaded]:
        halo_y, halo_x = self.halo
        padded = box.padded(halo_y, halo_y, halo_x, halo_x)
        clipped = padded.clipped(self.raster)
        fold_y = _fold(padded.y0, padded.y1, clipped.y0, clipped.y1, self.raster[0])
        fold_x = _fold(padded.x0, padded.x1, clipped.x0, clipped.x1, self.raster[1])
        start = time.perf_counter()
        shared = self.mask_tile(clipped)
        support: NDArray[np.float64] | None = None
        core = box.relative_to(clipped).slices
        if shared is not None and self.sigma is not None:
            support = blur_tile(_pad(shared, fold_y, fold_x), *self._taps())
        occupied = self.source.occupied(clipped)
        timer["read"] += time.perf_counter() - start
        wanted = channels if occupied is None else channels[occupied[channels]]
        # A channel known to be zero needs no reading, unless zero is what is declared missing.
        if self.nodata == 0:
            wanted = channels
        reads = np.zeros(self.source.shape[0], dtype=bool)
        reads[wanted] = True
        reader = self._read(clipped, wanted, timer)
        for channel in channels:
            if reads[channel]:
                raw = next(reader)
                start = time.perf_counter()
                plain = as_stored and self.sigma is None
                if not plain and self.nodata != 0 and not raw.any():
                    timer["blur"] += time.perf_counter() - start
                    yield Loaded(int(channel), None, None, None)
                    continue
                values: NDArray[Any]
                known = plain and unseen and (self.nodata is None or np.isnan(self.nodata))
                if known or (plain and self._own_missing(raw) is None):
                    values, valid = raw, None
                else:
                    values, valid = self._blurred(raw, shared, support, fold_y, fold_x, core)
                timer["blur"] += time.perf_counter() - start
                inside = None if inner is None else raw[inner.relative_to(clipped).slices]
                yield Loaded(int(channel), values, valid, inside)
            else:
                yield Loaded(int(channel), None, None, None)

    def _read(self, box: Box, channels: NDArray[np.int64], timer: Timer) -> Iterator[NDArray[Any]]:
        if self.held is not None:
            yield from self.held.read(self.source, channels, box, self.halo, READ_BYTES, timer)
            return
        group = max(1, READ_BYTES // max(1, box.size * self.source.dtype.itemsize))
        for first in range(0, len(channels), group):
            start = time.perf_counter()
            block = self.source.look(channels[first : first + group], box)
            timer[self.source.timed_as] += time.perf_counter() - start
            yield from block

    def _taps(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        assert self.sigma is not None
        return gaussian_taps(self.sigma[0]), gaussian_taps(self.sigma[1])

    def _blurred(
        self,
        raw: NDArray[Any],
        shared: NDArray[np.uint8] | None,
        support: NDArray[np.float64] | None,
        fold_y: NDArray[np.intp] | None,
        fold_x: NDArray[np.intp] | None,
        core: tuple[slice, slice],
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8] | None]:
        own = self._own_missing(raw)
        valid = None
        if own is not None:
            valid = ~own if shared is None else (shared != 0) & ~own
        if self.sigma is None:
            values = raw[core].astype(np.float64)
            if valid is None:
                return values, None
            inside = np.ascontiguousarray(valid[core], dtype=np.uint8)
            values[inside == 0] = 0
            return values, inside
        if raw.dtype.kind in "iub" and raw.dtype.name not in ("uint8", "uint16"):
            raw = raw.astype(np.float64)
        if valid is not None:
            inside = np.ascontiguousarray(valid[core], dtype=np.uint8)
            values = blur_tile_masked(
                _pad(raw, fold_y, fold_x), _pad(valid, fold_y, fold_x), *self._taps()
            )
            values[inside == 0] = 0
            return values, inside
        if shared is not None and support is not None:
            values = blur_tile(_pad(raw * (shared != 0), fold_y, fold_x), *self._taps())
            normalise(values, support, *self._taps())
            values[shared[core] == 0] = 0
            return values, None
        return blur_tile(_pad(raw, fold_y, fold_x), *self._taps()), None

    def _own_missing(self, raw: NDArray[Any]) -> NDArray[np.bool_] | None:
        missing = None
        if raw.dtype.kind == "f" and not all_finite(raw):
            missing = ~np.isfinite(raw)
        if self.nodata is not None and not np.isnan(self.nodata):
            equal = raw == self.nodata
            if equal.any():
                missing = equal if missing is None else missing | equal
        return missing


def _fold(start: int, stop: int, low: int, high: int, size: int) -> NDArray[np.intp] | None:
    """Where in the clipped axis each padded index reads, None where it is the identity."""
    if low == start and high == stop:
        return None
    return reflect_indices(start, stop, size) - low


def _pad(
    array: NDArray[Any], fold_y: NDArray[np.intp] | None, fold_x: NDArray[np.intp] | None
) -> NDArray[Any]:
    """The clipped tile with its halo folded in at the raster's edge."""
    if fold_y is not None:
        array = array[fold_y]
    if fold_x is not None:
        array = array[:, fold_x]
    return np.ascontiguousarray(array)
