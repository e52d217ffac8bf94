"""Pieces of work: those that are whole are found again, and nothing behind one that is not."""

from pathlib import Path

import numpy as np
import pytest

from bigcorr.errors import RunError
from bigcorr.raster.pieces import Pieces


def filled(folder: Path, count: int = 4) -> Pieces:
    pieces = Pieces(folder)
    for number in range(count):
        pieces.add([np.arange(9), np.full(3, number, "i4")], {"number": number})
    return pieces


def test_what_was_kept_is_found_again_with_its_notes(tmp_path: Path) -> None:
    filled(tmp_path / "p").add([], {"end": True})
    again = Pieces(tmp_path / "p")
    assert again.found == 5
    assert again.notes == [*({"number": n} for n in range(4)), {"end": True}]
    assert again.ended
    data = again.file(2).read_bytes()
    assert data == np.arange(9).tobytes() + np.full(3, 2, "i4").tobytes()


@pytest.mark.parametrize("harm", ["gone", "torn", "flipped", "marker gone", "marker torn"])
def test_nothing_behind_a_damaged_piece_is_taken_for_done(tmp_path: Path, harm: str) -> None:
    pieces = filled(tmp_path / "p")
    (tmp_path / "p" / "000004.tmp").write_text("litter")
    file = pieces.file(2)
    marker = file.with_name(file.name + ".json")
    if harm == "gone":
        file.unlink()
    elif harm == "torn":
        file.write_bytes(file.read_bytes()[:-1])
    elif harm == "flipped":
        data = bytearray(file.read_bytes())
        data[5] ^= 4
        file.write_bytes(data)
    elif harm == "marker gone":
        marker.unlink()
    else:
        marker.write_text(marker.read_text()[:-9])
    again = Pieces(tmp_path / "p")
    assert again.found == 2
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == [
        "000000",
        "000000.json",
        "000001",
        "000001.json",
    ]
    again.add([np.zeros(2)], {})
    assert Pieces(tmp_path / "p").found == 3


def test_nothing_is_made_before_there_is_something_to_keep(tmp_path: Path) -> None:
    assert not Pieces(tmp_path / "p").ended
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = filled(tmp_path / "p", 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="no space left on the device"):
        pieces.add([np.zeros(9)], {})
    monkeypatch.undo()
    assert Pieces(tmp_path / "p").found == 1
