"""What is fuzzed: for each kind of input, sound examples and what is done with spoiled ones.

A kind is made once a process in a folder of its own; ``case(rng)`` spoils one input and hands it to
the library. It returns what came out ("fine", or the kind of refusal) and raises `Finding` where
that is none that a user should see.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mutations import (
    NUMBERS,
    WORDS,
    spoiled_arguments,
    spoiled_bytes,
    spoiled_data,
    spoiled_text,
)

import bigcorr as bc
from bigcorr.errors import InputError, RunError


class Finding(Exception):
    """What no input may bring about."""


Snapshot = dict[str, tuple[int, int]]


def snapshot(folder: Path) -> Snapshot:
    """Length and time of each file below a folder, -1 for a folder."""
    out: Snapshot = {}
    for path in folder.rglob("*"):
        info = path.lstat()
        out[str(path)] = (-1, 0) if path.is_dir() else (info.st_size, info.st_mtime_ns)
    return out


class Kind:
    """Sound examples in ``root/inputs``; what a case writes goes to ``root/out``."""

    def __init__(self, root: Path) -> None:
        self.root, self.inputs, self.out = root, root / "inputs", root / "out"
        for folder in (self.inputs, self.out):
            folder.mkdir(parents=True)
        os.chdir(self.inputs)
        self.prepare()
        self.before = snapshot(root)

    def prepare(self) -> None:
        raise NotImplementedError

    def case(self, rng: random.Random) -> str:
        raise NotImplementedError

    def describe(self) -> str:
        """The input of the last case, for whoever looks into a finding."""
        raise NotImplementedError

    def after(self) -> None:
        """Nothing but what lies below ``out`` may have changed."""
        now = snapshot(self.root)
        ours = {p for p in now if Path(p).is_relative_to(self.out) and Path(p) != self.out}
        changed = {p for p in {*now, *self.before} - ours if now.get(p) != self.before.get(p)}
        shutil.rmtree(self.out)
        self.out.mkdir()
        if changed:
            raise Finding(f"changed outside of the output: {sorted(changed)[:5]}")


def library(function: Callable[[], object]) -> str:
    """Call the library: an error must be one that a user is meant to read."""
    try:
        function()
    except (InputError, RunError) as error:
        if not str(error).strip():
            raise Finding(f"an empty message of {type(error).__name__}") from error
        return type(error).__name__
    return "fine"


def command(arguments: list[str]) -> str:
    """Run the command line in this process: its status, and one line where it fails."""
    from bigcorr.cli.app import _main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = _main(arguments)
    said = err.getvalue()
    check_outcome(status, said)
    return f"status {status}"


def check_outcome(status: int, said: str) -> None:
    if "Traceback" in said or "BIGCORR_TRACEBACK" in said:
        raise Finding(f"an error that nobody foresaw: {said[-600:]}")
    if status not in (0, 1, 2):
        raise Finding(f"exit status {status}: {said[-300:]}")
    lines = said.splitlines()
    if status == 2 and (len(lines) != 1 or not lines[0].startswith("bigcorr: error: ")):
        raise Finding(f"bad input is one line: {said[-600:]}")


def sample_stack(path: Path) -> None:
    from bigcorr.simulate import tissue

    tissue(path, channels=4, size=(40, 36), seed=1)


def sample_result(path: Path) -> None:
    from bigcorr.run.cluster import ThreadPool
    from bigcorr.run.pairs_job import run_pairs

    stack = np.random.default_rng(0).poisson(1.0, (4, 24, 24)).astype(np.uint8)
    np.save(path.with_suffix(".npy"), stack)
    run_pairs(str(path.with_suffix(".npy")), path, measures=["pearson"], cluster=ThreadPool(1))


LINES = [
    "info stack.zarr",
    "check stack.zarr",
    "ncc stack.npy#c0 stack.npy#1 -o OUT/m.zarr --window 3",
    "ssim stack.npy#c0 stack.npy#1 -o OUT/m.zarr --window 3",
    "blur stack.npy -o OUT/m.zarr --sigma 1,2",
    "lbp stack.npy -o OUT/m.zarr --points 8 --radius 1",
    "pairs stack.npy -o OUT/r.zarr -m pearson -m ncc:window=8,stride=4 --sigma 1 --min-count 1",
    "pairs stack.zarr -o OUT/r.zarr --against 0 --detrend plane --n-shifts 2 --shift-seed 3",
    "rank result.zarr --by pearson --top 3 --order z",
    "rank result.zarr -o OUT/p.csv --memory 1GiB",
    "clusters result.zarr --clusters 2 -o OUT/c.csv",
    "report result.zarr -o OUT/r.html",
    "ingest points.csv OUT/s.zarr --bin 1 --origin 0,0 --chunk 16 --shard 32",
    "ingest points.csv OUT/s.zarr --pixel-size 2 --columns x=x,gene=gene --normalize log1p-cp10k",
    "simulate OUT/s.zarr --channels 2 --size 32,24 --seed 1 --cell 4",
    "simulate OUT/s.zarr --kind images --size 32 --shift 1,2 --noise .1",
    "run job.yaml",
    "--version",
]
JOB = """
workers: 1
memory: 2GiB
steps:
  - simulate: {output: OUT/s.zarr, channels: 2, size: [32, 24], seed: 1}
  - blur: {source: OUT/s.zarr, output: OUT/b.zarr, sigma: 1}
  - pairs:
      stack: OUT/s.zarr
      output: OUT/r.zarr
      measures: [pearson, "ncc:window=8", {moran: {contiguity: queen}}]
      sigma: [1, 2]
  - rank: {result: OUT/r.zarr, by: pearson, top: 2, output: OUT/p.csv, sigma: 1}
"""
POINTS = 'x,y,gene,count\n0,0,a,1\n3.5,1,b,2\n3,1,b,1\n7,9,"c,d",4\n'


class Arguments(Kind):
    """Command lines, from the words on; small ones are carried out."""

    def prepare(self) -> None:
        sample_stack(self.inputs / "stack.zarr")
        np.save("stack.npy", np.random.default_rng(0).poisson(1.0, (3, 24, 24)).astype("u1"))
        sample_result(self.inputs / "result.zarr")
        Path("points.csv").write_text(POINTS)
        Path("job.yaml").write_text(JOB.replace("OUT", str(self.out)))

    def case(self, rng: random.Random) -> str:
        line = rng.choice(LINES).replace("OUT", str(self.out)).split()
        self.arguments = spoiled_arguments(line, rng)
        words = [*self.arguments, "--quiet"]
        if writes_elsewhere(words, self.out):
            with nothing_carried_out():
                return command(words)
        return command(words)

    def describe(self) -> str:
        return repr(self.arguments)


def writes_elsewhere(arguments: list[str], out: Path) -> bool:
    """Whether a spoiled command line may name another output, or ask for work without end."""
    given = set(arguments)
    if given & {"ingest", "simulate", "run", "demo"}:
        return True
    named = [b for a, b in itertools.pairwise(arguments) if a in ("-o", "--output")]
    named += [a[2:] for a in arguments if a.startswith("-o") and a != "-o"]
    named += [a.partition("=")[2] for a in arguments if a.startswith("--out") and "=" in a]
    return not all(Path(name).is_relative_to(out) and ".." not in name for name in named)


@contextlib.contextmanager
def nothing_carried_out() -> Iterator[None]:
    """Command lines and job files are parsed to the end, and then not followed."""
    from bigcorr.cli import actions
    from bigcorr.cli import demo as demo_module

    perform, demo = actions.perform, demo_module.demo
    actions.perform = lambda step, run: actions.Outcome({})
    demo_module.demo = lambda *_: ({}, [])  # type: ignore[assignment]
    try:
        yield
    finally:
        actions.perform, demo_module.demo = perform, demo


class JobFiles(Kind):
    """Job files: read and checked; one of ten is carried out."""

    def prepare(self) -> None:
        self.text = JOB.replace("OUT", str(self.out))
        self.plain = yaml.safe_load(self.text)
        self.file = self.out / "job.yaml"

    def case(self, rng: random.Random) -> str:
        from bigcorr.jobs import load_job

        how = rng.randrange(4)
        if how == 0:
            data = spoiled_bytes(self.text.encode(), rng)
        elif how == 1:
            data = spoiled_text(self.text, rng).encode("utf-8", "surrogateescape")
        else:
            plain = spoiled_data(self.plain, rng)
            data = yaml.safe_dump(plain, allow_unicode=rng.random() < 0.5).encode()
        if rng.random() < 0.05:
            data = rng.choice(HARD_YAML)
        self.file.write_bytes(data)
        self.data = data
        return library(lambda: load_job(self.file))

    def describe(self) -> str:
        return repr(self.data[:3000])


HARD_YAML = [
    b"[" * 3000,
    b"steps: " + b"[" * 900 + b"]" * 900,
    b"steps: &a [*a]",
    b"a: &a [x, x, x, x, x, x, x, x]\n"
    + b"".join(
        b"%c: &%c [%s]\n" % (c, c, b", ".join([b"*%c" % (c - 1)] * 8)) for c in range(98, 110)
    )
    + b"steps: [*m]\n",
    b"steps: [{ncc: !!python/object/apply:os.system ['true']}]",
    b"steps: [{? [a, b] : c}]",
    b"steps: [{ncc: {a: .nan, b: .inf, output: 2020-01-01}}]",
    b"%YAML 9.9\n---\nsteps: []\n...\n---\nsteps: []\n",
    b"\xff\xfes\x00t\x00",
    b"steps: [{1: 2}]\n1: 3\n",
    b"steps:\n  - <<: {a: 1}\n    ncc: {}\n",
    b"{steps: [ncc: {window: 1e999999999999999999}]}",
    b"steps: [{ncc: {window: 0o777777777777777777777777777777777777777777777777777}}]",
]


class Tables(Kind):
    """Tables of points, as text and as Parquet; one of eight becomes a stack."""

    def prepare(self) -> None:
        import gzip

        import pandas as pd

        table = pd.DataFrame(
            {
                "x": [0.0, 3.5, 3.0, 7.0] * 4,
                "y": [0, 1, 1, 9] * 4,
                "gene": ["a", "b", "b", "c"] * 4,
                "count": [1, 2, 1, 4] * 4,
            }
        )
        self.sound: list[tuple[str, bytes]] = [
            ("p.csv", POINTS.encode() * 2),
            ("p.gem", b"#made by\ngeneID\tx\ty\tMIDCount\n" + b"a\t3\t4\t1\nb\t5\t6\t2\n" * 4),
            ("p.csv.gz", gzip.compress(POINTS.encode() * 20)),
            ("m.csv", b"gene,global_x,global_y,x,y\n" + b"a,1.5,2,0,0\nb,3,4.25,0,0\n" * 3),
        ]
        for name, made in (
            ("p.parquet", table),
            ("q.parquet", table.astype({"gene": "category"})),
            ("r.parquet", table.astype({"x": "float32", "count": "uint8"})),
        ):
            made.to_parquet(name)
            self.sound.append((name, Path(name).read_bytes()))

    def case(self, rng: random.Random) -> str:
        from bigcorr.raster.ingest import ingest
        from bigcorr.raster.points import GeneNames, read_points

        self.name, data = rng.choice(self.sound)
        self.data = spoiled_bytes(data, rng)
        path = self.out / self.name
        path.write_bytes(self.data)
        if rng.random() < 0.125:
            return library(lambda: ingest(path, self.out / "s.zarr", bin=1, chunk=16, shard=32))
        return library(lambda: list(read_points(path, GeneNames())))

    def describe(self) -> str:
        return f"{self.name}: {self.data[:3000]!r}"


class Images(Kind):
    """Heads of TIFF, .npy, .npz, PNG and JPEG files, opened and read."""

    def prepare(self) -> None:
        import tifffile
        from PIL import Image

        random_state = np.random.default_rng(0)
        image = random_state.integers(0, 200, (3, 32, 48)).astype("u2")
        tifffile.imwrite("plain.tif", image[0])
        tifffile.imwrite("tiles.tif", image[0], tile=(16, 16), compression="zlib")
        tifffile.imwrite("lzw.tif", image[0], compression="lzw", predictor=True)
        tifffile.imwrite("big.tif", image, bigtiff=True, photometric="minisblack")
        tifffile.imwrite(
            "a.ome.tif", image, metadata={"axes": "CYX", "Channel": {"Name": [*"abc"]}}
        )
        tags = [
            (33550, "d", 3, (2.0, 2.0, 0.0), True),
            (33922, "d", 6, (0.0, 0.0, 0.0, 100.0, 200.0, 0.0), True),
            (42113, "s", 4, "-99", True),
        ]
        tifffile.imwrite("geo.tif", image[0].astype("f4"), extratags=tags, compression="deflate")
        np.save("a.npy", image)
        np.save("b.npy", image[0].astype(">f8"))
        Image.fromarray(image[0].astype("u1")).save("a.png")
        Image.fromarray(np.moveaxis(image, 0, 2).astype("u1")).save("a.jpg")
        np.savez(
            "spots.npz",
            data=[1, 2, 3],
            indices=[0, 1, 1],
            indptr=[0, 2, 3],
            shape=[2, 2],
            pos=[[0.0, 1.0], [2.0, 3.0]],
            genes=["a", "b"],
        )
        self.sound = [(p.name, p.read_bytes()) for p in sorted(self.inputs.iterdir())]

    def case(self, rng: random.Random) -> str:
        from bigcorr.raster.spots import read_spots

        self.name, data = rng.choice(self.sound)
        self.data = spoiled_bytes(data, rng, head=rng.choice([16, 400, None]))
        path = self.out / self.name
        path.write_bytes(self.data)
        if self.name.endswith(".npz"):
            return library(lambda: read_spots(path))
        return library(lambda: look_at(str(path)))

    def describe(self) -> str:
        return f"{self.name}: {self.data[:6000]!r}"


def look_at(path: str) -> None:
    """Open a raster and read its first pixels, as any command does."""
    from bigcorr.raster.source import open_source
    from bigcorr.tiles import Box

    source = open_source(path)
    _ = source.channels, source.attrs, source.counts, source.fingerprint()
    height, width = (min(n, 40) for n in source.shape[1:])
    box = Box(0, height, 0, width)
    source.read([0], box)
    source.occupied(box)
    source.mask(box)
    bc.open_raster(path)


class Metadata(Kind):
    """Metadata of stores and of jobs under way: what lies beside the pixels."""

    def prepare(self) -> None:
        import zarr

        sample_stack(self.inputs / "stack.zarr")
        sample_result(self.inputs / "result.zarr")
        bc.save_raster(np.eye(40, dtype="f4"), "map.zarr", chunk=16, shard=32)
        for version in (2, 3):
            group = zarr.open_group(f"ome{version}.zarr", mode="w", zarr_format=version)
            array = group.create_array("0", shape=(2, 30, 30), chunks=(1, 16, 16), dtype="u2")
            array[...] = 3
            array.attrs["_ARRAY_DIMENSIONS"] = ["c", "y", "x"]
            array.attrs["scale_factor"] = 2.0
            scale = {"datasets": [{"path": "0"}], "axes": [{"name": n} for n in "cyx"]}
            group.attrs["multiscales"] = [scale]
            group.attrs["omero"] = {"channels": [{"label": "a"}, {"label": "b"}]}
        self.jobs_under_way()
        self.files = [
            path
            for path in sorted(self.inputs.rglob("*"))
            if path.suffix == ".json"
            or path.name in (".zarray", ".zgroup", ".zattrs", "fingerprint")
            or path.parent.name == "done"
        ]

    def jobs_under_way(self) -> None:
        """A map, a comparison and a ranking that were cut off."""
        from bigcorr.operators import GaussianBlur
        from bigcorr.pairs import listing
        from bigcorr.raster.writer import ShardWriter
        from bigcorr.run import pairs_job, rank_job
        from bigcorr.run.cluster import ThreadPool
        from bigcorr.run.map_job import run_map

        def stop(*_: object, **__: object) -> None:
            raise InterruptedError

        write, finish = pairs_job.write_result, ShardWriter.finish
        pairs_job.write_result, ShardWriter.finish = stop, stop  # type: ignore[assignment]
        rank, rank_job._write = rank_job._write, stop  # type: ignore[assignment]
        side, listing.SIDE = listing.SIDE, 2
        small = rank_job.SMALL
        one = ThreadPool(1)
        try:
            with contextlib.suppress(InterruptedError):
                run_map(GaussianBlur(1.0), ["map.zarr"], "m.zarr", cluster=one, chunk=16, shard=32)
            with contextlib.suppress(InterruptedError):
                pairs_job.run_pairs("result.npy", "r.zarr", measures=["pearson"], cluster=one)
            with contextlib.suppress(InterruptedError):
                rank_a_store("result.zarr", "p.csv")
        finally:
            pairs_job.write_result, ShardWriter.finish = write, finish  # type: ignore[method-assign]
            rank_job._write, listing.SIDE, rank_job.SMALL = rank, side, small

    def case(self, rng: random.Random) -> str:
        file = rng.choice(self.files)
        top = self.inputs / file.relative_to(self.inputs).parts[0]
        name = top.name.removesuffix(".partial")
        copied = self.out / top.name
        shutil.copytree(top, copied)
        for beside in self.inputs.glob("*.npy"):
            shutil.copy(beside, self.out)
        target = copied / file.relative_to(top)
        data = file.read_bytes()
        try:
            plain = json.loads(data)
        except ValueError:
            plain = None
        if isinstance(plain, (dict, list)) and rng.random() < 0.7:
            data = json.dumps(spoiled_data(plain, rng)).encode()
        else:
            data = spoiled_bytes(data, rng)
        target.write_bytes(data)
        self.what = f"{file.relative_to(self.inputs)}: {data!r}"
        path = str(self.out / name)
        if top.name.endswith(".partial"):
            lines = [["check", path], self.again(name)]
        else:
            lines = [["info", path], ["check", path]]
            other = str(self.out / "o")
            if "result" in name:
                lines += [["rank", path, "--top", "2"], ["report", path, "-o", other + ".html"]]
                lines += [["clusters", path], ["rank", path, "-o", other + ".csv"]]
            else:
                lines += [["pairs", path, "-o", other + ".zarr", "--plan-only"]]
                lines += [["blur", path, "-o", other + ".zarr", "--sigma", "1"]]
        self.line = rng.choice(lines)
        self.what = f"{self.line} after {self.what}"
        if self.line[:1] == ["python"]:
            return library(lambda: rank_a_store(str(self.inputs / "result.zarr"), path))
        return command([*self.line, "--quiet"])

    def again(self, name: str) -> list[str]:
        """The command that goes on with a job."""
        if name == "m.zarr":
            return ["blur", "map.zarr", "-o", str(self.out / name), "--sigma", "1"]
        if name == "r.zarr":
            return ["pairs", "result.npy", "-o", str(self.out / name), "-m", "pearson"]
        return ["python"]

    def describe(self) -> str:
        return self.what[:6000]


def rank_a_store(result: str, path: str) -> None:
    """Rank through files, however few pairs there are."""
    import xarray as xr

    from bigcorr.pairs.listing import PairListing
    from bigcorr.raster.lock import locked
    from bigcorr.run import rank_job
    from bigcorr.run.progress import SILENT

    sim = xr.open_zarr(result, chunks=None)
    with locked(path) as lock:
        rank_job._rank(PairListing(sim, "pearson"), Path(path), 10, True, lock, SILENT)


class Measures(Kind):
    """Measures in words, and what they are asked to be on rasters of some sizes."""

    def prepare(self) -> None:
        from bigcorr.measures import MEASURES

        self.names = list(MEASURES)
        self.keys = {name: list(cls.__dataclass_fields__) for name, cls in MEASURES.items()}

    def case(self, rng: random.Random) -> str:
        name = rng.choice(self.names)
        keys = [*self.keys[name], "window", "stride", "x"]
        values = [*NUMBERS, *WORDS[:4], "queen", "True", "none", "16", "0.5"]
        options = [f"{rng.choice(keys)}={rng.choice(values)}" for _ in range(rng.randrange(4))]
        self.text = f"{name}:{','.join(options)}" if options else name
        if rng.random() < 0.5:
            self.text = spoiled_text(self.text, rng)
        return library(self.use)

    def use(self) -> None:
        from bigcorr.jobs import build
        from bigcorr.jobs.models import Measure
        from bigcorr.measures import parse

        errors = []
        model = None
        try:
            model = build(Measure, self.text)
        except InputError as error:
            errors.append(error)
        measure = parse(self.text) if model is None else parse((model.name, model.parameters))
        for raster in ((1, 1), (24, 30), (5000, 4000)):
            try:
                measure.check(raster)
            except InputError as error:
                errors.append(error)
                continue
            features = measure.features(raster)
            hash(features)
            assert features.extent >= 0
        if errors:
            raise errors[0]

    def describe(self) -> str:
        return repr(self.text)


KINDS: dict[str, type[Kind]] = {
    "arguments": Arguments,
    "jobs": JobFiles,
    "tables": Tables,
    "images": Images,
    "metadata": Metadata,
    "measures": Measures,
}


@contextlib.contextmanager
def one_thread_pools() -> Iterator[None]:
    """Commands that would start processes use a thread of this one."""
    from bigcorr.run import lazy_pool
    from bigcorr.run.cluster import Pool, ThreadPool

    started = lazy_pool.LazyPool._started

    def thread(self: Any) -> Pool:
        if self._cluster == "local" and self._pool is None:
            self._pool = ThreadPool(1, self.memory_limit)
        return started(self)

    lazy_pool.LazyPool._started = thread  # type: ignore[method-assign]
    try:
        yield
    finally:
        lazy_pool.LazyPool._started = started  # type: ignore[method-assign]


__all__ = ["KINDS", "Finding", "Kind", "check_outcome", "one_thread_pools"]
