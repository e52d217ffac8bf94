"""Registration of two images: `register` finds the shift, `apply_shift` carries it out.

Only names live here; `translation` searches, `phase` is phase correlation as scikit-image has it,
`agreement` tells how alike two images are after a shift.
"""

from bigcorr.registration.apply import apply_shift
from bigcorr.registration.translation import Registration, register

__all__ = ["Registration", "apply_shift", "register"]
