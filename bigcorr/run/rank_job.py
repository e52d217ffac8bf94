"""Ranking more pairs than memory holds, from a result store to a file: `write_ranking`.

Three stages, of sorted runs in ``OUT.partial`` beside the output:

1. **evidence**: the records of all pairs, tile by tile, in runs sorted from the largest p down.
2. **rank**: these merged, which gives each pair its q (it depends on all larger p), in runs sorted
   by rank. Where there is no p, the first stage makes these runs itself.
3. **write**: these merged into the table, which gets its name once it is whole.

Each run is kept once whole, so that the same command goes on after an interruption; only the
table is written from the start. A record's numbers come from its pair alone, q from the sorted p,
and the order is total, so the bytes do not depend on the memory or on where a run was cut.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bigcorr import __version__
from bigcorr.errors import InputError
from bigcorr.pairs.listing import RANKED, TILE_BYTES, PairListing, Records
from bigcorr.pairs.ranking import check_table_path, ranked_records, table_piece
from bigcorr.pairs.table_file import TableFile
from bigcorr.raster import store
from bigcorr.raster.damaged import naming_damage
from bigcorr.raster.lock import Lock, locked
from bigcorr.raster.result_store import open_result_store
from bigcorr.raster.whole_file import whole_file
from bigcorr.run.checkpoint import Checkpoint
from bigcorr.run.cluster import parse_memory
from bigcorr.run.progress import Progress
from bigcorr.run.rank_runs import MERGE_BYTES, SORT_BYTES, RankingRuns

if TYPE_CHECKING:
    import xarray as xr

DEFAULT_MEMORY = "2GiB"
FIXED_BYTES = 384 * 2**20 + 3 * TILE_BYTES
"""The interpreter with its libraries, the tiles that are being read, the piece of the table."""

SMALL = 2**18
"""Pairs that are sorted in memory however little there is."""

ROW_GROUP = 2**20
"""Rows of a piece of the table."""

LEAST_BUFFER = 256
"""Records of a run that a merge holds at least."""


def write_ranking(
    sim: str | os.PathLike[str] | xr.Dataset,
    by: str,
    path: str | os.PathLike[str],
    order: str = "value",
    sigma: float | None = None,
    *,
    against: str | Sequence[str] | None = None,
    memory: str | int = DEFAULT_MEMORY,
    resume: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Rank all pairs of channels into a Parquet or CSV file, in bounded memory.

    Parameters
    ----------
    sim : path or xarray.Dataset
        A result store, or a result of `bigcorr.pairwise`.
    by, order, sigma, against
        As in `bigcorr.rank_pairs`, whose table this is, to the last bit.
    path : path
        A new name that ends in .parquet or .csv; what is there is replaced. The file appears whole
        or not at all. In Parquet the names are dictionary columns (categories in pandas).
    memory : str or int
        What this process may take, with its libraries: at least 710 MiB, more for over 300 million
        pairs. It does not change the result, and 260 000 pairs are sorted with any.
    resume : bool
        Go on with what the same call left beside the output when it was interrupted. Only work on
        a store can be gone on with.

    Returns
    -------
    dict
        A summary: output, by, pairs, and how many sorted runs were made and found done.

    Raises
    ------
    InputError
        As `rank_pairs`; or too little memory, with what it takes.
    RunError
        The disk is full, or cannot be written; or a chunk of the store is damaged, which is named.

    Notes
    -----
    Pairs that do not fit are sorted through files in ``<path>.partial``: up to 72 bytes a pair
    while the work is under way (14 GB for the 200 million pairs of 20 000 channels), of which
    nothing is left at the end.

    Examples
    --------
    >>> import bigcorr as bc
    >>> bc.write_ranking("result.zarr", "pearson", "pairs.parquet")  # doctest: +SKIP
    """
    limit = parse_memory(memory)
    assert limit is not None
    path, sim = check_table_path(path), _opened(sim)
    listing = PairListing(sim, by, order, sigma, against)
    rows = (limit - FIXED_BYTES) // SORT_BYTES
    least = _least_rows(listing.total)
    if listing.total <= SMALL:
        rows = 3 * SMALL
    elif rows < least:
        needed = FIXED_BYTES + least * SORT_BYTES
        raise InputError(
            f"memory: got {limit / 2**20:.0f} MiB, takes at least {needed / 2**20:.0f} MiB for "
            f"{listing.total:,} pairs"
        )
    with locked(path, progress) as lock, naming_damage(sim):
        return _rank(listing, path, rows, resume, lock, lock.watch(progress))


def _least_rows(total: int) -> int:
    """Records in memory with which one merge of all runs holds enough of each."""
    # Runs are half of the memory long, and the merge has the same half for a buffer of each run:
    # rows * SORT / (2 * MERGE) records over 2 * total / rows runs.
    squared = LEAST_BUFFER * total * 4 * MERGE_BYTES / SORT_BYTES
    return max(int(np.sqrt(squared)), 2**20)


def _rank(
    listing: PairListing, path: Path, rows: int, resume: bool, lock: Lock, progress: Progress
) -> dict[str, Any]:
    summary: dict[str, Any] = {"output": str(path), "by": listing.by, "pairs": listing.total}
    if 3 * listing.total <= rows:
        _write(listing, path, iter([ranked_records(listing)]), lock, progress)
        return summary | {"runs": 0, "runs_found_done": 0}
    stamp = _stamp(listing.source)
    work = RankingRuns(
        listing, Checkpoint(path.with_name(path.name + store.PARTIAL)), rows, progress
    )
    work.begin(_job(listing, stamp), resume)
    try:
        merge = work.merge(work.ranked_runs(), listing.key, by_code=True)
        _write(listing, path, iter(merge), lock, progress)
    except BaseException:
        if stamp is None:
            work.checkpoint.remove()
        raise
    work.checkpoint.remove()
    return summary | {"runs": work.made, "runs_found_done": work.found}


def _write(
    listing: PairListing, path: Path, batches: Iterator[Records], lock: Lock, progress: Progress
) -> None:
    """Write the table and give it its name."""
    schema = table_piece(listing, np.empty(0, listing.dtype), 1).schema
    done = 0
    with (
        whole_file(path, lock) as temporary,
        TableFile(temporary, path.suffix, schema) as file,
    ):
        for records in _even(batches, listing):
            file.write(table_piece(listing, records, done + 1))
            done += len(records)
            progress("write", done, listing.total)


def _even(batches: Iterator[Records], listing: PairListing) -> Iterator[Records]:
    """The same records in pieces of one length, so that the file does not depend on batches."""
    piece = np.empty(min(ROW_GROUP, listing.total), RANKED if listing.has_p else listing.dtype)
    held = 0
    for records in batches:
        start = 0
        while start < len(records):
            taken = min(len(piece) - held, len(records) - start)
            piece[held : held + taken] = records[start : start + taken]
            start, held = start + taken, held + taken
            if held == len(piece):
                yield piece
                held = 0
    if held:
        yield piece[:held]


def _opened(sim: str | os.PathLike[str] | xr.Dataset) -> xr.Dataset:
    import xarray as xr

    if isinstance(sim, xr.Dataset):
        return sim
    return open_result_store(sim, chunks=None, consolidated=False)


def _job(listing: PairListing, stamp: list[Any] | None) -> dict[str, Any]:
    """What unfinished work belongs to; without a store that can be known again, to this call."""
    names = hashlib.sha256("\0".join([*listing.names_a, "", *listing.names_b]).encode())
    return {
        "kind": "ranking",
        "result": stamp or f"in memory, {uuid.uuid4().hex}",
        **listing.question,
        "channels": names.hexdigest(),
        "pairs": listing.total,
        "version": __version__,
    }


def _stamp(source: str | None) -> list[Any] | None:
    """Path, time and size of the metadata of a store: it is only ever replaced as a whole."""
    if source is None:
        return None
    try:
        found = os.stat(Path(source) / "zarr.json")
    except OSError:
        return None
    return [os.path.abspath(source), found.st_mtime_ns, found.st_size]
