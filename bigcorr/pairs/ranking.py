"""From a pair matrix to a ranked table: values, evidence, and how well a known truth is found.

Tables of pairs live here, vectorised over all of them. Computing a matrix or its null variance
does not: a result arrives as the Dataset of `bigcorr.pairwise`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bigcorr.errors import InputError, MissingFileError, RunError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    import xarray as xr

FloatArray = NDArray[np.float64]

COLUMNS = ("rank", "a", "b", "value", "z", "p_value", "q_value", "count_a", "count_b")
ORDERS = ("value", "z")


def rank_pairs(
    sim: xr.Dataset, by: str, order: str = "value", sigma: float | None = None
) -> pd.DataFrame:
    """Rank every pair of channels, most similar first.

    Parameters
    ----------
    sim : xarray.Dataset
        A result of `bigcorr.pairwise`, or of ``bigcorr pairs`` opened with `xarray.open_zarr`.
    by : str
        The measure to rank by: one of the matrices of `sim`.
    order : {"value", "z"}
        "value": by the measure itself; a distance is ranked ascending. "z": by evidence, the
        value less its mean under independence, over its standard deviation there.
    sigma : float, optional
        Which blur to rank, where `sim` holds several; 0 for the one without.

    Returns
    -------
    pandas.DataFrame
        One row a pair: ``rank`` (from 1), ``a`` and ``b`` (names; `a` comes first in the stack),
        ``value``, ``z``, ``p_value``, ``q_value`` (NaN where the measure has no significance),
        ``count_a``, ``count_b`` (total of each channel). Ties are broken by the names, rows whose
        value is NaN come last. Of a result against a few channels, `a` is one of these and `b`
        any other; a pair of two chosen channels appears once.

    Raises
    ------
    InputError
        Unknown `by`, `order` or `sigma`, or ``order="z"`` where the measure has no significance.

    Notes
    -----
    A measure that is not symmetric (bivariate Moran) is ranked by the mean of its two directions,
    with the mean of the two standard deviations, which is never too small. A result against a
    few channels holds one direction only, and is ranked by that.

    ``p_value`` is two-sided. For a correlation (`distribution` "t") it is that of r on
    ``n_eff - 2`` degrees of freedom with the effective sample size ``n_eff = 1 + 1 / sd**2``, at
    most the number of pixels [1]_, and NaN where n_eff <= 3. ``q_value`` is that of Benjamini and
    Hochberg [2]_ over all pairs that have a p. Neither z nor p can be trusted where a channel holds
    a handful of counts, since both rest on sums of many: one coincidence of two such channels is a
    high value and a high z. ``count_a`` and ``count_b`` stand beside each pair for that reason.

    References
    ----------
    .. [1] Clifford, Richardson and Hemon, Assessing the significance of the correlation between
       two spatial processes, Biometrics 45, 1989.
    .. [2] Benjamini and Hochberg, Controlling the false discovery rate, JRSS B 57, 1995.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from bigcorr.pairs.ranking import rank_pairs
    >>> matrix = np.array([[1.0, 0.2, 0.9], [0.2, 1.0, 0.4], [0.9, 0.4, 1.0]])
    >>> names = ["Apod", "Fabp7", "Kctd12"]
    >>> sim = xr.Dataset(
    ...     {"pearson": (("channel", "other"), matrix, {"kind": "similarity"})},
    ...     coords={
    ...         "channel": names,
    ...         "other": names,
    ...         "count": ("channel", [5, 6, 7]),
    ...         "count_other": ("other", [5, 6, 7]),
    ...     },
    ... )
    >>> rank_pairs(sim, by="pearson")[["rank", "a", "b", "value", "count_b"]]
       rank      a       b  value  count_b
    0     1   Apod  Kctd12    0.9        7
    1     2  Fabp7  Kctd12    0.4        7
    2     3   Apod   Fabp7    0.2        6
    """
    import pandas as pd

    if order not in ORDERS:
        raise InputError(f"order: got {order!r}, takes one of {', '.join(map(repr, ORDERS))}")
    _require_measure(sim, by)
    if order == "z" and f"{by}_sd" not in sim:
        able = [name for name in measures_of(sim) if f"{name}_sd" in sim]
        raise InputError(
            f"order: 'z' needs the significance of {by!r}, and this result has none for it "
            f"(it has it for: {', '.join(able) or 'no measure'})"
        )
    sim = select_sigma(sim, by, sigma)
    pairs = _PairIndex.of(sim)
    value = pairs.gather(sim[by], by)
    evidence = _evidence(sim, by, value, pairs)

    key = value if order == "value" else evidence.z
    if order == "z":
        key = np.where(np.isnan(value), np.nan, key)
    # The pairs are listed in the order of their names, so a stable sort breaks ties by names.
    ranked = np.argsort(key if _is_distance(sim[by]) else -key, kind="stable")

    row, column = pairs.row[ranked], pairs.column[ranked]
    count_a, count_b = _counts(sim)
    columns: dict[str, Any] = {
        "rank": np.arange(1, len(ranked) + 1),
        "a": pd.Series(pairs.names_a).array.take(row),
        "b": pd.Series(pairs.names_b).array.take(column),
        "value": value[ranked],
        "z": evidence.z[ranked],
        "p_value": evidence.p[ranked],
        "q_value": evidence.q[ranked],
        "count_a": count_a[row],
        "count_b": count_b[column],
    }
    return pd.DataFrame(columns, columns=list(COLUMNS), copy=False)


def measures_of(sim: xr.Dataset) -> list[str]:
    """The pair matrices of a result, without their null distributions, in the order asked for."""
    asked = list(sim.attrs.get("parameters") or ())
    matrices = [str(name) for name in sim.data_vars if sim[name].dims[-2:] == ("channel", "other")]
    null = {f"{name}{suffix}" for name in matrices for suffix in ("_null", "_sd")}
    found = [name for name in matrices if name not in null]
    return sorted(found, key=lambda name: asked.index(name) if name in asked else len(asked))


def select_sigma(sim: xr.Dataset, by: str, sigma: float | None) -> xr.Dataset:
    """The part of a result at one blur; a result of a single blur needs no `sigma`.

    A sigma of 0 is the part without a blur, which a result stores as NaN.
    """
    several = "sigma" in sim[by].dims
    stored = sim["sigma"].values if several else (sim.attrs.get("sigma") or 0.0)
    sigmas = np.nan_to_num(np.atleast_1d(np.asarray(stored, dtype=np.float64)))
    if sigma is None and (not several or len(sigmas) == 1):
        return sim.isel(sigma=0) if several else sim
    wanted = np.nan if sigma is None else float(sigma)
    found = np.flatnonzero(np.isclose(sigmas, wanted, rtol=1e-9, atol=0))
    if len(found) == 0:
        raise InputError(
            f"sigma: got {sigma if sigma is None else format(sigma, 'g')}, this result has "
            + ", ".join(f"{have:g}" if have else "0 (no blur)" for have in sigmas)
        )
    return sim.isel(sigma=found[0]) if several else sim


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


def write_pairs(pairs: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table of pairs to ``.parquet`` or ``.csv``; the file appears whole or not at all."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    path = Path(path)
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"{path}: the name of a table of pairs ends in .parquet or .csv")
    if not path.parent.is_dir():
        raise MissingFileError(f"{path}: no such folder: {path.parent}")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        table = pa.Table.from_pandas(pairs, preserve_index=False)
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(table, partial, compression="zstd")
        else:
            pyarrow.csv.write_csv(table, partial)
        os.replace(partial, path)
    except OSError as error:
        raise RunError(f"{path}: could not be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


class _Evidence(NamedTuple):
    z: FloatArray
    p: FloatArray
    q: FloatArray


class _PairIndex(NamedTuple):
    """Row and column of every pair, listed in the order of their names."""

    names_a: NDArray[np.str_]
    names_b: NDArray[np.str_]
    row: NDArray[np.int32]
    column: NDArray[np.int32]
    square: bool

    @classmethod
    def of(cls, sim: xr.Dataset) -> _PairIndex:
        names_a = _names(sim["channel"])
        names_b = _names(sim["other"])
        square = names_a.shape == names_b.shape and bool((names_a == names_b).all())
        if square:
            position_b = np.arange(len(names_b))
        else:
            # Where each of the others stands among the chosen ones; those that are not chosen
            # come after all of them, so that "column after row" leaves out identity and doubles.
            place = {name: i for i, name in enumerate(names_a)}
            position_b = np.array([place.get(name, len(names_a)) for name in names_b], dtype=int)
        by_name_a = np.argsort(names_a, kind="stable")
        by_name_b = np.argsort(names_b, kind="stable")
        kept = np.nonzero(position_b[by_name_b][None, :] > by_name_a[:, None])
        row, column = by_name_a[kept[0]], by_name_b[kept[1]]
        return cls(names_a, names_b, row.astype(np.int32), column.astype(np.int32), square)

    def gather(self, matrix: xr.DataArray, name: str) -> FloatArray:
        """The entries of the pairs; a matrix that is not symmetric by the mean of its two."""
        if matrix.ndim != 2:
            raise InputError(f"by: {name!r} has dimensions {matrix.dims}, takes (channel, other)")
        values = np.asarray(matrix.values, dtype=np.float64)
        entries: FloatArray = values[self.row, self.column]
        if self.square and not matrix.attrs.get("symmetric", True):
            entries = (entries + values[self.column, self.row]) / 2
        return entries


def _evidence(sim: xr.Dataset, by: str, value: FloatArray, pairs: _PairIndex) -> _Evidence:
    """z, p and q of every pair, by the distribution that the measure declares."""
    from scipy import special, stats

    missing = np.full(value.shape, np.nan)
    if f"{by}_sd" not in sim:
        return _Evidence(missing, missing, missing)
    symmetric = {"symmetric": sim[by].attrs.get("symmetric", True)}
    sd = pairs.gather(sim[f"{by}_sd"].assign_attrs(symmetric), f"{by}_sd")
    sd[~(sd > 0)] = np.nan
    excess = value.copy()
    if f"{by}_null" in sim:
        excess -= pairs.gather(sim[f"{by}_null"].assign_attrs(symmetric), f"{by}_null")
    z = excess / sd

    distribution = sim[by].attrs.get("distribution", "none")
    if distribution == "t":
        n_eff = np.minimum(1 + sd**-2, float(sim[by].attrs.get("n_max", np.inf)))
        freedom = np.where(n_eff > 3, n_eff - 2, np.nan)
        r = np.clip(excess, -1, 1)
        with np.errstate(divide="ignore"):
            t = np.abs(r) * np.sqrt(freedom / ((1 - r) * (1 + r)))
        p: FloatArray = 2 * special.stdtr(freedom, -t)
    elif distribution == "normal":
        p = 2 * special.ndtr(-np.abs(z))
    else:
        return _Evidence(z, missing, missing)
    q = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    if known.any():
        q[known] = stats.false_discovery_control(p[known])
    return _Evidence(z, p, q)


def _counts(sim: xr.Dataset) -> tuple[NDArray[Any], NDArray[Any]]:
    """The totals of the channels of the rows and of the columns; NaN where they are not stored."""
    unknown_a = np.full(sim.sizes["channel"], np.nan)
    unknown_b = np.full(sim.sizes["other"], np.nan)
    return (
        sim["count"].values if "count" in sim.variables else unknown_a,
        sim["count_other"].values if "count_other" in sim.variables else unknown_b,
    )


def _require_measure(sim: xr.Dataset, by: str) -> None:
    there = measures_of(sim)
    if by not in there:
        raise InputError(f"by: got {by!r}, this result has: {', '.join(there) or 'no measure'}")


def _is_distance(matrix: xr.DataArray) -> bool:
    return bool(matrix.attrs.get("kind", "similarity") == "distance")


def _names(coordinate: xr.DataArray) -> NDArray[np.str_]:
    """Channel names as fixed-width text, whatever string type the store gave them."""
    return np.array([str(name) for name in coordinate.values], dtype=np.str_)
