"""What comes from elsewhere is data: it runs no code, and names nothing outside its own folder."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs.pickles
import numpy as np
import psutil
import pytest
import xarray as xr
import zarr

import bigcorr as bc
from bigcorr.errors import InputError, RunError
from bigcorr.jobs import load_job
from bigcorr.raster.source import open_source
from bigcorr.raster.spots import read_spots
from bigcorr.report import write_report
from bigcorr.run.checkpoint import Checkpoint
from bigcorr.run.cluster import ThreadPool, connect
from bigcorr.run.pairs_job import run_pairs
from bigcorr.tiles import Box


class Evil:
    """A pickle of it makes a folder when it is loaded."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.sign),)


@pytest.fixture
def sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Older codecs load pickles: what today's refuse by themselves must not be what saves us.
    monkeypatch.setattr(
        numcodecs.pickles.Pickle, "decode", lambda self, buf, out=None: pickle.loads(bytes(buf))
    )
    return tmp_path / "owned"


V2 = {
    "zarr_format": 2,
    "shape": [2],
    "chunks": [2],
    "dtype": "|O",
    "compressor": None,
    "fill_value": 0,
    "order": "C",
    "filters": None,
}
PICKLE = {"id": "pickle", "protocol": 5}
TEXT = {"id": "vlen-utf8"}
FORGED: dict[str, dict[str, Any]] = {
    "object filter": {"filters": [PICKLE]},
    "text, then pickle": {"filters": [TEXT, PICKLE]},
    "pickle, then text": {"filters": [PICKLE, TEXT]},
    "compressor": {"filters": [TEXT], "compressor": PICKLE},
    "numbers": {"dtype": "|u1", "filters": [PICKLE]},
    "compressor of numbers": {"dtype": "|u1", "compressor": PICKLE},
}


def forge(store: Path, name: str, forged: dict[str, Any], sign: Path, shape: list[int]) -> None:
    """Put an array of pickles into a store of format 2."""
    folder = store / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    meta = {**V2, **forged, "shape": shape, "chunks": shape}
    (folder / ".zarray").write_text(json.dumps(meta))
    (folder / ".zattrs").write_text(json.dumps({"_ARRAY_DIMENSIONS": [name]}))
    data = pickle.dumps([Evil(sign)] * 2)
    (folder / ".".join("0" * len(shape))).write_bytes(data)


@pytest.mark.parametrize("how", FORGED)
def test_no_pickle_is_loaded_from_a_raster(tmp_path: Path, sign: Path, how: str) -> None:
    store = tmp_path / "a.zarr"
    group = zarr.open_group(str(store), mode="w", zarr_format=2)
    array = group.create_array("raster", shape=(2, 8, 8), chunks=(1, 8, 8), dtype="u1")
    array[...] = 1
    array.attrs["_ARRAY_DIMENSIONS"] = ["channel", "y", "x"]
    forge(store, "channel", FORGED[how], sign, [2])
    for use in (
        lambda: open_source(str(store)).channels,
        lambda: bc.open_raster(store),
        lambda: bc.check_store(store),
        lambda: bc.pairwise(bc.open_raster(store), progress=False),
    ):
        with contextlib.suppress(InputError, RunError):
            use()
        assert not sign.exists()


@pytest.mark.parametrize("how", FORGED)
def test_no_pickle_is_loaded_from_a_result(tmp_path: Path, sign: Path, how: str) -> None:
    store = tmp_path / "r.zarr"
    names = ["a", "b"]
    xr.Dataset(
        {"pearson": (("channel", "other"), np.eye(2), {"kind": "similarity"})},
        coords={"channel": names, "other": names},
    ).to_zarr(store, zarr_format=2, consolidated=False)
    forge(store, "channel", FORGED[how], sign, [2])
    from bigcorr.cli.results import open_result

    for use in (
        lambda: open_result(str(store)),
        lambda: bc.write_ranking(store, "pearson", tmp_path / "p.csv"),
        lambda: write_report(store, tmp_path / "r.html"),
    ):
        with pytest.raises(InputError):
            use()
        assert not sign.exists()
    bc.check_store(store)
    assert not sign.exists()


def test_the_pickles_above_would_have_done_harm(sign: Path) -> None:
    pickle.loads(pickle.dumps(Evil(sign)))
    assert sign.exists()
    with pytest.raises(FileExistsError):
        numcodecs.pickles.Pickle().decode(pickle.dumps(Evil(sign)))


def test_no_pickle_is_loaded_from_numpy_files(tmp_path: Path, sign: Path) -> None:
    objects = np.empty((2, 8, 8), dtype=object)
    objects[...] = Evil(sign)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    with pytest.raises(InputError, match="not a readable"):
        open_source(str(tmp_path / "a.npy"))
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Evil(sign)))
    with pytest.raises(InputError, match="not a readable"):
        open_source(str(tmp_path / "b.npy"))
    np.savez(tmp_path / "s.npz", data=objects[0, 0], shape=[1, 1])
    with pytest.raises(InputError, match="not a readable"):
        read_spots(tmp_path / "s.npz")
    np.savez(tmp_path / "unit-0000000.npz", a=objects[0, 0])
    with pytest.raises(RunError, match="is damaged"):
        Checkpoint._read(tmp_path / "unit-0000000.npz")
    assert not sign.exists()


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.mkdir ['SIGN']",
        "!!python/object/new:os.mkdir ['SIGN']",
        "!!python/name:os.mkdir",
        "!!python/module:os",
    ],
)
def test_yaml_makes_no_objects(tmp_path: Path, sign: Path, tag: str) -> None:
    from bigcorr.jobs.models import parse_measure

    tag = tag.replace("SIGN", str(sign))
    (tmp_path / "job.yaml").write_text(f"steps:\n  - ncc: {tag}\n")
    with pytest.raises(InputError, match="could not determine a constructor"):
        load_job(tmp_path / "job.yaml")
    with pytest.raises(InputError):
        parse_measure(f"ncc:window={tag}")
    assert not sign.exists()


OUTSIDE = ["../other.zarr/raster", "/etc/hostname", "a/../../other.zarr/raster", "..", ""]


@pytest.mark.parametrize("path", OUTSIDE)
def test_the_metadata_of_a_store_name_nothing_outside_of_it(tmp_path: Path, path: str) -> None:
    other = zarr.open_group(str(tmp_path / "other.zarr"), mode="w")
    other.create_array("raster", shape=(8, 8), dtype="u1")[...] = 7
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    group.create_array("0", shape=(8, 8), dtype="u1")[...] = 1
    group.attrs["multiscales"] = [{"datasets": [{"path": path}], "axes": []}]
    try:
        read = open_source(str(tmp_path / "a.zarr")).read([0], Box(0, 8, 0, 8))
    except InputError:
        return
    assert (read == 1).all()


def test_the_list_of_files_names_no_file_outside_of_the_store(tmp_path: Path) -> None:
    bc.save_raster(np.ones((8, 8), "f4"), tmp_path / "a.zarr")
    (tmp_path / "secret").write_text("s")
    listed = tmp_path / "a.zarr" / "raster" / "files.json"
    for name in (
        "../../secret",
        str(tmp_path / "secret"),
        "c/../../../secret",
        "c/\0",
        "zarr.json",
    ):
        listed.write_text(json.dumps({name: 9}))
        (damage,) = bc.check_store(tmp_path / "a.zarr").damages
        assert (damage.kind, damage.file) == ("metadata", str(listed))


def test_no_name_of_a_channel_becomes_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    names = ["../../up", "/etc/x", "..", "</script><b onclick=x>", "c:\\d", "c/0/0"]
    text = "x,y,gene\n" + "".join(
        f'{3 * i % 11},{5 * i % 13},"{names[i % len(names)]}"\n' for i in range(300)
    )
    (folder / "p.csv").write_text(text)
    from bigcorr.raster.ingest import ingest

    ingest(folder / "p.csv", folder / "s.zarr", bin=1)
    run_pairs(str(folder / "s.zarr"), folder / "r.zarr", measures="pearson", cluster=ThreadPool(1))
    bc.write_ranking(folder / "r.zarr", "pearson", folder / "p.parquet")
    page = write_report(folder / "r.zarr", folder / "r.html").read_text()
    assert "<b onclick" not in page
    assert "&lt;b onclick=x&gt;" in page
    made = sorted(path.name for path in folder.iterdir())
    assert made == ["p.csv", "p.parquet", "r.html", "r.zarr", "s.zarr"]
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]
    assert [p.name for p in folder.parent.iterdir()] == ["er"]


def test_an_archive_is_read_and_not_unpacked(tmp_path: Path) -> None:
    import zipfile

    held: dict[str, Any] = {"data": [1], "indices": [0], "indptr": [0, 1], "shape": [1, 1]}
    folder = tmp_path / "in"
    folder.mkdir()
    np.savez(folder / "s.npz", pos=[[0.0, 0.0]], **held)
    with zipfile.ZipFile(folder / "s.npz", "a") as archive:
        archive.writestr("../../up.npy", (b"x" * 10))
        archive.writestr("/abs.npy", b"x")
    assert len(read_spots(folder / "s.npz").count) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    assert [p.name for p in folder.iterdir()] == ["s.npz"]


def listening() -> set[str]:
    """The addresses at which this process and its children wait for others."""
    me = psutil.Process()
    return {
        socket.laddr.ip
        for process in [me, *me.children(recursive=True)]
        for socket in process.net_connections(kind="inet")
        if socket.status == psutil.CONN_LISTEN
    }


@pytest.mark.parametrize("command_line", [False, True])
def test_scheduler_workers_and_dashboard_listen_on_loopback(command_line: bool) -> None:
    before = listening()
    if command_line:
        from bigcorr.run.lazy_pool import open_lazy_pool
        from bigcorr.run.progress import SILENT

        with open_lazy_pool("local", 1, 1, "1GiB", SILENT) as pool:
            assert dict(pool.imap(abs, [(-1,)])) == {0: 1}
            found = listening()
    else:
        with connect("local", workers=1, memory="1GiB") as client:
            found = listening()
            assert client.dashboard_link.startswith("http://127.0.0.1:")
            cluster: Callable[[], None] = client.cluster.close
        cluster()
    assert found
    assert found - before <= {"127.0.0.1", "::1"}
