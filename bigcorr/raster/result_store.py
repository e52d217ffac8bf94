"""Opening the store of a result (or of anything with pair matrices) as a Dataset, safely."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigcorr.errors import InputError, MissingFileError

if TYPE_CHECKING:
    import xarray as xr


def open_result_store(path: str | os.PathLike[str], **options: Any) -> xr.Dataset:
    """The lazy Dataset of a store.

    Parameters
    ----------
    path : a Zarr group.
    **options : of `xarray.open_zarr`.

    Raises
    ------
    MissingFileError
        Nothing is there.
    InputError
        It is no Zarr group, its metadata are damaged, or it holds pickles.
    """
    import xarray as xr
    import zarr

    from bigcorr.raster.codecs import refuse_pickles

    path = os.fspath(path)
    if not Path(path).exists():
        raise MissingFileError(f"no such file or folder: {path}")
    try:
        group = zarr.open_group(path, mode="r")
        for _, array in group.arrays():
            refuse_pickles(array)
        return xr.open_zarr(path, **options)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # damaged metadata make the parser fail in any way
        words = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} is not a result of bigcorr pairs: {words}") from error
