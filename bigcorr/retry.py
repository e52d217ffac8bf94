"""What a file system fails to do is tried again if that may pass; a task's error names its tile.

Which failures pass by themselves is said here, once. What is done is not known.
"""

from __future__ import annotations

import errno
import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from bigcorr.errors import RunError
from bigcorr.tiles import Box

PAUSES = (0.5, 2.0, 8.0)
"""Seconds before the second, third and fourth attempt, give or take a quarter: many workers that
met one hiccup of a server do not come back all at once."""

TRANSIENT = {
    getattr(errno, name)
    for name in [
        "EIO",
        "EAGAIN",
        "EINTR",
        "EBUSY",
        "ETIMEDOUT",
        "ESTALE",
        "ENOLCK",
        "EREMOTEIO",
        "EPROTO",
        "ENOBUFS",
        "EMFILE",
        "ENFILE",
        "ECONNRESET",
        "ECONNABORTED",
        "ECONNREFUSED",
        "ENOTCONN",
        "ESHUTDOWN",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
        "ENETRESET",
    ]
    if hasattr(errno, name)
}
"""A full or read-only disk, a missing file, a wrong permission are not: they want somebody."""

T = TypeVar("T")

_log = logging.getLogger("bigcorr")


def patiently(what: str, function: Callable[..., T], *args: Any) -> T:
    """``function(*args)``, again after a pause where it failed by what passes by itself.

    Parameters
    ----------
    what : what it does in words, for the log.
    """
    for pause in PAUSES:
        try:
            return function(*args)
        except Exception as error:
            if _errno(error) not in TRANSIENT:
                raise
            pause *= random.uniform(0.75, 1.25)
            _log.warning("%s: %s; tried again in %.1f s", what, _words(error), pause)
            time.sleep(pause)
    return function(*args)


def telling(where: str, function: Callable[..., T], *args: Any) -> T:
    """``function(*args)``; an error that is about data ends in `where`, the task in words.

    Raises
    ------
    RunError
        As the function raises it, with the task's place.
    """
    try:
        return function(*args)
    except RunError as error:
        if _errno(error) is None:
            raise RunError(f"{error} (in {where})") from error
        raise
    except Exception as error:
        error.add_note(f"in {where}")
        raise


def in_words(box: Box) -> str:
    """A box in words.

    >>> in_words(Box(0, 512, 512, 1024))
    'rows 0:512, columns 512:1024'
    """
    return f"rows {box.y0}:{box.y1}, columns {box.x0}:{box.x1}"


def _errno(error: BaseException) -> int | None:
    """The system's number of what went wrong, wherever in the chain; compiled codecs say it."""
    for link in _chain(error):
        if isinstance(link, OSError) and link.errno is not None:
            return link.errno
        if isinstance(link, (TimeoutError, ConnectionError)):
            return errno.ETIMEDOUT
        if (found := re.search(r"\(os error (\d+)\)", str(link))) is not None:
            return int(found[1])
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
