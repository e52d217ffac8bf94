"""Several blurs in one read, and maps of blurred rasters, beside the steps done one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.operators import NCC, GaussianBlur, Layer, compute_box
from bigcorr.operators_chain import Blurred, GaussianBlurs
from bigcorr.operators_ssim import SSIM
from bigcorr.run.map_job import run_map
from bigcorr.tiles import Box


def images(shape: tuple[int, int], dtype: str, missing: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 200, shape)
    pair = a.astype(dtype), (a + rng.integers(0, 40, shape)).astype(dtype)
    if missing and pair[0].dtype.kind == "f":
        for image in pair:
            image[rng.random(shape) < missing] = np.nan
    return pair


@pytest.mark.parametrize("boundary", ["reflect", "nearest", "nan"])
@pytest.mark.parametrize(("dtype", "missing"), [("uint16", 0), ("float32", 0.1), ("float64", 0)])
def test_a_batch_of_blur_then_ncc_has_the_bits_of_the_two_steps(
    tmp_path: Path, dtype: str, missing: float, boundary: Any
) -> None:
    a, b = images((70, 90), dtype, missing)
    steps = bc.ncc(bc.gaussian_blur(a, 1.7), bc.gaussian_blur(b, 1.7), 5, boundary=boundary)
    op = Blurred(NCC(5, boundary), GaussianBlur(1.7))
    run_map(op, [a, b], tmp_path / "chain.zarr", chunk=16, shard=32, workers=1, threads=2)
    chain = xr.open_zarr(tmp_path / "chain.zarr")["ncc"]
    assert np.array_equal(chain.values, steps, equal_nan=True)


def test_a_batch_of_blur_then_ssim_has_the_bits_of_the_two_steps(tmp_path: Path) -> None:
    a, b = images((50, 60), "float32", 0.02)
    steps = bc.ssim(bc.gaussian_blur(a, 2.0), bc.gaussian_blur(b, 2.0), data_range=200)
    op = Blurred(SSIM(data_range=200), GaussianBlur(2.0))
    run_map(op, [a, b], tmp_path / "chain.zarr", chunk=16, shard=32)
    assert np.array_equal(xr.open_zarr(tmp_path / "chain.zarr")["ssim"].values, steps, True)


@given(st.integers(2, 30), st.integers(2, 30), st.floats(0.3, 9), st.integers(1, 16), st.data())
def test_any_box_of_a_chain_is_a_cut_of_the_whole(
    h: int, w: int, sigma: float, tile: int, data: st.DataObject
) -> None:
    """Also with halos larger than the raster."""
    a, b = images((h, w), "float32", data.draw(st.sampled_from([0, 0.2])))
    window = data.draw(st.integers(1, min(h, w) - 1)) * 2 + 1
    boundary: Any = data.draw(st.sampled_from(["reflect", "nearest", "nan"]))
    op, whole = NCC(window, boundary), Box(0, h, 0, w)
    blurred = [bc.gaussian_blur(image, sigma) for image in (a, b)]
    steps = compute_box(op, [Layer(z, offset=3.0) for z in blurred], whole, whole, (h, w))
    chain = Blurred(op, GaussianBlur(sigma))
    for y in range(0, h, tile):
        for x in range(0, w, tile):
            box = Box(y, min(y + tile, h), x, min(x + tile, w))
            part = compute_box(chain, [Layer(z, offset=3.0) for z in (a, b)], whole, box, (h, w))
            assert np.array_equal(part, steps[box.slices], equal_nan=True)


@pytest.mark.parametrize("planar", [True, False])
def test_several_blurs_are_planes_of_one_store(tmp_path: Path, planar: bool) -> None:
    image = images((60, 70), "uint8", 0)[0] if planar else np.stack(images((60, 70), "uint8", 0))
    out = tmp_path / "blurs.zarr"
    made = run_map(GaussianBlurs((1, 4.5, 2)), [image], out, chunk=16, shard=32)
    stored = xr.open_zarr(out)["blur"]
    assert stored.dims == (("sigma", "y", "x") if planar else ("sigma", "channel", "y", "x"))
    assert stored.sigma.values.tolist() == [1, 4.5, 2]
    assert made["units"] == 6  # a shard holds all planes: each place is read once
    assert np.array_equal(stored.values, bc.gaussian_blur(image, [1, 4.5, 2]))
    again = run_map(GaussianBlurs((1, 4.5, 2)), [image], out, chunk=16, shard=32)
    assert again["units_done_before"] == 6
    with pytest.raises(InputError, match="sigma"):
        run_map(GaussianBlurs((1, 4.5)), [image], out, chunk=16, shard=32)


def test_blurs_that_differ_along_the_axes_have_two_labels(tmp_path: Path) -> None:
    image = images((20, 20), "float32", 0)[0]
    run_map(GaussianBlurs(((1, 2), 3)), [image], tmp_path / "blurs.zarr")
    stored = xr.open_zarr(tmp_path / "blurs.zarr")
    assert stored.sigma_y.values.tolist() == [1, 3]
    assert stored.sigma_x.values.tolist() == [2, 3]
    assert np.array_equal(stored["blur"].values, bc.gaussian_blur(image, [(1, 2), 3]))


def test_no_blur_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="sigma: got an empty list"):
        GaussianBlurs(())
    with pytest.raises(InputError, match="sigma"):
        GaussianBlurs((1.0, -2.0))
