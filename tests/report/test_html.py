"""The report: one file that needs nothing else, for every shape of result."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bigcorr.errors import InputError, MissingFileError, RunError
from bigcorr.pairs.ranking import rank_pairs
from bigcorr.report import section, write_report
from bigcorr.simulate import tissue

TRUTH = {
    "channel": ["a<1>", "a&2", "b1", "b2"],
    "group": [0, 0, 1, 1],
    "kind": ["arcs", "arcs", "gradients", "gradients"],
}


def result(channels=4, others=None, *, names=None, kind="similarity", significance=True, **attrs):
    """A result by the contract, with one measure."""
    rng = np.random.default_rng(channels)
    names = names or [f"g{i}" for i in range(channels)]
    square = rng.uniform(-1, 1, (channels, channels))
    matrix = np.corrcoef(square + square.T) if channels > 1 else np.ones((1, 1))
    matrix = abs(matrix) if kind == "distance" else matrix
    rows = slice(None) if others is None else slice(others)
    count = rng.integers(0, 1000, channels)
    measure = {"kind": kind, "symmetric": True, "distribution": "t", "n_max": 10_000}
    variables = {"pearson": (("channel", "other"), matrix[rows], measure)}
    if significance:
        variables["pearson_null"] = (("channel", "other"), 0 * matrix[rows])
        variables["pearson_sd"] = (("channel", "other"), np.full_like(matrix[rows], 0.05))
    return xr.Dataset(
        variables,
        coords={
            "channel": names[rows],
            "other": names,
            "count": ("channel", count[rows]),
            "count_other": ("other", count),
        },
        attrs=attrs,
    )


class Outline(HTMLParser):
    """What a page loads, says and nests."""

    VOID = frozenset({"meta", "input", "br", "link", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links, self.ids, self.open, self.text = [], [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        for key, value in attrs:
            if key in ("src", "href", "xlink:href", "srcset"):
                self.links.append(value)
            if key == "id":
                self.ids.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(path):
    page = path.read_text(encoding="utf-8")
    outline = Outline(page)
    assert not outline.open, "every element is closed"
    assert len(set(outline.ids)) == len(outline.ids), "ids are unique"
    return page, outline


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    path = tmp_path_factory.mktemp("stack") / "tissue.zarr"
    return path, tissue(path, channels=16, size=(150, 200), seed=1, cell=4)["truth"]


def test_the_page_is_one_file_that_loads_nothing(tmp_path, stack):
    path, truth = stack
    out = write_report(result(16, names=truth["channel"]), tmp_path / "r.html", source=path)
    page, outline = read(out)
    assert all(link.startswith(("#", "data:")) for link in outline.links)
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|<link", page)
    # The heat map, the clusters, the volcano, the three best and the three worst pairs.
    assert page.count("<svg ") == 3 + 6
    assert "Are the known groups found?" in outline.text
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.html"]


def test_names_are_escaped_everywhere(tmp_path):
    names = ["</script><b>", 'q"uote', "amp&", "x<y"]
    page, outline = read(write_report(result(4, names=names), tmp_path / "r.html", title="<T>"))
    assert "</script><b>" not in page
    for name in names:
        assert name in outline.text
    assert "<title>&lt;T&gt;</title>" in page


def test_the_table_holds_the_ranking_and_the_script_gets_all_of_it(tmp_path):
    sim = result(30)
    page, outline = read(write_report(sim, tmp_path / "r.html", top=10))
    pairs = rank_pairs(sim, "pearson")
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])
    assert len(data["rows"]) == len(pairs) == 435
    table = pd.DataFrame(data["rows"], columns=data["columns"])
    names = np.array(data["names"])
    assert (names[table["a"]] == pairs["a"]).all()
    assert (names[table["b"]] == pairs["b"]).all()
    for column in ("value", "z", "p_value", "q_value", "count_a", "count_b"):
        np.testing.assert_allclose(table[column], pairs[column], rtol=1e-5)
    assert "415 pairs between" in outline.text
    body = re.search(r'class="pairs".*?<tbody>(.*?)</tbody>', page, re.DOTALL)[1]
    assert body.count("<tr") == 21


def test_pairs_of_few_counts_are_flagged_in_words(tmp_path):
    sim = result(6)
    sim["count"][:] = sim["count_other"][:] = [5000, 5000, 3, 5000, 5000, 5000]
    page, outline = read(write_report(sim, tmp_path / "r.html"))
    assert page.count('<span class="tag">few counts</span></td>') == 5
    assert "fewer than 200 counts are flagged" in outline.text
    page, outline = read(write_report(sim, tmp_path / "r.html", few_counts=2))
    assert "are flagged" not in outline.text
    fractions = sim.assign_coords(count=sim["count"] + 0.5, count_other=sim["count_other"] + 0.5)
    _, outline = read(write_report(fractions, tmp_path / "r.html"))
    assert "are flagged" not in outline.text


def test_pictures_are_of_pairs_that_are_not_flagged(tmp_path, stack):
    path, truth = stack
    sim = result(16, names=truth["channel"])
    sim["count"][:] = sim["count_other"][:] = np.where(np.arange(16) < 4, 1000, 1)
    page, _ = read(write_report(sim, tmp_path / "r.html", source=path))
    captions = re.findall(r"<figcaption><b>(.*?)</b>", page)
    sound = set(truth["channel"][:4])
    assert len(captions) == 6
    assert all(set(caption.split(" and ")) <= sound for caption in captions)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_very_few_channels_are_reported_as_well(tmp_path, channels, stack):
    path, truth = stack
    sim = result(channels, names=truth["channel"][:channels])
    page, outline = read(write_report(sim, tmp_path / "r.html", source=path))
    if channels == 1:
        assert "One channel has no pairs" in outline.text
    else:
        assert page.count("<figcaption><b>") == channels * (channels - 1) // 2


def test_channels_without_any_value_come_last_and_are_counted(tmp_path):
    sim = result(6)
    matrix = sim["pearson"].values
    matrix[2], matrix[:, 2] = np.nan, np.nan
    _, outline = read(write_report(sim, tmp_path / "r.html"))
    assert "5 pairs have no value" in outline.text
    matrix[:] = np.nan
    _, outline = read(write_report(sim, tmp_path / "r.html"))
    assert "15 pairs have no value" in outline.text


def test_a_raster_that_is_not_there_is_said_and_done_without(tmp_path):
    _, outline = read(write_report(result(3), tmp_path / "r.html"))
    assert "does not name its raster" in outline.text
    sim = result(3, source=str(tmp_path / "gone.zarr"))
    _, outline = read(write_report(sim, tmp_path / "r.html"))
    assert "No pictures: the raster could not be opened" in outline.text
    assert "gone.zarr" in outline.text


def test_a_result_against_few_channels_and_one_without_significance(tmp_path):
    sim = result(7, others=2, kind="distance", significance=False)
    page, outline = read(write_report(sim, tmp_path / "r.html"))
    assert "2 channels against 7" in outline.text
    assert "holds no significance" in outline.text
    assert 'data-key="z"' not in page


def test_every_blur_of_a_result_has_a_section(tmp_path, stack):
    path, truth = stack
    one = result(3, names=truth["channel"][:3])
    sim = xr.concat([one, one], dim=pd.Index([1.0, 4.0], name="sigma"), coords="minimal")
    sim["pearson"].attrs = one["pearson"].attrs
    _, outline = read(write_report(sim, tmp_path / "r.html", source=path))
    assert "pearson, sigma 1" in outline.text
    assert "pearson, sigma 4" in outline.text


def test_the_run_is_told_with_its_warnings_and_stages(tmp_path):
    sim = result(
        3,
        shape=[300, 400],
        sigma=2.0,
        wall_seconds=75.0,
        timings={"read": 10.0, "blur": 5.5},
        warnings=["mostly <empty>"],
        parameters=json.dumps({"min_count": 7}),
    )
    page, outline = read(write_report(sim, tmp_path / "r.html"))
    for said in ("300 × 400", "1 min 15 s", "blur", "5.5 s", "mostly <empty>", '"min_count": 7'):
        assert said in outline.text
    assert 'class="warning"' in page


def test_a_stored_result_gives_the_same_page_as_the_dataset(tmp_path):
    sim = result(5, shape=[30, 40], warnings=["w"], timings={"read": 1.0})
    sim.to_zarr(tmp_path / "r.zarr", zarr_format=3, consolidated=False)
    pages = [
        read(write_report(r, tmp_path / "r.html"))[0].split("<footer>")[0]
        for r in (sim, tmp_path / "r.zarr")
    ]
    assert pages[0] == pages[1]


def test_wrong_input_is_named_and_nothing_is_written(tmp_path, monkeypatch):
    out = tmp_path / "r.html"
    with pytest.raises(MissingFileError, match=r"no such file or folder: .*no\.zarr"):
        write_report(tmp_path / "no.zarr", out)
    with pytest.raises(InputError, match="holds no pair matrix"):
        write_report(xr.Dataset(), out)
    (tmp_path / "text.zarr").write_text("hello")
    with pytest.raises(InputError, match="is not a result of bigcorr pairs"):
        write_report(tmp_path / "text.zarr", out)
    with pytest.raises(InputError, match="by: got 'lee', this result has: pearson"):
        write_report(result(2), out, by="lee")
    with pytest.raises(InputError, match="no channel 'g0'"):
        write_report(result(2), out, source=np.zeros((2, 8, 8)))
    with pytest.raises(MissingFileError, match="no such folder"):
        write_report(result(2), tmp_path / "absent" / "r.html")
    (tmp_path / "text.zarr").unlink()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(RunError, match="no space left on the device while writing"):
        write_report(result(2), out)
    assert not list(tmp_path.iterdir())


def test_measures_are_set_beside_each_other(tmp_path):
    sim = result(12)
    sim["lee"] = sim["pearson"] ** 3
    sim["emd"] = (2 - sim["pearson"]).assign_attrs(kind="distance")
    page, outline = read(write_report(sim, tmp_path / "r.html"))
    assert "Do the measures agree?" in outline.text
    section = re.search(r'<section id="agreement">.*?</section>', page, re.DOTALL)[0]
    assert re.findall(r">(−?[01][.][0-9]+)</td>", section) == ["1.00"] * 9
    _, alone = read(write_report(sim, tmp_path / "r.html", by="lee"))
    assert "Do the measures agree?" not in alone.text


def test_groups_and_evidence_are_shown(tmp_path):
    _, outline = read(write_report(result(20), tmp_path / "r.html"))
    assert "Clusters of channels" in outline.text
    assert "Value and evidence" in outline.text
    assert re.search(r"of 190 pairs have q < 0.05", outline.text)
    _, bare = read(write_report(result(20, significance=False), tmp_path / "r.html"))
    assert "Value and evidence" not in bare.text
    _, against = read(write_report(result(20, 3), tmp_path / "r.html"))
    assert "Clusters of channels" not in against.text


def test_of_very_many_pairs_both_ends_and_a_sample_are_shown(tmp_path, monkeypatch):
    sim = result(40, truth={**TRUTH, "channel": [f"g{i}" for i in range(4)]})
    monkeypatch.setattr(section, "_WHOLE", 300)
    monkeypatch.setattr(section, "_ENDS", 60)
    monkeypatch.setattr(section, "_MAPPED", 25)
    page, outline = read(write_report(sim, tmp_path / "r.html", top=10))
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])
    ranks = [row[0] for row in data["rows"]]
    assert ranks == [*range(1, 61), *range(721, 781)]
    assert "760 pairs between" in outline.text
    assert "The search knows 120 of 780 pairs" in outline.text
    assert "An even sample of 25 of 40 channels is shown" in outline.text
    assert re.search(r"A fixed random sample of \d+ of 780 pairs is shown", outline.text)
    assert "Are the known groups found?" not in outline.text
