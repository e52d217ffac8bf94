"""The whole walk on real data, by the command line: files in, known answers out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.acceptance


def bigcorr(*arguments: object) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "bigcorr", *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ranking(result: Path, by: str) -> pd.DataFrame:
    table = result.with_suffix(".csv")
    bigcorr("rank", result, "--by", by, "-o", table)
    return pd.read_csv(table)


@pytest.fixture(scope="module")
def merscope(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    stack = tmp_path_factory.mktemp("merscope") / "g2.zarr"
    done = bigcorr("ingest", real_data / "vizgen/transcripts.gz", stack, "--pixel-size", 2)
    assert done["shape"] == [559, 226, 250]
    assert done["total_count"] == 80343
    return stack


def test_genes_with_enough_counts_lead_with_the_known_pair(merscope: Path, tmp_path: Path) -> None:
    result = tmp_path / "r2.zarr"
    bigcorr("pairs", merscope, "-o", result, "--measure", "pearson", "--min-count", 200)
    pairs = ranking(result, "pearson")
    assert len(pairs) == 94 * 93 // 2
    top = [({a, b}, round(v, 3)) for a, b, v in pairs[["a", "b", "value"]].head(3).to_numpy()]
    assert top == [
        ({"C1qa", "C1qb"}, 0.461),
        ({"C1qb", "Cx3cr1"}, 0.350),
        ({"C1qb", "Csf1r"}, 0.333),
    ]


def test_rare_genes_lead_without_a_floor_and_are_marked(merscope: Path, tmp_path: Path) -> None:
    result = tmp_path / "r2.zarr"
    bigcorr("pairs", merscope, "-o", result, "--measure", "pearson", "--no-significance")
    first = ranking(result, "pearson").iloc[0]
    assert {first["a"]: first["count_a"], first["b"]: first["count_b"]} == {"Cckbr": 9, "Opn4": 1}
    assert first["value"] == pytest.approx(0.603, abs=5e-4)
    shown = subprocess.run(
        [sys.executable, "-m", "bigcorr", "rank", str(result), "--top", "5"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "9*" in shown
    assert "1*" in shown


def test_the_olfactory_bulb_s_known_pairs(real_data: Path, tmp_path: Path) -> None:
    stack, result = tmp_path / "bulb.zarr", tmp_path / "pairs.zarr"
    counts = real_data / "olfactory_bulb/counts.npz"
    options = ["--pixel-size", 1, "--round", "--normalize", "log1p-cp10k"]
    done = bigcorr("ingest", counts, stack, *options)
    assert done["cells"] == 262
    chosen = ["Kctd12", "Fabp7", "Doc2g"]
    against = [part for name in chosen for part in ("--against", name)]
    bigcorr("pairs", stack, "-o", result, "--no-significance", *against)
    pairs = ranking(result, "pearson").set_index(["a", "b"])["value"]
    assert pairs["Kctd12", "Apod"] == pytest.approx(0.8169, abs=1e-4)
    assert pairs["Fabp7", "Apoe"] == pytest.approx(0.8408, abs=1e-4)
    assert pairs["Doc2g", "Cdhr1"] == pytest.approx(0.6801, abs=1e-4)


def test_the_map_of_two_dapi_planes_equals_brute_force(real_data: Path, tmp_path: Path) -> None:
    import xarray as xr

    from bigcorr.raster import open_raster

    planes = sorted((real_data / "vizgen").rglob("*dapi*z[01]*"))
    assert len(planes) == 2
    out = tmp_path / "m.zarr"
    bigcorr("ncc", *planes, "-o", out, "--window", 7)
    found = xr.open_zarr(out)["ncc"]
    images = [np.asarray(open_raster(path).data, dtype=np.float64).squeeze() for path in planes]
    assert found.shape == images[0].shape == (4143, 4603)
    random = np.random.default_rng(0)
    for _ in range(200):
        y, x = random.integers(3, 4143 - 3), random.integers(3, 4603 - 3)
        a, b = (image[y - 3 : y + 4, x - 3 : x + 4].ravel() for image in images)
        a, b = a - a.mean(), b - b.mean()
        norm = np.sqrt((a @ a) * (b @ b))
        assert float(found[y, x]) == pytest.approx(a @ b / norm if norm else 0.0, abs=1e-6)
