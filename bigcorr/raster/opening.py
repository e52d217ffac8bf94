"""`open_raster`: a source as a lazy, labelled, dask-backed array."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.raster.base import RasterSource, lazy_block
from bigcorr.raster.source import open_source, opened
from bigcorr.tiles import Box

if TYPE_CHECKING:
    import xarray as xr


def open_raster(path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> xr.DataArray:
    """Open a raster lazily.

    Parameters
    ----------
    path : a Zarr store (format 2 or 3: an array, an xarray or OME-Zarr group, a bigcorr stack or
        map), a TIFF or GeoTIFF, .npy, PNG or JPEG file; ``PATH#CHANNEL`` for one channel of it,
        by name, else by number from 0; or a list of these, whose channels follow one another.

    Returns
    -------
    xarray.DataArray
        Dask-backed, with dims ("channel", "y", "x"), or ("y", "x") for a single image; nothing
        but metadata is read. Coordinates: ``channel`` names; ``count`` (total of each channel)
        and a shared valid ``mask`` (y, x) where the store has them; ``y`` and ``x`` where the
        file says where its pixels lie. Attributes: what the file declares, e.g. ``nodata``,
        ``pixel_size``, ``origin``, ``truth``.

    Raises
    ------
    MissingFileError
        There is no such file.
    InputError
        It is not a raster, has no such channel, or several rasters differ in shape.

    Examples
    --------
    >>> import numpy as np, tempfile, bigcorr as bc
    >>> path = tempfile.mkdtemp() + "/image.npy"
    >>> np.save(path, np.arange(12.0).reshape(3, 4))
    >>> float(bc.open_raster(path).sum())
    66.0
    """
    source = open_source(path)
    return to_dataarray(source)


def to_dataarray(source: RasterSource) -> xr.DataArray:
    """The lazy DataArray of a source; `as_source` finds the way back while it is untouched."""
    import dask.array as da
    import xarray as xr

    stamp = source.fingerprint()
    kind = "image" if source.planar else "stack"
    block = lazy_block(source)
    adapter = _Adapter(source)
    data = da.from_array(adapter, chunks=block, name=f"raster-{kind}-{stamp}", lock=False)
    opened[data.name] = source
    coords: dict[str, Any] = {}
    if source.planar:
        if source.channels != ("c0",):
            coords["channel"] = source.channels[0]
    else:
        coords["channel"] = list(source.channels)
        if source.counts is not None:
            coords["count"] = ("channel", source.counts)
    for axis, values in getattr(source, "coords", {}).items():
        coords[axis] = (axis, values)
    if source.mask(Box(0, 1, 0, 1)) is not None:
        lazy = da.from_array(_MaskAdapter(source), chunks=block[-2:], name=f"mask-{stamp}")
        opened[lazy.name] = source
        coords["mask"] = (("y", "x"), lazy)
    attrs = {key: value for key, value in source.attrs.items() if key not in ("kind", "format")}
    if source.nodata is not None:
        attrs["nodata"] = source.nodata
    else:
        attrs.pop("nodata", None)
    dims = ("y", "x") if source.planar else ("channel", "y", "x")
    return xr.DataArray(data, dims=dims, coords=coords, attrs=attrs, name="raster")


class _Adapter:
    """A source behind NumPy's slicing, for dask."""

    def __init__(self, source: RasterSource) -> None:
        self._source = source
        self.shape = source.shape[1:] if source.planar else source.shape
        self.dtype = source.dtype
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        key = key if isinstance(key, tuple) else (key,)
        key += (slice(None),) * (self.ndim - len(key))
        channels: NDArray[np.intp] = np.zeros(1, dtype=np.intp)
        if not self._source.planar:
            channels = np.atleast_1d(np.arange(self.shape[0])[key[0]])
        box, inside = _bounds(key[-2:], self._source.shape[1:])
        out = self._source.read(channels, box)[(slice(None), *inside)]
        scalar = self._source.planar or (np.ndim(key[0]) == 0 and not isinstance(key[0], slice))
        return out[0] if scalar else out


class _MaskAdapter:
    """A source's mask behind NumPy's slicing, for dask."""

    def __init__(self, source: RasterSource) -> None:
        self._source = source
        self.shape = source.shape[1:]
        self.dtype = np.dtype(bool)
        self.ndim = 2

    def __getitem__(self, key: Any) -> NDArray[np.bool_]:
        key = key if isinstance(key, tuple) else (key,)
        key += (slice(None),) * (2 - len(key))
        box, inside = _bounds(key, self.shape)
        found = self._source.mask(box)
        if found is None:
            raise InputError(f"{self._source.path} lost its mask while it was in use")
        return np.asarray(found[inside])


def _bounds(key: tuple[Any, ...], shape: tuple[int, int]) -> tuple[Box, tuple[Any, ...]]:
    """The box that holds the pixels asked for, and where they lie in it."""
    spans, inside = [], []
    for part, size in zip(key, shape, strict=True):
        wanted = np.arange(size)[part]
        flat = np.atleast_1d(wanted)
        low, high = (int(flat.min()), int(flat.max()) + 1) if flat.size else (0, 0)
        spans += [low, high]
        plain = isinstance(part, slice) and part.step in (None, 1)
        inside.append(slice(None) if plain else wanted - low)
    if sum(isinstance(part, np.ndarray) and part.ndim for part in inside) > 1:
        inside = list(np.ix_(*inside))
    return Box(*spans), tuple(inside)
