"""A displacement that was found before: the store of a run, or what `displacement` returned.

Reading and facts only; nothing is measured here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.tiles import Box, grid

if TYPE_CHECKING:
    import xarray as xr

_NODES = 1024
"""Nodes along each side that are read at a time."""


def displacement_at(path: str | os.PathLike[str]) -> xr.Dataset | None:
    """The Dataset of a displacement's store, read when it is used; None for whatever else is there.

    Raises
    ------
    InputError
        Its metadata are damaged.
    """
    from bigcorr.raster import store

    if not Path(path).is_dir() or not store.is_zarr(Path(path)):
        return None
    import xarray as xr
    import zarr

    try:
        node = zarr.open(str(path), mode="r")
        facts = node.attrs.get("bigcorr") if isinstance(node, zarr.Group) else None
        if not isinstance(facts, dict) or facts.get("kind") != "displacement":
            return None
        return xr.open_zarr(path, chunks=None)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # damaged metadata make the parser fail in any way
        words = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be opened: {words}") from error


def facts_of_found(found: xr.Dataset) -> dict[str, Any]:
    """How a displacement was made, in the same words for a store and for a Dataset in memory.

    Returns
    -------
    dict
        ``nodes``, ``windows``, ``search``, ``step``, ``subpixel``, ``weights``; what is known of
        ``passes``, ``levels``, ``smooth``, ``min_valid``, ``max_inconsistency``, ``initial``,
        ``sources``, ``channels``, ``version`` and ``valid`` (nodes with a vector), None of the
        others; ``pixel_size`` (y, x) and ``crs`` of the raster where it has coordinates.
    """
    stored = found.attrs.get("bigcorr") or {}
    parameters = stored.get("parameters") or {}
    passes = parameters.get("passes")
    facts: dict[str, Any] = {"nodes": [found.sizes["y"], found.sizes["x"]]}
    if passes:
        first = passes[0]
        facts |= {
            "windows": [each["window"] for each in passes],
            "search": first["search"] * 2 ** first["level"],
            "step": passes[-1]["step"],
            "levels": first["level"],
        }
    else:
        facts |= {key: found.attrs.get(key) for key in ("windows", "search", "step")}
        facts["levels"] = None
    about = {**found.attrs, **parameters}
    for key in ("subpixel", "weights", "smooth", "min_valid", "max_inconsistency", "initial"):
        facts[key] = about.get(key)
    facts |= {key: stored.get(key) for key in ("sources", "channels", "version", "crs")}
    facts["valid"] = (stored.get("summary") or {}).get("valid")
    facts["passes"] = passes
    facts["pixel_size"] = pixel_size(found)
    return facts


def pixel_size(found: xr.Dataset) -> tuple[float, float] | None:
    """Sides of a pixel (y, x) in the raster's own unit, always > 0; None where it has none."""
    sizes = []
    for axis in "yx":
        if f"{axis}_raster" not in found.coords or found.sizes[axis] < 2:
            return None
        apart = np.diff(found[axis].values[[0, -1]])[0]
        sizes.append(abs(float(np.diff(found[f"{axis}_raster"].values[[0, -1]])[0] / apart)))
    return (sizes[0], sizes[1]) if all(0 < size < np.inf for size in sizes) else None


def boxes_of(found: xr.Dataset) -> Iterator[Box]:
    """All of its nodes, as many at a time as are held without a thought."""
    return iter(grid((found.sizes["y"], found.sizes["x"]), _NODES))


def read_nodes(found: xr.Dataset, names: tuple[str, ...], box: Box) -> NDArray[np.float32]:
    """(len(names), h, w) of a box of nodes."""
    rows, columns = box.slices
    part = found.isel(y=rows, x=columns)
    return np.stack([np.asarray(part[name].values, np.float32) for name in names])
