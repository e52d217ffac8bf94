"""An ingest or a simulation that is cut off goes on from what it has kept, to the same bytes."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import bigcorr as bc
from bigcorr.errors import InputError, RunError
from bigcorr.operators import GaussianBlur
from bigcorr.raster import points, rasterize, spill, store, text_table
from bigcorr.raster.ingest import ingest
from bigcorr.raster.points import GeneNames, read_points
from bigcorr.raster.writer import ShardWriter
from bigcorr.run.map_job import run_map
from bigcorr.run.pairs_job import run_pairs
from bigcorr.simulate import tissue
from bigcorr.simulate.store import write_images

SMALL = {"chunk": 8, "shard": 16}


class Stop(Exception):
    """A run that is cut off."""


class Count:
    """A progress that cuts the run off at its event number `last`."""

    def __init__(self, last: int | None = None) -> None:
        self.last, self.events = last, 0

    def __call__(self, *_: Any) -> None:
        if self.events == self.last:
            raise Stop
        self.events += 1


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small table is read, counted and merged as a long one is; one thread, so that events are
    in order."""
    monkeypatch.setattr(text_table, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(points, "BATCH_ROWS", 150)
    monkeypatch.setattr(spill, "SPOOL_BYTES", 9999)
    monkeypatch.setattr(spill, "RUN_ROWS", 100)
    monkeypatch.setattr(spill, "MERGED_ROWS", 400)
    monkeypatch.setattr("bigcorr.raster.ingest_tables.RUN_ROWS", 100)
    monkeypatch.setattr(rasterize, "workers", lambda: 1)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(3)
    n = 1500
    columns = {
        "x": rng.normal(500, 80, n).round(3),
        "y": rng.normal(300, 50, n).round(3),
        "gene": rng.choice(
            ["Gad1", "Slc17a7", "Aqp4", "Sst", ""], n, p=[0.4, 0.3, 0.2, 0.05, 0.05]
        ),
        "count": rng.integers(0, 5, n),
    }
    pq.write_table(pa.table(columns), folder / "t.parquet", row_group_size=400)
    lines = [
        ",".join(columns),
        *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True)),
    ]
    half = len(lines) // 2
    (folder / "a.csv").write_text("\n".join(lines[:half]) + "\n")
    second = "#comment\n" + "\r\n".join([lines[0], *lines[half:]])
    (folder / "b.csv.gz").write_bytes(gzip.compress(second.encode()))
    matrix = rng.poisson(0.3, (6, 400))
    np.savez(
        folder / "spots.npz",
        data=matrix[matrix > 0],
        indices=np.nonzero(matrix)[1],
        indptr=np.concatenate([[0], np.cumsum((matrix > 0).sum(axis=1))]),
        shape=np.array(matrix.shape),
        genes=np.array(list("abcdef")),
        pos=rng.uniform(0, 40, (400, 2)),
    )
    image = rng.normal(size=(2, 60, 50)).astype("f4")
    image[:, :20, :20] = 0
    np.save(folder / "image.npy", image)
    return folder


Make = Callable[..., Any]
MAKERS: dict[str, Callable[[Path], Make]] = {
    "text": lambda f: (
        lambda out, **k: ingest([f / "a.csv", f / "b.csv.gz"], out, bin=7, **SMALL, **k)
    ),
    "parquet": lambda f: (
        lambda out, **k: ingest(
            f / "t.parquet",
            out,
            pixel_size=7,
            normalize="log1p-cp10k",
            origin=(200, 300),
            **SMALL,
            **k,
        )
    ),
    "spots": lambda f: lambda out, **k: ingest(f / "spots.npz", out, pixel_size=1, **SMALL, **k),
    "image": lambda f: lambda out, **k: ingest(f / "image.npy", out, **SMALL, **k),
    "tissue": lambda f: lambda out, **k: tissue(out, channels=5, size=40, threads=1, **k),
    "images": lambda f: lambda out, **k: write_images(out, 40, threads=1, **k),
}


def bytes_of(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def units_of(partial: Path) -> int:
    """Units that are marked as done."""
    markers = [p for folder in spill.FOLDERS for p in (partial / folder).glob("*.json")]
    return len(markers) + len(list(partial.glob("done/*")))


@pytest.mark.parametrize("kind", ["text", "parquet", "spots", "image"])
def test_cut_off_anywhere_it_goes_on_from_what_is_kept_to_the_same_bytes(
    kind: str, inputs: Path, tmp_path: Path
) -> None:
    make = MAKERS[kind](inputs)
    told = Count()
    whole = make(tmp_path / "whole.zarr", progress=told)
    expected = bytes_of(tmp_path / "whole.zarr")
    assert told.events > 5
    for last in range(0, told.events, max(1, told.events // 5)):
        out = tmp_path / f"o{last}.zarr"
        with pytest.raises(Stop):
            make(out, progress=Count(last))
        assert not out.exists()
        partial = out.with_name(f"{out.name}.partial")
        kept = units_of(partial)
        found = bc.check_store(out)
        assert (found.ok, found.kind, found.state) == (True, "stack", "unfinished")
        again = make(out)
        assert again["units"] == whole["units"]
        # Events come after their unit: what was told of and is not kept would be lost.
        assert again["units_done_before"] == kept
        assert bytes_of(out) == expected
        assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(out.name)) == [
            out.name
        ]


@pytest.mark.parametrize("kind", ["tissue", "images"])
def test_a_simulation_goes_on_where_it_was(
    kind: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bigcorr.raster.store.SHARD_BYTES", 1600)  # a channel a shard
    make = MAKERS[kind](inputs)
    made = make(tmp_path / "whole.zarr")
    with pytest.raises(Stop):
        make(tmp_path / "o.zarr", progress=Count(1))
    done = units_of(tmp_path / "o.zarr.partial")
    written: list[Any] = []
    write = ShardWriter.write

    def counted(self: ShardWriter, *given: Any) -> None:
        written.append(given[0])
        write(self, *given)

    monkeypatch.setattr(ShardWriter, "write", counted)
    again = make(tmp_path / "o.zarr")
    assert done > 0
    assert len(written) == made["shape"][0] - done
    assert again | {"path": ""} == made | {"path": ""}
    assert bytes_of(tmp_path / "o.zarr") == bytes_of(tmp_path / "whole.zarr")
    assert make(tmp_path / "o.zarr") | {"path": ""} == made | {"path": ""}


@pytest.mark.parametrize("kind", list(MAKERS))
def test_the_same_call_again_finds_its_result_and_what_a_kill_behind_the_end_left(
    kind: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = MAKERS[kind](inputs)
    first = make(tmp_path / "s.zarr")
    expected = bytes_of(tmp_path / "s.zarr")
    second = make(tmp_path / "s.zarr")
    drop = ("wall_seconds", "units_done_before")
    assert {k: v for k, v in first.items() if k not in drop} == {
        k: v for k, v in second.items() if k not in drop
    }
    if "units" in first:
        assert second["units_done_before"] == first["units"]

    def killed(*_: Any) -> None:
        raise Stop

    remove = store.remove
    with monkeypatch.context() as patch:
        # At the end of `ShardWriter.finish`: the store has its name, its folder is still there.
        patch.setattr(
            "bigcorr.raster.store.remove",
            lambda path: killed() if path.name == "o.zarr.partial" else remove(path),
        )
        with pytest.raises(Stop):
            make(tmp_path / "o.zarr")
    assert (tmp_path / "o.zarr.partial").exists()
    make(tmp_path / "o.zarr")
    assert bytes_of(tmp_path / "o.zarr") == expected
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.zarr", "s.zarr"]


@pytest.mark.parametrize("begun", [False, True])
def test_another_ingest_on_the_same_output_is_refused_by_its_difference(
    begun: bool, inputs: Path, tmp_path: Path
) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes((inputs / "a.csv").read_bytes())
    out = tmp_path / "o.zarr"

    def run(stop: int | None = None, **change: Any) -> Any:
        return ingest(table, out, **{"bin": 7, **SMALL, **change}, progress=Count(stop))

    if begun:
        with pytest.raises(Stop):
            run(stop=6)
        kept = units_of(tmp_path / "o.zarr.partial")
        assert kept > 1
    else:
        run()
    what = "holds unfinished work of" if begun else "exists already, made by"
    with pytest.raises(InputError, match=rf"{what} another run: bin is 7.0 there and 3.0 here"):
        run(bin=3)
    with pytest.raises(InputError, match=r"shard is 16 there and 32 here; .*--restart"):
        run(shard=32)
    if begun:
        assert units_of(tmp_path / "o.zarr.partial") == kept
        with pytest.raises(InputError, match='command is "ingest" there and "map" here'):
            run_map(GaussianBlur(1.0), [str(inputs / "image.npy")], out)
        assert units_of(tmp_path / "o.zarr.partial") == kept
    table.write_bytes((inputs / "a.csv").read_bytes() + b"1,2,Gad1,1\n")
    with pytest.raises(InputError, match="input fingerprint is"):
        run()
    done = run(bin=3, overwrite=True)
    assert done["units_done_before"] == 0
    assert done["bin"] == 3


def test_the_work_of_a_map_is_not_taken_for_an_ingests(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "o.zarr.partial").mkdir()
    (tmp_path / "o.zarr.partial" / "fingerprint").write_text("of a map")
    with pytest.raises(InputError, match="holds unfinished work of another run"):
        ingest(inputs / "image.npy", tmp_path / "o.zarr", **SMALL)
    ingest(inputs / "image.npy", tmp_path / "o.zarr", overwrite=True, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["o.zarr"]


def test_a_kill_in_the_midst_of_the_very_first_write_stands_in_nobodys_way(
    inputs: Path, tmp_path: Path
) -> None:
    for name in ("o.zarr", "p.zarr"):
        (tmp_path / f"{name}.partial").mkdir()
        (tmp_path / f"{name}.partial" / "job.json.17.tmp").write_text("{")
    ingest(inputs / "image.npy", tmp_path / "o.zarr", **SMALL)
    run_pairs(str(inputs / "image.npy"), tmp_path / "p.zarr", measures=["pearson"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.zarr", "p.zarr"]


def test_a_refusal_leaves_nothing(inputs: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes((inputs / "a.csv").read_bytes() + b"1,2,Gad1,oops\n")
    with pytest.raises(InputError, match="oops"):
        ingest(table, tmp_path / "o.zarr", bin=7, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def damaged(file: Path, events: int) -> tuple[Count, Callable[[], None]]:
    """A progress that cuts a file in half after some events, and what mends it again."""
    whole, times = file.read_bytes(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)

    class Harm(Count):
        def __call__(self, *event: Any) -> None:
            super().__call__(*event)
            if self.events == events:
                file.write_bytes(whole[: len(whole) // 2])

    def mend() -> None:
        file.write_bytes(whole)
        os.utime(file, ns=times)

    return Harm(), mend


def test_an_image_chunk_that_is_damaged_is_named_and_what_is_done_is_kept(
    inputs: Path, tmp_path: Path
) -> None:
    bc.save_raster(np.load(inputs / "image.npy"), tmp_path / "in.zarr", **SMALL)
    ingest(tmp_path / "in.zarr", tmp_path / "whole.zarr", **SMALL)
    file = tmp_path / "in.zarr" / "raster" / "c" / "0" / "2" / "2"
    progress, mend = damaged(file, 3)
    with pytest.raises(RunError, match=rf"chunk \(0, 4, 4\) .*{file}"):
        ingest(tmp_path / "in.zarr", tmp_path / "o.zarr", **SMALL, progress=progress)
    mend()
    assert ingest(tmp_path / "in.zarr", tmp_path / "o.zarr", **SMALL)["units_done_before"] > 3
    assert bytes_of(tmp_path / "o.zarr") == bytes_of(tmp_path / "whole.zarr")


def test_a_table_that_is_torn_while_it_is_read_loses_nothing_of_what_is_kept(
    inputs: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv.gz"
    for file in (first, second):
        file.write_bytes((inputs / file.name).read_bytes())

    def run(out: str, **more: Any) -> Any:
        return ingest([first, second], tmp_path / out, bin=7, **SMALL, **more)

    run("whole.zarr")
    progress, mend = damaged(second, 2)
    with pytest.raises(InputError, match=r"b\.csv\.gz cannot be read"):
        run("o.zarr", progress=progress)
    mend()
    assert run("o.zarr")["units_done_before"] > 0
    assert bytes_of(tmp_path / "o.zarr") == bytes_of(tmp_path / "whole.zarr")


def test_check_names_the_piece_and_the_shard_that_is_damaged(inputs: Path, tmp_path: Path) -> None:
    make = MAKERS["text"](inputs)
    told = Count()
    make(tmp_path / "whole.zarr", progress=told)
    out = tmp_path / "o.zarr"
    with pytest.raises(Stop):
        make(out, progress=Count(told.events - 2))
    partial = tmp_path / "o.zarr.partial"
    rows = sorted((partial / "rows").glob("*[0-9]"))[1]
    rows.write_bytes(rows.read_bytes()[:-1])
    (partial / "runs" / "000000.json").write_text("{")
    files = (p for p in (partial / "store" / "raster" / "c").rglob("*") if p.is_file())
    shard = max(files, key=lambda path: path.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    found = {(d.kind, Path(d.file).parent.name) for d in bc.check_store(out).damages}
    assert {("torn", "rows"), ("marker", "runs")} <= found
    assert ("damaged", shard.parent.name) in found
    assert bc.check_store(out).units_done == bc.check_store(out).units - 2


@pytest.mark.parametrize("name", ["a.csv", "b.csv.gz", "t.parquet"])
def test_a_table_is_read_on_from_behind_any_batch(name: str, inputs: Path) -> None:
    def rows(start: int) -> Iterator[tuple[int, list[Any]]]:
        genes = GeneNames()
        for part in read_points(inputs / name, genes, None, start):
            names = [*genes.numbers, ""]
            yield (
                part.end,
                [*zip(part.x, part.y, (names[g] for g in part.gene), part.count, strict=True)],
            )

    whole = list(rows(0))
    assert len(whole) > 2
    for number, (end, _) in enumerate(whole):
        behind = [row for _, part in whole[number + 1 :] for row in part]
        assert [row for _, part in rows(end) for row in part] == behind


def test_the_job_is_kept_as_json_beside_the_work(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        MAKERS["image"](inputs)(tmp_path / "o.zarr", progress=Count(1))
    job = json.loads((tmp_path / "o.zarr.partial" / "job.json").read_text())
    assert (job["command"], job["kind"], job["shard"]) == ("ingest", "image", 16)
