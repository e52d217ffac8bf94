"""TIFF, GeoTIFF and OME-TIFF as a source: only the strips or tiles that a box needs are read.

Bands (samples of a page) or the pages of a series are channels.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import threading
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.raster import store
from bigcorr.raster.base import BaseSource, check_pixels, default_names, file_stamp
from bigcorr.tiles import Box

# What tifffile logs about a damaged file comes as our own error; without a handler it would be
# printed as well.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

RGB_NAMES = ("red", "green", "blue", "alpha")


class TiffSource(BaseSource):
    """The first image series of a TIFF file, at full resolution.

    Notes
    -----
    An uncompressed contiguous file is memory-mapped, any other is decoded by its strips or tiles.
    A georeferenced file gives ``pixel_size`` (where square), ``origin`` (y, x of the raster's
    corner), and the coordinates of its pixels.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = os.path.abspath(path)  # workers may run elsewhere
        self._lock = threading.Lock()
        try:
            with tifffile.TiffFile(path) as file:
                if not file.series:
                    raise InputError(f"{path} holds no image")
                series = file.series[0]
                page = series.keyframe
                self._plan(series.axes, tuple(int(n) for n in series.shape))
                self.dtype = check_pixels(np.dtype(series.dtype), series.shape, path)
                self._tags = _tags(page)
                unit = (int(page.rowsperstrip), self.shape[2])
                if page.is_tiled:
                    unit = (int(page.tilelength), int(page.tilewidth))
                self.chunk = (
                    min(max(unit[0], 1), self.shape[1]),
                    min(max(unit[1], 1), self.shape[2]),
                )
                # Tiles reach over the image's edge, strips end there.
                self._piece = unit if page.is_tiled else self.chunk
                self._channels = self._names(file, page)
        except InputError:
            raise
        except Exception as error:  # a damaged file makes the parser fail in any way
            raise InputError(f"{path} cannot be read as TIFF: {store.one_line(error)}") from error
        self.nodata = self._tags["nodata"]

    def _plan(self, axes: str, shape: tuple[int, ...]) -> None:
        """Which axes are (channel, y, x); others must have length 1."""
        y, x = axes.find("Y"), axes.find("X")
        if y < 0 or x < 0:
            raise InputError(f"{self.path} holds no (y, x) image: its axes are {axes} {shape}")
        rest = [axis for axis in range(len(shape)) if axis not in (y, x) and shape[axis] > 1]
        if len(rest) > 1:
            raise InputError(
                f"{self.path} has axes {axes} of shape {shape}; a raster is (channel, y, x)"
            )
        self._axes = (*rest, y, x)
        self._ndim = len(shape)
        self.planar = not rest
        self.shape = (shape[rest[0]] if rest else 1, shape[y], shape[x])

    def _names(self, file: tifffile.TiffFile, page: Any) -> tuple[str, ...]:
        count = self.shape[0]
        if page.photometric == tifffile.PHOTOMETRIC.RGB and count in (3, 4):
            return RGB_NAMES[:count]
        if file.ome_metadata:
            try:
                root = ElementTree.fromstring(file.ome_metadata)
                image = next(e for e in root.iter() if e.tag.endswith("}Image"))
                labels = [e.get("Name", "") for e in image.iter() if e.tag.endswith("}Channel")]
            except (ElementTree.ParseError, StopIteration):
                labels = []
            if len(labels) == count and len(set(labels)) == count and all(labels):
                return tuple(labels)
        return default_names(count)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_data")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    @functools.cached_property
    def _data(self) -> Any:
        """The series behind NumPy's slicing: mapped where it lies in one piece, else by Zarr."""
        file = tifffile.TiffFile(self._file)
        series = file.series[0]
        if series.dataoffset is not None and series.keyframe.compression == 1:
            try:
                return tifffile.memmap(self._file, mode="r", series=0)
            except ValueError:
                pass  # contiguous but not mappable, e.g. packed bits
        if math.prod(self._piece) * self.dtype.itemsize > store.MAX_CHUNK_BYTES:
            raise InputError(
                f"{self.path} is compressed in pieces of {self._piece} pixels; takes pieces of at "
                f"most {store.MAX_CHUNK_BYTES} bytes"
            )
        node = zarr.open(series.aszarr(level=0), mode="r")
        return node if isinstance(node, zarr.Array) else node["0"]

    @property
    def channels(self) -> tuple[str, ...]:
        return self._channels

    @property
    def attrs(self) -> dict[str, Any]:
        return {
            key: value for key, value in self._tags.items() if key != "nodata" and value is not None
        }

    @property
    def coords(self) -> dict[str, NDArray[Any]]:
        scale, origin = self._tags["pixel_scale"], self._tags["origin"]
        if scale is None or origin is None:
            return {}
        return {
            "y": origin[0] - (np.arange(self.shape[1]) + 0.5) * scale[0],  # north is up
            "x": origin[1] + (np.arange(self.shape[2]) + 0.5) * scale[1],
        }

    def _read(self, index: NDArray[np.intp], box: Box) -> NDArray[Any]:
        selection: list[Any] = [slice(0, 1)] * self._ndim
        selection[self._axes[-2]], selection[self._axes[-1]] = box.slices
        if not self.planar and index.size:
            selection[self._axes[0]] = slice(int(index.min()), int(index.max()) + 1)
        try:
            with self._lock:
                data = self._data
            found = np.asarray(data[tuple(selection)])
        except (InputError, MemoryError):
            raise
        except Exception as error:
            raise store.RunError(
                f"cannot read {self.path} at rows {box.y0}:{box.y1}, columns {box.x0}:{box.x1}: "
                f"{store.one_line(error)}"
            ) from error
        order = [axis for axis in range(self._ndim) if axis not in self._axes]
        found = found.transpose(*order, *self._axes).reshape(-1, *box.shape)
        return found[index - index.min()] if index.size else found[:0]

    def _data_stamp(self) -> str:
        return file_stamp(self._file)


def _tags(page: Any) -> dict[str, Any]:
    """Nodata and georeference, as GDAL and GeoTIFF write them."""
    nodata: float | None = None
    text = page.tags.valueof("GDAL_NODATA")
    if text is not None:
        try:
            nodata = float(str(text).strip().strip("\x00"))
        except ValueError:
            nodata = None
    scale = page.tags.valueof("ModelPixelScaleTag")
    tie = page.tags.valueof("ModelTiepointTag")
    pixel_scale = origin = pixel_size = None
    if scale is not None and len(scale) >= 2:
        pixel_scale = [float(scale[1]), float(scale[0])]
        pixel_size = pixel_scale[0] if math.isclose(*pixel_scale, rel_tol=1e-9) else None
        if tie is not None and len(tie) == 6:  # raster (i, j, k) lies at model (x, y, z)
            origin = [
                float(tie[4]) + float(tie[1]) * pixel_scale[0],
                float(tie[3]) - float(tie[0]) * pixel_scale[1],
            ]
    return {
        "nodata": None if nodata is None or np.isnan(nodata) else nodata,
        "pixel_size": pixel_size,
        "pixel_scale": pixel_scale,
        "origin": origin,
        "crs": _crs(page),
    }


def _crs(page: Any) -> str | None:
    keys = page.geotiff_tags or {}
    for name in ("ProjectedCSTypeGeoKey", "GeographicTypeGeoKey"):
        if name in keys and int(keys[name]) < 32767:
            return f"EPSG:{int(keys[name])}"
    return None
