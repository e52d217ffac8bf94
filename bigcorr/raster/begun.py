"""A store that one command makes (ingest, simulate): whose it is, begun or finished.

``OUT.partial/job.json`` says what was asked, and so does the finished store, with the summary that
the command gave. The same command again finds its work, any other is refused by the difference.
Which work is kept in between is the business of `pieces.py` and `writer.py`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bigcorr.errors import InputError
from bigcorr.raster import store
from bigcorr.raster.base import digest
from bigcorr.raster.lock import Lock
from bigcorr.raster.markers import jsonable, write_whole

JOB = "job.json"
KEY = "bigcorr_step"
"""The attribute of a finished store with the job and its summary."""


class Begun:
    """The work of one job on the store `path`.

    Parameters
    ----------
    path : the store to make.
    job : JSON-like; all that the store's bytes depend on.
    restart : drop what an earlier run left, and replace a finished store.

    Attributes
    ----------
    summary : dict or None
        What the job said when it was finished, if the store at `path` is its result.
    folder : where the work is kept until then.

    Raises
    ------
    InputError
        The store, or the work under way, is another job's; says in what they differ.
    """

    def __init__(self, path: Path, job: dict[str, Any], restart: bool) -> None:
        self.path, self.job = path, jsonable(job)
        self.folder = store.partial_path(path)
        self.fingerprint = digest(self.job)
        self.summary: dict[str, Any] | None = None
        if restart:
            store.check_destination(path, overwrite=True)
            with store.writing(path):
                store.remove(self.folder)
        elif path.exists():
            self.summary = self._finished()
            with store.writing(path), contextlib.suppress(InputError):
                if self._job() == self.job:  # killed behind the last rename
                    store.remove(self.folder)
            return
        stored = self._job()
        if stored is not None:
            refuse_other(f"{self.folder} holds unfinished work of another run", stored, self.job)
        elif holds_work(self.folder):
            raise InputError(
                f"{self.folder} holds unfinished work of another run: give another output, or "
                "--restart to start over"
            )

    def _finished(self) -> dict[str, Any]:
        """The summary of the store that is there, which must be this job's."""
        import zarr

        left: Any = None
        if store.is_zarr(self.path):
            try:
                left = dict(zarr.open_group(str(self.path), mode="r").attrs).get(KEY)
            except Exception:  # whatever it is, it is not ours
                left = None
        if not isinstance(left, dict) or not isinstance(left.get("job"), dict):
            store.check_destination(self.path, overwrite=False)
        refuse_other(f"{self.path} exists already, made by another run", left["job"], self.job)
        return dict(left["summary"])

    def _job(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads((self.folder / JOB).read_text()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.folder / JOB} cannot be read ({error}): give another output, or --restart "
                "to start over"
            ) from error

    @contextlib.contextmanager
    def working(self, lock: Lock) -> Iterator[None]:
        """The time of the work: it is kept if that ends early, unless what was asked is refused."""
        with store.writing(self.path):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / JOB, json.dumps(self.job, indent=1))
        try:
            yield
        except InputError as error:
            # A file that could not be read may be there again later.
            if not isinstance(error.__cause__, OSError) and not lock.lost:
                with contextlib.suppress(OSError):
                    store.remove(self.folder)
            raise

    def receipt(self, summary: dict[str, Any]) -> dict[str, Any]:
        """The attribute to leave in the finished store."""
        return {KEY: {"job": self.job, "summary": jsonable(summary)}}


def holds_work(folder: Path) -> bool:
    """Whether there is more in a folder than what a kill in the midst of a first write leaves."""
    return folder.is_dir() and any(path.suffix != ".tmp" for path in folder.iterdir())


def refuse_other(what: str, stored: dict[str, Any], job: dict[str, Any]) -> None:
    """Raise an `InputError` that names the first difference between two jobs, if there is one."""
    job = json.loads(json.dumps(job))
    for key in [*job, *(k for k in stored if k not in job)]:
        if stored.get(key) != job.get(key):
            there, here = (_short(side.get(key)) for side in (stored, job))
            raise InputError(
                f"{what}: {key} is {there} there and {here} here; give another output, or "
                "--restart to start over"
            )


def refuse_begun(path: Path, job: dict[str, Any]) -> None:
    """Refuse unfinished work at `path` of a job of another kind, which has a ``job.json``."""
    begun = store.partial_path(path)
    try:
        stored = json.loads((begun / JOB).read_text())
    except (OSError, ValueError):
        return
    if isinstance(stored, dict):
        refuse_other(f"{begun} holds unfinished work of another run", stored, job)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
