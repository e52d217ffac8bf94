"""How far a run is: plain events, and the bars that show them on stderr.

Whatever works through a list of tasks calls a `Progress`; it knows nothing of bars. The bars
know nothing of tasks. No dask, no arrays, and rich only once there is something to draw.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import rich.progress as rich_progress

QUICK = 5.0
"""A stage that took fewer seconds is not worth a line in a log."""

LOG_EVERY = 30.0
"""Seconds between two lines about the same stage where stderr is a file, not a terminal."""


class Progress(Protocol):
    """What a run tells: ``progress(stage, done, total)`` after each unit, and a note now and then.

    `done` and `total` count the same thing (tasks, tiles, bytes, rows); `total` is None where it
    is not known. The last call of a stage has ``done == total``.
    """

    def __call__(self, stage: str, done: float, total: float | None = None) -> None: ...

    def note(self, text: str) -> None: ...


class Silent:
    """The progress that nobody watches: the default of every library function."""

    def __call__(self, stage: str, done: float, total: float | None = None) -> None:
        pass

    def note(self, text: str) -> None:
        pass


SILENT = Silent()


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``.

    >>> clock(75), clock(3725)
    ('1:15', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def rate_text(rate: float) -> str:
    """Units a second, with a prefix where there are many.

    >>> rate_text(0.5), rate_text(2_500_000)
    ('0.50/s', '2.5M/s')
    """
    for limit, divisor, suffix in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if rate >= limit:
            return f"{rate / divisor:.1f}{suffix}/s"
    return f"{rate:.1f}/s" if rate >= 10 else f"{rate:.2f}/s"


class _Pace:
    """Rate and remaining time of one stage.

    Counted from the first event, not from zero: what an earlier run had finished took no time.
    """

    def __init__(self, done: float, now: float) -> None:
        self.start_done, self.start, self.logged = done, now, now

    def describe(self, done: float, total: float | None, now: float) -> tuple[str, str]:
        elapsed, fresh = now - self.start, done - self.start_done
        if fresh <= 0 or elapsed <= 0:
            return "", ""
        rate = fresh / elapsed
        left = "" if total is None else f"{clock((total - done) / rate)} left"
        return rate_text(rate), left


class LogLines:
    """Progress as lines, for a log or a batch system: one each half minute, and one at the end."""

    def __init__(self, stream: IO[str], every: float = LOG_EVERY) -> None:
        self._stream, self._every = stream, every
        self._paces: dict[str, _Pace] = {}

    def __call__(self, stage: str, done: float, total: float | None = None) -> None:
        now = time.monotonic()
        pace = self._paces.get(stage)
        if pace is None:
            pace = self._paces[stage] = _Pace(done, now)
        finished = total is not None and done >= total
        if not finished and now - pace.logged < self._every:
            return
        pace.logged = now
        if finished:
            del self._paces[stage]
            if now - pace.start < QUICK:
                return
        rate, left = pace.describe(done, total, now)
        if finished:
            left = f"took {clock(now - pace.start)}"
        amount = f"{done:,.0f}" if total is None else f"{done:,.0f} of {total:,.0f}"
        self.note(", ".join(part for part in (f"{stage}: {amount}", rate, left) if part))

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class Bars:
    """Progress as rich bars, for a terminal: one line a stage, with rate and remaining time."""

    def __init__(self, display: rich_progress.Progress) -> None:
        self._display = display
        self._tasks: dict[str, tuple[rich_progress.TaskID, _Pace]] = {}

    def __call__(self, stage: str, done: float, total: float | None = None) -> None:
        now = time.monotonic()
        if stage not in self._tasks:
            task = self._display.add_task(stage, total=total, rate="", left="")
            self._tasks[stage] = task, _Pace(done, now)
        task, pace = self._tasks[stage]
        finished = total is not None and done >= total
        rate, left = pace.describe(done, total, now)
        if finished:
            left = f"took {clock(now - pace.start)}"
        self._display.update(task, completed=done, total=total, rate=rate, left=left)

    def note(self, text: str) -> None:
        self._display.console.print(text, highlight=False, markup=False)


class HeldBack:
    """Keeps notes to itself until work begins, so that a run that is refused says one line only."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._notes: list[str] | None = []

    def __call__(self, stage: str, done: float, total: float | None = None) -> None:
        self.release()
        self._shown(stage, done, total)

    def note(self, text: str) -> None:
        if self._notes is None:
            self._shown.note(text)
        else:
            self._notes.append(text)

    def release(self) -> None:
        """Say what was held back, and from now on everything at once."""
        notes, self._notes = self._notes, None
        for text in notes or []:
            self._shown.note(text)


@contextmanager
def open_progress(quiet: bool = False, stream: IO[str] | None = None) -> Iterator[Progress]:
    """The progress to show on `stream` (stderr): bars on a terminal, lines in a file, or nothing.

    Examples
    --------
    >>> with open_progress(quiet=True) as progress:
    ...     for done in range(3):
    ...         progress("tiles", done + 1, 3)
    """
    stream = sys.stderr if stream is None else stream
    if quiet:
        yield SILENT
        return
    if not stream.isatty():
        yield LogLines(stream)
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    display = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]}"),
        console=Console(file=stream),
    )
    with display:
        yield Bars(display)
