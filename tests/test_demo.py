"""The demo at toy size: everything it promises to leave behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigcorr.demo import MEASURES, real_pair, run_demo


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("demo") / "output"
    return run_demo(folder, channels=16, size=256, threads=2)


def test_what_the_demo_names_is_there(made) -> None:
    for path in (made.stack, made.result, made.ncc_map, made.report, made.picture):
        assert path.exists(), path
    assert "<html" in made.report.read_text(encoding="utf-8")[:200].lower()


def test_every_pair_is_ranked_by_every_measure(made) -> None:
    assert list(made.rankings) == list(MEASURES)
    assert all(len(pairs) == 16 * 15 // 2 for pairs in made.rankings.values())


def test_the_groups_are_found_and_the_blind_spot_is_seen(made) -> None:
    precision = made.precision.set_index("pattern")
    assert precision.loc["all but gradients", "pearson"] > 0.9
    assert precision.loc["arcs", "ncc"] > 0.9
    assert precision.loc["gradients", "ncc"] < precision.loc["gradients", "pearson"]


def test_the_real_pair_needs_no_download_and_is_alike(made) -> None:
    assert real_pair().shape == (2, 872, 1000)
    assert made.image_ncc["median"] == pytest.approx(0.814, abs=0.005)


def test_the_demo_can_be_repeated_in_its_folder(made, tmp_path: Path) -> None:
    again = run_demo(made.report.parent, channels=16, size=256, threads=2)
    assert again.precision.equals(made.precision)
