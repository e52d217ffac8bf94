"""How far values from cells lie from values from pixels: figures of it, and in words.

What is compared is in `bigcorr.run.coarse_error`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = Mapping[str, NDArray[np.float64]]


def differences(fine: Values, coarse: Values) -> dict[str, Any]:
    """Of each measure the root mean square and the largest of the differences over pairs.

    Parameters
    ----------
    fine, coarse : (..., channel, channel) float64 matrices by measure
        Leading axes are blurs.

    Returns
    -------
    dict
        By measure ``rms`` and ``max``: a number, a list of them for several blurs, None where no
        pair has a value.

    Examples
    --------
    >>> import numpy as np
    >>> exact, rough = np.array([[1, 0.5], [0.5, 1]]), np.array([[1, 0.25], [0.25, 1]])
    >>> differences({"pearson": exact}, {"pearson": rough})
    {'pearson': {'rms': 0.25, 'max': 0.25}}
    """
    found = {}
    for measure, exact in fine.items():
        upper = np.triu_indices(exact.shape[-1], 1)
        apart = np.abs(coarse[measure] - exact)[(..., *upper)]
        found[measure] = {
            "rms": _of_finite(apart, lambda x: np.sqrt(np.mean(x**2))),
            "max": _of_finite(apart, np.max),
        }
    return found


def _of_finite(apart: NDArray[np.float64], what: Callable[[Any], Any]) -> Any:
    if apart.ndim > 1:
        return [_of_finite(one, what) for one in apart]
    finite = apart[np.isfinite(apart)]
    return float(what(finite)) if finite.size else None


def coarse_error_told(error: Mapping[str, Any]) -> str:
    """One measure's error in words, the largest of all blurs.

    Examples
    --------
    >>> coarse_error_told({"rms": 0.00031, "max": 0.0012})
    'within 0.0012 of the values of pixels in a sample (rms 0.00031)'
    """
    largest, rms = (_largest(error["max"]), _largest(error["rms"]))
    if largest is None or rms is None:
        return "not known: no pair has a value in the sample"
    return f"within {largest:.2g} of the values of pixels in a sample (rms {rms:.2g})"


def _largest(values: Any) -> float | None:
    some: Sequence[Any] = values if isinstance(values, list) else [values]
    return max((v for v in some if v is not None), default=None)
