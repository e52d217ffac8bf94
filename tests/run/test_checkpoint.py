"""Checkpoints: a file that is there is whole, and another job's work is refused."""

from __future__ import annotations

import numpy as np
import pytest

from bigcorr.errors import InputError, RunError
from bigcorr.run.checkpoint import Checkpoint
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.progress import SILENT
from bigcorr.run.stages import StageAsked, run_stages

JOB = {"input": "a.zarr", "sigma": [2.0, 2.0]}


def double(x):
    return {"x": np.array([2.0 * x])}


def fold(total, index, unit):
    total["x"] = total.get("x", np.zeros(1)) * 3 + unit["x"]  # the order matters


def run_stage(pool, name, function, units, fold, *, sections=None, checkpoint, progress):
    """One stage by itself."""
    asked = StageAsked(name, name, function, units, fold, sections)
    return run_stages(pool, [asked], checkpoint=checkpoint, progress=progress)[0]


def test_units_are_folded_in_order_and_found_again(tmp_path):
    checkpoint = Checkpoint(tmp_path / "out.partial")
    checkpoint.begin(JOB, resume=True)
    units = [(x,) for x in range(20)]
    (expected,), found = run_stage(
        ThreadPool(3), "s", double, units, fold, checkpoint=None, progress=SILENT
    )
    expected = expected.load()
    assert found == 0
    for index in (0, 1, 2, 7, 11):  # what a killed run may leave
        checkpoint.write_unit("s", index, double(index))
    (total,), found = run_stage(
        ThreadPool(3), "s", double, units, fold, checkpoint=checkpoint, progress=SILENT
    )
    assert found == 5
    assert total.load()["x"] == expected["x"]
    (again,), found = run_stage(
        ThreadPool(1), "s", None, units, fold, checkpoint=checkpoint, progress=SILENT
    )
    assert found == 20
    assert again.load()["x"] == expected["x"]


def test_a_prefix_replaces_its_units(tmp_path):
    checkpoint = Checkpoint(tmp_path / "out.partial")
    for index in range(5):
        checkpoint.write_unit("s", index, double(index))
    checkpoint.write_prefix("s", 3, {"x": np.ones(1)})
    assert checkpoint.done("s") == (0, 3, {3, 4})
    assert len(list((tmp_path / "out.partial" / "s").iterdir())) == 3


@pytest.mark.parametrize("killed_after", range(0, 21, 3))
def test_sections_are_kept_once_whole_and_found_again(tmp_path, killed_after):
    units, sections = [(x,) for x in range(20)], [6, 1, 8, 5]
    expected, _ = run_stage(
        ThreadPool(1), "s", double, units, fold, sections=sections, checkpoint=None, progress=SILENT
    )
    checkpoint = Checkpoint(tmp_path / "out.partial")

    def dies(x):
        if x >= killed_after:
            raise RuntimeError("killed")
        return double(x)

    if killed_after < 20:
        with pytest.raises(RuntimeError):
            run_stage(
                ThreadPool(2), "s", dies, units, fold, sections=sections, checkpoint=checkpoint,
                progress=SILENT,
            )  # fmt: skip
    done = []

    def counted(x):
        done.append(x)
        return double(x)

    parts, found = run_stage(
        ThreadPool(2), "s", counted, units, fold, sections=sections, checkpoint=checkpoint,
        progress=SILENT,
    )  # fmt: skip
    assert found + len(done) == 20
    assert [p.load()["x"] for p in parts] == [p.load()["x"] for p in expected]
    assert not list((tmp_path / "out.partial" / "s").glob("unit-*"))


def test_litter_is_swept_and_never_taken_for_done(tmp_path):
    checkpoint = Checkpoint(tmp_path / "out.partial")
    checkpoint.begin(JOB, resume=True)
    checkpoint.write_unit("s", 0, double(0))
    litter = tmp_path / "out.partial" / "s" / "unit-0000001.npz.abc.tmp"
    litter.write_bytes(b"half")
    assert checkpoint.done("s") == (0, 0, {0})
    assert checkpoint.begin(JOB, resume=True)
    assert not litter.exists()


def test_another_job_is_refused_by_what_differs(tmp_path):
    checkpoint = Checkpoint(tmp_path / "out.partial")
    checkpoint.begin(JOB, resume=True)
    with pytest.raises(InputError, match=r"sigma is \[2\.0, 2\.0\] there and \[3\.0, 3\.0\] here"):
        checkpoint.begin(JOB | {"sigma": [3.0, 3.0]}, resume=True)
    assert not checkpoint.begin(JOB | {"sigma": [3.0, 3.0]}, resume=False)


def test_a_folder_that_is_not_ours_is_refused(tmp_path):
    folder = tmp_path / "out.partial"
    folder.mkdir()
    (folder / "precious").write_text("keep me")
    with pytest.raises(InputError, match="not the work of a run"):
        Checkpoint(folder).begin(JOB, resume=True)
    assert (folder / "precious").exists()


def test_a_damaged_unit_is_named(tmp_path):
    checkpoint = Checkpoint(tmp_path / "out.partial")
    checkpoint.write_unit("s", 0, {"x": np.arange(1000.0)})
    path = tmp_path / "out.partial" / "s" / "unit-0000000.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))
    with pytest.raises(RunError, match=r"unit-0000000\.npz is damaged"):
        checkpoint.read_unit("s", 0)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        Checkpoint(tmp_path / "file" / "out.partial").write_unit("s", 0, double(0))
