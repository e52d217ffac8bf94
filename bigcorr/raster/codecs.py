"""Which codecs encode and decode chunks, and what they verify.

The `zarrs` pipeline is set around our own opens only, never for the whole process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import zarr
from zarr.core.sync import sync

from bigcorr.errors import InputError

_pipeline_lock = threading.Lock()


@contextlib.contextmanager
def fast_codecs(in_order: bool = False) -> Iterator[None]:
    """Arrays that are opened inside use the Rust codec pipeline.

    The setting is one for the process and is put back at the end, so the lock keeps two threads
    from restoring each other's value.

    Parameters
    ----------
    in_order : encode the chunks of a shard one after the other. With several threads they lie in
        the file in the order in which they happen to be ready, and no two runs give equal bytes.
    """
    settings: dict[str, Any] = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
    if in_order:
        settings["threading.max_workers"] = 1
    with _pipeline_lock, warnings.catch_warnings():
        if in_order:
            _start_threads()
        # A codec that it does not know goes to zarr-python, which is no news for the user.
        warnings.filterwarnings("ignore", message="Array is unsupported by ZarrsCodecPipeline")
        with zarr.config.set(settings):
            yield


def _start_threads() -> None:
    """Have zarr make its pool of threads, once, with the size that it has by default.

    It would else take our number of encoding threads for the size of that pool, for good.
    """
    count = zarr.config.get("threading.max_workers") or min(32, (os.cpu_count() or 1) + 4)
    with zarr.config.set({"threading.max_workers": count}):
        sync(asyncio.sleep(0))


@contextlib.contextmanager
def python_codecs() -> Iterator[None]:
    """Arrays that are opened inside use the codecs of zarr-python."""
    name = "zarr.core.codec_pipeline.BatchedCodecPipeline"
    with _pipeline_lock, zarr.config.set({"codec_pipeline.path": name}):
        yield


def has_crc32c(array: zarr.Array[Any]) -> bool:
    """Whether chunks end in a CRC32C, which zarr-python verifies and the Rust pipeline does not."""
    return any(codec["name"] == "crc32c" for codec in _codecs(array))


def index_is_verified(array: zarr.Array[Any]) -> bool:
    """Whether the index of a shard, if there are any, is held against a checksum.

    The Rust pipeline believes an index: of a damaged one it may ask for more memory than there is,
    which ends the process.
    """
    if array.metadata.zarr_format == 2:
        return True
    codecs = list(array.metadata.to_dict()["codecs"])
    while codecs and codecs[0]["name"] == "sharding_indexed":
        inner = codecs[0]["configuration"]
        if not any(codec["name"] == "crc32c" for codec in inner["index_codecs"]):
            return False
        codecs = list(inner["codecs"])
    return True


def has_checksum(array: zarr.Array[Any]) -> bool:
    """Whether a flipped bit of a chunk is noticed when it is decoded."""
    sure = ("crc32c", "gzip", "fletcher32", "adler32", "crc32")
    return any(
        codec["name"].removeprefix("numcodecs.") in sure
        or (codec["name"] == "zstd" and codec.get("configuration", {}).get("checksum"))
        for codec in _codecs(array)
    )


def refuse_pickles(array: zarr.Array[Any]) -> None:
    """Raise an `InputError` if chunks are pickles: loading one runs whatever code it holds.

    The codecs of today refuse it themselves where they are asked; older ones did it.
    """
    if any(codec["name"].removeprefix("numcodecs.") == "pickle" for codec in _codecs(array)):
        raise InputError(f"{array.store_path} holds pickled objects, which are never loaded")


def _codecs(array: zarr.Array[Any]) -> list[dict[str, Any]]:
    """The codecs of a chunk, by name and configuration; of format 2 the compressor and filters."""
    metadata = array.metadata.to_dict()
    if array.metadata.zarr_format == 2:
        held = [metadata.get("compressor"), *(metadata.get("filters") or ())]
        return [{"name": str(codec["id"])} for codec in held if isinstance(codec, dict)]
    codecs = list(metadata["codecs"])
    while codecs and codecs[0]["name"] == "sharding_indexed":
        codecs = list(codecs[0]["configuration"]["codecs"])
    return codecs
