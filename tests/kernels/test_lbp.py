"""The kernel of local binary patterns against scikit-image, and its codes against plain loops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.feature import local_binary_pattern

from bigcorr.kernels.lbp import lbp_tile
from bigcorr.kernels.lbp_circle import METHODS, circle, number_of_codes
from bigcorr.kernels.lbp_codes import code_table, encode

pytestmark = pytest.mark.filterwarnings("ignore:Applying `local_binary_pattern`")

POINTS = [4, 8, 12, 16, 24]
RADII = [1, 1.5, 2, 3]

rng = np.random.default_rng(0)
SHAPE = (23, 150)
IMAGES = {
    "2 levels": rng.integers(0, 2, SHAPE).astype(np.uint8),
    "4 levels": rng.integers(0, 4, SHAPE).astype(np.uint8),
    "256 levels": rng.integers(0, 256, SHAPE).astype(np.uint8),
    "uint16": rng.integers(0, 65536, SHAPE).astype(np.uint16),
    "float32": rng.normal(size=SHAPE).astype(np.float32),
    "float64": rng.normal(size=SHAPE),
}


def tile_of(
    image: np.ndarray, points: int, radius: float, method: str, box: tuple[int, ...] | None = None
) -> np.ndarray:
    """A tile of the image by the kernel, as float64."""
    y0, y1, x0, x1 = box or (0, image.shape[0], 0, image.shape[1])
    hy, hx = circle(points, float(radius)).halo
    padded = np.pad(image.astype(np.float64), ((hy, hy), (hx, hx)))
    part = np.ascontiguousarray(padded[y0 : y1 + 2 * hy, x0 : x1 + 2 * hx])
    return lbp_tile(part, points, float(radius), method, (y0, x0)).astype(np.float64)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", IMAGES)
def test_every_pixel_equals_scikit_image(kind: str, method: str) -> None:
    image = IMAGES[kind]
    for points in POINTS:
        for radius in RADII:
            expected = local_binary_pattern(image, points, radius, method)
            result = tile_of(image, points, radius, method)
            assert np.array_equal(result, expected, equal_nan=True), (points, radius)


@given(
    st.sampled_from(list(IMAGES)),
    st.sampled_from([*POINTS, 1, 2, 3, 31]),
    st.sampled_from([*RADII, 0.4, 5.3]),
    st.sampled_from(METHODS),
    st.integers(1, 23),
    st.integers(1, 150),
    st.integers(0, 2**32 - 1),
)
def test_every_tile_equals_scikit_image_on_the_whole(
    kind: str, points: int, radius: float, method: str, h: int, w: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = IMAGES[kind][:h, :w]
    y, x = rng.integers(0, h), rng.integers(0, w)
    box = (y, rng.integers(y, h) + 1, x, rng.integers(x, w) + 1)
    whole = local_binary_pattern(image, points, radius, method)
    expected = whole[box[0] : box[1], box[2] : box[3]]
    assert np.array_equal(tile_of(image, points, radius, method, box), expected, equal_nan=True)


@pytest.mark.parametrize("method", ["uniform", "var"])
@pytest.mark.parametrize("axis", [0, 1])
def test_far_from_the_origin_fractions_are_rounded_as_scikit_image_does(
    axis: int, method: str
) -> None:
    """Across powers of two, where the last bits of a coordinate change."""
    shape = [3, 3]
    shape[axis] = 70_000
    image = np.random.default_rng(1).integers(0, 3, shape).astype(np.uint8)
    expected = local_binary_pattern(image, 8, 1, method)
    assert np.array_equal(tile_of(image, 8, 1, method), expected, equal_nan=True)
    for start in (4090, 32760, 65530):
        box = [0, 3, 0, 3]
        box[2 * axis : 2 * axis + 2] = start, start + 20
        part = tile_of(image, 8, 1, method, tuple(box))
        whole = expected[box[0] : box[1], box[2] : box[3]]
        assert np.array_equal(part, whole, equal_nan=True)


def test_a_constant_image_has_the_known_codes() -> None:
    codes = tile_of(np.full((5, 5), 9), 8, 1, "default")
    assert codes[0].tolist() == [193, 241, 241, 241, 112]
    assert (codes[1:-1, 1:-1] == 255).all()


def test_tiles_wider_than_a_panel_have_the_same_codes() -> None:
    image = np.random.default_rng(2).integers(0, 4, (9, 2500)).astype(np.uint8)
    for points, radius in ((8, 1), (24, 3)):
        expected = local_binary_pattern(image, points, radius, "uniform")
        assert np.array_equal(tile_of(image, points, radius, "uniform"), expected)


@pytest.mark.parametrize("radius", [1e-7, 1e-5, 0.5, 40.7])
def test_any_radius_equals_scikit_image(radius: float) -> None:
    image = IMAGES["4 levels"]
    for method in METHODS:
        expected = local_binary_pattern(image, 8, radius, method)
        assert np.array_equal(tile_of(image, 8, radius, method), expected, equal_nan=True)


@pytest.mark.parametrize("points", [33, 40, 63, 64])
def test_many_points_equal_scikit_image_where_it_does_not_overflow(points: int) -> None:
    for method in ("uniform", "nri_uniform", "var"):
        for image in (IMAGES["2 levels"], np.add.outer(np.arange(20.0), np.arange(30.0) ** 2)):
            expected = local_binary_pattern(image, points, 4, method)
            assert np.array_equal(tile_of(image, points, 4, method), expected, equal_nan=True)


def code(bits: list[int], method: str) -> int:
    """The definition, in Python's integers."""
    points = len(bits)
    value = sum(bit << i for i, bit in enumerate(bits))
    turned = [sum(bits[(i + k) % points] << i for i in range(points)) for k in range(points)]
    if method == "default":
        return value
    if method == "ror":
        return min(turned)
    changes = sum(a != b for a, b in pairwise(bits))
    if method == "uniform":
        return sum(bits) if changes <= 2 else points + 1
    raise AssertionError(method)


@given(st.lists(st.integers(0, 1), min_size=1, max_size=64))
def test_codes_of_any_pattern_follow_their_definition(bits: list[int]) -> None:
    points, none = len(bits), np.empty(0, np.uint16)
    for method in METHODS[:3]:
        for table in (none, code_table(points, method)):
            word = np.array([code(bits, "default")], np.uint64)
            encode(word, METHODS.index(method), points, table)
            assert int(word[0]) == code(bits, method)


@pytest.mark.parametrize("points", [2, 3, 8, 12, 17, 64])
def test_nri_uniform_gives_every_uniform_pattern_a_code_of_its_own(points: int) -> None:
    runs = [(start, n) for n in range(1, points) for start in range(points)]
    patterns = [sum(1 << (start + i) % points for i in range(n)) for start, n in runs]
    words = np.array([0, *patterns, 2**points - 1], np.uint64)
    encode(words, METHODS.index("nri_uniform"), points, np.empty(0, np.uint16))
    assert sorted(words.tolist()) == list(range(number_of_codes(points, "nri_uniform") - 1))
    if points > 3:
        other = np.array([0b101], np.uint64)
        encode(other, METHODS.index("nri_uniform"), points, np.empty(0, np.uint16))
        assert int(other[0]) == number_of_codes(points, "nri_uniform") - 1
