"""One fault of each kind; `make faults` does many, and worker processes too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import campaign


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> campaign.Campaign:
    return campaign.Campaign(tmp_path_factory.mktemp("faults"), ("map", "pairs"), side=256)


@pytest.mark.parametrize(
    ("job", "fault"),
    [
        ("map", "kill"),
        ("pairs", "kill"),
        ("pairs", "stop"),
        ("map", "truncate"),
        ("pairs", "flip"),
        ("map", "disk full"),
    ],
)
def test_the_same_command_ends_in_the_same_bytes(
    faults: campaign.Campaign, job: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "STOPPED_SECONDS", 0.3)
    row = faults.case(job, fault, "threads", seed=1)
    if row.wrong.startswith("skipped"):
        pytest.skip(row.wrong)
    assert not row.wrong, campaign.table([row])
    if fault != "stop":
        assert len(row.statuses) == 2, campaign.table([row])
