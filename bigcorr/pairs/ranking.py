"""From a pair matrix to a ranked table: `rank_pairs`, all of it or its ends, and its writing.

What does not fit in memory is `run.rank_job`'s part; which pairs there are, `listing`'s.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError, MissingFileError
from bigcorr.pairs.evidence import q_values
from bigcorr.pairs.listing import RANKED, PairListing, Records, ahead
from bigcorr.pairs.order import first_of, ordered
from bigcorr.raster.damaged import naming_damage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import xarray as xr

    from bigcorr.pairs.order import Keys

BYTES_PER_PAIR = 200
"""What a pair takes at most while a whole table is made in memory."""


def rank_pairs(
    sim: xr.Dataset,
    by: str,
    order: str = "value",
    sigma: float | None = None,
    *,
    top: int | None = None,
    bottom: int | None = None,
    against: str | Sequence[str] | None = None,
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
    top, bottom : int, optional
        Only so many pairs of either end, found without sorting the others. The bottom leaves out
        pairs that have nothing to be ranked by.
    against : str or sequence of str, optional
        Only the pairs of these channels with any other.

    Returns
    -------
    pandas.DataFrame
        One row a pair: ``rank`` (from 1), ``a`` and ``b`` (names; `a` comes first in the stack),
        ``value``, ``z``, ``p_value``, ``q_value`` (NaN where the measure has no significance),
        ``count_a``, ``count_b`` (total of each channel). Ties are broken by the names, rows whose
        value is NaN come last. Of a result against a few channels, or with `against`, `a` is one
        of these and `b` any other; a pair of two chosen channels appears once.

    Raises
    ------
    InputError
        Unknown `by`, `order`, `sigma` or channel, ``order="z"`` where the measure has no
        significance, or a table that memory cannot hold.
    RunError
        A chunk of the store is damaged; it is named.

    See Also
    --------
    bigcorr.write_ranking : all pairs to a file, of however many channels.

    Notes
    -----
    A measure that is not symmetric (bivariate Moran) is ranked by the mean of its two directions,
    with the mean of the two standard deviations, which is never too small. A result against a
    few channels holds one direction only, and is ranked by that.

    ``p_value`` is two-sided. For a correlation (`distribution` "t") it is that of r on
    ``n_eff - 2`` degrees of freedom with the effective sample size ``n_eff = 1 + 1 / sd**2``, at
    most the number of pixels [1]_, and NaN where n_eff <= 3; by n toroidal shifts it is
    Student's, on n - 1 degrees of freedom. ``q_value`` is that of Benjamini and
    Hochberg [2]_ over all pairs that have a p, also those that `top` and `bottom` leave out; with
    `against`, over the pairs of these channels. Neither z nor p can be trusted where a channel
    holds a handful of counts, since both rest on sums of many: one coincidence of two such channels
    is a high value and a high z. ``count_a`` and ``count_b`` stand beside each pair for that
    reason.

    With `top` or `bottom` the matrix is read tile by tile. Of many pairs the p, 8 bytes each, are
    sorted in a temporary folder, since the q of one p depends on all that are larger.

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
    >>> rank_pairs(sim, by="pearson", bottom=1)[["rank", "a", "b"]]
       rank     a      b
    0     3  Apod  Fabp7
    """
    for name, wanted in (("top", top), ("bottom", bottom)):
        if wanted is not None and (not isinstance(wanted, int | np.integer) or wanted < 0):
            raise InputError(f"{name}: got {wanted!r}, takes a number of pairs")
    listing = PairListing(sim, by, order, sigma, against)
    if top is None and bottom is None:
        _refuse_too_many(listing.total)
        with naming_damage(sim):
            records = ranked_records(listing)
        return listing.frame(records, np.arange(1, len(records) + 1))
    with naming_damage(sim):
        ends = _ends(listing, int(top or 0), int(bottom or 0))
    return listing.frame(*ends)


def ranked_records(listing: PairListing) -> Records:
    """All pairs in memory in their order, with their q where there is a p."""
    records = np.empty(listing.total, RANKED if listing.has_p else listing.dtype)
    start = 0
    for part in ahead(listing.records, listing.tiles):
        for field in part.dtype.names or ():
            records[field][start : start + len(part)] = part[field]
        start += len(part)
    if listing.has_p:
        records["q"] = q_values(records["p"])
    return np.take(records, ordered(listing.key(records), records["code"]))


def _ends(listing: PairListing, top: int, bottom: int) -> tuple[Records, NDArray[np.int64]]:
    """The first and the last pairs with their ranks: what can be among them is kept as we go."""
    from bigcorr.run.external_sort import Sorted

    first, last = _Best(top, reverse=False), _Best(bottom, reverse=True)
    known = 0
    nothing = np.iinfo(np.uint64).max
    with Sorted() as probabilities:
        for records in ahead(listing.records, listing.tiles):
            key = listing.key(records)
            first.offer(records, key)
            ranked = np.flatnonzero(key != nothing)
            known += len(ranked)
            if bottom:
                whole = len(ranked) == len(key)
                last.offer(*((records, key) if whole else (records[ranked], key[ranked])))
            if listing.has_p:
                probabilities.add(records["p"][np.isfinite(records["p"])])
        head, tail = first.result(listing.dtype), last.result(listing.dtype)
        rank_head = np.arange(1, len(head) + 1)
        rank_tail = np.arange(known - len(tail) + 1, known + 1)
        new = rank_tail > len(head)
        chosen = np.concatenate([head, tail[new]])
        rank = np.concatenate([rank_head, rank_tail[new]])
        if not listing.has_p:
            return chosen, rank
        out = np.empty(len(chosen), RANKED)
        for field in chosen.dtype.names or ():
            out[field] = chosen[field]
        out["q"] = _q_among(chosen["p"], probabilities)
    return out, rank


class _Best:
    """The first records of a stream by key and code, in order; or the last ones."""

    def __init__(self, count: int, reverse: bool) -> None:
        self._count, self._reverse = count, reverse
        self._kept: list[tuple[Records, Keys]] = []
        self._held = 0
        self._bound: np.uint64 | None = None

    def offer(self, records: Records, key: Keys) -> None:
        if not self._count:
            return
        key = ~key if self._reverse else key
        if self._bound is not None:
            near = np.flatnonzero(key <= self._bound)
            records, key = records[near], key[near]
        if len(records):
            self._kept.append((records, key))
            self._held += len(records)
        if self._held > 2 * self._count + 2**16:
            self._settle()

    def _settle(self) -> None:
        if not self._kept:
            return
        records = np.concatenate([part for part, _ in self._kept])
        key = np.concatenate([part for _, part in self._kept])
        code = -records["code"] if self._reverse else records["code"]
        first = first_of(key, code, self._count)
        self._kept, self._held = [(records[first], key[first])], len(first)
        if len(first) == self._count:
            self._bound = self._kept[0][1][-1]

    def result(self, dtype: np.dtype[Any]) -> Records:
        self._settle()
        if not self._kept:
            return np.empty(0, dtype)
        return self._kept[0][0][::-1] if self._reverse else self._kept[0][0]


def _q_among(p: NDArray[np.float64], descending: Any) -> NDArray[np.float64]:
    """The q of a few p among all of them, which come in pieces from the largest down."""
    from bigcorr.pairs.evidence import FalseDiscovery

    q = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    wanted = known[np.argsort(-p[known], kind="stable")]
    fdr, start = FalseDiscovery(len(descending)), 0
    for piece in descending:
        found = fdr(piece)
        stop = start + int(np.searchsorted(-p[wanted[start:]], -piece[-1], side="right"))
        # Equal p have equal q, so any of them will do.
        q[wanted[start:stop]] = found[np.searchsorted(-piece, -p[wanted[start:stop]])]
        start = stop
    return q


def _refuse_too_many(total: int) -> None:
    import psutil

    needed, free = total * BYTES_PER_PAIR, psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"a table of {total:,} pairs takes up to {needed >> 20:,} MiB, {free >> 20:,} free: "
            "ask for the top and bottom of it, or write it to a file with write_ranking"
        )


def check_table_path(path: str | os.PathLike[str]) -> Path:
    """The path of a table of pairs, or an `InputError` that says what is wrong with it."""
    path = Path(path)
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"{path}: the name of a table of pairs ends in .parquet or .csv")
    if not path.parent.is_dir():
        raise MissingFileError(f"{path}: no such folder: {path.parent}")
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file")
    return path


def write_pairs(pairs: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table of pairs to ``.parquet`` or ``.csv``; the file appears whole or not at all.

    In Parquet the names are dictionary columns, which pandas reads as categories.

    Raises
    ------
    InputError, MissingFileError
        The name has another ending, or there is no such folder.
    RunError
        Another run writes this file now, or the disk is full or refuses.
    """
    import pyarrow as pa

    from bigcorr.pairs.table_file import TableFile
    from bigcorr.raster.whole_file import whole_file

    path = check_table_path(path)
    table = pa.Table.from_pandas(pairs, preserve_index=False)
    for side in ("a", "b"):
        if side in table.column_names:
            place = table.column_names.index(side)
            names = table.column(side).cast(pa.string()).dictionary_encode()
            table = table.set_column(place, side, names)
    table = table.replace_schema_metadata(None)
    with whole_file(path) as temporary, TableFile(temporary, path.suffix, table.schema) as file:
        file.write(table)


def table_piece(listing: PairListing, records: Records, start: int) -> Any:
    """Ranked records as an Arrow table; `start` is the rank of the first."""
    import pyarrow as pa

    columns: dict[str, Any] = listing.columns(records, np.arange(start, start + len(records)))
    for side, names in (("a", listing.names_a), ("b", listing.names_b)):
        dictionary = pa.array(names.tolist(), pa.string())
        codes = pa.array(columns[side].astype(np.int32))
        columns[side] = pa.DictionaryArray.from_arrays(codes, dictionary)
    return pa.table(columns)
