"""Whether anything in a tile is not finite."""

from __future__ import annotations

import numpy as np
import pytest

from bigcorr.kernels.finite import all_finite


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "longdouble"])
@pytest.mark.parametrize("shape", [(7,), (1, 1), (30, 9000), (2, 30, 40)])
def test_one_pixel_anywhere_is_found(dtype: str, shape: tuple[int, ...]) -> None:
    image = np.full(shape, 1e4).astype(dtype)
    assert all_finite(image)
    for index in (0, image.size // 2, image.size - 1):
        for value in (np.nan, np.inf, -np.inf):
            spoilt = image.copy()
            spoilt.flat[index] = value
            assert not all_finite(spoilt)
            if image.ndim == 2:
                assert not all_finite(np.asfortranarray(spoilt))


def test_a_part_of_an_image_is_all_that_counts() -> None:
    image = np.zeros((20, 30), np.float32)
    image[0, 0] = image[10, 29] = np.nan
    assert all_finite(image[1:, :29])
    assert not all_finite(image[1:])
    assert all_finite(np.zeros((3, 4), np.uint16))
    assert all_finite(np.zeros((0, 4)))
