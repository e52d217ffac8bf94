"""Extrema to a fraction of a pixel, on NumPy arrays: ``kornia.geometry.subpix`` without torch.

The functions and classes have the names, the defaults, the shapes and the order of coordinates of
kornia 0.9.0, and its values. float32 gives float32; any other real dtype is taken as float64. What
a function of windows gives depends on the pixels of each window alone: `conv_soft_argmax2d`,
`conv_soft_argmax3d`, `conv_quad_interp3d`, `nms2d` and `nms3d` of a tile with its halo are those of
the whole, bit for bit, where `origin` says where the tile lies.

Only names live here: maps as probabilities are in `heatmaps`, windows in `soft_argmax` and
`windows`, strict maxima in `maxima`, quadratics in `quadratic`.
"""

from bigcorr.subpix.heatmaps import (
    SpatialSoftArgmax2d,
    render_gaussian2d,
    spatial_expectation2d,
    spatial_soft_argmax2d,
    spatial_softmax2d,
)
from bigcorr.subpix.maxima import nms2d, nms3d
from bigcorr.subpix.quadratic import ConvQuadInterp3d, conv_quad_interp3d
from bigcorr.subpix.soft_argmax import (
    ConvSoftArgmax2d,
    ConvSoftArgmax3d,
    conv_soft_argmax2d,
    conv_soft_argmax3d,
)

__all__ = [
    "ConvQuadInterp3d",
    "ConvSoftArgmax2d",
    "ConvSoftArgmax3d",
    "SpatialSoftArgmax2d",
    "conv_quad_interp3d",
    "conv_soft_argmax2d",
    "conv_soft_argmax3d",
    "nms2d",
    "nms3d",
    "render_gaussian2d",
    "spatial_expectation2d",
    "spatial_soft_argmax2d",
    "spatial_softmax2d",
]
