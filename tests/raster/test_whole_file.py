"""Files that appear whole or not at all: tables of pairs, clusters, reports."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bigcorr as bc
from bigcorr.errors import InputError, RunError
from bigcorr.pairs.ranking import write_pairs
from bigcorr.raster.lock import locked
from bigcorr.raster.whole_file import temporary_path, whole_file
from bigcorr.report import write_report

TABLE = pd.DataFrame({"channel": ["a", "b"], "cluster": [1, 2]})
SIM = bc.pairwise(np.random.default_rng(0).random((3, 20, 20)), progress=False)

WRITERS: dict[str, Callable[[Path], object]] = {
    "pairs.parquet": lambda path: write_pairs(TABLE, path),
    "pairs.csv": lambda path: write_pairs(TABLE, path),
    "ranking.parquet": lambda path: bc.write_ranking(SIM, "pearson", path),
    "report.html": lambda path: write_report(SIM, path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_an_output_that_another_run_writes_is_left_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("old")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom bigcorr.raster.lock import locked\n"
            "with locked(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()",
            str(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match="is being written by another run"):
            WRITERS[name](path)
        assert path.read_text() == "old"
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    # What a killed run leaves is taken over, its half of a file too.
    temporary_path(path).write_text("half")
    WRITERS[name](path)
    assert path.read_bytes() != b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_is_no_file_to_write(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="is a folder: give the name of a file"):
        WRITERS[name](tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_what_was_there_stays_where_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("new")
            raise KeyError("x")

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_run_that_lost_its_lock_does_not_replace_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def lose() -> None:
        with locked(path) as lock, whole_file(path, lock) as temporary:
            temporary.write_text("new")
            lock._lost = _Other()  # type: ignore[assignment]

    with pytest.raises(RunError, match="taken over"):
        lose()
    assert not path.exists()


class _Other:
    def in_words(self, now: float | None) -> str:
        return "process 1 on elsewhere"
