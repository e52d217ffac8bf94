"""Moving by a fraction of a pixel: scipy's spline, and the same bits whatever the tiles."""

from __future__ import annotations

import tracemalloc
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.operators import Layer
from bigcorr.operators_move import Shift
from bigcorr.tiles import Box


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("shape", [(60, 70), (7, 200), (1, 50), (3, 4)])
def test_a_moved_image_is_scipys(shape: tuple[int, int], order: int) -> None:
    a = np.random.default_rng(0).normal(size=shape) * 9
    for shift in ((0.3, -2.7), (-5.5, 3), (0, 0), (0, 0.001), (2.25, -40.1), (1e6, 0)):
        expected = ndimage.shift(a, shift, order=order, mode="constant", cval=np.nan)
        np.testing.assert_allclose(
            bc.apply_shift(a, shift, order), expected, rtol=0, atol=1e-10 * np.abs(a).max()
        )


def test_whole_pixels_are_copied() -> None:
    a = np.random.default_rng(1).normal(size=(20, 30))
    moved = bc.apply_shift(a, (3, -4))
    assert np.array_equal(moved[3:, :-4], a[:-3, 4:])
    assert np.isnan(moved[:3]).all()
    assert np.isnan(moved[:, -4:]).all()


@settings(max_examples=20)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from(["uint16", "float32", "float64"]),
    st.sampled_from([1, 3]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_tiles_change_no_bit(
    h: int, w: int, dtype: str, order: int, missing: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a = (rng.random((h, w)) * 1000).astype(dtype)
    if missing and a.dtype.kind == "f":
        a[rng.random(a.shape) < 0.01] = np.nan
    shift = tuple(float(d) for d in rng.uniform(-9, 9, 2).round(int(rng.integers(0, 4))))
    op = Shift((shift[0], shift[1]), order)
    whole = bc.apply_shift(a, (shift[0], shift[1]), order)
    ends = (
        sorted(int(k) for k in rng.integers(0, h + 1, 2)),
        sorted(int(k) for k in rng.integers(0, w + 1, 2)),
    )
    box = Box(*ends[0], *ends[1])
    if box.size:
        held = op.held(box, (h, w))
        tile = op.moved(Layer(a[held.slices]), held, box, (h, w))
        assert tile.tobytes() == whole[box.slices].tobytes()


def test_chunks_change_no_bit_and_labels_stay() -> None:
    a = np.random.default_rng(2).normal(size=(2, 150, 170)).astype("float32")
    whole = bc.apply_shift(a, (2.4, -1.7))
    lazy = bc.apply_shift(da.from_array(a, (1, 64, 50)), (2.4, -1.7))
    assert lazy.chunks == ((1, 1), (64, 64, 22), (50, 50, 50, 20))
    assert lazy.compute(scheduler="synchronous").tobytes() == whole.tobytes()
    named = xr.DataArray(a, dims=("channel", "y", "x"), coords={"channel": ["p", "q"]})
    moved = bc.apply_shift(named, (2.4, -1.7))
    assert moved.dims == named.dims
    assert moved.channel.values.tolist() == ["p", "q"]
    assert np.array_equal(moved.values, whole, equal_nan=True)


@pytest.mark.parametrize(("order", "before", "after"), [(1, 0, 1), (3, 1, 2)])
def test_a_missing_pixel_takes_those_around_it_and_is_not_smeared(
    order: int, before: int, after: int
) -> None:
    y, x = np.mgrid[:60, :60]
    a = 1e4 + np.sin(y / 9) + np.cos(x / 7)
    shift = (0.4, -0.3)  # from (y - 1, y) and (x, x + 1)
    full = bc.apply_shift(a, shift, order)
    a[30, 31] = np.nan
    moved = bc.apply_shift(a, shift, order)
    lost = np.isnan(moved) & ~np.isnan(full)
    hit = np.zeros(a.shape, bool)
    hit[31 - after : 31 + before + 1, 31 - after : 31 + before + 1] = True
    assert np.array_equal(np.argwhere(lost), np.argwhere(hit))
    kept = ~np.isnan(moved)
    assert np.abs(moved - full)[kept].max() < 0.02
    masked = xr.DataArray(
        np.nan_to_num(a), dims=("y", "x"), coords={"mask": (("y", "x"), np.isfinite(a))}
    )
    assert np.array_equal(bc.apply_shift(masked, shift, order).values, moved, equal_nan=True)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_a_tile_holds_no_more_than_projected(dtype: str) -> None:
    op = Shift((3.3, -2.2))
    side = 256
    box = Box(40, 40 + side, 40, 40 + side)
    held = op.held(box, (400, 400))
    pixels = np.random.default_rng(0).random(held.shape).astype(dtype)
    valid = np.ones(held.shape, bool)
    valid[100, 100] = False
    for mask in (None, valid):
        tracemalloc.start()
        op.moved(Layer(pixels, valid=mask), held, box, (400, 400))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= op.box_bytes((side, side), dtype)


@pytest.mark.parametrize(
    ("name", "shift", "order"),
    [
        ("shift", (1,), 3),
        ("shift", 2.0, 3),
        ("shift", (np.nan, 0), 3),
        ("shift", (np.inf, 0), 3),
        ("shift", ("a", 0), 3),
        ("order", (1, 1), 2),
        ("order", (1, 1), True),
    ],
)
def test_bad_input_is_one_clear_error(name: str, shift: Any, order: Any) -> None:
    with pytest.raises(InputError, match=f"^{name}: got .*takes"):
        bc.apply_shift(np.ones((5, 5)), shift, order)
