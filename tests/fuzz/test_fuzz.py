"""A small, seeded part of `make fuzz`, and each thing that it has found."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.jobs import build, load_job
from bigcorr.jobs.models import Measure, parse_measure
from bigcorr.measures import NCC, SSIM, parse
from bigcorr.raster.points import GeneNames, read_points
from bigcorr.raster.source import open_source

sys.path.insert(0, str(Path(__file__).parent))
import fuzz
import kinds

CASES = {
    "arguments": 30,
    "jobs": 120,
    "tables": 100,
    "images": 120,
    "metadata": 10,
    "measures": 150,
}


@pytest.fixture(autouse=True)
def here() -> Iterator[None]:
    before = os.getcwd()
    yield
    os.chdir(before)


@pytest.mark.parametrize("kind", CASES)
def test_spoiled_inputs_are_refused_or_taken(kind: str, tmp_path: Path) -> None:
    outcomes, found = fuzz.run_cases(kind, 3, range(CASES[kind]), tmp_path / "root")
    assert not found, found[0]
    assert sum(outcomes.values()) == CASES[kind]


def test_the_harness_sees_what_it_is_to_see(tmp_path: Path) -> None:
    class Bad(kinds.Kind):
        def prepare(self) -> None:
            self.number = 0

        def describe(self) -> str:
            return str(self.number)

        def case(self, rng: object) -> str:
            self.number += 1
            if self.number == 1:
                kinds.library(lambda: {}["x"])
            if self.number == 2:
                (self.root / "elsewhere").write_text("x")
            if self.number == 3:
                kinds.check_outcome(1, "bigcorr: error: KeyError (BIGCORR_TRACEBACK=1 shows where)")
            if self.number == 4:
                while True:
                    pass
            if self.number == 5:
                kinds.check_outcome(2, "two\nlines\n")
            return "fine"

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fuzz.KINDS, "bad", Bad)
        patch.setattr(fuzz, "CASE_SECONDS", 0.2)
        outcomes, found = fuzz.run_cases("bad", 0, range(6), tmp_path / "root")
    (tmp_path / "root" / "elsewhere").unlink()
    words = [each[1] for each in found]
    for number, sign in enumerate(
        ["KeyError", "elsewhere", "foresaw", "more than 0.2 s", "one line"]
    ):
        assert sign in words[number]
    assert outcomes["FOUND"] >= 5


# -- what it has found --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["ncc:window={", 'ncc:window="x', "ncc:window=\x01", "lbp:radius=2001-99-99", "ncc:window=*a"],
)
def test_a_value_that_is_no_yaml_is_named(text: str) -> None:
    with pytest.raises(InputError, match="takes a number or a word"):
        parse_measure(text)


def test_a_command_line_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="UTF-8"):
        build(Measure, "ssim:{ymmetric=inf,min_vali\udce4=.\udc80/x")


@pytest.mark.parametrize("measure", [NCC, SSIM])
@pytest.mark.parametrize("value", ["../x", "", True])
def test_a_share_that_is_no_number_is_refused(measure: type, value: object) -> None:
    with pytest.raises(InputError, match="min_valid"):
        measure(min_valid=value)
    with pytest.raises(InputError, match="contrast_floor"):
        NCC(contrast_floor=value)  # type: ignore[arg-type]


def test_what_a_measure_cannot_be_made_of_is_named() -> None:
    with pytest.raises(InputError, match=r"measure sinkhorn: cannot be made of reg=\[\]"):
        parse(("sinkhorn", {"reg": []}))


@pytest.mark.parametrize("text", ["[" * 1200, "steps: " + "[" * 900 + "]" * 900])
def test_lists_in_lists_without_end_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(InputError, match=r"too deep|job\.yaml"):
        load_job(tmp_path / "job.yaml")


def test_a_laugh_that_doubles_itself_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_bytes(next(t for t in kinds.HARD_YAML if b"*m" in t))
    with pytest.raises(InputError) as caught:
        load_job(tmp_path / "job.yaml")
    assert len(str(caught.value)) < 5000


def test_a_tiff_of_tiles_of_two_sides_is_refused(tmp_path: Path) -> None:
    import struct

    import tifffile

    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((32, 48), "u2"), tile=(16, 16))
    sound, doubled = (struct.pack("<HHI", 323, 4, count) for count in (1, 2))  # TileLength
    assert path.read_bytes().count(sound) == 1
    path.write_bytes(path.read_bytes().replace(sound, doubled))
    with pytest.raises(InputError, match="cannot be read as TIFF"):
        open_source(str(path))


def test_parquet_that_pyarrow_does_not_know_is_refused(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": [1.0], "y": [1.0], "gene": ["a"]}), tmp_path / "p.parquet")

    def refuse(*_: object) -> None:
        raise pa.ArrowNotImplementedError("Integers with more than 64 bits not implemented")

    monkeypatch.setattr("pyarrow.parquet.ParquetFile", refuse)
    with pytest.raises(InputError, match="cannot be read as Parquet: Integers with more"):
        list(read_points(tmp_path / "p.parquet", GeneNames()))


@pytest.mark.parametrize(
    "spoiled", [{"shape": [[], 30, 30]}, {"chunk_grid": [0]}, {"codecs": 3}, {"shape": "x"}]
)
def test_metadata_of_no_sense_are_one_line(tmp_path: Path, spoiled: dict[str, object]) -> None:
    path = tmp_path / "a.zarr"
    group = zarr.open_group(str(path), mode="w")
    group.create_array("0", shape=(2, 30, 30), dtype="u2")
    meta = path / "0" / "zarr.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | spoiled))
    with pytest.raises(kinds.Finding, match="status 7"):
        kinds.check_outcome(7, "")
    assert kinds.command(["info", str(path), "--quiet"]) == "status 2"
    assert not bc.check_store(path).ok


def test_parameters_of_another_kind_do_no_harm(tmp_path: Path) -> None:
    kinds.sample_result(tmp_path / "r.zarr")
    shutil.rmtree(tmp_path / "r.zarr" / "pearson" / "c")
    group = zarr.open_group(str(tmp_path / "r.zarr"), mode="r+")
    group.attrs["parameters"] = 5
    zarr.consolidate_metadata(str(tmp_path / "r.zarr"))
    assert kinds.command(["rank", str(tmp_path / "r.zarr"), "--top", "1"]) == "status 0"
