"""Opening a result store, or saying why a path is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bigcorr.errors import InputError, MissingFileError

if TYPE_CHECKING:
    import xarray as xr


def open_result(path: str) -> xr.Dataset:
    """The Dataset of a result store; whatever else is at `path` is an `InputError`."""
    if not Path(path).exists():
        raise MissingFileError(f"no such file or folder: {path}")
    result = result_at(path)
    if result is None:
        raise InputError(f"{path} is not a result: takes what `bigcorr pairs` wrote")
    return result


def result_at(path: str) -> xr.Dataset | None:
    """The Dataset of a result store, read when it is used; None for whatever else is there."""
    from bigcorr.raster import store

    if not Path(path).is_dir() or not store.is_zarr(path):
        return None
    import zarr

    from bigcorr.raster.result_store import open_result_store

    try:
        node = zarr.open(path, mode="r")
        if not isinstance(node, zarr.Group) or not {"channel", "other"} <= set(node.array_keys()):
            return None
        return open_result_store(path, chunks=None)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # damaged metadata make the parser fail in any way
        words = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be opened: {words}") from error


def measures_in(result: xr.Dataset) -> list[str]:
    """The measures of a result in the order in which they were asked for."""
    from bigcorr.pairs.matrices import measures_of

    return measures_of(result)
