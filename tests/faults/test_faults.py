"""One fault of each kind; `make faults` does many, at other moments and on other clusters."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import campaign
import walltime

ONE_OF_EACH = [
    ("map", "kill", "threads"),
    ("pairs", "kill", "threads"),
    ("displacement", "kill", "threads"),
    ("registered", "kill", "threads"),
    ("ingest", "kill", "threads"),
    ("table", "kill", "threads"),
    ("map", "kill worker", "tcp"),
    ("pairs", "kill scheduler", "tcp"),
    ("map", "kill all", "local"),
    ("pairs", "stop", "threads"),
    ("map", "truncate", "threads"),
    ("pairs", "flip", "threads"),
    ("table", "flip", "threads"),
    ("ingest", "disk full", "threads"),
    ("map", "read-only", "threads"),
]


SEEDS = {("pairs", "kill scheduler"): 9}


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> campaign.Campaign:
    return campaign.Campaign(tmp_path_factory.mktemp("faults"), side=256)


@pytest.mark.parametrize(("job", "fault", "cluster"), ONE_OF_EACH)
def test_the_same_command_ends_in_the_same_bytes_and_no_unit_is_lost(
    faults: campaign.Campaign,
    job: str,
    fault: str,
    cluster: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Units that were told to be done before a kill are not computed again."""
    monkeypatch.setattr(campaign, "STOPPED_SECONDS", 0.3)
    # A seed by which the harm comes before the last units: the writing of pairs needs no cluster.
    row = faults.case(job, fault, cluster, seed=SEEDS.get((job, fault), 1))
    if row.skipped:
        pytest.skip(row.wrong)
    assert not row.wrong, campaign.table([row])
    if fault not in ("stop", "kill worker"):
        assert len(row.runs) == 2, campaign.table([row])
        assert row.again <= row.units - row.done or (job, fault) in campaign.DISTRUSTED


def test_every_kind_of_fault_is_among_them() -> None:
    assert {fault for _, fault, _ in ONE_OF_EACH} == set(campaign.FAULTS)
    assert {job for job, _, _ in ONE_OF_EACH} == set(campaign.JOBS)


def test_slices_of_a_queue_are_compared_with_an_undisturbed_run(tmp_path: Path) -> None:
    command = ["simulate", "{out}", "--channels", "2", "--size", "64"]
    figures, right = walltime.compare(command, tmp_path, 60)
    assert right, figures
    assert (figures["slices"], figures["statuses"]) == (1, [0])
