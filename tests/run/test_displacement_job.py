"""Batch runs of a displacement: the bits of the library, taken up where they stopped."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

import bigcorr as bc
from bigcorr.errors import InputError, RunError
from bigcorr.motion import tile
from bigcorr.raster.writer import ShardWriter
from bigcorr.run import displacement_job
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.displacement_job import run_displacement
from bigcorr.run.memory import FILL, PROCESS_BYTES

SEVERAL = {"window": 12, "search": 4, "step": 6, "passes": 2}


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two images as files, in which a unit is a few nodes."""
    rng = np.random.default_rng(0)
    a = ndimage.gaussian_filter(rng.normal(size=(100, 120)), 1.5).astype("float32") * 50
    b = ndimage.shift(a, (1.3, -2.2), order=3, mode="nearest")
    b[rng.random(b.shape) < 0.003] = np.nan
    paths = [str(tmp_path / f"{name}.npy") for name in "ab"]
    for path, image in zip(paths, (a, b), strict=True):
        np.save(path, image)
    monkeypatch.setattr(tile, "UNIT", 48)
    monkeypatch.setattr(tile, "_LEAST_NODES", 2)
    return paths


def same(path: Path, expected: xr.Dataset) -> None:
    with xr.open_zarr(path) as found:
        assert set(found.data_vars) == set(expected.data_vars)
        for name in (*expected.data_vars, *expected.coords):
            assert np.array_equal(found[name], expected[name], equal_nan=True), name
            assert found[name].dtype == expected[name].dtype


@pytest.mark.parametrize(
    "options",
    [
        SEVERAL,
        {"window": 16, "search": 4, "step": 8},
        {"window": 7, "search": 3, "step": 1},
        {**SEVERAL, "levels": 1, "max_inconsistency": 1.0},
    ],
)
def test_a_batch_run_has_the_bits_of_the_library(
    pair: list[str], tmp_path: Path, options: dict[str, Any]
) -> None:
    summary = run_displacement(*pair, tmp_path / "o.zarr", **options)
    expected = bc.displacement(*pair, **options)
    same(tmp_path / "o.zarr", expected)
    assert summary["shape"] == list(expected.dy.shape)
    assert summary["valid"] == int(np.isfinite(expected.dy).sum())
    assert summary["units"] > 3
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["a.npy", "b.npy", "o.zarr"]
    assert bc.check_store(tmp_path / "o.zarr").ok


def test_the_rasters_coordinates_go_along(pair: list[str], tmp_path: Path) -> None:
    a, b = (np.load(path) for path in pair)
    coords = {"y": 10.0 * np.arange(100), "x": 7 + 0.5 * np.arange(120)}
    labelled = xr.Dataset({"raster": xr.DataArray(a, coords, ("y", "x"))})
    labelled.to_zarr(tmp_path / "a.zarr", consolidated=False)
    run_displacement(tmp_path / "a.zarr", b, tmp_path / "o.zarr", **SEVERAL)
    with xr.open_zarr(tmp_path / "o.zarr") as found:
        assert found.y.values[:2].tolist() == [5.5, 11.5]
        assert found.y_raster.values[:2].tolist() == [55.0, 115.0]
        assert found.x_raster.values[0] == 7 + 0.5 * 5.5
        assert "y_raster" in found.coords


class Stop(Exception):
    """A run that is cut off."""


@pytest.mark.parametrize("writes", [3, 8])
def test_a_run_that_was_cut_off_does_only_the_rest_and_ends_in_the_same_bits(
    pair: list[str], tmp_path: Path, writes: int
) -> None:
    done: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        write = ShardWriter.write

        def stops(self: ShardWriter, unit: Any, data: np.ndarray) -> None:
            if len(done) == writes:
                raise Stop
            write(self, unit, data)
            done.append(unit)

        patch.setattr(ShardWriter, "write", stops)
        with pytest.raises(Stop):
            run_displacement(*pair, tmp_path / "o.zarr", cluster=ThreadPool(1), **SEVERAL)
    assert not (tmp_path / "o.zarr").exists()
    found = bc.check_store(tmp_path / "o.zarr")
    assert (found.kind, found.ok, found.units_done) == ("displacement", True, writes)
    with pytest.raises(InputError, match=r"that was begun .*min_valid 0.5 there"):
        run_displacement(*pair, tmp_path / "o.zarr", min_valid=0.7, **SEVERAL)
    summary = run_displacement(*pair, tmp_path / "o.zarr", **SEVERAL)
    assert summary["units_done_before"] == writes
    same(tmp_path / "o.zarr", bc.displacement(*pair, **SEVERAL))


def test_a_run_that_was_cut_off_before_its_name_measures_nothing_again(
    pair: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(displacement_job, "coordinates", full)
        with pytest.raises(RunError, match="no space left on the device"):
            run_displacement(*pair, tmp_path / "o.zarr", **SEVERAL)
    monkeypatch.setattr(displacement_job, "measure", None)
    summary = run_displacement(*pair, tmp_path / "o.zarr", **SEVERAL)
    assert summary["units_done_before"] == summary["units"]
    again = run_displacement(*pair, tmp_path / "o.zarr", **SEVERAL)
    assert again["done_before"]
    assert again["valid"] == summary["valid"]


def test_an_output_of_another_run_is_refused_or_replaced(pair: list[str], tmp_path: Path) -> None:
    out = tmp_path / "o.zarr"
    run_displacement(*pair, out, **SEVERAL)
    with pytest.raises(InputError, match=r"passes 24/4/6, 12/3/6 there, 12/4/6 here"):
        run_displacement(*pair, out, window=12, search=4, step=6, weights="gaussian", smooth=True)
    run_displacement(*pair, out, window=16, search=4, step=8, resume=False)
    same(out, bc.displacement(*pair, window=16, search=4, step=8))
    np.save(pair[1], np.load(pair[1]) + 1)
    with pytest.raises(InputError, match=r"b\.npy has changed since"):
        run_displacement(*pair, out, window=16, search=4, step=8)
    (tmp_path / "thesis.zarr").mkdir()
    (tmp_path / "thesis.zarr" / "text").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.zarr exists"):
        run_displacement(*pair, tmp_path / "thesis.zarr", **SEVERAL)


def test_neither_the_memory_nor_the_threads_change_a_bit(pair: list[str], tmp_path: Path) -> None:
    options = {"window": 64, "search": 16, "step": 2}
    roomy = run_displacement(*pair, tmp_path / "1.zarr", cluster=ThreadPool(1), **options)
    limit = int((roomy["projected_bytes"] - 1 + PROCESS_BYTES) / FILL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(displacement_job, "PARTS", (512, 8))
        pool = ThreadPool(3, limit)
        tight = run_displacement(*pair, tmp_path / "2.zarr", cluster=pool, **options)
    assert tight["projected_bytes"] < roomy["projected_bytes"]
    with xr.open_zarr(tmp_path / "2.zarr") as found:
        same(tmp_path / "1.zarr", found)
    with pytest.raises(InputError, match=r"memory: a task needs \d+ MiB"):
        run_displacement(*pair, tmp_path / "3.zarr", cluster=ThreadPool(1, 2**20), **options)


def test_nothing_but_missing_pixels_is_refused(pair: list[str], tmp_path: Path) -> None:
    nothing = np.full((100, 120), np.nan)
    with pytest.raises(InputError, match="moving: got missing pixels only"):
        run_displacement(pair[0], nothing, tmp_path / "o.zarr", **SEVERAL)
    assert not (tmp_path / "o.zarr").exists()
