"""Registration: `register` finds the move of an image; `apply_shift`, `apply_affine` carry it out.

Only names live here. `coarse` looks first, `translation` and `affine` search in tiles, `agreement`
tells how alike the images are after the move; `images` reads them wherever they lie; `phase` is
phase correlation as scikit-image has it.
"""

from bigcorr.registration.apply import apply_affine, apply_shift
from bigcorr.registration.register import register
from bigcorr.registration.result import Registration

__all__ = ["Registration", "apply_affine", "apply_shift", "register"]
