"""What the metadata of Zarr stores mean: axes, names, nodata, by xarray's, CF's and OME's habits.

No pixels are read here.
"""

from __future__ import annotations

import base64
import struct
from typing import Any

import numpy as np
import zarr

from bigcorr.errors import InputError

Y_NAMES = ("y", "lat", "latitude", "row", "rows", "northing")
X_NAMES = ("x", "lon", "longitude", "col", "cols", "column", "easting")


def axes_of(array: zarr.Array[Any], path: str) -> tuple[int, ...]:
    """Which axes of the array are (channel, y, x) or (y, x); other axes must have length 1."""
    dims = dimension_names(array)
    y = [i for i, name in enumerate(dims) if name and name.lower() in Y_NAMES]
    x = [i for i, name in enumerate(dims) if name and name.lower() in X_NAMES]
    named = len(y) == 1 and len(x) == 1
    image = (y[0], x[0]) if named else (array.ndim - 2, array.ndim - 1)
    rest = [axis for axis in range(array.ndim) if axis not in image]
    if len(rest) > 1:
        rest = [axis for axis in rest if array.shape[axis] > 1]
    if array.ndim < 2 or len(rest) > 1:
        raise InputError(
            f"{path} is no raster: it takes (channel, y, x) or (y, x), got shape {array.shape}"
            + (f" with dimensions {dims}" if any(dims) else "")
        )
    return (*rest, *image)


def dimension_names(array: zarr.Array[Any]) -> tuple[str | None, ...]:
    """Dimension names of format 3, or xarray's attribute in format 2; () where there are none."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if not isinstance(names, (list, tuple)) or len(names) != array.ndim:
        return ()
    return tuple(None if name is None else str(name) for name in names)


def may_be_raster(name: str, array: zarr.Array[Any]) -> bool:
    dims = dimension_names(array)
    if "other" in dims or any((d or "").startswith("block_") for d in dims):
        return False  # a matrix of pairs, or the tables beside a stack
    return array.ndim >= 2 and array.dtype.kind in "buif" and name not in ("mask", "spatial_ref")


def declared_nodata(
    array: zarr.Array[Any], attributes: dict[str, Any], facts: dict[str, Any]
) -> float | None:
    """The nodata value by our own attribute or CF's; NaN needs no declaring.

    In format 2 xarray keeps it as the array's fill value. Zero there is the format's default and
    means nothing.
    """
    value = attributes.get("_FillValue", facts.get("nodata", attributes.get("nodata")))
    if value is None:
        value = attributes.get("missing_value")
    if value is None and array.metadata.zarr_format == 2 and "_ARRAY_DIMENSIONS" in attributes:
        value = array.metadata.fill_value or None
    if isinstance(value, str):  # xarray writes floats of format 3 as base64
        try:
            value = struct.unpack("<d", base64.standard_b64decode(value))[0]
        except (ValueError, struct.error):
            value = float(value) if value in ("NaN", "nan") else None
    if isinstance(value, (list, tuple, np.ndarray)):
        value = value[0] if len(value) == 1 else None
    return None if value is None or np.isnan(float(value)) else float(value)


def _ome(group: zarr.Group) -> dict[str, Any]:
    """OME-Zarr metadata: under a key of its own since 0.5, at the top before."""
    attributes = dict(group.attrs)
    found = attributes.get("ome", attributes)
    return found if isinstance(found, dict) else {}


def ome_first(group: zarr.Group) -> str | None:
    """The full-resolution array of an OME-Zarr image."""
    scales = _ome(group).get("multiscales")
    try:
        return str(scales[0]["datasets"][0]["path"]) if scales else None
    except (KeyError, IndexError, TypeError):
        return None


def ome_labels(group: zarr.Group) -> list[str]:
    try:
        return [str(channel["label"]) for channel in _ome(group)["omero"]["channels"]]
    except (KeyError, TypeError):
        return []


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
