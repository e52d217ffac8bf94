"""From what a user names to a source: paths, lists of paths, ``PATH#CHANNEL``, arrays.

The dispatch only; each format lives in its own module and loads when it is needed.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bigcorr.errors import InputError, MissingFileError
from bigcorr.raster.base import (
    BaseSource,
    ConcatSource,
    RasterSource,
    SelectedSource,
    find_channel,
    lazy_block,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["RasterSource", "as_source", "open_source"]

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".ome.tif", ".ome.tiff", ".svs", ".ndpi", ".lsm")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".pgm", ".ppm", ".pnm", ".webp", ".gif")

PathLike = str | os.PathLike[str]

opened: weakref.WeakValueDictionary[str, RasterSource] = weakref.WeakValueDictionary()
"""Sources behind the dask arrays of `open_raster`, by the array's (deterministic) name."""


def open_source(path: PathLike | Sequence[PathLike]) -> RasterSource:
    """Open a raster file or store as a source.

    Parameters
    ----------
    path : ``PATH``; ``PATH#CHANNEL`` for one channel, by name, else by number from 0; or a list
        of them, whose channels are put one after the other.

    Returns
    -------
    RasterSource

    Raises
    ------
    MissingFileError : there is no such file.
    InputError : it is no raster, has no such channel, or the shapes of several differ.
    """
    if not isinstance(path, (str, os.PathLike)):
        return _open_several(list(path))
    text = os.fspath(path)
    if os.path.exists(text) or "#" not in text:
        return _open_file(text)
    file, _, channel = text.rpartition("#")
    source = _open_file(file)
    number = find_channel(channel, source.channels, file)
    return SelectedSource(source, np.array([number]), planar=True)


def _open_several(paths: list[PathLike]) -> RasterSource:
    if not paths:
        raise InputError("no raster was given: takes at least one path")
    if len(paths) == 1:
        return open_source(paths[0])
    parts = [open_source(path) for path in paths]
    names = []
    for path, part in zip(paths, parts, strict=True):
        stem = _stem(os.fspath(path))
        if part.shape[0] == 1:
            chosen = "#" in os.fspath(path) and part.planar
            names.append(part.channels[0] if chosen else stem)
        else:
            names += [f"{stem}:{channel}" for channel in part.channels]
    return ConcatSource(parts, unique_names(names))


def unique_names(names: Sequence[str]) -> list[str]:
    """The names with ``_2``, ``_3``, ... after those that came before."""
    seen: dict[str, int] = {}
    taken = set(names)
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        candidate, number = name, seen[name]
        while number > 1 and (candidate := f"{name}_{number}") in taken:
            number += 1
        taken.add(candidate)
        out.append(candidate)
    return out


def _stem(path: str) -> str:
    name = Path(path.rpartition("#")[0] if "#" in path else path).name
    for suffix in (".ome.tiff", ".ome.tif", ".ome.zarr"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem or name


def _open_file(path: str) -> RasterSource:
    if "://" in path:
        raise InputError(f"{path}: only files and folders of this machine are opened")
    target = Path(path)
    if not target.exists():
        raise MissingFileError(f"no such file or folder: {path}")
    if target.is_dir():
        from bigcorr.raster import store
        from bigcorr.raster.zarr_ import open_zarr

        if not store.is_zarr(target):
            raise InputError(f"{path} is not a raster: a folder without Zarr metadata")
        found = open_zarr(path)
        if isinstance(found, list):
            return ConcatSource(found, [part.channels[0] for part in found])
        return found
    if not os.access(target, os.R_OK):
        raise InputError(f"{path} cannot be read: permission denied")
    if target.stat().st_size == 0:
        raise InputError(f"{path} is not a raster: the file is empty")
    lower = target.name.lower()
    if lower.endswith(".npy"):
        from bigcorr.raster.npy import NpySource

        return NpySource(path)
    if lower.endswith(TIFF_SUFFIXES):
        from bigcorr.raster.tiff import TiffSource

        return TiffSource(path)
    if lower.endswith(IMAGE_SUFFIXES):
        from bigcorr.raster.image import ImageSource

        return ImageSource(path)
    raise InputError(
        f"{path} is not a raster: takes Zarr, TIFF, .npy, PNG or JPEG (a table of points or a "
        "counts file becomes one by `bigcorr ingest`)"
    )


def as_source(x: Any) -> RasterSource:
    """Whatever a user may pass as a raster, as a source.

    Parameters
    ----------
    x : a source, a path, a list of paths, a NumPy or dask array (channel, y, x) or (y, x), or a
        DataArray. A DataArray from `open_raster` that was not touched gives back the file's own
        source, which knows which blocks are empty; any other is read by slices of its array.

    Returns
    -------
    RasterSource
    """
    from bigcorr.raster.memory import ArraySource, DaskSource

    if isinstance(x, BaseSource):
        return x
    if isinstance(x, (str, os.PathLike)):
        return open_source(x)
    if isinstance(x, np.ndarray):
        return ArraySource(x)
    if hasattr(x, "dims") and hasattr(x, "coords"):
        return _from_xarray(x)
    if hasattr(x, "dask") and hasattr(x, "chunks"):
        return opened.get(x.name) or DaskSource(x)
    if isinstance(x, (list, tuple)) and x and all(isinstance(p, (str, os.PathLike)) for p in x):
        return open_source(x)
    if isinstance(x, RasterSource):
        return x
    raise InputError(
        "a raster is a path, a NumPy or dask array or a DataArray; got " + type(x).__name__
    )


def _from_xarray(x: xr.DataArray) -> RasterSource:
    from bigcorr.raster.memory import ArraySource, DaskSource

    if not hasattr(x, "data"):
        raise InputError(f"a raster is one DataArray, got a Dataset with {list(x)}")
    if x.ndim == 3 and {"y", "x"} <= set(x.dims) and x.dims[1:] != ("y", "x"):
        raise InputError(
            f"a raster has the dimensions (channel, y, x), got {x.dims}: transpose it first"
        )
    if x.ndim == 2 and x.dims == ("x", "y"):
        raise InputError("a raster has the dimensions (y, x), got ('x', 'y'): transpose it first")
    data = x.data
    mask = x.coords.get("mask")
    nodata = x.attrs.get("nodata", x.attrs.get("_FillValue", x.encoding.get("_FillValue")))
    nodata = None if nodata is None or np.isnan(float(nodata)) else float(nodata)
    source = opened.get(getattr(data, "name", ""))
    if source is None and hasattr(data, "dask") and "channel" in x.coords:
        source = _chosen_channels(data, x.coords["channel"])
    if source is not None and source.nodata == nodata and _same_mask(source, mask):
        return source
    labels: dict[str, Any] = {
        "path": str(x.name) if x.name is not None else "DataArray",
        "nodata": nodata,
        "attrs": dict(x.attrs),
        "mask": None if mask is None or mask.dims != x.dims[-2:] else mask.data,
    }
    if x.ndim == 3 and x.dims[0] in x.coords:
        labels["channels"] = [str(value) for value in x.coords[x.dims[0]].values]
        if "count" in x.coords and x.coords["count"].dims == (x.dims[0],):
            labels["counts"] = np.asarray(x.coords["count"].values)
    elif x.ndim == 2 and "channel" in x.coords and x.coords["channel"].ndim == 0:
        labels["channels"] = [str(x.coords["channel"].values)]
    if hasattr(data, "dask"):
        return DaskSource(data, **labels)
    return ArraySource(np.asarray(data), **labels)


def _chosen_channels(data: Any, labels: xr.DataArray) -> RasterSource | None:
    """The file's own source if a lazy array is nothing but channels chosen from it.

    Read through dask, every small box would decode a whole dask chunk. The labels give a guess of
    the choice; dask names an array by what was done to it, so an equal name proves the guess.
    """
    import dask.array as da

    found = [name for name in data.dask.layers if name in opened]
    if len(found) != 1:
        return None
    base = opened[found[0]]
    place = {name: i for i, name in enumerate(base.channels)}
    wanted = [place.get(str(name)) for name in np.atleast_1d(labels.values)]
    numbers = [number for number in wanted if number is not None]
    if base.planar or not numbers or len(numbers) < len(wanted):
        return None
    chunks = da.core.normalize_chunks(lazy_block(base), base.shape, dtype=base.dtype)
    whole = da.Array(data.dask, found[0], chunks, dtype=base.dtype)
    if not any(whole[guess].name == data.name for guess in _guesses(numbers, labels.ndim)):
        return None
    return SelectedSource(base, np.array(numbers), planar=labels.ndim == 0)


def _guesses(numbers: list[int], ndim: int) -> Iterator[Any]:
    """The ways in which a user may have picked the numbers: one, a list, a slice."""
    if ndim == 0:
        yield numbers[0]
        return
    yield np.array(numbers)
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    sign = 1 if step > 0 else -1
    for beyond in range(1, min(abs(step), 64) + 1):  # a slice may stop anywhere before the next
        stop = numbers[-1] + sign * beyond
        yield slice(numbers[0], stop if stop >= 0 else None, step)


def _same_mask(source: RasterSource, mask: Any) -> bool:
    """True if the DataArray's mask is the one that its file holds."""
    from bigcorr.tiles import Box

    stored = source.mask(Box(0, 1, 0, 1)) is not None
    if mask is None or not stored:
        return mask is None and not stored
    owner = opened.get(getattr(mask.data, "name", ""))
    return owner is not None and owner in (source, getattr(source, "base", None))
