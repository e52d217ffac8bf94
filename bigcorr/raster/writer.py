"""Writing a raster by whole shards so that a killed run goes on where it was.

`ShardWriter` builds ``PATH.partial/store`` and keeps one marker a finished shard beside it in
``PATH.partial/done``; `finish` renames the store to PATH. The order of the steps is the promise:

1. a shard's file that has no marker is removed before the shard is written (it may be torn);
2. the shard is written to a folder of its own, flushed to the disk, and renamed into the store;
3. only then its marker appears, by a rename; it holds the file's length and checksum.

So a marker always means a whole shard, and a store at PATH always means a finished run. One
shard belongs to one call of `write`; calls may come from any process that sees the folder, even
from a worker that outlived a run which was killed. The bytes of a shard follow from its pixels.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from bigcorr.errors import InputError, RunError
from bigcorr.raster import chunks, store
from bigcorr.raster.base import digest
from bigcorr.raster.markers import flushed_checksum, read_marker, write_whole
from bigcorr.retry import patiently

Unit = tuple[slice, ...]


class ShardWriter:
    """A raster (y, x), with other dimensions before these or not, under way to `path`.

    Parameters
    ----------
    path : destination of the finished store.
    shape, dtype : of the raster, two to four dimensions.
    dims : names of the dimensions; by default (channel, y, x) or (y, x).
    fingerprint : of everything that the values depend on. A run with the same one goes on where
        an earlier one stopped; a finished store with another one is refused.
    chunk, shard : (y, x) sizes in pixels.
    name : of the array in the store.
    attrs : facts to keep under the group's ``bigcorr`` attribute.
    overwrite : replace a finished store at `path`.
    keep : names in ``PATH.partial`` that are the caller's own.

    Raises
    ------
    InputError : `path` holds something else.
    RunError : the disk is full or refuses.

    Notes
    -----
    Pickles as a path: workers of a cluster may call `write` on a shared file system.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        shape: Sequence[int],
        dtype: Any,
        *,
        fingerprint: str,
        chunk: int = store.CHUNK,
        shard: int = store.SHARD,
        name: str = "raster",
        attrs: dict[str, Any] | None = None,
        fill_value: float = 0,
        overwrite: bool = False,
        dims: Sequence[str] | None = None,
        keep: Sequence[str] = (),
    ) -> None:
        self.path = Path(path)
        self.shape = tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype)
        self.name = name
        self.dims = ("channel", "y", "x")[-len(self.shape) :] if dims is None else tuple(dims)
        if len(self.shape) not in (2, 3, 4) or 0 in self.shape:
            raise InputError(
                f"a raster has the shape (channel, y, x) or (y, x), with pixels; got {self.shape}"
            )
        self._image = (self.shape[-2], self.shape[-1])
        chunks, shards = store.clip_chunks(self._image, chunk, shard)
        depth = max(1, store.SHARD_BYTES // (shards[0] * shards[1] * self.dtype.itemsize))
        lead = []
        for size in self.shape[:-2]:  # as many planes as a shard may have, of the first ones first
            lead.append(min(depth, size))
            depth = max(1, depth // size)
        self.chunks = (*[1] * len(lead), *chunks)
        self.shards = (*lead, *shards)
        layout = [self.shape, self.dtype.str, self.chunks, self.shards, name]
        self.fingerprint = digest(fingerprint, layout)
        self._attrs = {"kind": "raster", **(attrs or {}), "fingerprint": self.fingerprint}
        self._root = store.partial_path(self.path)
        self.finished = self._is_finished(overwrite)
        with store.writing(self.path):
            if self.finished:
                self._sweep()
            else:
                self._prepare(fill_value, keep)

    def _is_finished(self, overwrite: bool) -> bool:
        """True if `path` is this very run's result already."""
        if not (self.path.exists() or self.path.is_symlink()):
            store.check_destination(self.path, overwrite)
            return False
        if not overwrite and store.is_zarr(self.path):
            try:
                facts = dict(zarr.open_group(str(self.path), mode="r").attrs).get("bigcorr", {})
            except Exception:  # whatever it is, it is not ours
                facts = {}
            if isinstance(facts, dict) and facts.get("fingerprint") == self.fingerprint:
                return True
            raise InputError(
                f"{self.path} exists already and was made from other input or parameters; choose "
                "another name or ask to overwrite it"
            )
        store.check_destination(self.path, overwrite)
        return False

    def _sweep(self) -> None:
        """Remove what a run left that was killed between giving the store its name and its end."""
        note = self._root / "fingerprint"
        if note.is_file() and note.read_text() == self.fingerprint:
            store.remove(self._root)
        store.remove(store.old_path(self.path))

    def _prepare(self, fill_value: float, keep: Sequence[str]) -> None:
        note = self._root / "fingerprint"
        if note.is_file() and note.read_text() == self.fingerprint:
            array = self._open()
            store.remove(self._root / "writing")
            for unit in self.pending:  # what has no marker may be torn
                store.remove(self._file(array, unit))
                self._marker(unit).unlink(missing_ok=True)
            return
        self._root.mkdir(parents=True, exist_ok=True)
        for litter in self._root.iterdir():
            if litter.name not in keep:
                store.remove(litter)
        (self._root / "done").mkdir()
        group = zarr.open_group(str(self._root / "store"), mode="w", zarr_format=3)
        group.attrs["bigcorr"] = self._attrs
        store.create_array(
            group,
            self.name,
            shape=self.shape,
            dtype=self.dtype,
            chunks=self.chunks,
            shards=self.shards,
            dims=self.dims,
            fill_value=fill_value,
        )
        write_whole(note, self.fingerprint)

    @property
    def units(self) -> Iterator[Unit]:
        """The shards, each as the slices of the raster that one `write` owns."""
        ranges = (range(0, n, s) for n, s in zip(self.shape, self.shards, strict=True))
        for corner in itertools.product(*ranges):
            yield tuple(
                slice(c, min(c + s, n))
                for c, s, n in zip(corner, self.shards, self.shape, strict=True)
            )

    @property
    def pending(self) -> list[Unit]:
        """The shards that are not done yet."""
        if self.finished:
            return []
        array = self._open()
        return [unit for unit in self.units if not self._is_done(array, unit)]

    def _is_done(self, array: zarr.Array[Any], unit: Unit) -> bool:
        marker = read_marker(self._marker(unit))
        if marker is None or marker.get("fingerprint") != self.fingerprint:
            return False
        try:
            return marker["bytes"] == self._file(array, unit).stat().st_size
        except FileNotFoundError:
            return marker["bytes"] == 0  # nothing but fill

    def write(self, unit: Unit, data: NDArray[Any], note: str = "") -> None:
        """Write one shard and mark it as done, with a note for who goes on after a kill."""
        if data.shape != tuple(part.stop - part.start for part in unit):
            raise InputError(f"data of shape {data.shape} does not fit the shard {unit}")
        patiently(f"writing {self.path}", self._write, unit, data, note)

    def skip(self, unit: Unit) -> None:
        """Mark a shard as done that holds nothing but fill."""
        with store.writing(self.path):
            # Not flushed: should it be lost, the shard is found to be empty once more.
            said = {"fingerprint": self.fingerprint, "bytes": 0}
            write_whole(self._marker(unit), json.dumps(said), sync=False)

    def notes(self) -> Iterator[tuple[Unit, str]]:
        """The notes of the shards that are done, where there are any."""
        for unit in self.units:
            marker = read_marker(self._marker(unit))
            if marker is not None and marker.get("note"):
                yield unit, marker["note"]

    def _write(self, unit: Unit, data: NDArray[Any], note: str) -> None:
        with store.writing(self.path):
            place = self._root / "writing" / uuid.uuid4().hex
            place.mkdir(parents=True)
            try:
                shutil.copyfile(self._root / "store" / self.name / "zarr.json", place / "zarr.json")
                array = store.open_array(place, mode="r+")
                array[unit] = np.ascontiguousarray(data, dtype=self.dtype)
                self._keep(array, place, unit, note)
            finally:
                store.remove(place)

    def _keep(self, array: zarr.Array[Any], place: Path, unit: Unit, note: str) -> None:
        """Move a shard that was written at `place` into the store, and mark it."""
        file = self._file(array, unit)
        built = place / file.relative_to(self._root / "store" / self.name)
        marker: dict[str, Any] = {"fingerprint": self.fingerprint, "bytes": 0}
        if note:
            marker["note"] = note
        if built.exists():
            marker |= {"bytes": built.stat().st_size, "crc32": flushed_checksum(built)}
        if (self._root / "fingerprint").read_text() != self.fingerprint:
            raise RunError(f"{self.path} was started afresh by another run; this one stops")
        if built.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            os.replace(built, file)
            store.sync_folder(file.parent)
        else:  # a shard of nothing but fill is not stored
            store.remove(file)
        write_whole(self._marker(unit), json.dumps(marker))

    def finish(
        self,
        coords: dict[str, tuple[Sequence[str], Any]] | None = None,
        add: Callable[[zarr.Group], None] | None = None,
    ) -> None:
        """Add coordinates and give the store its name.

        Parameters
        ----------
        coords : name -> (dims, values), as xarray takes them.
        add : puts more into the group; what is there of it was left by a run that was killed.
        """
        if self.finished:
            return
        left = self.pending
        if left:
            raise InputError(f"{self.path} cannot be finished: {len(left)} shards are missing")
        root = self._root / "store"
        with store.writing(self.path):
            group = zarr.open_group(str(root), mode="r+")
            extra = {name: value for name, value in (coords or {}).items() if name != self.name}
            for name, (dims, values) in extra.items():
                if name in group:  # from a run that was killed right here
                    del group[name]
                store.put_array(group, name, values, dims)
            beside = [name for name, (dims, _) in extra.items() if tuple(dims) != (name,)]
            if beside:
                group[self.name].attrs["coordinates"] = " ".join(sorted(beside))
            if add is not None:
                add(group)
            chunks.write_file_lists(root)
            store.consolidate(root)
        store.rename_into_place(root, self.path)
        with store.writing(self.path):
            store.remove(self._root)
        self.finished = True

    def _open(self) -> zarr.Array[Any]:
        return store.open_array(self._root / "store", mode="r+", component=self.name)

    def _marker(self, unit: Unit) -> Path:
        index = (part.start // size for part, size in zip(unit, self.shards, strict=True))
        return self._root / "done" / "-".join(str(i) for i in index)

    def _file(self, array: zarr.Array[Any], unit: Unit) -> Path:
        index = tuple(part.start // size for part, size in zip(unit, self.shards, strict=True))
        return self._root / "store" / self.name / array.metadata.encode_chunk_key(index)
