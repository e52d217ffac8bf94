"""A file that appears whole or not at all, written by one run at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bigcorr.errors import InputError
from bigcorr.raster import store
from bigcorr.raster.lock import Lock, locked


def temporary_path(path: Path) -> Path:
    """Where a file is written before it takes its name: what a killed run left is replaced."""
    return path.with_name(f".{path.name}{store.PARTIAL}")


@contextlib.contextmanager
def whole_file(path: Path, lock: Lock | None = None) -> Iterator[Path]:
    """Write a file under another name, which becomes `path` once the block is done.

    Parameters
    ----------
    path : what is there is replaced.
    lock : of `path`, where the caller holds it already.

    Raises
    ------
    InputError
        `path` is a folder.
    RunError
        Another run writes there now, or the disk is full or refuses; what was there is untouched.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with whole_file(path) as temporary:
    ...     _ = temporary.write_text("all of it")
    ...     path.exists()
    False
    >>> path.read_text()
    'all of it'
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file")
    with contextlib.ExitStack() as held:
        if lock is None:
            lock = held.enter_context(locked(path))
        temporary = temporary_path(path)
        try:
            with store.writing(path):
                yield temporary
                store.sync_file(temporary)
                lock.check()
                os.replace(temporary, path)
                store.sync_folder(path.parent)
        finally:
            if not lock.lost:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
