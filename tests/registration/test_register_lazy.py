"""Registration of what does not fit in memory: the same bits from every kind of raster."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from scipy import ndimage

import bigcorr as bc
from bigcorr.registration import agreement, coarse
from bigcorr.registration.result import Registration


def images(shape: tuple[int, int], gaps: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    a = ndimage.gaussian_filter(rng.normal(size=shape), 1.5).astype("float32")
    b = ndimage.shift(a, (6.3, -4.7), mode="mirror").astype("float32")
    if gaps:
        for image in (a, b):
            image[rng.random(shape) < 0.1] = np.nan
    return a, b


def same(first: Registration, second: Registration) -> bool:
    return all(
        np.array_equal(getattr(first, name), getattr(second, name), equal_nan=True)
        for name in (
            "shift",
            "score",
            "score_before",
            "spread",
            "shifts",
            "used",
            "matrix",
            "scores",
        )
    )


@pytest.mark.parametrize("model", ["translation", "affine"])
@pytest.mark.parametrize("gaps", [False, True])
def test_numpy_dask_and_zarr_give_the_same_bits(
    tmp_path: Path, gaps: bool, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coarse, "LONGEST", 128)
    a, b = images((310, 390), gaps)
    whole = bc.register(a, b, model=model, tile=128)
    np.testing.assert_allclose(whole.shift, [-6.3, 4.7], atol=0.1)
    lazy = da.from_array(a, (100, 77)), da.from_array(b, (310, 113))
    assert same(bc.register(*lazy, model=model, tile=128), whole)
    paths = [tmp_path / "a.zarr", tmp_path / "b.zarr"]
    for image, path in zip((a, b), paths, strict=True):
        bc.save_raster(image, path, chunk=64, shard=128)
    stored = [bc.open_raster(path) for path in paths]
    assert same(bc.register(*stored, model=model, tile=128), whole)
    assert same(bc.register(a, stored[1], model=model, tile=128), whole)
    if gaps and model == "translation":
        with bc.connect("local", workers=1) as client, client.cluster:
            assert same(bc.register(*stored, model=model, tile=128), whole)


def test_a_raster_is_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """67 MB of pixels, of which boxes of a quarter of a megabyte are read at a time."""
    monkeypatch.setattr(coarse, "LONGEST", 128)
    monkeypatch.setattr(coarse, "BOX", 256)
    monkeypatch.setattr(agreement, "BOX", 256)

    def make(block_info: dict) -> np.ndarray:
        (y0, y1), (x0, x1) = block_info[None]["array-location"]
        y, x = np.mgrid[y0:y1, x0:x1]
        return (np.sin(y * y / 9000 + x / 7) + np.cos(x * x / 8000 - y / 11)).astype("float32")

    a = da.map_blocks(make, chunks=((512,) * 8, (512,) * 4), dtype="float32", meta=np.empty((0, 0)))
    paths = [tmp_path / "a.zarr", tmp_path / "b.zarr"]
    bc.save_raster(a[:-7, :-5], paths[0], chunk=256, shard=512)
    bc.save_raster(a[7:, 5:], paths[1], chunk=256, shard=512)
    pair = [bc.open_raster(path) for path in paths]
    tracemalloc.start()
    reg = bc.register(*pair, tile=128)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reg.shift == pytest.approx((7, 5), abs=0.02)
    assert peak < 30e6
