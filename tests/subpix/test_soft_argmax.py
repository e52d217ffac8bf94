"""Soft argmax of windows: brute force, known values, and any tiling is the whole, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bigcorr import subpix
from bigcorr.errors import InputError
from bigcorr.subpix import windows as windows_module


def brute(
    x: NDArray[np.float64], kernel: tuple[int, ...], stride: Any, padding: Any, temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Every window of one map by itself: coordinates in array order, and values."""
    out = [
        (n + 2 * p - k) // s + 1
        for n, k, s, p in zip(x.shape, kernel, stride, padding, strict=True)
    ]
    places, values = np.empty((x.ndim, *out)), np.empty(out)
    for at in np.ndindex(*out):
        spans = [
            np.arange(max(0, j * s - p), min(n, j * s - p + k))
            for j, s, p, k, n in zip(at, stride, padding, kernel, x.shape, strict=True)
        ]
        pixels = x[np.ix_(*spans)]
        weights = np.exp((pixels - pixels.max()) / temperature)
        weights /= weights.sum()
        for axis, grid in enumerate(np.meshgrid(*spans, indexing="ij")):
            places[(axis, *at)] = (weights * grid).sum()
        values[at] = (weights * pixels).sum()
    return places, values


@pytest.mark.parametrize("seed", range(6))
def test_windows_are_those_of_brute_force(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows_module, "_BLOCK", 20)
    rng = np.random.default_rng(seed)
    for axes, call in ((2, subpix.conv_soft_argmax2d), (3, subpix.conv_soft_argmax3d)):
        x = rng.normal(size=(2, 2, *rng.integers(4, 9, axes)))
        kernel = tuple(int(k) for k in rng.integers(1, 5, axes))
        stride = tuple(int(s) for s in rng.integers(1, 4, axes))
        padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
        found: Any = call(
            x, kernel, stride, padding, 0.7, normalized_coordinates=False, output_value=True
        )
        for at in np.ndindex(2, 2):
            places, values = brute(x[at], kernel, stride, padding, 0.7)
            order = [*range(axes - 2), axes - 1, axes - 2]
            np.testing.assert_allclose(found[0][at], places[order], rtol=0, atol=1e-12)
            np.testing.assert_allclose(found[1][at], values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [3, 5, 7])
def test_two_equal_pixels_give_the_point_between_them(k: int) -> None:
    x = np.zeros((1, 1, 11, 11), np.float32)
    x[0, 0, 5, 5:7] = 1
    at: Any = subpix.conv_soft_argmax2d(
        x, (k, k), padding=(k // 2, k // 2), temperature=0.05, normalized_coordinates=False
    )
    np.testing.assert_allclose(at[0, 0, :, 5, 5], [5.5, 5.0], atol=1e-5)


@settings(max_examples=30)
@given(
    st.sampled_from(["float32", "float64"]),
    st.sampled_from([2, 3]),
    st.integers(1, 400),
    st.integers(0, 2**32 - 1),
)
def test_a_tile_with_its_halo_gives_the_bits_of_the_whole(
    dtype: str, axes: int, block: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shape = rng.integers(6, 24, axes) if axes == 2 else rng.integers(5, 12, axes)
    x = rng.normal(size=(1, 2, *shape)).astype(dtype)
    x.ravel()[rng.integers(0, x.size, 2)] = np.nan
    kernel = tuple(int(k) for k in rng.integers(1, 6, axes))
    stride = tuple(int(s) for s in rng.integers(1, 4, axes))
    padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
    call: Any = subpix.conv_soft_argmax2d if axes == 2 else subpix.conv_soft_argmax3d
    options = {
        "temperature": float(rng.uniform(0.05, 2)),
        "normalized_coordinates": False,
        "output_value": True,
    }
    whole = call(x, kernel, stride, padding, **options)
    pixels, windows, inside, origin = [], [], [], []
    for n, count, k, s, p in zip(shape, whole[1].shape[2:], kernel, stride, padding, strict=True):
        first, last = sorted(int(j) for j in rng.integers(0, count, 2))
        start = max(0, (first * s - p) // s * s)
        pixels.append(slice(start, min(int(n), last * s - p + k)))
        windows.append(slice(first, last + 1))
        inside.append(slice(first - start // s, last + 1 - start // s))
        origin.append(start)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows_module, "_BLOCK", block)
        tile = call(x[(..., *pixels)], kernel, stride, padding, origin=origin, **options)
    for part, of_whole in zip(tile, whole, strict=True):
        assert part[(..., *inside)].tobytes() == of_whole[(..., *windows)].tobytes()


def test_a_missing_pixel_touches_its_own_windows_alone() -> None:
    x = np.random.default_rng(0).normal(size=(1, 1, 9, 9))
    clean: Any = subpix.conv_soft_argmax2d(x, output_value=True)
    x[0, 0, 4, 5] = np.nan
    found: Any = subpix.conv_soft_argmax2d(x, output_value=True)
    hit = np.zeros((9, 9), bool)
    hit[3:6, 4:7] = True
    assert np.array_equal(np.isnan(found[1][0, 0]), hit)
    assert np.array_equal(found[1][0, 0][~hit], clean[1][0, 0][~hit])


def test_the_bonus_multiplies_the_values_of_strict_maxima_alone() -> None:
    x = np.random.default_rng(5).normal(size=(1, 2, 5, 8, 9))
    for kernel, stride, padding in (
        ((3, 3, 3), (1, 1, 1), (1, 1, 1)),
        ((3, 5, 3), (1, 2, 3), (0, 2, 1)),
        ((1, 2, 4), (1, 1, 2), (0, 1, 2)),
    ):
        plain: Any = subpix.conv_soft_argmax3d(x, kernel, stride, padding)
        raised: Any = subpix.conv_soft_argmax3d(x, kernel, stride, padding, strict_maxima_bonus=0.5)
        assert np.array_equal(plain[0], raised[0])
        peaks = subpix.nms3d(x, kernel, mask_only=True)
        expected = plain[1].copy()
        for at in np.ndindex(*expected.shape):
            centre = [
                j * s - p + (k - 1) // 2
                for j, s, p, k in zip(at[2:], stride, padding, kernel, strict=True)
            ]
            inside = all(0 <= c < n for c, n in zip(centre, x.shape[2:], strict=True))
            if inside and peaks[(*at[:2], *centre)]:
                expected[at] *= 1.5
        assert np.array_equal(raised[1], expected)
        assert (raised[1] != plain[1]).any()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("padding", {"padding": (2, 1)}),
        ("padding", {"padding": -1}),
        ("kernel_size", {"kernel_size": (3, 3, 3)}),
        ("kernel_size", {"kernel_size": 2.5}),
        ("kernel_size", {"kernel_size": 30}),
        ("stride", {"stride": (0, 1)}),
        ("temperature", {"temperature": -1}),
        ("origin", {"origin": (4, 0)}),
    ],
)
def test_wrong_windows_are_one_clear_error(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"^{name}: got .*takes"):
        subpix.conv_soft_argmax2d(np.ones((1, 1, 8, 8)), **options)


def test_the_classes_are_the_functions() -> None:
    x = np.random.default_rng(1).normal(size=(1, 2, 5, 7, 6))
    flat = subpix.ConvSoftArgmax2d((5, 3), (2, 1), (1, 1), 0.3, False, output_value=True)
    expected = subpix.conv_soft_argmax2d(
        x[:, :, 0], (5, 3), (2, 1), (1, 1), 0.3, False, output_value=True
    )
    for ours, theirs in zip(flat(x[:, :, 0]), expected, strict=True):
        assert np.array_equal(ours, theirs)
    deep = subpix.ConvSoftArgmax3d(stride=(1, 2, 2), strict_maxima_bonus=2)
    for ours, theirs in zip(
        deep(x), subpix.conv_soft_argmax3d(x, stride=(1, 2, 2), strict_maxima_bonus=2), strict=True
    ):
        assert np.array_equal(ours, theirs)
