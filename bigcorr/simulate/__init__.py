"""Seeded tissue and image pairs with known truth, at any size, the same pixels in any tiling."""

from bigcorr.simulate.images import ImagePair, Scene, image_pair
from bigcorr.simulate.tissue import Tissue, tissue, tissue_tile

__all__ = ["ImagePair", "Scene", "Tissue", "image_pair", "tissue", "tissue_tile"]
