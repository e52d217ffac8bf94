"""The measures of pair similarity: their classes, and how they are named in text.

The public face of `bigcorr.pairs`: ``bc.measures.NCC(window=32, stride=16)``. No formula lives
here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from bigcorr.errors import InputError
from bigcorr.pairs.measure import Measure
from bigcorr.pairs.moments import Cosine, Pearson
from bigcorr.pairs.neighbours import Lee, Moran
from bigcorr.pairs.peaks import RoiPearson
from bigcorr.pairs.spearman import Spearman
from bigcorr.pairs.structural import SSIM
from bigcorr.pairs.texture import LBP
from bigcorr.pairs.transport import Wasserstein
from bigcorr.pairs.transport_chosen import EMD, Sinkhorn
from bigcorr.pairs.windows import NCC

__all__ = [
    "EMD",
    "LBP",
    "NCC",
    "SSIM",
    "Cosine",
    "Lee",
    "Measure",
    "Moran",
    "Pearson",
    "RoiPearson",
    "Sinkhorn",
    "Spearman",
    "Wasserstein",
    "parse",
    "parse_all",
]

MEASURES: dict[str, type[Any]] = {
    cls.name: cls
    for cls in (
        Pearson,
        Cosine,
        Spearman,
        NCC,
        SSIM,
        RoiPearson,
        Moran,
        Lee,
        LBP,
        Wasserstein,
        Sinkhorn,
        EMD,
    )
}


def parse(text: Any, defaults: Mapping[str, Any] | None = None) -> Measure:
    """A measure from its name, from ``"ncc:window=32,stride=16"``, a (name, parameters) pair, its
    class, or itself.

    Parameters
    ----------
    text : str, (str, mapping), type or Measure
    defaults : mapping, optional
        Parameters that hold where `text` does not say otherwise and the measure has them.

    Raises
    ------
    InputError
        For an unknown measure or parameter, or a value out of range.

    Examples
    --------
    >>> parse("ncc:window=32", {"stride": 4})
    NCC(window=32, stride=4, contrast_floor=1.0, min_valid=0.5)
    """
    given: dict[str, Any] = {}
    if isinstance(text, str):
        name, _, rest = text.partition(":")
        for part in filter(None, rest.split(",")):
            key, equals, value = part.partition("=")
            if not equals:
                raise InputError(f"measure: got {text!r}, takes NAME or NAME:key=value,key=value")
            given[key.strip()] = _value(value.strip())
        name = name.strip()
    elif isinstance(text, tuple) and len(text) == 2 and isinstance(text[0], str):
        name, given = text[0], dict(text[1] or {})
    elif isinstance(text, type) and text in MEASURES.values():
        name = text.__dict__["name"]
    elif type(text) in MEASURES.values():
        return text
    else:
        raise InputError(f"measure: got {text!r}, takes one of {', '.join(MEASURES)}")
    if name not in MEASURES:
        near = difflib.get_close_matches(name, MEASURES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"measure: got {name!r}, takes one of {', '.join(MEASURES)}{hint}")
    cls = MEASURES[name]
    known = getattr(cls, "__dataclass_fields__", {})
    takes = [key for key, field in known.items() if not str(field.type).startswith("ClassVar")]
    for key in given:
        if key not in takes:
            raise InputError(
                f"measure {name}: unknown parameter {key!r}, takes {', '.join(takes) or 'none'}"
            )
    for key, value in (defaults or {}).items():
        if key in takes:
            given.setdefault(key, value)
    try:
        return cls(**given)
    except TypeError as error:  # what is no number where one is needed
        told = ", ".join(f"{key}={value!r}" for key, value in given.items())
        raise InputError(f"measure {name}: cannot be made of {told} ({error})") from error


def parse_all(
    measures: str | Sequence[Any] | Measure, defaults: Mapping[str, Any] | None = None
) -> tuple[Measure, ...]:
    """Several measures; each name once, since it names a variable of the result."""
    if isinstance(measures, str) or not isinstance(measures, Sequence):
        measures = [measures]
    found = tuple(parse(measure, defaults) for measure in measures)
    if not found:
        raise InputError("measures: got none, takes at least one")
    names = [measure.name for measure in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"measures: {name} is asked for more than once")
    return found


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
