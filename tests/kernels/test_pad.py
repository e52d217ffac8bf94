"""Padded tiles: what stands outside the raster, whatever part of it is held."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bigcorr.kernels.pad import Boundary, gather, halo_box, outside
from bigcorr.tiles import Box

MODES: dict[Boundary, str] = {"reflect": "symmetric", "nearest": "edge", "nan": "edge"}


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 40),
    st.integers(0, 40),
    st.sampled_from(list(MODES)),
    st.data(),
)
def test_a_gathered_tile_is_a_cut_of_the_padded_raster(
    h: int, w: int, halo_y: int, halo_x: int, boundary: Boundary, data: st.DataObject
) -> None:
    """Also where the halo is larger than the raster, and from any box that holds enough."""
    raster = np.random.default_rng(0).normal(size=(h, w))
    y0, x0 = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    box = Box(y0, data.draw(st.integers(y0 + 1, h)), x0, data.draw(st.integers(x0 + 1, w)))
    least = halo_box(box, (halo_y, halo_x), (h, w))
    more = data.draw(st.integers(0, 3))
    held = least.padded(more, more, more, more).clipped((h, w))
    tile = gather(raster[held.slices], held, box, (halo_y, halo_x), (h, w), boundary)

    whole = np.pad(raster, ((halo_y, halo_y), (halo_x, halo_x)), mode=MODES[boundary])
    cut = whole[box.y0 : box.y1 + 2 * halo_y, box.x0 : box.x1 + 2 * halo_x]
    assert np.array_equal(tile, cut)

    beyond = np.pad(np.zeros((h, w), bool), ((halo_y,) * 2, (halo_x,) * 2), constant_values=True)
    expected = beyond[box.y0 : box.y1 + 2 * halo_y, box.x0 : box.x1 + 2 * halo_x]
    found = outside(box, (halo_y, halo_x), (h, w))
    assert np.array_equal(expected, np.zeros(tile.shape, bool) if found is None else found)
