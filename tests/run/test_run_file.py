"""Sorted runs are what was written, or say that they are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import bigcorr as bc
from bigcorr.errors import RunError
from bigcorr.pairs import listing as pair_listing
from bigcorr.pairs.listing import TESTED, PairListing
from bigcorr.raster.lock import locked
from bigcorr.run import rank_job, run_file
from bigcorr.run.progress import SILENT
from bigcorr.run.run_file import DamagedRun, Run, RunReader, run_bytes, write_run


def records(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    out = np.empty(count, TESTED)
    for name in TESTED.names:
        out[name] = rng.integers(0, 1000, count)
    return out


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 99))
@settings(max_examples=40)
def test_any_part_of_a_run_is_what_was_written(tmp_path_factory, count, start, length, seed):
    path = tmp_path_factory.mktemp("run") / "a.run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_file, "BLOCK", 7)
        patch.setattr(run_file, "_SLICE", 14)
        held = records(count, seed)
        order = np.random.default_rng(seed).permutation(count)
        run = write_run(path, held, order)
        assert path.stat().st_size == run_bytes(count, TESTED)
        reader = RunReader(run, TESTED)
        reader.verify()
        start = min(start, count)
        length = min(length, count - start)
        np.testing.assert_array_equal(reader.read(start, length), held[order][start:][:length])
        assert write_run(path, held) == run
        np.testing.assert_array_equal(RunReader(run, TESTED).read(0, count), held)


def test_every_flipped_bit_and_every_length_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(run_file, "BLOCK", 3)
    run = write_run(tmp_path / "a.run", records(8))
    whole = run.path.read_bytes()
    for place in range(len(whole)):
        run.path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(DamagedRun, match=r"a\.run is damaged.*--restart"):
            RunReader(run, TESTED).verify()
    for size in (0, 1, len(whole) - 1, len(whole) + 1):
        run.path.write_bytes((whole + b"x")[:size])
        with pytest.raises(DamagedRun, match=f"it has {size} bytes, {len(whole)} were written"):
            RunReader(run, TESTED)
    run.path.unlink()
    with pytest.raises(DamagedRun, match="No such file"):
        RunReader(run, TESTED)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


HARM: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "flipped run": ("rank-00001.run", lambda p: flip(p, 99), "damaged"),
    "torn run": ("rank-00000.run", lambda p: p.write_bytes(p.read_bytes()[:-9]), "damaged"),
    "lost run": ("rank-00002.run", Path.unlink, "missing"),
    "another number in the state": (
        "state.json",
        lambda p: p.write_text(p.read_text().replace('"finite": ', '"finite": 1', 1)),
        "metadata",
    ),
    "torn state": ("state.json", lambda p: p.write_text(p.read_text()[:30]), "metadata"),
    "another kind of state": ("state.json", lambda p: p.write_text("[1, 2]"), "metadata"),
}


class Stop(BaseException):
    """Ends a ranking as a kill would, as far as its files are concerned."""


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_ranking_is_not_gone_on_with(tmp_path, monkeypatch, harm):
    name, do, kind = HARM[harm]
    rng = np.random.default_rng(0)
    matrix, sd = rng.uniform(-1, 1, (2, 30, 30))
    names = [f"g{i}" for i in range(30)]
    attrs = {"kind": "similarity", "symmetric": True, "distribution": "t", "n_max": 5000}
    xr.Dataset(
        {
            "pearson": (("channel", "other"), matrix, attrs),
            "pearson_sd": (("channel", "other"), np.abs(sd)),
        },
        coords={"channel": names, "other": names},
    ).to_zarr(tmp_path / "result.zarr", zarr_format=3, consolidated=False)
    sim = xr.open_zarr(tmp_path / "result.zarr", chunks=None, consolidated=False)
    monkeypatch.setattr(pair_listing, "SIDE", 7)
    out = tmp_path / "pairs.parquet"

    def rank(resume: bool = True) -> None:
        with locked(out) as lock:
            rank_job._rank(PairListing(sim, "pearson"), out, 200, resume, lock, SILENT)

    def stop(*_: object) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(rank_job, "_write", stop)
        with pytest.raises(Stop):
            rank()
    partial = tmp_path / "pairs.parquet.partial"
    fine = bc.check_store(out)
    assert (fine.ok, fine.kind, fine.files) == (True, "ranking", 6)
    do(partial / name)
    found = bc.check_store(out).damages
    assert [(d.kind, Path(d.file).name) for d in found] == [(kind, name)]
    with pytest.raises(RunError, match=f"{name}.*--restart"):
        rank()
    assert not out.exists()
    rank(resume=False)
    assert len(bc.rank_pairs(sim, "pearson")) == 435
    assert not partial.exists()


def test_an_empty_run_is_a_run(tmp_path):
    run = write_run(tmp_path / "a.run", records(0))
    assert run == Run(tmp_path / "a.run", 0)
    RunReader(run, TESTED).verify()
