"""The pairs of a result, tile by tile: which there are, and the record of each.

A result may be a store that is larger than memory, so no more than one tile of its matrices is
read at a time. How records are ordered and kept is the part of others: `ranking`, `run.rank_job`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.pairs.evidence import z_and_p
from bigcorr.pairs.matrices import (
    counts_of,
    is_distance,
    measures_of,
    names_of,
    require_measure,
    select_sigma,
)
from bigcorr.pairs.order import Keys, sortable

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

COLUMNS = ("rank", "a", "b", "value", "z", "p_value", "q_value", "count_a", "count_b")
ORDERS = ("value", "z")

Records = NDArray[np.void]

BARE = np.dtype([("code", np.int64), ("value", np.float64)])
"""A pair of a measure without significance. The code is its place in the order of the names."""

TESTED = np.dtype([*BARE.descr, ("z", np.float64), ("p", np.float64)])
RANKED = np.dtype([*TESTED.descr, ("q", np.float64)])

SIDE = 1024
"""Rows and columns of a tile: those of a chunk of a result store."""

TILE_BYTES = SIDE * SIDE * (TESTED.itemsize + 6 * 8)
"""Bytes at most while the records of one tile are made."""


class Tile(NamedTuple):
    """Part of a matrix: rows and columns, and how many pairs are to be found there."""

    rows: slice
    columns: slice
    pairs: int


class PairListing:
    """All pairs of channels by one measure.

    Parameters
    ----------
    sim : a result, in memory or lazy.
    by, order, sigma, against : as in `rank_pairs`.

    Attributes
    ----------
    total : int
        How many pairs there are.
    tiles : list of Tile
        The parts of the matrices that hold them.
    dtype : numpy.dtype
        Of a record: `TESTED` where the measure has significance, else `BARE`.
    has_p : bool
        Whether a p can be told of a pair.
    source, question : str or None, dict
        The store of the result, where it comes from one, and what is asked of it.
    """

    def __init__(
        self,
        sim: xr.Dataset,
        by: str,
        order: str = "value",
        sigma: float | None = None,
        against: str | Sequence[str] | None = None,
    ) -> None:
        if order not in ORDERS:
            raise InputError(f"order: got {order!r}, takes one of {', '.join(map(repr, ORDERS))}")
        require_measure(sim, by)
        if order == "z" and f"{by}_sd" not in sim:
            able = [name for name in measures_of(sim) if f"{name}_sd" in sim]
            raise InputError(
                f"order: 'z' needs the significance of {by!r}, and this result has none for it "
                f"(it has it for: {', '.join(able) or 'no measure'})"
            )
        # What was computed from a stored matrix has lost the matrix's encoding: it is another one.
        used = [name for name in (by, f"{by}_sd", f"{by}_null") if name in sim]
        stored = all("preferred_chunks" in sim[name].encoding for name in used)
        self.source = sim.encoding.get("source") if stored else None
        self.question = {
            "by": by,
            "order": order,
            "sigma": None if sigma is None else float(sigma),
            "against": against if against is None or isinstance(against, str) else list(against),
        }
        sim = select_sigma(sim, by, sigma)
        self._sim, self.by, self.order = sim, by, order
        self._matrix = sim[by]
        if self._matrix.ndim != 2:
            raise InputError(
                f"by: {by!r} has dimensions {self._matrix.dims}, takes (channel, other)"
            )
        self._distance = is_distance(self._matrix)
        self._distribution = str(self._matrix.attrs.get("distribution", "none"))
        self._tested = f"{by}_sd" in sim
        self.has_p = self._tested and self._distribution in ("t", "normal", "shifts")
        self.dtype = TESTED if self._tested else BARE
        self._set_channels(against)

    def _set_channels(self, against: str | Sequence[str] | None) -> None:
        names_a, names_b = names_of(self._sim["channel"]), names_of(self._sim["other"])
        square = names_a.shape == names_b.shape and bool((names_a == names_b).all())
        self._mirrored = square and not self._matrix.attrs.get("symmetric", True)
        counts = counts_of(self._sim)
        rows = np.arange(len(names_a)) if against is None else _numbers(names_a, against)
        self._rows = rows
        names_a = names_a[rows]
        # Where each of the others stands among the rows; those that are no row come after all of
        # them, so that "column after row" leaves out identity and doubles.
        if square and against is None:
            self._place = np.arange(len(names_b))
        else:
            place = {name: i for i, name in enumerate(names_a.tolist())}
            self._place = np.array([place.get(b, len(names_a)) for b in names_b.tolist()], int)
        by_name_a = np.argsort(names_a, kind="stable")
        by_name_b = np.argsort(names_b, kind="stable")
        self.names_a, self.names_b = names_a[by_name_a], names_b[by_name_b]
        self.count_a, self.count_b = counts[0][rows][by_name_a], counts[1][by_name_b]
        self._code_a, self._code_b = np.argsort(by_name_a), np.argsort(by_name_b)
        self.tiles = list(self._cut())
        self.total = sum(tile.pairs for tile in self.tiles)

    def _cut(self) -> Iterator[Tile]:
        height, width = len(self._rows), len(self._place)
        step = min(SIDE, max(height, 1))
        across = SIDE * (SIDE // step)
        for top in range(0, height, step):
            bottom = min(top + step, height)
            below = np.clip(self._place - top, 0, bottom - top)
            for left in range(0, width, across):
                right = min(left + across, width)
                if pairs := int(below[left:right].sum()):
                    yield Tile(slice(top, bottom), slice(left, right), pairs)

    def records(self, tile: Tile) -> Records:
        """The records of the pairs of a tile, in any order."""
        out = np.empty(tile.pairs, self.dtype)
        out["code"] = self.codes(tile)
        out["value"] = value = self.values(tile)
        if self._tested:
            sd = self.values(tile, "_sd")
            null = self.values(tile, "_null") if f"{self.by}_null" in self._sim else None
            n_max, draws = (
                float(self._matrix.attrs.get(name, np.inf)) for name in ("n_max", "n_shifts")
            )
            out["z"], out["p"] = z_and_p(value, sd, null, self._distribution, n_max, draws)
        return out

    def sample(self, most: int) -> Records:
        """The records of all pairs, or of a fixed random sample of about `most` of them."""
        share = min(1.0, most / max(self.total, 1))
        parts = [np.empty(0, self.dtype)]
        for records in ahead(self.records, self.tiles):
            parts.append(records if share >= 1 else records[in_sample(records["code"], share)])
        return np.concatenate(parts)

    def codes(self, tile: Tile) -> NDArray[np.int64]:
        """The place of each pair of a tile in the order of the names."""
        code = self._code_a[tile.rows, None] * len(self._place) + self._code_b[None, tile.columns]
        return self._kept(code, tile)

    def values(self, tile: Tile, suffix: str = "") -> NDArray[np.float64]:
        """The entries of the pairs of a tile; both directions' mean where these differ."""
        matrix = self._sim[f"{self.by}{suffix}"]
        chosen = self._kept(self._read(matrix, tile), tile)
        if self._mirrored:
            chosen = (chosen + self._kept(self._read_mirrored(matrix, tile), tile)) / 2
        return chosen

    def _kept(self, values: NDArray[Any], tile: Tile) -> NDArray[Any]:
        """The entries of a tile that are pairs."""
        if tile.pairs == values.size:
            return values.reshape(-1)
        numbers = np.arange(len(self._rows))[tile.rows]
        return values[self._place[None, tile.columns] > numbers[:, None]]

    def _read(self, matrix: xr.DataArray, tile: Tile) -> NDArray[np.float64]:
        part = matrix.isel(channel=self._channels(tile), other=tile.columns)
        return np.ascontiguousarray(part.values, dtype=np.float64)

    def _read_mirrored(self, matrix: xr.DataArray, tile: Tile) -> NDArray[np.float64]:
        part = matrix.isel(channel=tile.columns, other=self._channels(tile))
        return np.ascontiguousarray(part.values.T, dtype=np.float64)

    def _channels(self, tile: Tile) -> Any:
        """Rows of the matrix: a slice where they stand together, which reads no row twice."""
        rows = self._rows[tile.rows]
        together = len(rows) == rows[-1] - rows[0] + 1 and bool((np.diff(rows) == 1).all())
        return slice(int(rows[0]), int(rows[-1]) + 1) if together else rows

    def key(self, records: Records) -> Keys:
        """What records are ranked by, most similar first; equal keys go by ``records["code"]``."""
        if self.order == "value":
            return sortable(records["value"], descending=not self._distance)
        z = np.where(np.isnan(records["value"]), np.nan, records["z"])
        return sortable(z, descending=not self._distance)

    def columns(self, records: Records, rank: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The columns of a table of ranked pairs, with numbers of `names_a` and `names_b`."""
        a, b = np.divmod(records["code"], len(self._place))
        missing = np.full(len(records), np.nan)

        def or_missing(name: str) -> NDArray[np.float64]:
            fields = records.dtype.names or ()
            return np.ascontiguousarray(records[name]) if name in fields else missing

        return {
            "rank": rank,
            "a": a,
            "b": b,
            "value": or_missing("value"),
            "z": or_missing("z"),
            "p_value": or_missing("p"),
            "q_value": or_missing("q"),
            "count_a": self.count_a[a],
            "count_b": self.count_b[b],
        }

    def frame(self, records: Records, rank: NDArray[np.int64]) -> pd.DataFrame:
        """Ranked records as the table that `rank_pairs` gives."""
        import pandas as pd

        columns: dict[str, Any] = self.columns(records, rank)
        for side, names in (("a", self.names_a), ("b", self.names_b)):
            columns[side] = pd.Series(names).array.take(columns[side])
        return pd.DataFrame(columns, columns=list(COLUMNS), copy=False)


def in_sample(code: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Whether each pair is in a random sample of a share of all: by its code alone."""
    # The finaliser of splitmix64: codes that differ in one bit get unrelated numbers.
    x = code.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53 < share


def ahead(
    make: Callable[[Tile], Records], tiles: Sequence[Tile], depth: int = 2
) -> Iterator[Records]:
    """The records of tiles in their order, `depth` of them made on threads meanwhile."""
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    if len(tiles) < 2:
        yield from map(make, tiles)
        return
    waiting: deque[Future[Records]] = deque()
    with ThreadPoolExecutor(depth, thread_name_prefix="pairs") as threads:
        try:
            for tile in tiles:
                waiting.append(threads.submit(make, tile))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _numbers(names: NDArray[np.str_], wanted: str | Sequence[str]) -> NDArray[np.int64]:
    """Rows of the channels in `wanted`, in the order of the matrix."""
    listed = [wanted] if isinstance(wanted, str) else [str(name) for name in wanted]
    there = {name: number for number, name in enumerate(names.tolist())}
    for name in listed:
        if name not in there:
            raise InputError(f"against: got {name!r}, which is no row of this result")
    if not listed:
        raise InputError("against: got no channel, takes one or more")
    return np.unique([there[name] for name in listed])
