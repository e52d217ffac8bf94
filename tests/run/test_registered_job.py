"""Maps of a pair that is registered on the way: the bits of the steps, resumed, and told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from scipy import ndimage

import bigcorr as bc
from bigcorr.cli.app import _main
from bigcorr.errors import InputError
from bigcorr.operators import NCC, GaussianBlur
from bigcorr.operators_chain import Blurred
from bigcorr.operators_move import Affine, Shift
from bigcorr.operators_registered import Registered
from bigcorr.operators_ssim import SSIM
from bigcorr.run import map_job, registered_job
from bigcorr.run.map_job import run_map
from bigcorr.run.registered_job import run_registered_map

SMALL = {"chunk": 32, "shard": 64}


def images(dtype: str = "float32", gaps: bool = True) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a = 100 + 900 * ndimage.gaussian_filter(rng.normal(size=(150, 171)), 1.5)
    b = ndimage.shift(a, (4.3, -7.6), mode="mirror")
    pair = a.astype(dtype), b.astype(dtype)
    if gaps and dtype.startswith("float"):
        for image in pair:
            image[40:50, 20:90] = np.nan
    return pair


def stored(path: Path, name: str) -> np.ndarray:
    with xr.open_zarr(path) as dataset:
        return dataset[name].values


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
@pytest.mark.parametrize("boundary", ["reflect", "nan"])
def test_one_pass_has_the_bits_of_the_steps(tmp_path: Path, boundary: Any, dtype: str) -> None:
    a, b = images(dtype)
    found = run_registered_map(NCC(7, boundary), [a, b], tmp_path / "o.zarr", **SMALL)
    reg = bc.register(a, b)
    assert tuple(found["registration"]["shift"]) == reg.shift
    steps = bc.ncc(a, bc.apply_shift(b, reg.shift), 7, boundary=boundary)
    assert np.array_equal(stored(tmp_path / "o.zarr", "ncc"), steps, equal_nan=True)
    lazy = [da.from_array(image, (40, 60)) for image in (a, b)]
    again = bc.ncc(lazy[0], bc.apply_shift(lazy[1], bc.register(*lazy).shift), 7, boundary=boundary)
    assert np.array_equal(again.compute(scheduler="synchronous"), steps, equal_nan=True)


@pytest.mark.parametrize("move", [Shift((4.3, -7.6), 1), Affine([[1.02, 0.03, -4], [-0.02, 1, 7]])])
def test_any_map_follows_any_move(tmp_path: Path, move: Any) -> None:
    a, b = images()
    if isinstance(move, Shift):
        moved = bc.apply_shift(b, move.shift, move.order)
    else:
        moved = bc.apply_affine(b, move.matrix)
    blurred = bc.ncc(bc.gaussian_blur(a, 1.5), bc.gaussian_blur(moved, 1.5))
    for op, name, steps in (
        (SSIM(data_range=900), "ssim", bc.ssim(a, moved, data_range=900)),
        (NCC(weights="gaussian"), "ncc", bc.ncc(a, moved, weights="gaussian")),
        (Blurred(NCC(), GaussianBlur(1.5)), "ncc", blurred),
    ):
        out = tmp_path / f"{type(op).__name__}.zarr"
        run_map(Registered(op, move), [a, b], out, **SMALL)
        assert np.array_equal(stored(out, name), steps, equal_nan=True)
    run_map(move, [b], tmp_path / "moved.zarr", **SMALL)
    assert np.array_equal(stored(tmp_path / "moved.zarr", move.name), moved, equal_nan=True)


def test_a_move_off_the_raster_leaves_nothing(tmp_path: Path) -> None:
    a, b = images()
    run_map(Registered(NCC(), Shift((500, 0))), [a, b], tmp_path / "o.zarr", **SMALL)
    assert np.isnan(stored(tmp_path / "o.zarr", "ncc")).all()


def test_a_run_that_was_cut_off_goes_on_with_its_shift(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = images()
    out, calls = tmp_path / "o.zarr", []
    first = run_registered_map(NCC(7), [a, b], tmp_path / "whole.zarr", **SMALL)
    write = map_job._write_unit

    def stop_after_two(*args: Any) -> None:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(args)
        write(*args)

    monkeypatch.setattr(map_job, "_write_unit", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        run_registered_map(NCC(7), [a, b], out, workers=1, **SMALL)
    monkeypatch.setattr(map_job, "_write_unit", write)
    monkeypatch.setattr(registered_job, "register_pair", None)  # it is not called again
    rest = run_registered_map(NCC(7), [a, b], out, **SMALL)
    assert rest["units_done_before"] == 2
    assert rest["registration"]["shift"] == first["registration"]["shift"]
    whole = stored(tmp_path / "whole.zarr", "ncc")
    assert np.array_equal(stored(out, "ncc"), whole, equal_nan=True)
    facts: Any = zarr.open_group(str(out), mode="r").attrs["bigcorr"]
    assert facts["parameters"]["registered_shift"] == first["registration"]["shift"]
    assert facts["registration"]["score"] == first["registration"]["score"]


def test_another_shift_is_another_run(tmp_path: Path) -> None:
    a, b = images()
    run_map(Registered(NCC(7), Shift((4.3, -7.6))), [a, b], tmp_path / "o.zarr", **SMALL)
    with pytest.raises(InputError, match="registered_shift"):
        run_map(Registered(NCC(7), Shift((4.3, -7.5))), [a, b], tmp_path / "o.zarr", **SMALL)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    found = [str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]
    for image, path in zip(images(), found, strict=True):
        np.save(path, image)
    return found


def test_the_command_line_tells_and_writes(
    paths: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved.zarr"
    assert _main(["register", *paths, "--model", "affine", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(told["shift"], [-4.3, 7.6], atol=0.1)
    assert told["score"] > 0.98 > told["score_before"]
    assert np.shape(told["matrix"]) == (3, 3)
    workers = ["--workers", "1"]
    assert _main(["register", *paths, "--sigma", "none", "-o", str(moved), *workers]) == 0
    out = capsys.readouterr().out
    assert "shift (dy, dx)" in out
    assert "score before" in out
    a, b = images()
    shift = bc.register(a, b, sigma=None).shift
    assert np.array_equal(stored(moved, "shift"), bc.apply_shift(b, shift), equal_nan=True)
    ncc = tmp_path / "ncc.zarr"
    assert _main(["ncc", *paths, "-o", str(ncc), "--register", "--json", *workers]) == 0
    told = json.loads(capsys.readouterr().out)
    shift = tuple(told["registration"]["shift"])
    steps = bc.ncc(a, bc.apply_shift(b, shift))
    assert np.array_equal(stored(ncc, "ncc"), steps, equal_nan=True)


@pytest.mark.parametrize(
    "options",
    [["--model", "affine"], ["--register", "--model", "rigid"]],
)
def test_what_does_not_go_together_is_refused(
    paths: list[str], tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(["ncc", *paths, "-o", str(tmp_path / "o.zarr"), *options]) == 2
    told = capsys.readouterr().err
    assert "translation" in told or "--register" in told
