"""What a run keeps on disk while it is under way, so that nothing finished is lost.

Beside the result ``OUT`` stands ``OUT.partial``: `job.json` says whose work it is, and each stage
has a folder of unit files, written to a temporary name and renamed. Consecutive units make up
sections, whose sums are kept once whole; of the section under way a merged prefix is kept: the sum
of its units before n. Units that are in a sum are gone. A file that is there is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError, RunError
from bigcorr.raster.begun import holds_work, refuse_other
from bigcorr.raster.markers import write_whole

Arrays = dict[str, NDArray[Any]]


class Checkpoint:
    """The folder of one run. Pickles as its path; workers write their units themselves.

    Parameters
    ----------
    path : path
        ``OUT.partial``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, job: dict[str, Any], resume: bool) -> bool:
        """Take the folder for this job; True if an earlier run of the same job left work here.

        Raises
        ------
        InputError
            The folder holds the work of a job that differs; says in what.
        """
        stored = self._job()
        if stored is not None and not resume:
            shutil.rmtree(self.path)
            stored = None
        if stored is not None:
            refuse_other(f"{self.path} holds unfinished work of another run", stored, job)
            self._sweep()
            return True
        if holds_work(self.path):
            if resume:
                raise InputError(
                    f"{self.path} exists and is not the work of a run of pairs: remove it or give "
                    "another output"
                )
            shutil.rmtree(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._sweep()
            write_whole(self.path / "job.json", json.dumps(job, indent=1))
        except OSError as error:
            raise disk_error(self.path, error) from error
        return False

    def _job(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads((self.path / "job.json").read_text()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path / 'job.json'} cannot be read: {error}") from error

    def _sweep(self) -> None:
        for litter in self.path.rglob("*.tmp"):
            litter.unlink(missing_ok=True)

    def done(self, stage: str) -> tuple[int, int, set[int]]:
        """Whole sections, the length of the merged prefix, and the units that have files."""
        folder = self.path / stage
        if not folder.is_dir():
            return 0, 0, set()

        def numbers(kind: str) -> set[int]:
            return {int(p.stem.split("-")[1]) for p in folder.glob(f"{kind}-*.npz")}

        sections = numbers("section")
        whole = next(k for k in range(len(sections) + 1) if k not in sections)
        return whole, max(numbers("prefix"), default=0), numbers("unit")

    def write_unit(self, stage: str, index: int, arrays: Arrays) -> int:
        """Keep a unit's arrays; gives their bytes."""
        return self._write(self.path / stage / f"unit-{index:07d}.npz", arrays)

    def read_unit(self, stage: str, index: int) -> Arrays:
        return self._read(self.path / stage / f"unit-{index:07d}.npz")

    def write_prefix(self, stage: str, length: int, arrays: Arrays) -> None:
        """Keep the sum of the units before `length`, then drop what it replaces."""
        self._write(self.path / stage / f"prefix-{length:07d}.npz", arrays)
        self._drop(stage, length)

    def read_prefix(self, stage: str, length: int) -> Arrays:
        return self._read(self.path / stage / f"prefix-{length:07d}.npz")

    def write_section(self, stage: str, section: int, length: int, arrays: Arrays) -> None:
        """Keep the sum of a whole section, which ends before unit `length`."""
        self._write(self.path / stage / f"section-{section:07d}.npz", arrays)
        # The prefix that ends here, if any, is this section too; the next units are not.
        self._drop(stage, length)
        (self.path / stage / f"prefix-{length:07d}.npz").unlink(missing_ok=True)

    def read_section(
        self, stage: str, section: int, names: Collection[str] | None = None, prefix: str = ""
    ) -> Arrays:
        """The sum of a section, or only the arrays that are named or begin with `prefix`."""
        return self._read(self.path / stage / f"section-{section:07d}.npz", names, prefix)

    def _drop(self, stage: str, length: int) -> None:
        """Remove units and prefixes whose sums are kept otherwise."""
        for old in (self.path / stage).glob("*.npz"):
            kind, number = old.stem.split("-")
            if kind in ("unit", "prefix") and int(number) < length:
                old.unlink(missing_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def sweep_finished(self, job: dict[str, Any]) -> None:
        """Remove what a run of this job left that was killed after its result had its name."""
        with contextlib.suppress(InputError):
            if self._job() == json.loads(json.dumps(job)):
                self.remove()

    @staticmethod
    def _write(path: Path, arrays: Arrays) -> int:
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise disk_error(path, error) from error
        return sum(array.nbytes for array in arrays.values())

    @staticmethod
    def _read(path: Path, names: Collection[str] | None = None, prefix: str = "") -> Arrays:
        # The zip format checks a CRC of every array; pickles are never loaded.
        try:
            with np.load(path, allow_pickle=False) as file:
                return {
                    name: file[name]
                    for name in file.files
                    if (names is None or name in names) and name.startswith(prefix)
                }
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise RunError(
                f"{path} is damaged ({error}): remove it and run the same command again"
            ) from error


def disk_error(path: Path, error: OSError) -> RunError:
    """One line that names the file and the cause."""
    return RunError(f"cannot write {path}: {error.strerror or error}")
