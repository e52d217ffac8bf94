"""Quadratic interpolation: exact on quadratics, and any tiling is the whole, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from bigcorr import subpix
from bigcorr.errors import InputError


def paraboloid(dtype: str = "float64") -> NDArray[Any]:
    z, y, x = np.mgrid[:5, :9, :9].astype(dtype)
    x, y, z = x - 4.3, y - 3.8, z - 2.2
    f = 1 - 0.05 * (z**2 + 1.5 * x**2 + y**2 + 0.3 * x * y)
    return f.astype(dtype)[None, None]


@pytest.mark.parametrize(("dtype", "within"), [("float32", 2e-5), ("float64", 1e-12)])
def test_a_quadratic_is_met_exactly(dtype: str, within: float) -> None:
    f = paraboloid(dtype)
    at, value = subpix.conv_quad_interp3d(f)
    np.testing.assert_allclose(at[0, 0, :, 2, 4, 4], [2.2, 4.3, 3.8], atol=within)
    assert value[0, 0, 2, 4, 4] == pytest.approx(1, abs=within)
    elsewhere = ~subpix.nms3d(f, (3, 3, 3), mask_only=True)
    z, y, x = np.mgrid[:5, :9, :9]
    assert np.array_equal(value[elsewhere], f[elsewhere])
    for part, grid in zip(at[0, 0], (z, x, y), strict=True):
        assert np.array_equal(part[elsewhere[0, 0]], grid[elsewhere[0, 0]])


def test_the_bonus_is_added_at_strict_maxima_alone() -> None:
    x = gaussian_filter(np.random.default_rng(0).normal(size=(1, 2, 7, 20, 20)), (0, 0, 1, 1, 1))
    at, value = subpix.conv_quad_interp3d(x)
    again, raised = subpix.conv_quad_interp3d(x, strict_maxima_bonus=10)
    peaks = subpix.nms3d(x, (3, 3, 3), mask_only=True)
    assert peaks.any()
    assert np.array_equal(at, again)
    assert np.array_equal(raised, np.where(peaks, value + 10, value))
    module = subpix.ConvQuadInterp3d(strict_maxima_bonus=10)(x)
    assert np.array_equal(module[1], raised)


@settings(max_examples=25)
@given(st.sampled_from(["float32", "float64"]), st.integers(0, 2**32 - 1))
def test_a_volume_with_its_halo_gives_the_bits_of_the_whole(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = gaussian_filter(rng.normal(size=(1, 2, 5, 40, 44)), (0, 0, 0.7, 1, 1)).astype(dtype)
    x[0, 0, 1, 20, 3] = np.nan
    n_iters, radius = int(rng.integers(1, 6)), int(rng.integers(0, 3))
    halo = n_iters + radius + 1
    options: dict[str, Any] = {
        "n_iters": n_iters,
        "dilation_radius": radius,
        "max_subpixel_shift": float(rng.uniform(0.1, 0.6)),
    }
    whole = subpix.conv_quad_interp3d(x, **options)
    pixels, core, inside, origin = [slice(None)], [slice(None)], [slice(None)], [0]
    for n in x.shape[3:]:
        first, last = sorted(int(j) for j in rng.integers(0, n, 2))
        start = max(0, first - halo)
        pixels.append(slice(start, last + 1 + halo))
        core.append(slice(first, last + 1))
        inside.append(slice(first - start, last + 1 - start))
        origin.append(start)
    tile = subpix.conv_quad_interp3d(x[(..., *pixels)], origin=origin, **options)
    for part, of_whole in zip(tile, whole, strict=True):
        assert part[(..., *inside)].tobytes() == of_whole[(..., *core)].tobytes()


def test_flat_and_thin_volumes_come_back_as_they_are() -> None:
    for shape in ((1, 1, 4, 5, 6), (1, 1, 2, 5, 6), (1, 1, 5, 1, 1)):
        x = np.full(shape, 3, np.float32)
        at, value = subpix.conv_quad_interp3d(x)
        assert np.array_equal(value, x)
        z, y, w = np.mgrid[tuple(slice(n) for n in shape[2:])]
        assert np.array_equal(at[0, 0], np.stack([z, w, y]))


def test_a_mask_names_the_voxels_to_refine() -> None:
    f = paraboloid()
    mask = np.zeros(f.shape, bool)
    assert np.array_equal(subpix.conv_quad_interp3d(f, precomputed_nms_mask=mask)[1], f)
    mask[0, 0, 1, 4, 4] = True
    at, _ = subpix.conv_quad_interp3d(f, precomputed_nms_mask=mask)
    np.testing.assert_allclose(at[0, 0, :, 1, 4, 4], [2.2, 4.3, 3.8])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("n_iters", {"n_iters": -1}),
        ("n_iters", {"n_iters": 2.5}),
        ("dilation_radius", {"dilation_radius": -1}),
        ("precomputed_nms_mask", {"precomputed_nms_mask": np.ones((2, 2), bool)}),
        ("precomputed_nms_mask", {"precomputed_nms_mask": np.ones((1, 1, 5, 9, 9))}),
        ("origin", {"origin": (1, 2)}),
    ],
)
def test_wrong_options_are_one_clear_error(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"^{name}: got .*takes"):
        subpix.conv_quad_interp3d(paraboloid(), **options)
