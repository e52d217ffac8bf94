"""Rasters in and out: one file a format. The public names, nothing else."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "opening": ["open_raster"],
        "save": ["save_raster"],
        "source": ["RasterSource", "as_source", "open_source"],
    },
)
