"""`displacement`: its numbers, its signs, its coordinates, and that tiles are invisible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zncc_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.motion import passes as passes_module
from bigcorr.motion import tile as tile_module
from bigcorr.motion.grids import ArrayGrid, typical_change
from bigcorr.registration import Registration


def texture(shape: tuple[int, int], seed: int = 0, sigma: float = 1.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.normal(size=shape), sigma, mode="wrap") * 100 + 500


def moved(image: np.ndarray, dy: float, dx: float) -> np.ndarray:
    """What is at (y, x) is at (y + dy, x + dx) in the result; it wraps around."""
    fy, fx = (np.fft.fftfreq(n) for n in image.shape)
    phase = np.exp(-2j * np.pi * (fy[:, None] * dy + fx[None] * dx))
    return np.fft.ifft2(np.fft.fft2(image) * phase).real


def test_a_single_pass_is_the_formula_at_every_node() -> None:
    a = texture((70, 90))
    b = moved(a, 1.3, -2.6)
    b[20:30, 40:60] = np.nan
    flow = bc.displacement(a, b, window=16, search=4, step=8)
    expected = oracle.displacement(a, b, 16, 4, 8)
    assert list(flow) == ["dy", "dx", "score", "peak_ratio"]
    for name, values in zip(flow, expected, strict=True):
        assert flow[name].dtype == np.float32
        assert flow[name].dims == ("y", "x")
        np.testing.assert_allclose(flow[name], values, rtol=2e-6, atol=2e-6)
    assert flow.y.values.tolist() == [7.5 + 8 * k for k in range(7)]
    assert flow.x.values.tolist() == [7.5 + 8 * k for k in range(10)]


@pytest.mark.parametrize("passes", [1, 2, [24, 12]])
@pytest.mark.parametrize("subpixel", ["quadratic", "gaussian"])
def test_a_known_shift_is_found_to_a_few_hundredths(passes: Any, subpixel: Any) -> None:
    a = texture((96, 96))
    flow = bc.displacement(
        a, moved(a, 2.7, -1.3), window=16, search=5, step=8, passes=passes, subpixel=subpixel
    ).isel(y=slice(1, -1), x=slice(1, -1))
    error = 0.05 if passes == 1 else 0.01
    assert abs(float(flow.dy.mean()) - 2.7) < error
    assert abs(float(flow.dx.mean()) + 1.3) < error
    assert float(np.hypot(flow.dy - 2.7, flow.dx + 1.3).max()) < (0.2 if passes == 1 else 0.1)
    assert float(flow.score.min()) > (0.8 if passes == 1 else 0.99)


def test_the_soft_argmax_lies_between_whole_shifts_and_none_on_them() -> None:
    a = texture((64, 64))
    b = moved(a, 1.4, 0.0)
    whole = bc.displacement(a, b, window=16, search=4, subpixel="none").isel(y=[1, 2], x=[1, 2])
    soft = bc.displacement(a, b, window=16, search=4, subpixel="soft_argmax", temperature=0.05)
    assert set(whole.dy.values.ravel()) == {1.0}
    between = soft.dy.isel(y=[1, 2], x=[1, 2]).values
    assert ((between > 1.1) & (between < 1.9)).all()


def test_the_flow_is_minus_the_shift_that_registers_and_may_start_from_it() -> None:
    a = texture((128, 128), sigma=2.0)
    b = moved(a, 23.0, -31.5)
    reg = bc.register(a[:, :], b)
    assert np.allclose(reg.shift, (-23.0, 31.5), atol=0.1)
    inner = {"y": slice(1, 3), "x": slice(3, 6)}
    for passes in (1, 2):
        flow = bc.displacement(a, b, window=20, search=3, step=20, passes=passes, initial=reg)
        assert np.allclose(flow.dy.isel(inner), 23.0, atol=0.1)
        assert np.allclose(flow.dx.isel(inner), -31.5, atol=0.1)
        assert np.allclose(flow.dy.isel(inner).mean(), -reg.shift[0], atol=0.05)
    again = bc.displacement(a, b, window=20, search=3, step=20, initial=flow)
    assert np.allclose(again.dx.isel(inner), -31.5, atol=0.05)
    vector = bc.displacement(a, b, window=20, search=3, step=20, initial=(23, -31))
    assert np.allclose(vector.dx.isel(inner), -31.5, atol=0.1)


def test_large_motion_is_found_from_coarse_to_fine() -> None:
    a = texture((256, 256), sigma=4.0)
    b = moved(a, -22.4, 17.8)
    flow = bc.displacement(a, b, window=24, search=26, step=24, levels=3)
    inner = flow.isel(y=slice(2, -2), x=slice(2, -2))
    assert float(np.hypot(inner.dy + 22.4, inner.dx - 17.8).max()) < 0.1


def test_a_vortex_is_followed_by_several_passes() -> None:
    a = texture((160, 160))
    y, x = np.mgrid[:160, :160] - 79.5
    turn = 0.05
    # moving(p + flow(p)) = a(p): moving(q) = a(R^-1 q)
    cos, sin = np.cos(turn), np.sin(turn)
    b = ndimage.map_coordinates(a, [cos * y - sin * x + 79.5, sin * y + cos * x + 79.5], order=5)
    flow = bc.displacement(a, b, window=16, search=8, step=8, passes=3)
    yy, xx = np.meshgrid(flow.y - 79.5, flow.x - 79.5, indexing="ij")
    dy, dx = cos * yy + sin * xx - yy, cos * xx - sin * yy - xx
    error = np.hypot(flow.dy - dy, flow.dx - dx).values[2:-2, 2:-2]
    assert error.mean() < 0.04
    assert np.hypot(dy, dx).max() > 4


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
def test_how_much_a_flow_changes_is_told_apart_from_the_errors_of_its_vectors(noise: float) -> None:
    nodes = np.random.default_rng(0).normal(size=(7, 80, 90)) * noise
    nodes[0] += 0.05 * np.arange(80)[:, None]
    nodes[1] += 0.05 * np.arange(90)
    nodes[2, :5] = np.nan  # no vectors
    change = typical_change(ArrayGrid(nodes.astype(np.float32), (80, 90)))
    assert change == pytest.approx(0.05, abs=0.01)  # neighbours differ by .17 where noise is .1
    for shape in ((1, 1), (1, 2), (2, 5)):
        assert typical_change(ArrayGrid(np.ones((7, *shape), np.float32), shape)) == 0.0


def test_what_does_not_lead_back_is_left_out() -> None:
    a = texture((96, 128))
    b = moved(a, 1.0, 2.0)
    b[:, 64:] = texture((96, 64), seed=9)
    flow = bc.displacement(a, b, window=16, search=4, step=8, max_inconsistency=0.5)
    assert list(flow)[-1] == "inconsistency"
    left, right = flow.sel(x=slice(8, 44)), flow.sel(x=slice(75, None))
    inner = {"y": slice(1, -1)}
    assert np.isfinite(left.dy.isel(inner)).all()
    assert float(np.isfinite(right.dy).mean()) < 0.1
    assert float(left.inconsistency.isel(inner).max()) < 0.3


@settings(max_examples=6)
@given(data=st.data())
def test_neither_chunks_nor_units_nor_kinds_of_arrays_change_a_bit(data: st.DataObject) -> None:
    a = texture((60, 74))
    b = moved(a, 1.3, -0.6).astype("float32")
    b[np.random.default_rng(1).random(b.shape) < 0.005] = np.nan
    kw = data.draw(
        st.sampled_from(
            [
                {"window": 12, "search": 4, "step": 6, "passes": 2, "max_inconsistency": 1.0},
                {"window": 7, "search": 3, "step": 1},
                {"window": 10, "search": 4, "step": 5, "levels": 1},
            ]
        )
    )
    expected = bc.displacement(a, b, **kw)
    chunks = data.draw(st.tuples(st.integers(15, 60), st.integers(15, 74)))
    lazy = [xr.DataArray(da.from_array(each, chunks=chunks), dims=("y", "x")) for each in (a, b)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tile_module, "UNIT", data.draw(st.sampled_from([32, 48, 1024])))
        patch.setattr(tile_module, "_LEAST_NODES", data.draw(st.integers(3, 9)))
        part = data.draw(st.integers(20, 80))
        measure = tile_module.measure
        patch.setattr(passes_module, "measure", lambda *args: measure(*args, part))
        found = bc.displacement(*lazy, **kw)
    for name in expected:
        assert np.array_equal(found[name], expected[name], equal_nan=True), name


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "float32"])
def test_any_real_dtype_is_taken(dtype: str) -> None:
    a = texture((64, 64)).clip(200, 800)
    a = (a - 200) / 3
    a, b = a.astype(dtype), moved(a, 2, 1).round().astype(dtype)
    if dtype == "uint64":
        a, b = a + np.uint64(2**52), b + np.uint64(2**52)
    flow = bc.displacement(a, b, window=16, search=4).isel(y=[1, 2], x=[1, 2])
    assert np.allclose(flow.dy, 2, atol=0.15)
    assert np.allclose(flow.dx, 1, atol=0.15)


def test_missing_pixels_are_left_out_whatever_tells_them() -> None:
    a = texture((64, 80))
    b = moved(a, 1.0, 1.0)
    hole = np.zeros(b.shape, bool)
    hole[20:44, 30:44] = True
    with_nan = np.where(hole, np.nan, b)
    expected = bc.displacement(a, with_nan, window=16, search=3, step=8)
    assert np.isfinite(expected.dy.sel(y=31.5, x=23.5))
    assert np.isnan(expected.dy.sel(y=31.5, x=39.5))
    marked = xr.DataArray(np.where(hole, -9.0, b), dims=("y", "x"), attrs={"nodata": -9.0})
    masked = xr.DataArray(b, {"mask": (("y", "x"), ~hole)}, ("y", "x"))
    for other in (marked, masked):
        found = bc.displacement(a, other, window=16, search=3, step=8)
        for name in expected:
            assert np.array_equal(found[name], expected[name], equal_nan=True)
    a[:] = np.where(hole, -9.0, a)
    found = bc.displacement(a, marked.values, window=16, search=3, step=8, nodata=-9)
    assert np.isnan(found.dy.sel(y=31.5, x=39.5))
    assert np.nanmax(np.abs(found.dy - 1)) < 0.3


def test_nodes_have_the_rasters_own_coordinates_too(tmp_path: Path) -> None:
    a = texture((64, 80))
    coords = {"y": 5000.0 - 2 * np.arange(64), "x": 100 + 2.0 * np.arange(80)}
    flow = bc.displacement(xr.DataArray(a, coords, ("y", "x")), moved(a, 1, 0), window=16, search=3)
    assert flow.y.values[:2].tolist() == [7.5, 23.5]
    assert flow.y_raster.values[:2].tolist() == [5000 - 15.0, 5000 - 47.0]
    assert flow.x_raster.values[0] == 115.0
    np.save(tmp_path / "a.npy", a)
    from_file = bc.displacement(tmp_path / "a.npy", moved(a, 1, 0), window=16, search=3)
    assert np.array_equal(from_file.dy, flow.dy)


def test_a_raster_of_one_window_has_one_node() -> None:
    a = texture((16, 16))
    flow = bc.displacement(a, np.roll(a, 1, 0), window=16, search=2, step=16, passes=2)
    assert flow.dy.shape == (1, 1)


def test_parts_without_structure_have_no_displacement() -> None:
    a = texture((64, 64))
    a[:, 40:] = 7.0
    flow = bc.displacement(a, a, window=16, search=3, step=8)
    assert np.isnan(flow.sel(x=slice(47, None)).to_array()).all()
    assert np.abs(flow.dy.sel(x=slice(0, 30))).max() < 0.1


A = texture((40, 50))


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((A, A[:-1]), {}, r"moving: got shape \(39, 50\), takes that of reference, \(40, 50\)"),
        ((A, A), {"window": 41}, "window: got 41 for a raster of 40 x 50 pixels"),
        ((A, A), {"window": 2}, "window: got 2, takes a whole number of at least 3"),
        ((A, A), {"window": 8.5}, "window: got 8.5, takes a whole number"),
        ((A, A), {"search": 0}, "search: got 0, takes a whole number of at least 1"),
        ((A, A), {"step": 0}, "step: got 0, takes a whole number of at least 1"),
        ((A, A), {"passes": 0}, "passes: got 0, takes a list of windows, or a whole number"),
        ((A, A), {"passes": [16, 8.5]}, "passes: got 8.5, takes windows that are whole numbers"),
        ((A, A), {"passes": []}, "passes: got an empty list"),
        ((A, A), {"passes": [64, 8]}, "passes: got 64 for a raster of 40 x 50"),
        ((A, A), {"passes": "many"}, "passes: got 'many'"),
        ((A, A), {"subpixel": "cubic"}, "subpixel: got 'cubic', takes one of quadratic, gaussian"),
        ((A, A), {"weights": "hann"}, "weights: got 'hann', takes 'uniform' or 'gaussian'"),
        ((A, A), {"min_valid": 2}, "min_valid: got 2, takes a share"),
        ((A, A), {"levels": 5}, "levels: got 5 for a raster of 40 x 50"),
        ((A, A), {"levels": -1}, "levels: got -1"),
        ((A, A), {"temperature": 0}, "temperature: got 0, takes a number > 0"),
        ((A, A), {"outlier_threshold": -1}, "outlier_threshold: got -1"),
        ((A, A), {"max_inconsistency": 0}, "max_inconsistency: got 0"),
        ((A, A), {"initial": "there"}, "initial: no such file or folder: there"),
        ((A, A), {"initial": 3.5}, "initial: got float, takes a Registration"),
        ((A, A), {"initial": (2**21, 0)}, "initial: got .*finite and below"),
        ((A, A), {"initial": (1, 2, 3)}, r"initial: got \(1.0, 2.0, 3.0\), takes a Registration"),
        ((A, A), {"initial": xr.Dataset({"u": 1})}, r"initial: got a Dataset with \['u'\]"),
        ((np.full((40, 50), np.nan), A), {}, "reference: got missing pixels only"),
        ((A, np.full((40, 50), 3.0)), {}, "moving: got one value in all pixels"),
        ((np.stack([A, A]), A), {}, r"reference: got shape \(2, 40, 50\), takes \(y, x\)"),
        ((A.astype(complex), A), {}, "reference: got pixels of dtype complex128"),
        ((A, "nowhere.npy"), {}, "moving: .*nowhere.npy"),
    ],
)
def test_bad_input_is_one_clear_error(
    arguments: tuple[Any, Any], options: dict[str, Any], says: str
) -> None:
    options = {"window": 16, "search": 3, "step": 8, **options}
    with pytest.raises(InputError, match=says) as caught:
        bc.displacement(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_a_registration_is_what_initial_takes() -> None:
    none = np.empty((0, 2))
    reg = Registration((3.2, -4.4), 1.0, 0.0, (0.0, 0.0), none, none, np.empty(0, bool))
    a = texture((64, 64))
    flow = bc.displacement(a, moved(a, -3.2, 4.4), window=20, search=2, initial=reg)
    assert abs(float(flow.dy[1, 1]) + 3.2) < 0.1
    assert abs(float(flow.dx[1, 1]) - 4.4) < 0.1
