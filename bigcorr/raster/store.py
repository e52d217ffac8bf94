"""Zarr stores: how ours are encoded, opened, finished by a rename and swept when left half done.

Which codecs are at work is `codecs.py`'s part, chunks in their files `chunks.py`'s. What an array
means (channels, occupancy, masks) does not live here: see `zarr_.py` and `stack.py`.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.core.buffer.cpu import NDBuffer

from bigcorr.errors import InputError, RunError
from bigcorr.raster.chunks import damaged_chunks, describe_chunk, one_line, store_root
from bigcorr.raster.codecs import fast_codecs, has_crc32c, index_is_verified, refuse_pickles

CHUNK = 512
SHARD = 2048
PARTIAL = ".partial"
METADATA = ("zarr.json", ".zgroup", ".zarray")
SHARD_BYTES = 64 * 2**20
"""Raw bytes of a shard at most: what one task holds while it writes."""

MAX_CHUNK_BYTES = 2**32
MAX_SHARD_PARTS = 2**24


def open_array(path: str | Path, mode: str = "r", component: str = "") -> zarr.Array[Any]:
    """Open one array; the Rust pipeline serves format 3 in native byte order where it is safe."""
    try:
        array = zarr.open_array(str(path), path=component or None, mode=mode)
        _check_chunks(array)
        refuse_pickles(array)
        fast = array.metadata.zarr_format == 3 and array.dtype.isnative
        if fast and not has_crc32c(array) and index_is_verified(array):
            with fast_codecs(in_order=mode != "r" and array.shards is not None):
                array = zarr.open_array(str(path), path=component or None, mode=mode)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # damaged metadata make the parser fail in any way
        raise not_zarr(Path(path) / component, error) from error
    return array


def not_zarr(path: str | Path, error: Exception) -> InputError:
    """What to raise where Zarr cannot make sense of a store."""
    return InputError(f"{path} cannot be opened as Zarr: {one_line(error)}")


def _check_chunks(array: zarr.Array[Any]) -> None:
    """Refuse chunks that no worker could hold: decoding one would take the process down.

    And chunks of no pixel, of which some library let the metadata pass.
    """
    for kind, sides in (("chunks", array.chunks), ("shards", array.shards or ())):
        if any(side < 1 <= size for side, size in zip(sides, array.shape, strict=False)):
            raise InputError(
                f"{store_root(array)} has {kind} of {sides}, takes {kind} of at least one pixel "
                "along each axis"
            )
    held = math.prod(array.chunks) * array.dtype.itemsize
    if held > MAX_CHUNK_BYTES:
        raise InputError(
            f"{store_root(array)} has chunks of {array.chunks}, {held} bytes each; takes chunks "
            f"of at most {MAX_CHUNK_BYTES} bytes"
        )
    if array.shards is not None:
        parts = math.prod(array.shards) // max(1, math.prod(array.chunks))
        if parts > MAX_SHARD_PARTS:
            raise InputError(
                f"{store_root(array)} has shards of {parts} chunks; takes at most {MAX_SHARD_PARTS}"
            )


def clip_chunks(
    shape: tuple[int, int], chunk: int, shard: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(y, x) chunk and shard for a raster of `shape`: no larger than it needs.

    A shard is a whole number of chunks; both shrink for small rasters, so that thousands of
    small channels do not cost 512 x 512 each.
    """
    for name, value in (("chunk", chunk), ("shard", shard)):
        if value < 1:
            raise InputError(f"{name} must be at least 1 pixel, got {value}")
    if shard % chunk:
        raise InputError(f"shard must be a multiple of chunk {chunk}, got {shard}")
    chunks = tuple(min(chunk, size) for size in shape)
    shards = tuple(min(shard // c * c, -(-n // c) * c) for n, c in zip(shape, chunks, strict=True))
    return (chunks[0], chunks[1]), (shards[0], shards[1])


def create_array(
    group: zarr.Group,
    name: str,
    *,
    shape: Sequence[int],
    dtype: Any,
    chunks: Sequence[int],
    shards: Sequence[int] | None = None,
    dims: Sequence[str],
    fill_value: Any = 0,
    attributes: dict[str, Any] | None = None,
) -> zarr.Array[Any]:
    """An array as all our stores have it: Blosc(zstd 1, bitshuffle), empty chunks left out.

    Blosc decodes most flipped bits without a word, so that each chunk is put into a Zstandard frame
    with a checksum, at a level that does not try to compress it again: a few per cent of the time.
    A frame can only be decoded whole, which verifies it; the crc32c codec of Zarr is not verified
    by the Rust pipeline where less than a whole shard is read.
    """
    dtype = np.dtype(dtype)
    with fast_codecs(in_order=shards is not None):
        return group.create_array(
            name,
            shape=tuple(shape),
            dtype=dtype,
            chunks=tuple(chunks),
            shards=None if shards is None else tuple(shards),
            fill_value=fill_value,
            compressors=[
                BloscCodec(typesize=dtype.itemsize, cname="zstd", clevel=1, shuffle="bitshuffle"),
                ZstdCodec(level=-1000, checksum=True),
            ],
            dimension_names=tuple(dims),
            attributes=attributes or {},
            config={"write_empty_chunks": False},
        )


def put_array(
    group: zarr.Group,
    name: str,
    values: NDArray[Any] | Sequence[str],
    dims: Sequence[str],
    attributes: dict[str, Any] | None = None,
) -> None:
    """Write a small array (names, counts, coordinates) in one go."""
    values = np.asarray(values)
    if values.dtype.kind == "U":
        array = group.create_array(
            name,
            shape=values.shape,
            chunks=tuple(max(1, n) for n in values.shape),
            dtype=str,
            dimension_names=tuple(dims),
            attributes=attributes or {},
        )
        array[...] = values
        return
    # Many small files cost more than one larger one: a chunk holds up to 2**20 values.
    chunks = [max(1, n) for n in values.shape]
    for axis in range(len(chunks)):
        rest = int(np.prod(chunks[axis + 1 :], dtype=np.int64))
        keep = int(np.prod(chunks[:axis], dtype=np.int64))
        chunks[axis] = max(1, min(chunks[axis], 2**20 // max(1, rest * keep)))
    array = create_array(
        group,
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        dims=dims,
        attributes=attributes,
    )
    array[...] = values


def read_into(array: zarr.Array[Any], selection: tuple[slice, ...], out: NDArray[Any]) -> None:
    """Read a box of `array` into contiguous `out`; a damaged chunk is a `RunError` naming it."""
    try:
        if out.dtype == array.dtype and out.flags.c_contiguous and out.ndim == array.ndim:
            array.get_basic_selection(selection, out=NDBuffer.from_numpy_array(out))
        else:
            out[...] = np.asarray(array[selection]).reshape(out.shape)
    except KeyboardInterrupt:
        raise
    except Exception as error:
        # Nothing verifies some indices of shards: a chunk of any size is damage then.
        if isinstance(error, MemoryError) and index_is_verified(array):
            raise
        raise RunError(_damage(array, selection, error)) from error


def _damage(array: zarr.Array[Any], selection: tuple[slice, ...], error: Exception) -> str:
    """Say which stored chunk of the selection cannot be read."""
    for chunk, place, cause in damaged_chunks(array, selection):
        return f"cannot read {describe_chunk(array, chunk, place)}: {one_line(cause)}"
    return f"cannot read {store_root(array)}: {one_line(error)}"


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn what the disk says while `path` is written into one `RunError`."""
    try:
        yield
    except (InputError, RunError):
        raise
    except OSError as error:
        raise RunError(_disk_message(path, error)) from error
    except RuntimeError as error:  # the Rust pipeline raises it for every failed write
        raise RunError(_disk_message(path, error)) from error


def _disk_message(path: str | Path, error: BaseException) -> str:
    number = getattr(error, "errno", None)
    text = one_line(error)
    full = any(sign in text for sign in ("os error 28", "os error 122", "No space left"))
    if full or number in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left on the device while writing {path}: free some and run the same again"
    return f"cannot write {path}: {text}"


def is_zarr(path: str | Path) -> bool:
    """True for a folder that holds a Zarr array or group."""
    return any((Path(path) / name).is_file() for name in METADATA)


def partial_path(path: str | Path) -> Path:
    """Where a store is built before it takes its name."""
    path = Path(path)
    return path.with_name(path.name + PARTIAL)


def check_destination(path: str | Path, overwrite: bool) -> Path:
    """The destination as a `Path`; refuse one that exists, or that is not ours to replace."""
    path = Path(path)
    if path.exists() or path.is_symlink():
        if not overwrite:
            raise InputError(f"{path} exists already; choose another name or ask to overwrite it")
        if not is_zarr(path) and not (path.is_dir() and not any(path.iterdir())):
            raise InputError(f"{path} exists and is not a Zarr store: it is not overwritten")
    if path.parent.exists() and not path.parent.is_dir():
        raise InputError(f"cannot write {path}: {path.parent} is not a folder")
    return path


def start_partial(path: Path) -> Path:
    """An empty folder to build the store `path` in; what an earlier run left is swept."""
    partial = partial_path(path)
    with writing(path):
        remove(partial)
        remove(old_path(path))
        partial.mkdir(parents=True)
    return partial


def finish_partial(path: Path) -> None:
    """Give a finished store its name: from here on, and not before, it can be taken for done."""
    rename_into_place(partial_path(path), path)


def rename_into_place(built: Path, path: Path) -> None:
    """Move a finished store to its name, over the one that it replaces."""
    old = old_path(path)
    with writing(path):
        sync_folder(built)
        remove(old)
        if path.exists():
            os.replace(path, old)
        os.replace(built, path)
        sync_folder(path.parent)
        remove(old)


def old_path(path: Path) -> Path:
    """Where a store waits that is being replaced."""
    return path.with_name(path.name + ".replaced" + PARTIAL)


def sync_file(path: Path) -> None:
    """Have the disk keep a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def sync_folder(path: Path) -> None:
    """Ask the disk to keep the folder's entries (best effort: some file systems refuse)."""
    with contextlib.suppress(OSError):
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def remove(path: Path) -> None:
    """Delete a folder or file if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def consolidate(path: Path) -> None:
    """Gather all metadata in the group's own, so that xarray opens it without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(str(path), zarr_format=3)
