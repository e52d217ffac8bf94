"""A result that is there already, with facts that were damaged: refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigcorr.errors import InputError
from bigcorr.operators import GaussianBlur
from bigcorr.run.displacement_job import JOB, run_displacement
from bigcorr.run.map_job import run_map
from bigcorr.run.other_run import differences

FACTS = {"kind": "map", "parameters": {"sigma": 1}, "sources": ["a"], "inputs": ["x"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"parameters": {"sigma": 2}}, ["sigma 2 there, 1 here"]),
        ({"parameters": [1, 2]}, ["sigma None there, 1 here"]),
        ({"parameters": 3.5}, ["sigma None there, 1 here"]),
        ({"inputs": ["y"]}, ["a has changed since"]),
        ({"inputs": 2.5}, ["what it was made from is not said there"]),
        ({"inputs": []}, ["what it was made from is not said there"]),
    ],
)
def test_differences_are_told_whatever_is_stored(change: dict[str, Any], words: list[str]) -> None:
    assert differences({**FACTS, **change}, FACTS, ()) == words


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).random((60, 70)).astype("f4")


@pytest.mark.parametrize("key", ["parameters", "inputs"])
@pytest.mark.parametrize("value", [2.5, [7], "no", None])
@pytest.mark.parametrize("kind", ["map", "displacement"])
def test_a_damaged_result_is_refused(
    kind: str, key: str, value: Any, image: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "o.zarr"

    def run() -> dict[str, Any]:
        if kind == "map":
            return run_map(GaussianBlur(1.0), [image], out, threads=1)
        return run_displacement(image, image, out, window=16, search=3, step=8, threads=1)

    run()
    file = out / "zarr.json"
    metadata = json.loads(file.read_text())
    for attributes in (
        metadata["attributes"],
        *(
            each["attributes"]
            for each in metadata.get("consolidated_metadata", {}).get("metadata", {}).values()
        ),
    ):
        if "bigcorr" in attributes:
            attributes["bigcorr"][key] = value
    file.write_text(json.dumps(metadata))
    with pytest.raises(InputError, match=r"another run \("):
        run()


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"passes": 3}'])
def test_a_damaged_note_of_a_begun_displacement_is_refused(
    text: str, image: np.ndarray, tmp_path: Path
) -> None:
    partial = tmp_path / "o.zarr.partial"
    partial.mkdir()
    (partial / JOB).write_text(text)
    with pytest.raises(InputError, match=r"is damaged|another run \("):
        run_displacement(image, image, tmp_path / "o.zarr", window=16, search=3, step=8, threads=1)
