"""The command line as a user meets it: subprocesses, exit statuses, one line when it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bigcorr.cli.failure import explain
from bigcorr.errors import InputError, RunError

ONE_PROCESS = ["--workers", "1", "--quiet"]


def bigcorr(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in `cwd`."""
    return subprocess.run(
        [sys.executable, "-m", "bigcorr", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str], *says: str, status: int = 2) -> None:
    """One line on stderr that names the cause, nothing on stdout, the right exit status."""
    assert done.returncode == status, (done.stdout, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("bigcorr: error: ")
    for words in says:
        assert words in lines[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small stack of three channels, a smaller image, and a file that is no raster."""
    folder = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(0)
    np.save(folder / "stack.npy", random.poisson(1.0, (3, 40, 50)).astype(np.uint8))
    np.save(folder / "small.npy", random.random((20, 20)))
    (folder / "letter.txt").write_text("Dear reader")
    return folder


# -- without any work ------------------------------------------------------------------------


def test_help_and_import_load_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, bigcorr, bigcorr.cli\n"
        "from bigcorr.cli.app import _main\n"
        "_main(['pairs', '--help'])\n"
        "heavy = {'numpy', 'numba', 'dask', 'zarr', 'xarray', 'matplotlib', 'pandas', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    "name",
    [
        "ingest",
        "info",
        "simulate",
        "ncc",
        "ssim",
        "blur",
        "lbp",
        "pairs",
        "rank",
        "clusters",
        "report",
        "run",
        "demo",
    ],
)
def test_every_command_explains_itself(name: str, tmp_path: Path) -> None:
    done = bigcorr(name, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Usage: bigcorr " + name in done.stdout


def test_the_version_is_the_packages(tmp_path: Path) -> None:
    import bigcorr as package

    done = bigcorr("--version", cwd=tmp_path)
    assert done.stdout == f"bigcorr {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["par"], "par"),
        (["pairs"], "bigcorr pairs --help"),
        (["pairs", "a.zarr", "-o", "b.zarr", "--windw", "3"], "--window"),
        (["pairs", "a.zarr", "-o", "b.zarr", "--window", "wide"], "--window"),
        (["pairs", "a.zarr", "-o", "b.zarr", "--measure", "ncc:window"], "KEY=VALUE"),
        (["ncc", "a.npy", "b.npy", "-o", "c.zarr", "--boundary", "wrap"], "'reflect'"),
        (["rank", "r.zarr", "--order", "up"], "'value' or 'z'"),
        (["ncc", "a.npy", "b.npy", "-o", "c.zarr", "--workers", "0"], "--workers"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    arguments: list[str], says: str, tmp_path: Path
) -> None:
    refused(bigcorr(*arguments, cwd=tmp_path), says)
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_one_line_of_the_right_status() -> None:
    full = OSError(28, "No space left on device", "/mnt/out.zarr/c/0")
    assert explain(full) == (1, "no space left on the device: /mnt/out.zarr/c/0")
    assert explain(RunError("chunk 3\nis damaged")) == (1, "chunk 3 is damaged")
    assert explain(InputError("window: got 0")) == (2, "window: got 0")
    assert explain(FileNotFoundError(2, "No such file or directory", "a.tif"))[0] == 2
    assert explain(MemoryError())[0] == 1
    status, message = explain(KeyError("x"))
    assert status == 1
    assert "BIGCORR_TRACEBACK" in message


# -- bad input -------------------------------------------------------------------------------


BAD_INPUT = {
    "no such file": (["ncc", "no.npy", "small.npy"], "no such file or folder: no.npy"),
    "no such stack": (["pairs", "no.zarr"], "no such file or folder: no.zarr"),
    "not a raster": (["ncc", "letter.txt", "small.npy"], "letter.txt is not a raster"),
    "pairs of what is not a raster": (["pairs", "letter.txt"], "letter.txt is not a raster"),
    "two shapes": (["ncc", "stack.npy#0", "small.npy"], "40 x 50"),
    "unknown channel": (["ncc", "stack.npy#red", "stack.npy#1"], "no channel 'red'"),
    "unknown channel against": (["pairs", "stack.npy", "--against", "red"], "red"),
    "window 0": (["ncc", "stack.npy#0", "stack.npy#1", "--window", "0"], "window"),
    "window 0 of pairs": (["pairs", "stack.npy", "-m", "ncc", "--window", "0"], "window"),
    "even window": (["ncc", "stack.npy#0", "stack.npy#1", "--window", "8"], "window"),
    "large window": (["ncc", "stack.npy#0", "stack.npy#1", "--window", "81"], "window"),
    "large window of pairs": (["pairs", "stack.npy", "-m", "ncc:window=64"], "window"),
    "sigma -1": (["pairs", "stack.npy", "--sigma", "-1"], "sigma"),
    "sigma -1 of a blur": (["blur", "stack.npy", "--sigma", "-1"], "sigma"),
    "points 0": (["lbp", "stack.npy", "--points", "0"], "points"),
    "radius -1": (["lbp", "stack.npy", "--radius", "-1"], "radius"),
    "unknown method": (["lbp", "stack.npy", "--method", "circle"], "method"),
    "one shift": (["pairs", "stack.npy", "--n-shifts", "1"], "n_shifts"),
    "unknown surface": (["pairs", "stack.npy", "--detrend", "cubic"], "detrend"),
    "unknown measure": (["pairs", "stack.npy", "-m", "pearsn"], "pearson"),
    "unknown parameter": (["pairs", "stack.npy", "-m", "ncc:windo=8"], "window"),
    "memory": (["pairs", "stack.npy", "--memory", "much"], "memory"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_status_2_and_leaves_nothing(
    case: str, files: Path, tmp_path: Path
) -> None:
    arguments, says = BAD_INPUT[case]
    out = tmp_path / "out.zarr"
    refused(bigcorr(*arguments, "-o", out, "--workers", "1", cwd=files), says)
    assert list(tmp_path.iterdir()) == []


def test_an_output_of_another_run_is_left_alone(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    done = bigcorr("blur", "small.npy", "--sigma", "1", "-o", out, *ONE_PROCESS, cwd=files)
    assert done.returncode == 0, done.stderr
    before = snapshot(out)
    again = bigcorr("blur", "small.npy", "--sigma", "2", "-o", out, "--workers", "1", cwd=files)
    refused(again, str(out))
    assert snapshot(out) == before


def test_a_result_of_another_run_is_left_alone(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    done = bigcorr("pairs", "stack.npy", "-o", out, *ONE_PROCESS, cwd=files)
    assert done.returncode == 0, done.stderr
    before = snapshot(out)
    again = bigcorr("pairs", "stack.npy", "--sigma", 1, "-o", out, "--workers", "1", cwd=files)
    refused(again, str(out))
    assert snapshot(out) == before


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB; only the system's administrator can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command to make a full disk with")
    if made.returncode:
        pytest.skip(f"a full disk cannot be made here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("command", ["ncc", "blur", "pairs", "ingest", "simulate"])
def test_a_full_disk_is_one_line_status_1_and_no_result(
    command: str, tiny_disk: Path, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    np.save(tmp_path / "big.npy", random.random((2, 400, 500)))
    np.save(tmp_path / "many.npy", random.random((300, 16, 16), dtype=np.float32))
    out = tiny_disk / "out.zarr"
    arguments = {
        "ncc": ["ncc", "big.npy#0", "big.npy#1", "-o", out],
        "blur": ["blur", "big.npy", "--sigma", "1", "-o", out],
        "pairs": ["pairs", "many.npy", "-o", out],
        "ingest": ["ingest", "big.npy", out],
        "simulate": ["simulate", out, "--channels", "64", "--size", "1024"],
    }[command]
    done = bigcorr(*arguments, "--workers", "1", "--quiet", cwd=tmp_path)
    refused(done, "o space left on", "out.zarr", status=1)
    assert not out.exists()


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# -- the walk from files to a ranking --------------------------------------------------------


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where a stack was simulated and its pairs computed."""
    folder = tmp_path_factory.mktemp("walk")
    made = bigcorr(
        "simulate", "genes.zarr", "--channels", 8, "--size", "96,80", "--json", cwd=folder
    )
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["command"] == "simulate"
    done = bigcorr(
        *["pairs", "genes.zarr", "-o", "result.zarr", "--sigma", "2", "--workers", "1"],
        *["-m", "pearson", "-m", "ncc:window=8,stride=4", "--json"],
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["output"].endswith("result.zarr")
    return folder


def test_info_of_a_stack_and_of_a_result(walk: Path) -> None:
    stack = json.loads(bigcorr("info", "genes.zarr", "--json", cwd=walk).stdout)
    assert stack["kind"] == "stack"
    assert stack["shape"] == [8, 96, 80]
    assert len(stack["counts"]) == 8
    result = json.loads(bigcorr("info", "result.zarr", "--json", cwd=walk).stdout)
    assert result["kind"] == "result"
    assert list(result["measures"]) == ["pearson", "ncc"]
    shown = bigcorr("info", "genes.zarr", cwd=walk).stdout
    assert "(8, 96, 80)" in shown
    assert "ncc" in bigcorr("info", "result.zarr", cwd=walk).stdout


def test_info_of_a_plain_file(files: Path) -> None:
    facts = json.loads(bigcorr("info", "small.npy", "--json", cwd=files).stdout)
    assert facts["shape"] == [20, 20]
    assert facts["dtype"] == "float64"


def test_rank_prints_the_library_s_ranking(walk: Path) -> None:
    import xarray as xr

    import bigcorr as bc

    expected = bc.rank_pairs(xr.open_zarr(walk / "result.zarr"), by="ncc")
    done = bigcorr("rank", "result.zarr", "--by", "ncc", "--top", "3", cwd=walk)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:4]]
    for row, (_, pair) in zip(rows, expected.iterrows(), strict=False):
        assert row[:4] == [str(pair["rank"]), pair["a"], pair["b"], f"{pair['value']:.4f}"]


def test_rank_writes_every_pair_to_a_file(walk: Path) -> None:
    import pandas as pd

    for name in ("pairs.csv", "pairs.parquet"):
        done = bigcorr("rank", "result.zarr", "--by", "pearson", "-o", name, cwd=walk)
        assert done.returncode == 0, done.stderr
    csv, parquet = pd.read_csv(walk / "pairs.csv"), pd.read_parquet(walk / "pairs.parquet")
    assert len(csv) == len(parquet) == 28
    assert list(csv.columns) == list(parquet.columns)
    refused(bigcorr("rank", "result.zarr", "-o", "pairs.xls", cwd=walk), "pairs.xls")


def test_rank_shows_both_ends_and_the_pairs_of_some_channels(walk: Path) -> None:
    import xarray as xr

    import bigcorr as bc

    sim = xr.open_zarr(walk / "result.zarr")
    whole = bc.rank_pairs(sim, by="pearson")
    done = bigcorr("rank", "result.zarr", "--top", 2, "--bottom", 3, "--json", cwd=walk)
    facts = json.loads(done.stdout)
    assert facts["pairs"] == 28
    assert [row["rank"] for row in facts["top"]] == [1, 2]
    known = whole[whole["value"].notna()]
    assert [row["a"] for row in facts["bottom"]] == known["a"].tail(3).tolist()
    name = str(sim["channel"].values[3])
    done = bigcorr("rank", "result.zarr", "--against", name, "-o", "some.csv", cwd=walk)
    assert done.returncode == 0, done.stderr
    assert (walk / "some.csv").read_text().count("\n") == 1 + 7
    refused(bigcorr("rank", "result.zarr", "--against", "nobody", cwd=walk), "nobody")


def test_clusters_are_shown_or_written(walk: Path) -> None:
    import pandas as pd

    done = bigcorr("clusters", "result.zarr", "--clusters", 3, "-o", "groups.csv", cwd=walk)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(walk / "groups.csv")
    assert list(table.columns) == ["channel", "cluster", "size", "within", "count"]
    assert table["cluster"].max() == 3
    words = ["inside", "count"]
    shown = bigcorr("clusters", "result.zarr", "--by", "ncc", "--threshold", 0.5, cwd=walk)
    assert shown.stdout.splitlines()[0].split() == ["cluster", "channel", "mean", "ncc", *words]
    assert len(shown.stdout.splitlines()) == 1 + 8
    refused(bigcorr("clusters", "result.zarr", "--clusters", 9, cwd=walk), "n_clusters: got 9")


def test_rank_by_a_measure_that_is_not_there_names_those_that_are(walk: Path) -> None:
    refused(bigcorr("rank", "result.zarr", "--by", "ssim", cwd=walk), "pearson", "ncc")
    refused(bigcorr("rank", "genes.zarr", cwd=walk), "genes.zarr")
    refused(bigcorr("rank", "no.zarr", cwd=walk), "no such file or folder: no.zarr")


def test_the_same_command_again_finds_its_result(walk: Path) -> None:
    before = snapshot(walk / "result.zarr")
    again = bigcorr(
        *["pairs", "genes.zarr", "-o", "result.zarr", "--sigma", "2", "--workers", "1"],
        *["-m", "pearson", "-m", "ncc:window=8,stride=4"],
        cwd=walk,
    )
    assert again.returncode == 0, again.stderr
    assert snapshot(walk / "result.zarr") == before


def test_plan_only_prints_a_plan_and_runs_nothing(walk: Path) -> None:
    done = bigcorr("pairs", "genes.zarr", "-o", "planned.zarr", "--plan-only", cwd=walk)
    assert done.returncode == 0, done.stderr
    assert "memory" in done.stdout
    assert not (walk / "planned.zarr").exists()


def test_against_gives_few_against_all(walk: Path) -> None:
    import xarray as xr

    done = bigcorr(
        *["pairs", "genes.zarr", "-o", "few.zarr", "--against", "1", "--against", "3"],
        *["--no-significance", *ONE_PROCESS],
        cwd=walk,
    )
    assert done.returncode == 0, done.stderr
    assert xr.open_zarr(walk / "few.zarr").sizes == {"channel": 2, "other": 8}


def test_cells_are_asked_for_and_their_error_is_told(walk: Path) -> None:
    import xarray as xr

    done = bigcorr(
        *["pairs", "genes.zarr", "-o", "cells.zarr", "--sigma", "4", "--coarsen", "2"],
        *["--no-significance", "--workers", "1"],
        cwd=walk,
    )
    assert done.returncode == 0, done.stderr
    assert "pearson of cells of 2 pixels: within" in done.stdout
    attrs = xr.open_zarr(walk / "cells.zarr").attrs
    assert attrs["coarsen"] == 2
    assert 0 < attrs["coarsen_error"]["pearson"]["max"] < 0.1
    written = bigcorr("report", "cells.zarr", "-o", "cells.html", cwd=walk)
    assert written.returncode == 0, written.stderr
    assert "error of cells" in (walk / "cells.html").read_text()
    refused = bigcorr(
        *["pairs", "genes.zarr", "-o", "no.zarr", "-m", "moran", "--coarsen", "2"], cwd=walk
    )
    assert refused.returncode == 2
    assert "moran would be another question" in refused.stderr


def test_shifts_and_detrending_are_asked_for_and_recorded(walk: Path) -> None:
    import xarray as xr

    done = bigcorr(
        *["pairs", "genes.zarr", "-o", "shifted.zarr", "-m", "cosine", "--detrend", "plane"],
        *["--n-shifts", "3", "--shift-seed", "5", *ONE_PROCESS],
        cwd=walk,
    )
    assert done.returncode == 0, done.stderr
    result = xr.open_zarr(walk / "shifted.zarr")
    assert {"cosine_null", "cosine_sd"} <= set(result)
    said = {key: result.attrs[key] for key in ("detrend", "n_shifts", "shift_seed")}
    assert said == {"detrend": "plane", "n_shifts": 3, "shift_seed": 5}
    ranked = bigcorr("rank", "shifted.zarr", "--order", "z", "--json", cwd=walk)
    assert json.loads(ranked.stdout)["top"][0]["p_value"] is not None


def test_report_is_one_file(walk: Path) -> None:
    done = bigcorr("report", "result.zarr", "-o", "report.html", "--json", cwd=walk)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["output"] == "report.html"
    assert "<html" in (walk / "report.html").read_text()[:200].lower()


def test_maps_are_the_library_s(files: Path, tmp_path: Path) -> None:
    import xarray as xr

    import bigcorr as bc

    stack = np.load(files / "stack.npy")
    for arguments, expected in (
        (["ncc", "stack.npy#0", "stack.npy#2", "--window", "5"], bc.ncc(stack[0], stack[2], 5)),
        (
            ["ssim", "stack.npy#0", "stack.npy#1", "--window", "5", "--data-range", "9"],
            bc.ssim(stack[0], stack[1], 5, 9),
        ),
        (["blur", "stack.npy", "--sigma", "1.5"], bc.gaussian_blur(stack, 1.5)),
        (
            ["lbp", "stack.npy", "--radius", "1.5", "--method", "ror", "--nodata", "0"],
            bc.local_binary_pattern(stack, 8, 1.5, "ror", nodata=0),
        ),
    ):
        out = tmp_path / f"{arguments[0]}.zarr"
        done = bigcorr(*arguments, "-o", out, *ONE_PROCESS, cwd=files)
        assert done.returncode == 0, done.stderr
        (found,) = (v for v in xr.open_zarr(out).data_vars.values() if v.dims[-2:] == ("y", "x"))
        np.testing.assert_array_equal(found.values, expected)


def test_quiet_is_quiet_and_progress_goes_to_stderr(files: Path, tmp_path: Path) -> None:
    arguments = ["blur", "small.npy", "--sigma", "1", "--workers", "1"]
    quiet = bigcorr(*arguments, "-o", tmp_path / "a.zarr", "--quiet", cwd=files)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    loud = bigcorr(*arguments, "-o", tmp_path / "b.zarr", cwd=files)
    assert loud.stderr != ""
    assert str(tmp_path / "b.zarr") in loud.stdout


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupted_run_says_so_in_one_line_and_goes_on(
    name: str, status: int, tmp_path: Path
) -> None:
    """Ctrl-C reaches the workers as well; a batch system's signal only the driver."""
    np.save(tmp_path / "pair.npy", np.random.default_rng(0).random((2, 3000, 2500), np.float32))
    command = ["ncc", "pair.npy#0", "pair.npy#1", "-o", "out.zarr", "--window", "61"]
    command += ["--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "bigcorr", *command],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("dashboard: ")
    signalled = os.killpg if name == "SIGINT" else os.kill
    signalled(process.pid, getattr(signal, name))
    _, spoken = process.communicate(timeout=60)
    assert process.returncode == status, spoken
    assert spoken.splitlines()[-1].startswith("bigcorr: interrupted; the same command again")
    assert "Traceback" not in spoken
    assert not (tmp_path / "out.zarr").exists()
    again = bigcorr(*command, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out.zarr").exists()
    assert not (tmp_path / "out.zarr.partial").exists()


def test_a_traceback_is_there_for_who_asks(files: Path, tmp_path: Path) -> None:
    done = bigcorr("info", "letter.txt", cwd=files, BIGCORR_TRACEBACK="1")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
