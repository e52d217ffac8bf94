"""`njit`, the decorator of every compiled function here, and where compiled code is kept.

numba's own cache numbers its files and keeps the numbers in an index. Two processes that compile
the same function for two types at once (workers that start together) can take the same number;
then one's code is run for the other's arguments, by every process from then on. Here the name of
a file says what is in it, so that no process ever writes over another one's code.

No kernels live here.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import caching, typeinfer


def njit(*arguments: Any, cache: bool = False, **options: Any) -> Any:
    """`numba.njit`, but with ``cache=True`` compiled code is kept in files of `Kept`.

    Parameters
    ----------
    *arguments : function, or str or list of str
        The function itself (``@njit``), or signatures to compile at once.
    cache : bool
        Whether code is kept between runs, where numba keeps it: ``NUMBA_CACHE_DIR``, else beside
        the source, else in the user's cache folder.
    **options
        Those of `numba.njit`.
    """
    if len(arguments) == 1 and callable(arguments[0]):
        return njit(cache=cache, **options)(arguments[0])
    signatures = list(arguments[0]) if arguments and isinstance(arguments[0], list) else arguments

    def wrap(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        if dispatcher is function:  # NUMBA_DISABLE_JIT
            return function
        if cache:
            dispatcher._cache = _Cache(function)
        if signatures:
            with typeinfer.register_dispatcher(dispatcher):
                for signature in signatures:
                    dispatcher.compile(signature)
                dispatcher.disable_compile()
        return dispatcher

    return wrap


class Kept:
    """Compiled code of one function: a file for each combination of types and processor.

    The interface of `numba.core.caching.IndexDataCacheFile`, which it replaces.

    Parameters
    ----------
    folder : path
    base : str
        What the names of the function's files begin with.
    stamp : object
        What must be equal for kept code to be taken (see `_Cache`).
    """

    def __init__(self, folder: str, base: str, stamp: object) -> None:
        self._folder = Path(folder)
        self._base = base
        self._stamp = (numba.__version__, stamp)

    def _path(self, key: Any) -> Path:
        # Not the hash of the function's bytes: after an edit the new code replaces the old.
        types, processor, (_, closure) = key
        name = hashlib.sha256(repr((types, processor, closure)).encode()).hexdigest()[:16]
        return self._folder / f"{self._base}.{name}.nbc"

    def save(self, key: Any, data: Any) -> None:
        """Keep `data` under `key`, whole or not at all.

        A disk that is full or may not be written costs the next process its compile time, and
        this one nothing.
        """
        path = self._path(key)
        beside = path.with_name(f"{path.name}.tmp.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            beside.write_bytes(caching.dumps((self._stamp, key, caching.dumps(data))))
            os.replace(beside, path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink()

    def load(self, key: Any) -> Any:
        """What was kept under `key` by this version of the sources; None if there is none."""
        try:
            stamp, kept, data = pickle.loads(self._path(key).read_bytes())
            return pickle.loads(data) if stamp == self._stamp and kept == key else None
        except Exception:  # not there, torn, or of a numba whose types are no more: compile
            return None

    def flush(self) -> None:
        """Forget everything that is kept of the function."""
        for path in self._folder.glob(f"{self._base}.*.nbc"):
            path.unlink(missing_ok=True)


class _Cache(caching.FunctionCache):
    """numba's cache of a function, with `Kept` for its files."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = _content(Path(function.__code__.co_filename)), _kernels()
        self._cache_file = Kept(self._cache_path, self._impl.filename_base, stamp)

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError):  # the folder cannot be made
            super().save_overload(sig, data)


@functools.cache
def _kernels() -> str:
    """All kernels' sources, as one hash: a kernel holds the code of others that it calls."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(f"{path.name} {_content(path)}".encode())
    return found.hexdigest()


@functools.cache
def _content(path: Path) -> str:
    """The file's hash. Not its time, which differs between installations that share a cache."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
