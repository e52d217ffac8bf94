"""Whose fault a failed read of a lazy Dataset is: the damaged chunk of its store is named."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bigcorr.errors import InputError, RunError

if TYPE_CHECKING:
    import xarray as xr


@contextlib.contextmanager
def naming_damage(sim: xr.Dataset) -> Iterator[None]:
    """Turn what fails inside, since a chunk behind `sim` is damaged, into an error that names it.

    Only then is the store looked through. What else fails is left as it is.

    Raises
    ------
    RunError
        With the chunk, its rows and columns, and the file.
    """
    try:
        yield
    except (InputError, RunError, MemoryError):
        raise
    except Exception as error:
        source = sim.encoding.get("source")
        words = None if source is None else first_damage(Path(source))
        if words is None:
            raise
        raise RunError(f"cannot read {words}") from error


def first_damage(path: Path) -> str | None:
    """The first chunk of a store that cannot be read, in words; None where all can."""
    import zarr

    from bigcorr.raster import chunks, store

    try:
        node = zarr.open(str(path), mode="r")
        members = dict(node.members(max_depth=None)) if isinstance(node, zarr.Group) else {"": node}
        for name in [name for name, array in members.items() if isinstance(array, zarr.Array)]:
            array = store.open_array(path, component=name)
            for _, part in chunks.stored_places(array, path / name):
                for chunk, place, cause in chunks.damaged_chunks(array, part):
                    words = chunks.describe_chunk(array, chunk, place)
                    return f"{words}: {chunks.one_line(cause)}"
    except Exception as error:  # damaged metadata make the parser fail in any way
        return f"{path}: {chunks.one_line(error)}"
    return None
