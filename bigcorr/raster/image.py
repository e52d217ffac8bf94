"""PNG, JPEG and other plain images as a source.

They cannot be read by tile: an image is decoded whole, once in each process, and a few decoded
ones are kept. A raster larger than memory belongs in TIFF or Zarr (`bigcorr ingest`).
"""

from __future__ import annotations

import os
import threading
import warnings
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bigcorr.errors import InputError
from bigcorr.raster import store
from bigcorr.raster.base import BaseSource, file_stamp
from bigcorr.tiles import Box

NAMES = {
    "RGB": ("red", "green", "blue"),
    "RGBA": ("red", "green", "blue", "alpha"),
    "LA": ("luminance", "alpha"),
}
DTYPES = {"L": "uint8", "I": "int32", "F": "float32", **dict.fromkeys(NAMES, "uint8")}
CACHE_BYTES = 2**29
"""Decoded images kept by a process; the latest is kept whatever its size."""

_cache: OrderedDict[tuple[str, str], NDArray[Any]] = OrderedDict()
_lock = threading.Lock()


class ImageSource(BaseSource):
    """One image file; grey ones are (y, x), colour ones have channels red, green, blue."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = os.path.abspath(path)  # workers may run elsewhere
        self._stamp = file_stamp(path)
        try:
            with _unlimited(), Image.open(path) as image:
                self._mode = _mode(image)
                width, height = image.size
        except Exception as error:  # a damaged file makes the decoder fail in any way
            raise InputError(
                f"{path} cannot be read as an image: {store.one_line(error)}"
            ) from error
        names = NAMES.get(self._mode)
        self.planar = names is None
        self.shape = (1 if names is None else len(names), height, width)
        self.dtype = np.dtype("uint16" if self._mode.startswith("I;16") else DTYPES[self._mode])
        self.chunk = (height, width)

    @property
    def channels(self) -> tuple[str, ...]:
        return NAMES.get(self._mode, ("c0",))

    def _read(self, index: NDArray[np.intp], box: Box) -> NDArray[Any]:
        pixels = self._decoded()[box.slices]
        if self.planar:
            return pixels[None][index]
        return np.moveaxis(pixels, 2, 0)[index]

    def _decoded(self) -> NDArray[Any]:
        """The whole image, from the cache if it is there; one thread decodes at a time."""
        key = (self._file, self._stamp)
        with _lock:
            if key in _cache:
                _cache.move_to_end(key)
                return _cache[key]
            try:
                with _unlimited(), Image.open(self._file) as image:
                    wanted = image if image.mode == self._mode else image.convert(self._mode)
                    pixels = np.asarray(wanted)
            except MemoryError:
                raise
            except Exception as error:
                text = store.one_line(error)
                raise store.RunError(f"cannot decode {self.path}: {text}") from error
            _cache[key] = pixels
            while len(_cache) > 1 and sum(a.nbytes for a in _cache.values()) > CACHE_BYTES:
                _cache.popitem(last=False)
            return pixels

    def _data_stamp(self) -> str:
        return self._stamp


def _mode(image: Image.Image) -> str:
    """The Pillow mode that the image is decoded in."""
    mode = image.mode
    if mode in DTYPES or mode.startswith("I;16"):
        return mode
    if mode == "P":
        return "RGBA" if "transparency" in image.info else "RGB"
    return {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}.get(mode, "RGB")


class _unlimited:
    """Pillow's guard against huge images off: huge ones are what this library is for."""

    def __enter__(self) -> None:
        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)

    def __exit__(self, *exc: Any) -> None:
        self._caught.__exit__(*exc)
