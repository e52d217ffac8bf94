"""One run at a time on one output: a lock file beside it, with a heartbeat.

``OUT.lock`` says who writes OUT: an id, the host, the process, the batch job, the start. A thread
of the owner touches it every few seconds. A lock is stale

* at once, where its process was of this very machine and is no more (kill -9 leaves it behind);
* elsewhere, once it has not been touched for `STALE_SECONDS`. Its age is the difference of two
  times that the file system itself gave, so that the clocks of two machines do not matter; and a
  fresh lock of another machine is watched until it is either touched or stale, so that a job that
  was killed and started again elsewhere gets in.

An owner whose lock was taken, since it slept for too long or by force, is told by `Lock.check`.
Who an owner is, and whether it lives, is `lock_owner.py`'s part. Nothing is known here of what is
written.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from bigcorr.errors import InputError, RunError
from bigcorr.raster.lock_owner import Owner, look, this_process

BEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
"""Twelve beats: a process that was stopped for half a minute keeps its lock."""

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

_force: ContextVar[Callable[[str], None] | None] = ContextVar("force_unlock", default=None)


@contextlib.contextmanager
def force_unlock(warn: Callable[[str], None] | None) -> Iterator[None]:
    """Locks that stand in the way inside are removed, whoever holds them, and `warn` is told."""
    token = _force.set(warn)
    try:
        yield
    finally:
        _force.reset(token)


def lock_path(path: str | os.PathLike[str]) -> Path:
    """Where the lock of an output lies."""
    path = Path(path)
    return path.with_name(path.name + ".lock")


@contextlib.contextmanager
def locked(
    path: str | os.PathLike[str], progress: Callable[..., None] | None = None
) -> Iterator[Lock]:
    """Hold the lock of the output `path`; it is given back however the block ends.

    Parameters
    ----------
    path : the output.
    progress : is told ``(stage, seconds, total)`` while a lock of another machine is watched.

    Raises
    ------
    RunError
        Another run writes there now; or the lock cannot be written.
    """
    lock = Lock(Path(path), progress)
    lock.take()
    try:
        yield lock
    finally:
        lock.release()


class LostLockError(RunError):
    """Another run has taken the output: what lies there is not to be touched any more."""


class Lock:
    """The lock of one output, for one run. See `locked`."""

    def __init__(self, output: Path, progress: Callable[..., None] | None = None) -> None:
        self.output, self.path = output, lock_path(output)
        self.id = uuid.uuid4().hex
        self._progress = progress
        self._stop = threading.Event()
        self._made: list[Path] = []
        self._lost: Owner | None = None
        self._thread: threading.Thread | None = None

    def take(self) -> None:
        """Make the lock ours, or raise a `RunError` that says whose it is."""
        try:
            self._made = [p for p in self.path.parents if not p.exists()]
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                now = self._create()
                if now is None:
                    break
                seen = look(self.path)
                if seen is None:
                    continue  # given back in this moment
                if (warn := _force.get()) is not None:
                    warn(
                        f"warning: the lock of {self.output} is removed by force: "
                        f"{seen.in_words(now)}. If that run is alive, both write the same output"
                    )
                elif not self._is_stale(seen, now):
                    raise RunError(
                        f"{self.output} is being written by another run: {seen.in_words(now)}. "
                        "Wait for it or choose another output; --force-unlock if it is dead"
                    )
                self._set_aside(seen)
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(f"cannot write {self.output}: {error}") from error
        except OSError as error:
            text = error.strerror or str(error)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                text = "no space left on the device"
            raise RunError(f"cannot write {self.output}: {text}: {self.path}") from error
        # A daemon: it must not keep a process alive that ends without giving the lock back.
        self._thread = threading.Thread(target=self._beat, name="bigcorr-lock", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        return self._lost is not None

    def check(self) -> None:
        """Raise a `LostLockError` if another run has the lock now: this one must not go on."""
        if self._lost is not None:
            raise LostLockError(
                f"{self.output} was taken over by another run while this one gave no sign of "
                f"life, or by force: {self._lost.in_words(None)}. This run stops"
            )

    def watch(self, progress: Any = None) -> Watched:
        """The same progress, which first checks that the lock is still ours."""
        return Watched(self, progress)

    def release(self) -> None:
        """Give the lock back; what is not ours any more is left alone."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=BEAT_SECONDS)
        with contextlib.suppress(OSError):
            seen = look(self.path)
            if seen is not None and seen.id == self.id:
                self.path.unlink()
            for folder in self._made:  # a run that was refused leaves no empty folders
                folder.rmdir()

    def _create(self) -> float | None:
        """Make the lock file unless there is one; then, the file system's time of now."""
        temporary = self.path.with_name(f"{self.path.name}.{self.id}.tmp")
        try:
            with open(temporary, "x") as file:
                json.dump({"id": self.id, **this_process()}, file)
                file.flush()
                now = os.fstat(file.fileno()).st_mtime
            try:
                os.link(temporary, self.path)  # whole, or not at all
                return None
            except FileExistsError:
                return now
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
            try:  # a file system without links
                number = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                return now
            with open(number, "w") as file:
                file.write(temporary.read_text())
            return None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _is_stale(self, seen: Owner, now: float) -> bool:
        if seen.here:
            return not seen.lives
        started = time.monotonic()
        age = max(0.0, now - seen.touched)
        while True:
            waited = time.monotonic() - started
            if age + waited >= STALE_SECONDS:
                return True
            again = look(self.path)
            if again is None:
                return True  # given back
            if (again.id, again.touched) != (seen.id, seen.touched):
                return False
            if self._progress is not None:
                stage = f"waiting for a sign of life from {seen.host}"
                self._progress(stage, round(age + waited), round(STALE_SECONDS))
            time.sleep(min(BEAT_SECONDS / 5, max(0.01, STALE_SECONDS - age - waited)))

    def _set_aside(self, seen: Owner) -> None:
        """Take the lock that was looked at away; not one that came in between."""
        aside = self.path.with_name(f"{self.path.name}.{self.id}.stale")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        taken = look(aside)
        if taken is not None and taken.id != seen.id:
            # Another run was quicker. If a third one is by now, it finds out at its next beat.
            with contextlib.suppress(OSError):
                os.link(aside, self.path)
        aside.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            # A file system that does not answer for a while is no reason to stop beating.
            with contextlib.suppress(OSError):
                seen = look(self.path)
                if seen is None:
                    self._create()
                elif seen.id == self.id:
                    os.utime(self.path)
                else:
                    self._lost = seen
                    return


class Watched:
    """A progress that stops the run at the next unit once its lock is not its own any more."""

    def __init__(self, lock: Lock, progress: Any = None) -> None:
        self._lock, self._progress = lock, progress

    def __call__(self, *event: Any, **named: Any) -> None:
        self._lock.check()
        if self._progress is not None:
            self._progress(*event, **named)

    def note(self, text: str) -> None:
        if self._progress is not None:
            self._progress.note(text)
