"""PNG and JPEG: decoded once, read by boxes, colours as channels."""

import pickle

import numpy as np
import pytest
from PIL import Image

from bigcorr.errors import InputError, RunError
from bigcorr.raster import image as image_module
from bigcorr.raster import open_raster, open_source
from bigcorr.tiles import Box


@pytest.mark.parametrize(
    ("mode", "names", "dtype"),
    [
        ("L", ("c0",), "uint8"),
        ("RGB", ("red", "green", "blue"), "uint8"),
        ("RGBA", ("red", "green", "blue", "alpha"), "uint8"),
        ("LA", ("luminance", "alpha"), "uint8"),
        ("I;16", ("c0",), "uint16"),
    ],
)
def test_png_modes(tmp_path, mode, names, dtype):
    shape = (30, 40) if len(names) == 1 else (30, 40, len(names))
    data = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    Image.fromarray(data).save(tmp_path / "a.png")
    source = pickle.loads(pickle.dumps(open_source(tmp_path / "a.png")))
    assert source.channels == names
    assert source.dtype == np.dtype(dtype)
    expected = data[None] if data.ndim == 2 else np.moveaxis(data, 2, 0)
    found = source.read(slice(None), Box(2, 29, 5, 31))
    np.testing.assert_array_equal(found, expected[:, 2:29, 5:31])
    assert open_raster(tmp_path / "a.png").ndim == data.ndim


def test_palettes_and_bilevel_images_become_colours_and_grey(tmp_path):
    data = (np.arange(12).reshape(3, 4) % 2).astype("u1")
    Image.fromarray(data * 255).convert("1").save(tmp_path / "b.png")
    assert open_raster(tmp_path / "b.png").values.tolist() == (data * 255).tolist()
    Image.fromarray(data * 255).convert("P").save(tmp_path / "p.png")
    assert open_source(tmp_path / "p.png").channels == ("red", "green", "blue")


def test_an_image_is_decoded_once_and_again_when_it_changed(tmp_path, monkeypatch):
    opened = []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda *a: opened.append(a) or original(*a))
    Image.fromarray(np.full((20, 20), 3, "u1")).save(tmp_path / "a.png")
    source = open_source(tmp_path / "a.png")
    opened.clear()
    for _ in range(3):
        source.read([0], Box(0, 5, 0, 5))
    assert len(opened) == 1
    Image.fromarray(np.full((20, 21), 4, "u1")).save(tmp_path / "a.png")
    assert open_source(tmp_path / "a.png").read([0], Box(0, 1, 0, 1)) == 4


def test_the_cache_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(image_module, "CACHE_BYTES", 1000)
    for i in range(5):
        Image.fromarray(np.full((20, 20), i, "u1")).save(tmp_path / f"{i}.png")
        assert open_source(tmp_path / f"{i}.png").read([0], Box(0, 1, 0, 1)) == i
    assert sum(a.nbytes for a in image_module._cache.values()) <= 1000


def test_a_truncated_image_is_one_clear_error(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (90, 90)).astype("u1")
    Image.fromarray(data).save(tmp_path / "a.jpg")
    raw = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(raw[: len(raw) // 2])
    with pytest.raises((InputError, RunError), match=r"a\.jpg"):
        open_source(tmp_path / "a.jpg").read([0], Box(0, 90, 0, 90))
