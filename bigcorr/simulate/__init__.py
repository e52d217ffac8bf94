"""Seeded tissue and image pairs with known truth, at any size, the same pixels in any tiling."""

from bigcorr.simulate.tissue import Tissue, tissue, tissue_tile

__all__ = ["Tissue", "tissue", "tissue_tile"]
