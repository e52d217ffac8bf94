"""Strict maxima: each pixel against every other one of its window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcorr import subpix
from bigcorr.errors import InputError


@settings(max_examples=40)
@given(
    st.sampled_from([2, 3]),
    st.sampled_from(["uint8", "int16", "float32", "float64"]),
    st.integers(0, 2**32 - 1),
)
def test_a_maximum_is_greater_than_each_other_pixel_of_its_window(
    axes: int, dtype: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 12, (1, 2, *rng.integers(3, 9, axes))).astype(dtype)
    if x.dtype.kind == "f":
        x.ravel()[rng.integers(0, x.size)] = np.nan
    kernel = tuple(int(k) for k in rng.integers(1, 7, axes))
    call = subpix.nms2d if axes == 2 else subpix.nms3d
    mask = call(x, kernel, mask_only=True)
    for at in np.ndindex(*x.shape):
        low = [c - (k - 1) // 2 for c, k in zip(at[2:], kernel, strict=True)]
        spans = [slice(lo, lo + k) for lo, k in zip(low, kernel, strict=True)]
        inside = all(s.start >= 0 and s.stop <= n for s, n in zip(spans, x.shape[2:], strict=True))
        expected = False
        if inside:
            others = np.delete(x[(*at[:2], *spans)].ravel(), _centre(kernel))
            expected = bool((x[at] > others).all())
        assert mask[at] == expected
    assert np.array_equal(call(x, kernel), np.where(mask, x, 0), equal_nan=True)


def _centre(kernel: tuple[int, ...]) -> int:
    return int(np.ravel_multi_index([(k - 1) // 2 for k in kernel], kernel))


def test_a_tile_with_its_halo_has_the_maxima_of_the_whole() -> None:
    x = np.random.default_rng(0).normal(size=(1, 1, 40, 50))
    whole = subpix.nms2d(x, (5, 7))
    tile = subpix.nms2d(x[:, :, 8:34, 7:41], (5, 7))
    assert np.array_equal(tile[:, :, 2:-2, 3:-3], whole[:, :, 10:32, 10:38])


def test_other_dimensions_and_windows_are_refused() -> None:
    x = np.ones((1, 1, 4, 4))
    with pytest.raises(InputError, match=r"^input: got shape \(4, 4\), takes \(B, C, H, W\)"):
        subpix.nms2d(x[0, 0], (3, 3))
    with pytest.raises(InputError, match=r"^kernel_size: got .* takes"):
        subpix.nms2d(x, (3, 3, 3))
    with pytest.raises(InputError, match=r"^kernel_size: got .* takes"):
        subpix.nms3d(x[None], (3, 3, 0))
