"""How early a ranking finds what a known truth says is to be found.

Works on finished tables of pairs; making them is `ranking`'s part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from bigcorr.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean precision over the true pairs, going down the list from the highest score.

    Parameters
    ----------
    labels : array_like of bool
        True where the pair is one to be found.
    scores : array_like of float
        The higher, the earlier in the list; NaN comes last. Equal scores are one step, so that
        the result does not depend on their order (as in scikit-learn).

    Returns
    -------
    float
        1 if every true pair comes before every other; about the share of true pairs if the order
        is random; NaN if there is no true pair.

    Examples
    --------
    >>> average_precision([True, False, True], [0.9, 0.5, 0.4])
    0.8333333333333333
    """
    positive = np.asarray(labels, dtype=bool).ravel()
    score = np.asarray(scores, dtype=np.float64).ravel()
    if positive.shape != score.shape:
        raise InputError(f"scores: got {score.size} of them for {positive.size} labels")
    total = int(positive.sum())
    if total == 0:
        return float("nan")
    score = np.where(np.isnan(score), -np.inf, score)
    order = np.argsort(-score, kind="stable")
    score, found = score[order], np.cumsum(positive[order])
    ends = np.append(np.flatnonzero(score[1:] != score[:-1]), score.size - 1)
    precision = found[ends] / (ends + 1)
    gained = np.diff(found[ends], prepend=0)
    return float(np.sum(gained * precision) / total)


def group_precision(pairs: pd.DataFrame, truth: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """How early a ranking finds the pairs that truly share a pattern, by kind of pattern.

    Parameters
    ----------
    pairs : pandas.DataFrame
        A result of `rank_pairs`; its order is what is judged. Rows whose value is NaN come last.
    truth : mapping
        ``attrs["truth"]`` of a simulated stack: equally long lists ``channel`` (names), ``group``
        (an index, -1 for none) and ``kind``.

    Returns
    -------
    pandas.DataFrame
        One row a selection of pairs, with columns ``pattern``, ``pairs`` (how many), ``same_group``
        (how many of them are to be found) and ``average_precision``: "all" pairs; "all but
        gradients", since no window that is narrower sees these; and for each kind the pairs with
        at least one channel of that kind.
    """
    import pandas as pd

    names = pd.Index(truth["channel"])
    a, b = names.get_indexer(pairs["a"]), names.get_indexer(pairs["b"])
    if min(a.min(initial=0), b.min(initial=0)) < 0:
        unknown = pairs["a"][a < 0].iloc[0] if (a < 0).any() else pairs["b"][b < 0].iloc[0]
        raise InputError(f"truth: knows nothing of the channel {unknown!r} of the pairs")
    group = np.asarray(truth["group"])
    kinds, kind = np.unique(np.asarray(truth["kind"], dtype=str), return_inverse=True)
    same = (group[a] == group[b]) & (group[a] >= 0)
    # The row number is the score: whatever ordered the table, its order is what is judged.
    score = np.where(pairs["value"].isna(), np.nan, -np.arange(len(pairs), dtype=np.float64))

    patterned = [k for k in range(len(kinds)) if (group[kind == k] >= 0).any()]
    selections = [("all", np.ones(len(pairs), dtype=bool))]
    for k in patterned:
        if kinds[k] == "gradients":
            selections.append(("all but gradients", (kind[a] != k) & (kind[b] != k)))
    for k in patterned:
        selections.append((str(kinds[k]), (kind[a] == k) | (kind[b] == k)))
    rows = [
        (
            name,
            int(chosen.sum()),
            int(same[chosen].sum()),
            average_precision(same[chosen], score[chosen]),
        )
        for name, chosen in selections
    ]
    return pd.DataFrame(rows, columns=["pattern", "pairs", "same_group", "average_precision"])
