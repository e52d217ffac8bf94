"""How a command ends: one line on stderr and an exit status, never a traceback."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bigcorr.errors import InputError, RunError

DONE, FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

TRACEBACK = "BIGCORR_TRACEBACK"
"""Set this environment variable to 1 to see where an error came from."""

GRACE_SECONDS = 3.5
"""Seconds between a signal and the end of the process, whatever it is doing."""

AGAIN_SECONDS = 0.25
"""Between two looks whether an interruption got lost."""

_GO_ON = "interrupted; the same command again goes on from what is done"

_BAD_INPUT_ERRNOS = {
    errno.ENOENT,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.EROFS,
}


class Interrupted(BaseException):
    """Ctrl-C, or the end of a batch job's time; the status says which.

    Not an Exception: it may be raised at any line, and a library that catches what goes wrong in
    its own work must not catch this as well.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@contextmanager
def interruptible() -> Iterator[None]:
    """Make Ctrl-C and SIGTERM an `Interrupted` that unwinds like any other error.

    Raised at any line, it may meet one whose errors are told and dropped, such as those of a
    finaliser or of a callback of the garbage collector: then it is raised again.

    A unit of work under way is given `GRACE_SECONDS`; then, or at a second signal at once, the
    process ends as it would by kill -9. What is done is kept all the same, and workers that we
    started end with us.
    """
    told = False

    def stop(signum: int, frame: object) -> None:
        nonlocal told
        status = TERMINATED if signum == signal.SIGTERM else INTERRUPTED
        if told:
            _leave(status)
        told = True
        # Work of a library that is dropped half way is told when we end, and of no use to anyone.
        warnings.simplefilter("ignore")
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, lambda *_: again(status))
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS, AGAIN_SECONDS)
        timer = threading.Timer(GRACE_SECONDS, _leave, [status])
        timer.daemon = True
        timer.start()
        raise Interrupted(status)

    def again(status: int) -> None:
        if not _unwinding():
            raise Interrupted(status)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(INTERRUPTED) from None
    finally:
        if told and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        if not told:  # else a second one is still to be answered, until the process has ended
            for number, handler in before.items():
                signal.signal(number, handler)


def _unwinding() -> bool:
    """Whether an interruption is on its way out: what runs now runs because of it."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error is not None


def _leave(status: int) -> None:
    """End at once; written past Python's buffers, whose locks somebody may hold."""
    with suppress(OSError):
        os.write(2, f"bigcorr: {_GO_ON}\n".encode())
    os._exit(status)


def report(error: Exception | Interrupted) -> int:
    """Say in one line on stderr what went wrong, and return the exit status."""
    # Reads of other chunks that a damaged one left half done would be told when we end.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    if isinstance(error, Interrupted):
        _say(_GO_ON)
        return error.status
    if os.environ.get(TRACEBACK, "0") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
    status, message = explain(error)
    _say(f"error: {message}")
    return status


def explain(error: Exception) -> tuple[int, str]:
    """The exit status of an error, and the error in one line."""
    if _is_disk_full(error):
        name = getattr(error, "filename", None)
        message = str(error) if isinstance(error, RunError) else "no space left on the device"
        return FAILED, _flat(f"{message}: {name}" if name else message)
    if isinstance(error, InputError):
        return BAD_INPUT, _flat(str(error))
    if isinstance(error, OSError) and error.errno in _BAD_INPUT_ERRNOS:
        reason = (error.strerror or str(error)).lower()
        return BAD_INPUT, _flat(f"{error.filename}: {reason}" if error.filename else reason)
    if isinstance(error, RunError):
        return FAILED, _flat(str(error))
    if isinstance(error, ValueError):
        return BAD_INPUT, _flat(str(error))
    if isinstance(error, MemoryError):
        return FAILED, _flat(f"out of memory: {error}" if str(error) else "out of memory")
    return FAILED, _flat(f"{type(error).__name__}: {error} ({TRACEBACK}=1 shows where)")


def _is_disk_full(error: BaseException | None) -> bool:
    """Whether the error, or what caused it, is a full disk; compiled codecs say it in words."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _flat(message: str) -> str:
    return " ".join(message.split())


def _say(message: str) -> None:
    sys.stdout.flush()
    print(f"bigcorr: {message}", file=sys.stderr, flush=True)
