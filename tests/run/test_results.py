"""Results written tile by tile: cut short anywhere, gone on with, and the same bytes."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import bigcorr as bc
from bigcorr.run import pairs_job, results
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.pairs_job import run_pairs
from bigcorr.run.plan import Plan

CHANNELS = 600


class Stop(BaseException):
    """Ends a run as a kill would, as far as its files are concerned."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stack") / "stack.npy"
    np.save(path, np.random.default_rng(0).poisson(1.0, (CHANNELS, 12, 14)).astype("u1"))
    return path


@pytest.fixture
def tiles_of_256(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six tiles of the matrix, each of whole chunks."""
    whole = pairs_job.plan_for

    def tiled(*arguments: object) -> Plan:
        return dataclasses.replace(whole(*arguments), group=256)  # type: ignore[arg-type]

    monkeypatch.setattr(pairs_job, "plan_for", tiled)
    monkeypatch.setattr(results, "SIDE", 128)
    monkeypatch.setattr(results, "BLOCK_BYTES", 8 * 128 * 256)


def compare(stack: Path, out: Path) -> None:
    run_pairs(str(stack), out, measures=["pearson"], cluster=ThreadPool(1))


def contents(path: Path) -> dict[str, bytes]:
    """Chunks and lists; the metadata say how long it took."""
    files = (p for p in path.rglob("*") if p.is_file() and p.name != "zarr.json")
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in files}


@pytest.mark.parametrize("stop_after", [0, 1, 20, 35])
def test_a_result_that_was_cut_short_is_gone_on_with(
    stack: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiles_of_256: None,
    stop_after: int,
) -> None:
    whole, out = tmp_path / "whole.zarr", tmp_path / "o.zarr"
    compare(stack, whole)
    blocks, made = results.PairResult.blocks, []

    def counted(self: results.PairResult, first: int = 0):  # type: ignore[no-untyped-def]
        for index, block in blocks(self, first):
            if len(made) == stop_after:
                raise Stop
            made.append(index)
            yield index, block

    monkeypatch.setattr(results.PairResult, "blocks", counted)
    with contextlib.suppress(Stop):
        compare(stack, out)
    assert not out.exists()
    tiles_done = made[-1] if made else 0
    again: list[int] = []
    stop_after, made = -1, again
    compare(stack, out)
    assert again[0] == tiles_done
    assert contents(out) == contents(whole)
    assert bc.check_store(out).ok
    assert not (tmp_path / "o.zarr.partial").exists()
    first, second = (xr.open_zarr(path) for path in (whole, out))
    for name in ("pearson", "pearson_sd", "pearson_null"):
        assert np.array_equal(first[name], second[name], equal_nan=True)


def test_tiles_that_share_chunks_are_written_afresh(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiles_of_256: None
) -> None:
    monkeypatch.setattr(results, "SIDE", 1024)
    places = [list(p) for p in [(0, 0, 0, 256, 256), (0, 0, 256, 256, 256)]]
    results._note_tiles(tmp_path / "result", places, 1, set())
    assert results._tiles_written(tmp_path / "result", places) == 0
    monkeypatch.setattr(results, "SIDE", 256)
    assert results._tiles_written(tmp_path / "result", places) == 1
    assert results._tiles_written(tmp_path / "result", places[:1]) == 0
    for torn in ("", "[]", '{"tiles": 1}'):
        (tmp_path / "result.json").write_text(torn)
        assert results._tiles_written(tmp_path / "result", places) == 0
