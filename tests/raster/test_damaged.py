"""A damaged chunk behind a result is named by whatever reads the result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import bigcorr as bc
from bigcorr.errors import RunError
from bigcorr.raster.damaged import first_damage, naming_damage
from bigcorr.report import write_report
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.pairs_job import run_pairs


@pytest.fixture
def result(tmp_path: Path) -> Path:
    stack = np.random.default_rng(0).random((5, 24, 24)).astype("f4")
    run_pairs(stack, tmp_path / "r.zarr", measures=["pearson", "ncc"], cluster=ThreadPool(1))
    return tmp_path / "r.zarr"


READERS: dict[str, Callable[[xr.Dataset, Path], object]] = {
    "rank": lambda sim, _: bc.rank_pairs(sim, "ncc"),
    "top": lambda sim, _: bc.rank_pairs(sim, "ncc", top=2),
    "write": lambda sim, folder: bc.write_ranking(sim, "ncc", folder / "p.csv"),
    "clusters": lambda sim, _: bc.cluster_channels(sim, "ncc"),
    "agreement": lambda sim, _: bc.rank_agreement(sim),
    "report": lambda sim, folder: write_report(sim, folder / "r.html"),
}


@pytest.mark.parametrize("name", READERS)
def test_the_chunk_is_named(result: Path, name: str) -> None:
    chunk = result / "ncc" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    sim = xr.open_zarr(result, chunks=None)
    words = r"cannot read chunk \(0, 0\) of .*r\.zarr/ncc \(channel 0:5, other 0:5\): .*/ncc/c/0/0"
    with pytest.raises(RunError, match=words):
        READERS[name](sim, result.parent)
    assert not list(result.parent.glob("[!r]*"))


def test_other_failures_are_left_as_they_are(result: Path) -> None:
    sim = xr.open_zarr(result, chunks=None)
    assert first_damage(result) is None
    for lazy in (sim, xr.Dataset()):
        with pytest.raises(KeyError, match="mine"), naming_damage(lazy):
            raise KeyError("mine")
    (result / "ncc" / "zarr.json").write_text("{")
    with pytest.raises(RunError, match=r"cannot read .*r\.zarr"), naming_damage(sim):
        raise KeyError("mine")
