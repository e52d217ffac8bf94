"""The page about a registration: what it says, and figures of the very numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import bigcorr as bc
from bigcorr.errors import MissingFileError
from bigcorr.report.registration import residual_histogram, score_map, write_registration_report


@pytest.mark.parametrize("model", ["translation", "affine"])
def test_a_page_tells_the_shift_and_shows_three_figures(tmp_path: Path, model: str) -> None:
    rng = np.random.default_rng(0)
    a = ndimage.gaussian_filter(rng.normal(size=(300, 340)), 1.5)
    b = ndimage.shift(a, (2.3, -1.7), mode="mirror")
    found = bc.register(a, b, model=model, tile=128)
    page = write_registration_report(found, tmp_path / "r.html", reference=a, moving=b)
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 3
    assert f"({found.shift[0]:.4f}, {found.shift[1]:.4f})" in text
    assert f"{found.score:.4f}" in text
    shown = score_map(found).axes[0].images[0].get_array()
    np.testing.assert_array_equal(np.asarray(shown), found.scores)
    assert residual_histogram(found).axes[0].patches
    with pytest.raises(MissingFileError):
        write_registration_report(found, tmp_path / "no" / "r.html", reference=a, moving=b)
