"""Masks: given, stored or found; what is empty is seen."""

import numpy as np
import pytest
import xarray as xr

from bigcorr.errors import InputError
from bigcorr.raster import as_source, open_source
from bigcorr.raster.mask import CoarseMask, empty_fraction, find_tissue, resolve_mask
from bigcorr.raster.stack import StackWriter
from bigcorr.tiles import Box


def disc(size, radius):
    y, x = np.mgrid[:size, :size] - size // 2
    return y * y + x * x < radius * radius


def whole(mask):
    return mask.read(Box(0, mask.shape[0], 0, mask.shape[1]))


@pytest.mark.parametrize("density", [0.3, 0.02, 0.002])
def test_tissue_is_found_however_sparse_the_counts(density):
    tissue = disc(800, 300)
    tissue[380:420, 380:420] = False  # a hole inside is no background
    rng = np.random.default_rng(0)
    counts = ((rng.random((4, 800, 800)) < density / 4) & tissue).astype("u1")
    found = whole(find_tissue(as_source(counts)))
    outline = disc(800, 300)
    assert (found & ~outline).sum() < 0.08 * outline.sum()
    assert (~found & outline).sum() < 0.05 * outline.sum()


def test_missing_values_are_no_tissue():
    data = np.full((1, 64, 64), np.nan)
    data[0, 16:48, 16:48] = 1.0
    found = whole(find_tissue(as_source(data)))
    assert found[16:48, 16:48].all()
    assert not found[:14].any()


def test_a_full_image_is_all_tissue_and_an_empty_one_none():
    assert whole(find_tissue(as_source(np.ones((30, 40))))).all()
    assert not whole(find_tissue(as_source(np.zeros((30, 40))))).any()
    with pytest.raises(InputError, match="leaves no valid pixel"):
        resolve_mask("auto", as_source(np.zeros((30, 40))))


def test_tissue_does_not_depend_on_what_the_store_knows(tmp_path):
    data = (np.random.default_rng(0).random((3, 90, 70)) < 0.1).astype("u1")
    data[:, :, :30] = 0
    with StackWriter(tmp_path / "s.zarr", list("abc"), (90, 70), "u1", chunk=16, shard=32) as out:
        for channels, box in out.shard_boxes:
            out.write(channels, box, data[(channels, *box.slices)])
    stored = find_tissue(open_source(tmp_path / "s.zarr"))
    np.testing.assert_array_equal(stored.cells, find_tissue(as_source(data)).cells)


def test_a_coarse_mask_reads_any_box():
    cells = np.random.default_rng(0).random((5, 6)) < 0.5
    mask = CoarseMask(cells, 7, (33, 40))
    full = np.repeat(np.repeat(cells, 7, axis=0), 7, axis=1)[:33, :40]
    np.testing.assert_array_equal(mask.read(Box(3, 32, 5, 39)), full[3:32, 5:39])
    assert mask.count() == full.sum()  # without spreading it out


@pytest.mark.parametrize("kind", ["array", "dataarray", "file"])
def test_given_masks_are_what_is_neither_zero_nor_missing(tmp_path, kind):
    values = np.array([[0.0, 1.0, np.nan], [2.0, 0.0, -1.0]])
    np.save(tmp_path / "m.npy", values)
    mask = {
        "array": values,
        "dataarray": xr.DataArray(values, dims=("y", "x")),
        "file": tmp_path / "m.npy",
    }[kind]
    source = as_source(np.ones((4, 2, 3)))
    found = resolve_mask(mask, source)
    assert whole(found).tolist() == [[False, True, False], [True, False, True]]
    assert found.fingerprint() == resolve_mask(mask, source).fingerprint()


def test_a_stored_mask_counts_with_and_without_a_given_one(tmp_path):
    stored = np.array([[True, True], [False, False]])
    StackWriter(tmp_path / "s.zarr", ["a"], (2, 2), "u1", mask=stored).finish()
    source = open_source(tmp_path / "s.zarr")
    assert whole(resolve_mask(None, source)).tolist() == stored.tolist()
    both = resolve_mask(np.array([[1, 0], [1, 0]]), source)
    assert whole(both).tolist() == [[True, False], [False, False]]
    assert resolve_mask(None, as_source(np.ones((2, 2)))) is None


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((3, 3)), r"has shape \(3, 3\), the raster array has \(2, 2\)"),
        (np.zeros((2, 2)), "leaves no valid pixel"),
        (np.ones((2, 2, 2)), "takes a"),
        ("absent.tif", "no such file"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, message):
    with pytest.raises(InputError, match=message):
        resolve_mask(mask, as_source(np.ones((2, 2))))


def test_the_empty_share_is_seen():
    data = np.zeros((2, 100, 100), "u1")
    data[:, :, 80:] = 1
    assert empty_fraction(as_source(data)) == pytest.approx(0.8, abs=0.05)
    assert empty_fraction(as_source(np.ones((2, 100, 100)))) == 0.0
