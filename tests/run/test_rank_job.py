"""Ranking through files: the same table as in memory, to the last bit, and kept when cut short."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import bigcorr as bc
from bigcorr.errors import InputError, MissingFileError, RunError
from bigcorr.pairs import listing as pair_listing
from bigcorr.pairs.listing import PairListing
from bigcorr.raster.lock import locked
from bigcorr.run import rank_job, rank_runs
from bigcorr.run.external_sort import Merge
from bigcorr.run.progress import SILENT
from bigcorr.run.run_file import write_run


def result(channels: int, seed: int = 0, significance: bool = True, **attrs) -> xr.Dataset:
    """A result with ties, missing values and p of zero."""
    rng = np.random.default_rng(seed)
    matrix = np.round(rng.uniform(-1, 1, (channels, channels)), 1)
    matrix[rng.random(matrix.shape) < 0.05] = np.nan
    attrs = {"kind": "similarity", "symmetric": True, "distribution": "t", "n_max": 5000} | attrs
    if attrs["symmetric"]:
        matrix = np.minimum(matrix, matrix.T)
    names = [f"g{i}" for i in rng.permutation(channels)]
    count = rng.integers(0, 900, channels)
    variables = {"pearson": (("channel", "other"), matrix, attrs)}
    if significance:
        sd = np.round(rng.uniform(0, 0.6, matrix.shape), 2)
        sd = np.minimum(sd, sd.T) if attrs["symmetric"] else sd
        variables["pearson_sd"] = (("channel", "other"), sd)
        variables["pearson_null"] = (("channel", "other"), np.full(matrix.shape, 0.01))
    coords = {"channel": names, "other": names}
    counts = {"count": ("channel", count), "count_other": ("other", count)}
    return xr.Dataset(variables, coords=coords | counts)


@pytest.fixture
def tiles_of_7(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_listing, "SIDE", 7)


def read(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    return table.astype({"a": "str", "b": "str"})


def rank(sim: xr.Dataset, path: Path, rows: int, resume: bool = True, **question) -> dict:
    listing = PairListing(sim, "pearson", **question)
    with locked(path) as lock:
        return rank_job._rank(listing, path, rows, resume, lock, SILENT)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "result.zarr"
    result(30).to_zarr(path, zarr_format=3, consolidated=False)
    return path


@given(
    seed=st.integers(0, 99),
    rows=st.integers(50, 250),
    significance=st.booleans(),
    question=st.sampled_from(
        [{}, {"order": "z"}, {"kind": "distance"}, {"symmetric": False}, {"distribution": "normal"}]
    ),
    against=st.booleans(),
)
@settings(max_examples=25)
def test_any_memory_gives_the_table_of_memory(
    tmp_path_factory, seed, rows, significance, question, against
):
    folder = tmp_path_factory.mktemp("rank")
    question = dict(question)
    asked = {"order": question.pop("order", "value") if significance else "value"}
    sim = result(24, seed, significance, **question)
    if against:
        asked["against"] = list(sim["channel"].values[[3, 11, 4]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_listing, "SIDE", 7)
        summary = rank(sim, folder / "pairs.parquet", 10 if against else rows, **asked)
    assert summary["runs"] > 1
    expected = bc.rank_pairs(sim, "pearson", **asked)
    pd.testing.assert_frame_equal(read(folder / "pairs.parquet"), expected, check_exact=True)
    assert [entry.name for entry in folder.iterdir()] == ["pairs.parquet"]


def test_a_store_is_ranked_into_parquet_and_csv(tmp_path, store, tiles_of_7):
    for name in ("pairs.parquet", "pairs.csv"):
        made = bc.write_ranking(store, "pearson", tmp_path / name)
        assert (made["pairs"], made["runs"]) == (435, 0)
    expected = bc.rank_pairs(result(30), "pearson")
    pd.testing.assert_frame_equal(read(tmp_path / "pairs.parquet"), expected, check_exact=True)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "pairs.csv"), expected)


class Stop(BaseException):
    """Ends a ranking as a kill would, as far as its files are concerned."""


@pytest.mark.parametrize("kept", [0, 1, 4, 7, 12])
def test_a_ranking_that_was_cut_short_goes_on(tmp_path, store, tiles_of_7, monkeypatch, kept):
    sim = xr.open_zarr(store, chunks=None, consolidated=False)
    rank(sim, tmp_path / "whole.parquet", 120)
    written = []

    def write_some(*arguments):
        if len(written) == kept:
            raise Stop
        written.append(write_run(*arguments))
        return written[-1]

    monkeypatch.setattr(rank_runs, "write_run", write_some)
    out = tmp_path / "pairs.parquet"
    with pytest.raises(Stop):
        rank(sim, out, 120)
    assert not out.exists()
    monkeypatch.undo()
    monkeypatch.setattr(pair_listing, "SIDE", 7)
    again = rank(sim, out, 90)
    assert again["runs_found_done"] == kept
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not (tmp_path / "pairs.parquet.partial").exists()


def test_unfinished_work_of_another_question_is_refused_unless_started_over(
    tmp_path, store, tiles_of_7, monkeypatch
):
    sim = xr.open_zarr(store, chunks=None, consolidated=False)
    out = tmp_path / "pairs.parquet"

    def fail(*_):
        raise Stop

    monkeypatch.setattr(rank_job, "_write", fail)
    with pytest.raises(Stop):
        rank(sim, out, 120)
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"order is \"value\" there and \"z\" here.*--restart"):
        rank(sim, out, 120, order="z")
    assert rank(sim, out, 120, resume=False, order="z")["runs_found_done"] == 0


def test_work_on_a_dataset_in_memory_leaves_nothing(tmp_path, tiles_of_7, monkeypatch):
    def fail(*_):
        raise Stop

    monkeypatch.setattr(rank_job, "_write", fail)
    with pytest.raises(Stop):
        rank(result(20), tmp_path / "pairs.parquet", 60)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_clear_error(tmp_path, store, tiles_of_7, monkeypatch):
    sim = xr.open_zarr(store, chunks=None, consolidated=False)
    out = tmp_path / "pairs.parquet"
    out.write_text("old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(RunError, match="no space left on the device while writing"):
            rank_job.write_ranking(sim, "pearson", out)
    assert out.read_text() == "old"
    with monkeypatch.context() as patch:
        nothing = type("Usage", (), {"free": 10})
        patch.setattr("shutil.disk_usage", lambda _: nothing)
        with pytest.raises(RunError, match=r"no space left .* 435 pairs takes another"):
            rank(sim, out, 100)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["pairs.parquet", "result.zarr"]


def test_too_little_memory_is_told_with_what_it_takes(tmp_path, store, monkeypatch):
    assert bc.write_ranking(store, "pearson", tmp_path / "p.csv", memory="1MiB")["pairs"] == 435
    monkeypatch.setattr(rank_job, "SMALL", 400)
    with pytest.raises(InputError, match=r"memory: got 100 MiB, takes at least \d+ MiB for 435"):
        bc.write_ranking(store, "pearson", tmp_path / "p.parquet", memory="100MiB")
    assert rank_job._least_rows(10**10) > rank_job._least_rows(10**8)


def test_bad_names_are_told_before_anything_is_read(tmp_path, store):
    with pytest.raises(InputError, match=r"\.parquet or \.csv"):
        bc.write_ranking(store, "pearson", tmp_path / "p.txt")
    with pytest.raises(MissingFileError, match="no such file or folder"):
        bc.write_ranking(tmp_path / "absent.zarr", "pearson", tmp_path / "p.csv")
    with pytest.raises(InputError, match="this result has: pearson"):
        bc.write_ranking(store, "ncc", tmp_path / "p.csv")


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    rows=st.integers(1, 9),
    levels=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_a_merge_is_one_sort_in_bounded_pieces(tmp_path_factory, lengths, rows, levels, seed):
    folder = tmp_path_factory.mktemp("merge")
    rng = np.random.default_rng(seed)
    dtype = np.dtype([("key", np.uint64), ("code", np.int64)])
    records = np.empty(sum(lengths), dtype)
    records["key"] = rng.integers(0, levels, len(records))
    records["code"] = rng.permutation(len(records))
    runs = []
    for i, part in enumerate(np.split(records, np.cumsum(lengths)[:-1])):
        order = np.lexsort((part["code"], part["key"]))
        runs.append(write_run(folder / f"{i}", part, order))
    merge = Merge(runs, dtype, rows, lambda r: r["key"].copy(), lambda r: r["code"])
    pieces = list(merge)
    assert all(0 < len(piece) <= rows * len(runs) for piece in pieces)
    assert merge.positions == lengths
    merged = np.concatenate([np.empty(0, dtype), *pieces])
    np.testing.assert_array_equal(merged, np.sort(records, order=["key", "code"]))


def test_what_was_computed_from_a_store_is_not_taken_for_the_store(store):
    sim = xr.open_zarr(store, chunks=None, consolidated=False)
    assert PairListing(sim, "pearson").source == str(store)
    assert PairListing(sim.isel(channel=slice(9)), "pearson").source == str(store)
    changed = sim.assign(pearson=(sim["pearson"] ** 2).assign_attrs(sim["pearson"].attrs))
    assert PairListing(changed, "pearson").source is None
    assert PairListing(result(5), "pearson").source is None
