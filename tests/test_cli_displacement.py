"""`bigcorr displacement` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage
from test_cli import ONE_PROCESS, bigcorr, refused

import bigcorr as bc


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    a = ndimage.gaussian_filter(rng.normal(size=(96, 112)), 1.5) * 50
    np.save(tmp_path / "a.npy", a)
    np.save(tmp_path / "b.npy", ndimage.shift(a, (1, -2), order=1, mode="nearest"))
    return tmp_path


def test_the_command_writes_what_the_library_returns_and_tells_it_as_json(pair: Path) -> None:
    given = ["--search", "4", "--step", "6", "--passes", "24,12", "--max-inconsistency", "1"]
    command = ["displacement", "a.npy", "b.npy", "-o", "o.zarr", *given, *ONE_PROCESS, "--json"]
    done = bigcorr(*command, cwd=pair)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["command"] == "displacement"
    assert summary["windows"] == [24, 12]
    assert summary["peak_bytes"] > 0
    expected = bc.displacement(
        pair / "a.npy", pair / "b.npy", search=4, step=6, passes=[24, 12], max_inconsistency=1
    )
    with xr.open_zarr(pair / "o.zarr") as found:
        for name in expected:
            assert np.array_equal(found[name], expected[name], equal_nan=True)
    again = json.loads(bigcorr(*command, cwd=pair).stdout)
    assert again["units_done_before"] == again["units"] == summary["units"]


def test_bad_input_is_one_line(pair: Path) -> None:
    for options, says in (
        (["--window", "200"], "window: got 200 for a raster of 96 x 112"),
        (["--passes", "many"], "passes"),
        (["--initial", "-1,2,3"], "initial: got '-1,2,3'; takes two numbers"),
        (["--initial", "gone.json"], "initial: no such file or folder: gone.json"),
    ):
        done = bigcorr(
            "displacement", "a.npy", "b.npy", "-o", "o.zarr", *options, *ONE_PROCESS, cwd=pair
        )
        refused(done, says)
    assert not (pair / "o.zarr").exists()


def test_a_displacement_is_reported(pair: Path) -> None:
    bigcorr("displacement", "a.npy", "b.npy", "-o", "o.zarr", *ONE_PROCESS, cwd=pair)
    done = bigcorr("report", "o.zarr", "-o", "r.html", cwd=pair)
    assert done.returncode == 0, done.stderr
    assert "What moved from a.npy to b.npy" in (pair / "r.html").read_text(encoding="utf-8")
    refused(bigcorr("report", "o.zarr", "-o", "r.html", "--by", "ncc", cwd=pair), "by: got")


def test_a_start_is_taken_from_a_vector_and_from_what_register_printed(pair: Path) -> None:
    printed = bigcorr("register", "a.npy", "b.npy", "--json", *ONE_PROCESS, cwd=pair)
    (pair / "r.json").write_text(printed.stdout)
    assert np.allclose(json.loads(printed.stdout)["shift"], (-1, 2), atol=0.1)
    expected = bc.displacement(pair / "a.npy", pair / "b.npy", search=2, initial=(1, -2))
    for start, output in (("1,-2", "v.zarr"), ("r.json", "r.zarr")):
        options = ["--search", "2", "--initial", start]
        done = bigcorr(
            "displacement", "a.npy", "b.npy", "-o", output, *options, *ONE_PROCESS, cwd=pair
        )
        assert done.returncode == 0, done.stderr
        with xr.open_zarr(pair / output) as found:
            assert np.array_equal(found.dy, expected.dy, equal_nan=True)


def test_info_and_check_know_a_displacement(pair: Path) -> None:
    given = ["--search", "4", "--step", "6", "--passes", "24,12", "--initial", "1,-2"]
    bigcorr("displacement", "a.npy", "b.npy", "-o", "o.zarr", *given, *ONE_PROCESS, cwd=pair)
    told = json.loads(bigcorr("info", "o.zarr", "--json", cwd=pair).stdout)
    with xr.open_zarr(pair / "o.zarr") as found:
        assert told["nodes"] == list(found.dy.shape)
        assert told["valid"] == int(np.isfinite(found.dy).sum())
    assert (told["kind"], told["windows"], told["step"]) == ("displacement", [24, 12], 6)
    assert told["initial"] == "(1, -2)"
    assert told["variables"] == ["dy", "dx", "score", "peak_ratio"]
    shown = bigcorr("info", "o.zarr", cwd=pair).stdout
    assert f"{told['valid']:,} of {15 * 17} nodes" in shown
    assert "a.npy" in shown
    assert "(1, -2)" in shown
    assert "displacement, finished" in bigcorr("check", "o.zarr", cwd=pair).stdout
