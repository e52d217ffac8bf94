"""Batch runs of maps: the bits of the lazy maps, taken up where they stopped, refused in words."""

from __future__ import annotations

import contextlib
import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import bigcorr as bc
from bigcorr.errors import InputError, RunError
from bigcorr.maps import NCC, SSIM, GaussianBlur
from bigcorr.raster.memory import ArraySource
from bigcorr.raster.writer import ShardWriter
from bigcorr.run import map_job
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.map_job import run_map
from bigcorr.run.memory import PROCESS_BYTES

SMALL = {"chunk": 32, "shard": 64}


def image(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=shape) * 30 + 120).clip(0, 250).astype(dtype)
    if values.dtype.kind == "f":
        values[rng.random(shape) < 0.02] = np.nan
    return values


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    paths = [str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]
    for seed, path in enumerate(paths):
        np.save(path, image((150, 201), seed=seed))
    return paths


def stored(path: Path | str, name: str) -> np.ndarray:
    with xr.open_zarr(path) as dataset:
        return dataset[name].values


@pytest.mark.parametrize("boundary", ["reflect", "nan"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_a_batch_run_of_ncc_has_the_bits_of_the_lazy_map(
    tmp_path: Path, dtype: str, boundary: Any
) -> None:
    a, b = image((150, 201), dtype, 1), image((150, 201), dtype, 2)
    run_map(NCC(9, boundary), [a, b], tmp_path / "o.zarr", nodata=130, **SMALL)
    expected = bc.ncc(a, b, 9, boundary=boundary, nodata=130)
    assert np.array_equal(stored(tmp_path / "o.zarr", "ncc"), expected, equal_nan=True)


@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_a_batch_run_of_ssim_has_the_bits_of_the_lazy_map(
    tmp_path: Path, dtype: str, gaussian: bool
) -> None:
    a, b = image((90, 130), dtype, 1), image((90, 130), dtype, 2)
    op = SSIM(5, 250.0, boundary="nan", gaussian_weights=gaussian)
    run_map(op, [a, b], tmp_path / "o.zarr", nodata=130, **SMALL)
    expected = bc.ssim(a, b, 5, 250, boundary="nan", gaussian_weights=gaussian, nodata=130)
    assert np.array_equal(stored(tmp_path / "o.zarr", "ssim"), expected, equal_nan=True)


@pytest.mark.parametrize("sigma", [0.8, 30.0])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_a_batch_run_of_the_blur_has_the_bits_of_the_lazy_map(
    tmp_path: Path, dtype: str, sigma: float
) -> None:
    a = image((90, 130), dtype)
    run_map(GaussianBlur(sigma), [a], tmp_path / "o.zarr", **SMALL)
    result = stored(tmp_path / "o.zarr", "blur")
    expected = bc.gaussian_blur(a, sigma)
    assert result.dtype == expected.dtype
    assert np.array_equal(result, expected, equal_nan=True)


def test_a_mask_and_a_nodata_value_are_honoured_as_the_lazy_map_does(tmp_path: Path) -> None:
    a = image((80, 90), "uint8")
    mask = np.random.default_rng(0).random(a.shape) > 0.2
    run_map(GaussianBlur(2.0), [ArraySource(a, mask=mask, nodata=120)], tmp_path / "o.zarr")
    coords = {"mask": (("y", "x"), mask)}
    expected = bc.gaussian_blur(xr.DataArray(a, coords, ("y", "x"), attrs={"nodata": 120}), 2.0)
    assert np.array_equal(stored(tmp_path / "o.zarr", "blur"), expected, equal_nan=True)


def test_a_stack_is_blurred_channel_by_channel_and_keeps_its_names(tmp_path: Path) -> None:
    stack = xr.DataArray(
        image((3, 70, 80), "uint8") * (image((3, 70, 80), "uint8", 9) > 150),
        dims=("channel", "y", "x"),
        coords={"channel": ["Apod", "Penk", "empty"]},
        name="genes",
    )
    stack[2] = 0
    run_map(GaussianBlur(3.0), [stack], tmp_path / "o.zarr", **SMALL)
    with xr.open_zarr(tmp_path / "o.zarr") as dataset:
        assert list(dataset.channel.values) == ["Apod", "Penk", "empty"]
        assert np.array_equal(dataset["blur"], bc.gaussian_blur(stack, 3.0))


def test_a_float_raster_about_a_high_level_has_the_bits_of_the_lazy_map(tmp_path: Path) -> None:
    """The offset is found by single pixels here and by dask there."""
    a, b = (image((80, 90), "float64", s) * 1e-3 + 1e6 for s in (0, 1))
    run_map(NCC(7), [a, b], tmp_path / "o.zarr", **SMALL)
    lazy = bc.ncc(xr.DataArray(a, dims=("y", "x")).chunk(17), b).values
    assert np.array_equal(stored(tmp_path / "o.zarr", "ncc"), lazy, equal_nan=True)


def test_the_store_says_what_it_holds(pair: list[str], tmp_path: Path) -> None:
    summary = run_map(NCC(7), pair, tmp_path / "o.zarr", attrs={"note": "day 3"}, **SMALL)
    facts = zarr.open_group(str(tmp_path / "o.zarr"), mode="r").attrs["bigcorr"]
    assert isinstance(facts, dict)
    assert facts["operator"] == "ncc"
    given_ = {"window": 7, "boundary": "reflect", "min_valid": 0.5, "weights": "uniform"}
    assert facts["parameters"] == given_
    assert facts["sources"] == pair
    assert facts["note"] == "day 3"
    assert summary["units"] == 12
    assert summary["units_done_before"] == 0
    assert summary["shape"] == [150, 201]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "b.npy", "o.zarr"]


def test_neither_the_memory_nor_the_workers_change_a_bit(
    pair: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_map(NCC(7), pair, tmp_path / "one.zarr", cluster=ThreadPool(1), chunk=64, shard=128)
    monkeypatch.setattr(map_job, "READ_SIDES", (2048, 50, 20))
    needed = map_job._task_bytes(NCC(7), ["float32"] * 2, (50, 50), 128 * 128)
    limit = -(-(needed + PROCESS_BYTES) * 100 // 75)
    summary = run_map(
        NCC(7), pair, tmp_path / "two.zarr", cluster=ThreadPool(3, limit), chunk=64, shard=128
    )
    assert summary["read_side"] == 50
    assert summary["projected_bytes"] == needed
    assert np.array_equal(
        stored(tmp_path / "one.zarr", "ncc"), stored(tmp_path / "two.zarr", "ncc"), equal_nan=True
    )


class Stop(Exception):
    """A run that is cut off."""


def stop_after(monkeypatch: pytest.MonkeyPatch, writes: int, error: BaseException) -> list[Any]:
    """Let `writes` shards be written, tear the next one and raise."""
    done: list[Any] = []
    write = ShardWriter.write

    def torn(self: ShardWriter, unit: Any, data: np.ndarray) -> None:
        if len(done) == writes:
            file = self._file(self._open(), unit)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"torn")
            raise error
        write(self, unit, data)
        done.append(unit)

    monkeypatch.setattr(ShardWriter, "write", torn)
    return done


def test_a_run_that_was_cut_off_does_only_the_rest_and_ends_in_the_same_bits(
    pair: list[str], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 5, Stop())
        with pytest.raises(Stop):
            run_map(NCC(7), pair, tmp_path / "o.zarr", cluster=ThreadPool(1), **SMALL)
    assert not (tmp_path / "o.zarr").exists()
    summary = run_map(NCC(7), pair, tmp_path / "o.zarr", **SMALL)
    assert (summary["units_done_before"], summary["units"]) == (5, 12)
    run_map(NCC(7), pair, tmp_path / "whole.zarr", **SMALL)
    assert np.array_equal(
        stored(tmp_path / "o.zarr", "ncc"), stored(tmp_path / "whole.zarr", "ncc"), equal_nan=True
    )


def test_a_finished_run_is_not_done_again(pair: list[str], tmp_path: Path) -> None:
    run_map(NCC(7), pair, tmp_path / "o.zarr", **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 0, Stop())
        summary = run_map(NCC(7), pair, tmp_path / "o.zarr", **SMALL)
    assert summary["units_done_before"] == summary["units"]


def test_a_fresh_start_leaves_nothing_of_what_was_there(pair: list[str], tmp_path: Path) -> None:
    run_map(NCC(7), pair, tmp_path / "o.zarr", **SMALL)
    summary = run_map(NCC(9), pair, tmp_path / "o.zarr", resume=False, **SMALL)
    assert summary["units_done_before"] == 0
    expected = bc.ncc(*(np.load(path) for path in pair), 9)
    assert np.array_equal(stored(tmp_path / "o.zarr", "ncc"), expected, equal_nan=True)


def test_a_full_disk_is_one_clear_error_and_nothing_is_taken_for_done(
    pair: list[str], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        from bigcorr.raster import writer

        def full(path: Path, text: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        keep = writer.write_whole
        patch.setattr(
            writer,
            "write_whole",
            lambda path, text: full(path, text) if path.parent.name == "done" else keep(path, text),
        )
        with pytest.raises(RunError, match="no space left on the device") as caught:
            run_map(NCC(7), pair, tmp_path / "o.zarr", **SMALL)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "o.zarr").exists()
    summary = run_map(NCC(7), pair, tmp_path / "o.zarr", **SMALL)
    assert summary["units_done_before"] == 0


@pytest.mark.parametrize("begun", [False, True])
def test_an_output_of_another_run_is_refused_by_its_difference(
    pair: list[str], tmp_path: Path, begun: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if begun:
            stop_after(patch, 3, Stop())
        with contextlib.suppress(Stop):
            run_map(NCC(7), pair, tmp_path / "o.zarr", **SMALL)
    with pytest.raises(InputError, match=r"o\.zarr is the result.* \(window 7 there, 9 here\)"):
        run_map(NCC(9), pair, tmp_path / "o.zarr", **SMALL)
    with pytest.raises(InputError, match=r"operator ncc there, blur here"):
        run_map(GaussianBlur(2.0), pair[:1], tmp_path / "o.zarr", **SMALL)
    np.save(pair[1], image((150, 201), seed=7))
    with pytest.raises(InputError, match=r"b\.npy has changed since"):
        run_map(NCC(7), pair, tmp_path / "o.zarr", **SMALL)


def test_what_is_no_result_is_refused(pair: list[str], tmp_path: Path) -> None:
    (tmp_path / "o.zarr").mkdir()
    (tmp_path / "o.zarr" / "thesis.txt").write_text("mine")
    for resume in (True, False):
        with pytest.raises(InputError, match=r"o\.zarr exists"):
            run_map(NCC(7), pair, tmp_path / "o.zarr", resume=resume, **SMALL)
    assert (tmp_path / "o.zarr" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("op", "shapes", "says"),
    [
        (NCC(7), [(20, 30), (20, 31)], "array has 20 x 31 pixels and array 20 x 30"),
        (NCC(7), [(2, 20, 30), (20, 30)], "array has 2 channels: ncc takes one .* array#CHANNEL"),
        (NCC(7), [(20, 30)], "ncc takes 2 rasters, got 1"),
        (NCC(61), [(20, 30)] * 2, "window: got 61 for a raster of 20 x 30"),
    ],
)
def test_rasters_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path, op: NCC, shapes: list[tuple[int, ...]], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        run_map(op, [np.zeros(shape) for shape in shapes], tmp_path / "o.zarr")
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_is_refused_with_the_numbers(pair: list[str], tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"memory: a task needs \d+ MiB .* limit of 200 MiB is 150 MiB"
    ):
        run_map(NCC(7), pair, tmp_path / "o.zarr", workers=1, memory="200MiB")
    shutil.rmtree(tmp_path / "o.zarr.partial", ignore_errors=True)


def test_progress_is_told_of_every_shard(pair: list[str], tmp_path: Path) -> None:
    events: list[tuple[str, float, float | None]] = []

    class Told:
        def __call__(self, stage: str, done: float, total: float | None = None) -> None:
            events.append((stage, done, total))

        def note(self, text: str) -> None:
            pass

    run_map(NCC(7), pair, tmp_path / "o.zarr", progress=Told(), **SMALL)
    assert events == [("ncc", done, 12) for done in range(13)]
