"""Views: block means equal to those of the whole raster, whatever is read at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcorr.raster import as_source, open_source
from bigcorr.report import views
from bigcorr.report.views import block_means
from bigcorr.simulate import tissue


def brute_force(image, factor):
    """Mean of the valid pixels of each block; NaN where fewer than half are valid."""
    rows = []
    for y in range(0, image.shape[0], factor):
        row = []
        for x in range(0, image.shape[1], factor):
            block = image[y : y + factor, x : x + factor]
            valid = block[np.isfinite(block)]
            row.append(valid.mean() if 2 * valid.size >= block.size and valid.size else np.nan)
        rows.append(row)
    return np.array(rows)


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    longest=st.integers(1, 50),
    tile=st.integers(1, 4000),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_a_view_is_the_mean_of_blocks_however_it_is_read(shape, longest, tile, seed):
    rng = np.random.default_rng(seed)
    stack = rng.normal(size=(2, *shape))
    stack[rng.random(stack.shape) < 0.4] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "_TILE_BYTES", tile)
        view = block_means(as_source(stack), [1, 0], longest)
    assert max(view.grids.shape[1:]) <= longest
    expected = np.stack([brute_force(stack[c], view.factor) for c in (1, 0)])
    np.testing.assert_allclose(view.grids, expected, atol=1e-12)


def test_empty_chunks_of_a_stack_are_zero_and_not_read(tmp_path, monkeypatch):
    tissue(tmp_path / "t.zarr", channels=16, size=96)
    source = open_source(tmp_path / "t.zarr")
    read = type(source).read
    asked = []

    def spy(self, channels, box):
        asked.extend(channels)
        return read(self, channels, box)

    monkeypatch.setattr(type(source), "read", spy)
    counts = source.counts
    empty = [int(c) for c in np.flatnonzero(counts == 0)]
    assert empty, "at this size a nearly empty channel holds nothing"
    view = block_means(source, [0, *empty], 32)
    assert set(asked) == {0}
    assert view.grids[0].sum() * 9 == pytest.approx(counts[0])
    assert not view.grids[1:].any()
