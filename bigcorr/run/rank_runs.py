"""The sorted runs behind a ranking: made from a listing of pairs, or found and gone on with.

What is ranked, and what becomes of it, is `rank_job`'s part; sorting itself is `external_sort`'s.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bigcorr.errors import RunError
from bigcorr.pairs.evidence import FalseDiscovery
from bigcorr.pairs.listing import RANKED, PairListing, Records, Tile, ahead
from bigcorr.pairs.order import Keys, ordered, sortable
from bigcorr.raster import store
from bigcorr.raster.markers import write_whole
from bigcorr.run.checkpoint import Checkpoint
from bigcorr.run.external_sort import Merge
from bigcorr.run.progress import Progress
from bigcorr.run.run_file import Run, RunReader, write_run

SORT_BYTES = 80
"""Of a pair while a run is sorted and written: record, key, order, what sorting needs."""

MERGE_BYTES = 280
"""Of a pair while it is merged: held, chosen, given out, with keys and codes, and sorted."""


class RankingRuns:
    """The runs of one ranking, made or found.

    `state.json` says how far it is: the lengths of the runs of each stage, the tiles that are in
    them, how many p are finite, and where the merge by p stands. A run is in a file before it is
    in the state. How long runs are does not matter, so one may go on with another memory. Runs and
    state have checksums, since nothing that a disk did to them would show in the table.
    """

    def __init__(
        self, listing: PairListing, checkpoint: Checkpoint, rows: int, progress: Progress
    ) -> None:
        self.listing, self.checkpoint, self.rows = listing, checkpoint, rows
        self.progress = progress
        self.folder = checkpoint.path
        self.made = self.found = 0
        self.state: dict[str, Any] = {}

    def begin(self, job: dict[str, Any], resume: bool) -> None:
        self.checkpoint.begin(job, resume)
        stored = read_state(self.folder)
        self.state = stored or {
            "evidence": [],
            "rank": [],
            "record": {"evidence": self.listing.dtype.itemsize, "rank": self._ranked.itemsize},
            "tiles": 0,
            "finite": 0,
            "positions": None,
            "seen": 0,
            "least": 1.0,
        }
        for stage, dtype in (("evidence", self.listing.dtype), ("rank", self._ranked)):
            if stage == "rank" or not self._is_done("rank"):
                for run in self._runs(stage):
                    RunReader(run, dtype)  # there, and of its length; the rest when it is merged
        self.found = len(self.state["evidence"]) + len(self.state["rank"])
        try:
            self._check_space()
        except RunError:
            if not self.found:
                self.checkpoint.remove()
            raise

    @property
    def _ranked(self) -> np.dtype[Any]:
        """Of the records of the runs by rank."""
        return RANKED if self.listing.has_p else self.listing.dtype

    def _check_space(self) -> None:
        """Say at once where the disk cannot hold the runs."""
        if self._is_done("rank"):
            return
        record = self.listing.dtype.itemsize + (RANKED.itemsize if self.listing.has_p else 0)
        done = sum(f.stat().st_size for f in self.folder.iterdir() if f.is_file())
        needed = record * self.listing.total - done
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise RunError(
                f"no space left on the device for {self.folder}: sorting {self.listing.total:,} "
                f"pairs takes another {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free"
            )

    def ranked_runs(self) -> list[Run]:
        """All records in runs sorted by rank, made as far as they are not there."""
        if not self.listing.has_p:
            self._first_stage("rank", self.listing.key, by_code=True)
            return self._runs("rank")
        if not self._is_done("rank"):
            self._first_stage("evidence", _p_key, by_code=False)
            self._second_stage()
        for run in self._runs("evidence"):
            run.path.unlink(missing_ok=True)
        return self._runs("rank")

    def _is_done(self, stage: str) -> bool:
        return sum(self.state[stage]) == self.listing.total

    def _first_stage(self, stage: str, key: Any, by_code: bool) -> None:
        """Sorted runs of the records of consecutive tiles."""
        tiles = self.listing.tiles[self.state["tiles"] :]
        written = sum(self.state[stage])
        self.progress(stage, written, self.listing.total)
        waiting = ahead(self.listing.records, tiles)
        for group in _groups(tiles, self.rows):
            records = np.empty(sum(tile.pairs for tile in group), self.listing.dtype)
            start = 0
            for _ in group:
                part = next(waiting)
                records[start : start + len(part)] = part
                start += len(part)
                self.progress(stage, written + start, self.listing.total)
            written += start
            order = ordered(key(records), records["code"] if by_code else None)
            finite = int(np.isfinite(records["p"]).sum()) if self.listing.has_p else 0
            at = {"finite": self.state["finite"] + finite}
            at["tiles"] = self.state["tiles"] + len(group)
            self._keep(stage, records, order, at)

    def _second_stage(self) -> None:
        """Merge from the largest p down; give each its q; sort by rank what fits in memory."""
        state = self.state
        fdr = FalseDiscovery(state["finite"], state["seen"], float(state["least"]))
        merge = self.merge(self._runs("evidence"), _p_key, False, state["positions"])
        # Half of the memory is the merge's.
        records = np.empty(max(self.rows // 2, merge.most), RANKED)
        written, held = sum(state["rank"]), 0
        for batch in merge:
            _add_q(batch, fdr, records[held : held + len(batch)])
            held += len(batch)
            if held + merge.most > len(records) or written + held == self.listing.total:
                part = records[:held]
                order = ordered(self.listing.key(part), part["code"])
                at = {"positions": merge.positions, "seen": fdr.seen, "least": fdr.least}
                self._keep("rank", part, order, at)
                written, held = written + held, 0
            self.progress("rank", written + held, self.listing.total)

    def merge(
        self, runs: list[Run], key: Any, by_code: bool, positions: Sequence[int] | None = None
    ) -> BoundedMerge:
        records = self.rows * SORT_BYTES // (2 * MERGE_BYTES)
        dtype = self._ranked if by_code else self.listing.dtype
        return BoundedMerge(runs, dtype, records, key, _code if by_code else None, positions)

    def _keep(self, stage: str, records: Records, order: Any, at: dict[str, Any]) -> None:
        run = write_run(self._path(stage, len(self.state[stage])), records, order)
        self.made += 1
        self.state = {**self.state, **at, stage: [*self.state[stage], run.length]}
        write_state(self.folder, self.state)

    def _runs(self, stage: str) -> list[Run]:
        return runs_of(self.folder, self.state, stage)

    def _path(self, stage: str, number: int) -> Path:
        return run_path(self.folder, stage, number)


def run_path(folder: Path, stage: str, number: int) -> Path:
    return folder / f"{stage}-{number:05d}.run"


def runs_of(folder: Path, state: dict[str, Any], stage: str) -> list[Run]:
    """The runs of a stage that a state names."""
    return [Run(run_path(folder, stage, i), n) for i, n in enumerate(state[stage])]


def read_state(folder: Path) -> dict[str, Any] | None:
    """How far a ranking is; None where no run is finished.

    Raises
    ------
    RunError
        It cannot be read, or is not what was written.
    """
    path = folder / "state.json"
    try:
        held = json.loads(path.read_text())
        state, crc = dict(held["state"]), held["crc32"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read ({error}): --restart to start over") from error
    if crc != _state_crc(state):
        raise RunError(f"{path} is not what was written: --restart to start over")
    return state


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Replace the state; the file is whole at any time."""
    path = folder / "state.json"
    with store.writing(path):
        write_whole(path, json.dumps({"state": state, "crc32": _state_crc(state)}))


def _state_crc(state: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(state, sort_keys=True).encode())


class BoundedMerge(Merge):
    """A merge that holds a number of records in all, and knows how long a piece can be."""

    def __init__(self, runs: list[Run], dtype: Any, records: int, *rest: Any) -> None:
        rows = max(records // max(len(runs), 1), 1)
        super().__init__(runs, dtype, rows, *rest)
        self.most = rows * len(runs)


def _groups(tiles: list[Tile], rows: int) -> list[list[Tile]]:
    """Consecutive tiles that together have at most so many pairs, or one tile."""
    groups: list[list[Tile]] = []
    held = 0
    for tile in tiles:
        if not groups or held + tile.pairs > rows:
            groups.append([])
            held = 0
        groups[-1].append(tile)
        held += tile.pairs
    return groups


def _add_q(batch: Records, fdr: FalseDiscovery, out: Records) -> None:
    """Copy records from the largest p down, those without a p first, and give them their q."""
    for field in batch.dtype.names or ():
        out[field] = batch[field]
    finite = np.isfinite(batch["p"])
    out["q"] = np.nan
    out["q"][finite] = fdr(batch["p"][finite])


def _p_key(records: Records) -> Keys:
    """From the largest p down; those without one come first."""
    return ~sortable(records["p"])


def _code(records: Records) -> Any:
    return records["code"]
