"""`save_raster`: an array of any kind into a Zarr store, whole shards by one task each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.raster.base import check_pixels
from bigcorr.raster.lock import locked
from bigcorr.raster.markers import jsonable
from bigcorr.raster.memory import hash_array
from bigcorr.raster.store import CHUNK, SHARD
from bigcorr.raster.writer import ShardWriter, Unit

KEPT_COORDS = ("channel", "y", "x", "count", "mask")


def save_raster(
    array: Any,
    path: str | os.PathLike[str],
    *,
    chunk: int = CHUNK,
    shard: int = SHARD,
    attrs: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Save a raster as Zarr v3; a lazy one is computed shard by shard on the way.

    Parameters
    ----------
    array : DataArray, dask or NumPy array, (channel, y, x) or (y, x).
    path : destination folder. The store is built in ``path + ".partial"`` and renamed when it is
        done: a run that was killed is taken up by the same call again, which computes only the
        shards that are missing. For a dask array "the same" is told by its name.
    chunk, shard : sizes in pixels, (y, x) alike; shard a multiple of chunk. Small rasters get
        smaller ones.
    attrs : facts to store beside those of a DataArray.
    overwrite : replace a finished store at `path`. Without it a store that holds this very
        raster is left as it is, and any other is refused.

    Raises
    ------
    InputError
        The array is no raster, or `path` holds something else.
    RunError
        The disk is full or refuses, or another run writes there; nothing half written is taken
        for done.

    Notes
    -----
    A dask array runs on the active dask client if there is one, else on threads.

    Examples
    --------
    >>> import numpy as np, tempfile, bigcorr as bc
    >>> path = tempfile.mkdtemp() + "/image.zarr"
    >>> bc.save_raster(np.eye(5, dtype="float32"), path)
    >>> bc.open_raster(path).shape
    (5, 5)
    """
    data, coords, facts, name = _parts(array)
    dtype = check_pixels(np.dtype(data.dtype), data.shape, "the array")
    if data.ndim not in (2, 3):
        raise InputError(
            f"save_raster takes (channel, y, x) or (y, x), got {data.ndim} dimensions of shape "
            f"{data.shape}"
        )
    lazy = hasattr(data, "dask")
    facts = jsonable({**facts, **(attrs or {})})
    stamp = str(data.name) if lazy else hash_array(data)
    with locked(path) as lock:
        writer = ShardWriter(
            path,
            data.shape,
            dtype,
            fingerprint=f"{stamp} {sorted(facts.items(), key=str)}",
            chunk=chunk,
            shard=shard,
            name=name,
            attrs=facts,
            overwrite=overwrite,
        )
        pending = writer.pending
        if lazy:
            _compute(data, writer, pending)
        else:
            for unit in pending:
                lock.check()
                writer.write(unit, data[unit])
        lock.check()
        if not writer.finished:
            writer.finish({key: (dims, np.asarray(held)) for key, (dims, held) in coords.items()})


def _parts(array: Any) -> tuple[Any, dict[str, tuple[Sequence[str], Any]], dict[str, Any], str]:
    """The bare array, its coordinates, its attributes and its name."""
    if not (hasattr(array, "dims") and hasattr(array, "coords")):
        data = array if hasattr(array, "dask") else np.asarray(array)
        return data, {}, {}, "raster"
    if not hasattr(array, "data"):
        raise InputError(f"save_raster takes one DataArray, got a Dataset with {list(array)}")
    dims = array.dims
    wanted = ("channel", "y", "x")[-array.ndim :]
    coords = {}
    for name, coord in array.coords.items():
        if name in KEPT_COORDS and coord.ndim and set(coord.dims) <= set(wanted):
            values = coord.values if coord.dtype.kind in "buif" else coord.values.astype(str)
            coords[str(name)] = (coord.dims, values)
    if array.ndim == 3 and dims[0] in array.coords and "channel" not in coords:
        coords["channel"] = (("channel",), array.coords[dims[0]].values.astype(str))
    data = array.data if hasattr(array.data, "dask") else np.asarray(array.data)
    name = str(array.name) if array.name is not None else "raster"
    safe = name.replace("_", "").isalnum() and name not in KEPT_COORDS
    facts = {key: value for key, value in array.attrs.items() if key != "fingerprint"}
    return data, coords, facts, name if safe else "raster"


def _compute(data: Any, writer: ShardWriter, pending: list[Unit]) -> None:
    """One dask task a shard, which writes it; only pending shards are computed."""
    import dask

    write = dask.delayed(_write_shard, pure=False)
    blocks = data.rechunk(writer.shards).to_delayed()
    tasks = []
    for unit in pending:
        place = tuple(p.start // s for p, s in zip(unit, writer.shards, strict=True))
        tasks.append(write(blocks[place], writer, unit))
    dask.compute(*tasks)


def _write_shard(block: NDArray[Any], writer: ShardWriter, unit: Unit) -> None:
    writer.write(unit, np.asarray(block))
