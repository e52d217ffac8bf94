"""In which order a blur learns what it must know, so that nothing is read twice."""

from __future__ import annotations

from dataclasses import dataclass

from bigcorr.pairs.moments import Moments
from bigcorr.pairs.neighbours import Lags
from bigcorr.pairs.significance import FieldSpectrum, SpectrumSpec
from bigcorr.pairs.summaries import rounds_of
from bigcorr.pairs.trend import ORDERS
from bigcorr.run.question import PairsQuestion


@dataclass(frozen=True)
class Order:
    """In which order a blur learns what it must know.

    known_later : mean and deviation of the channels come from the sums of the pair pass; before it
        a look at a part of the raster says in which units values become numbers.
    field : the one spectrum that is wanted then, which does not need them either; None where none
        is wanted, or where they are known first.
    """

    known_later: bool
    field: FieldSpectrum | None


def order_of(asked: PairsQuestion, specs: dict[str, SpectrumSpec]) -> Order:
    """Nothing is read twice that one reading can tell."""
    # Their matrices are the same in any units, and they sum what mean and deviation are made of.
    plain = all(
        isinstance(f, Lags) or (isinstance(f, Moments) and f.view is None) for f in asked.features()
    )
    if not plain or asked.n_shifts or ORDERS[asked.detrend] or rounds_of(asked.measures):
        return Order(False, None)
    fields = list(dict.fromkeys(specs.values()))
    if not fields:
        return Order(True, None)
    # Spectra of parts of a raster are taken about the mean of the part.
    only = fields[0] if len(fields) == 1 else None
    if isinstance(only, FieldSpectrum) and only.wants_coarse and Moments() in asked.features():
        return Order(True, only)
    return Order(False, None)
