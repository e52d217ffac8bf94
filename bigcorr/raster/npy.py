"""NumPy .npy files as a source: memory-mapped, (y, x) or (channel, y, x)."""

from __future__ import annotations

import functools
import os
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.raster.base import BaseSource, check_pixels, file_stamp
from bigcorr.raster.store import one_line
from bigcorr.tiles import Box


class NpySource(BaseSource):
    """One array of a .npy file; a read touches only the pages that it needs."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = os.path.abspath(path)  # workers may run elsewhere
        data = self._data
        if data.ndim not in (2, 3):
            raise InputError(
                f"{path} is no raster: it takes (channel, y, x) or (y, x), got shape {data.shape}"
            )
        self.planar = data.ndim == 2
        shape = (1, *data.shape) if self.planar else data.shape
        self.shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.dtype = check_pixels(data.dtype, data.shape, path)
        self.chunk = (min(512, self.shape[1]), min(2048, self.shape[2]))

    @functools.cached_property
    def _data(self) -> NDArray[Any]:
        try:
            with warnings.catch_warnings():  # an old header is no news for the user
                warnings.simplefilter("ignore", UserWarning)
                return np.load(self._file, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # a damaged header makes the reader fail in any way
            raise InputError(
                f"{self.path} is not a readable .npy file: {one_line(error)}"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_data"}

    def _read(self, index: NDArray[np.intp], box: Box) -> NDArray[Any]:
        rows, columns = box.slices
        if self.planar:
            part = np.array(self._data[rows, columns])[None]
            return part[index] if len(index) != 1 else part
        out = np.empty((len(index), *box.shape), dtype=self._data.dtype)
        for place, channel in enumerate(index):
            out[place] = self._data[channel, rows, columns]
        return out

    def _data_stamp(self) -> str:
        return file_stamp(self._file)
