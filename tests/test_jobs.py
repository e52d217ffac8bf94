"""Job files: what is taken, and the one line that says what is not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bigcorr.errors import InputError, MissingFileError
from bigcorr.jobs import build, load_job
from bigcorr.jobs.models import NCC, Ingest, Measure, Pairs, Rank, Settings, Simulate


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return path


GOOD = """
workers: 2
memory: 2GiB
steps:
  - simulate: {output: genes.zarr, channels: 8, size: 128, seed: 3}
  - pairs:
      stack: genes.zarr
      output: result.zarr
      measures: [pearson, "ncc:window=32,stride=16", {ncc: {window: 8}}]
      contrast-floor: 0.5
      mask: auto
  - rank: {result: result.zarr, by: pearson}
"""


def test_a_job_is_settings_and_steps_in_order(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, GOOD))
    assert (job.workers, job.memory, job.cluster) == (2, "2GiB", "local")
    assert [type(step) for step in job.steps] == [Simulate, Pairs, Rank]


def test_measures_can_be_written_as_on_the_command_line_or_as_mappings(tmp_path: Path) -> None:
    pairs = load_job(write(tmp_path, GOOD)).steps[1]
    assert isinstance(pairs, Pairs)
    assert pairs.measures == [
        Measure(name="pearson"),
        Measure(name="ncc", parameters={"window": 32, "stride": 16}),
        Measure(name="ncc", parameters={"window": 8}),
    ]


def test_hyphens_and_underscores_are_the_same_key(tmp_path: Path) -> None:
    pairs = load_job(write(tmp_path, GOOD)).steps[1]
    assert isinstance(pairs, Pairs)
    assert pairs.contrast_floor == 0.5


def test_relative_paths_start_at_the_job_files_folder(tmp_path: Path) -> None:
    simulate, pairs, _ = load_job(write(tmp_path, GOOD)).steps
    assert isinstance(simulate, Simulate)
    assert isinstance(pairs, Pairs)
    assert simulate.output == str(tmp_path / "genes.zarr")
    assert pairs.mask == "auto"


def test_absolute_paths_and_urls_stay(tmp_path: Path) -> None:
    text = "steps: [{ncc: {a: /x/a.tif, b: 's3://bucket/b.zarr#red', output: m.zarr}}]"
    step = load_job(write(tmp_path, text)).steps[0]
    assert isinstance(step, NCC)
    assert (step.a, step.b) == ("/x/a.tif", "s3://bucket/b.zarr#red")


def test_a_cluster_file_is_found_beside_the_job(tmp_path: Path) -> None:
    text = "cluster: slurm.yaml\nsteps: [{simulate: {output: a.zarr}}]"
    assert load_job(write(tmp_path, text)).cluster == str(tmp_path / "slurm.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps: [{pairs: {stack: a, output: b, measures: ncc, sigmma: 2}}]", "mean 'sigma'"),
        ("steps: [{pear: {stack: a}}]", "did you mean 'pairs'"),
        ("worker: 2\nsteps: [{simulate: {output: a}}]", "did you mean 'workers'"),
        ("steps: [{pairs: {stack: a, measures: ncc}}]", "'output' is missing"),
        ("steps: [{simulate: {output: a, channels: many}}]", "channels: got 'many'"),
        ("steps: [{simulate: {output: a, channels: 0}}]", "channels: got 0"),
        ("steps: [{pairs: {stack: a, output: b, measures: ['ncc:window']}}]", "KEY=VALUE"),
        ("steps: [{simulate: {output: a, output: b}}]", "line 1: 'output' is given twice"),
        ("memory: much\nsteps: [{simulate: {output: a}}]", "memory: got 'much'; takes a size"),
        ("steps: []", "'steps'"),
        ("- 1", "'steps'"),
        ("", "'steps'"),
        ("steps: [simulate]", "takes one command"),
        ("steps: [{simulate: 3}]", "simulate"),
        ("a: [1", "line 1"),
        ("? [1, 2]\n: 3", "line 1"),
    ],
)
def test_a_bad_job_is_refused_in_one_line_that_names_file_and_cause(
    tmp_path: Path, text: str, says: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_job(path)
    message = str(caught.value)
    assert says in message
    assert str(path) in message
    assert "\n" not in message
    assert "pydantic" not in message


def test_yaml_that_builds_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="could not determine a constructor"):
        load_job(write(tmp_path, "steps: !!python/object/apply:os.getcwd []"))


def test_a_missing_job_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such job file"):
        load_job(tmp_path / "no.yaml")


def test_text_options_become_what_the_models_take() -> None:
    step = build(Ingest, {"sources": "a.csv", "output": "b", "origin": "3,-4.5"})
    assert (step.sources, step.origin) == (["a.csv"], (3.0, -4.5))
    assert build(Simulate, {"output": "b", "size": "20x30"}).size == (20, 30)
    assert build(Simulate, {"output": "b", "size": 20}).size == (20, 20)


def test_sigma_is_one_blur_or_several() -> None:
    def sigma(value: object) -> object:
        fields = {"stack": "a", "output": "b", "measures": "ncc", "sigma": value}
        return build(Pairs, fields).sigma

    assert [sigma(v) for v in ("2", 2, "2,4", [2, 4.5], None)] == [2, 2, [2, 4], [2, 4.5], None]
    with pytest.raises(InputError, match="sigma: got 'wide'; takes a number of pixels"):
        sigma("wide")


def test_a_wrong_setting_names_what_it_got() -> None:
    with pytest.raises(InputError, match="workers: got 0"):
        build(Settings, {"workers": 0})


@pytest.mark.parametrize("name", ["gene_pairs", "image_ncc"])
def test_the_workflows_run_as_they_stand_and_again(name: str, root: Path, tmp_path: Path) -> None:
    job = shutil.copy(root / "workflows" / f"{name}.yaml", tmp_path)
    outputs = {"gene_pairs": {"pairs.csv", "report.html"}, "image_ncc": {"ncc.zarr"}}[name]
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "bigcorr", "run", job, "--workers", "1", "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)["steps"]) >= 2
        assert outputs <= {path.name for path in tmp_path.iterdir()}
