"""Compiled kernels are kept, and processes that start at once on an empty cache do not collide."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FIRST_USE = """
import sys
import numpy as np
from numba.core.dispatcher import Dispatcher
import bigcorr as bc
import bigcorr.kernels.gaussian

image = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)
total = float(bc.gaussian_blur(image, 2.0).sum(dtype=np.float64))
kernels = {id(v): v for m in list(sys.modules.values()) if m.__name__.startswith("bigcorr.kernels")
           for v in vars(m).values() if isinstance(v, Dispatcher)}.values()
print(total.hex(), sum(sum(kernel.stats.cache_misses.values()) for kernel in kernels))
"""


@pytest.mark.slow
def test_processes_that_start_at_once_on_a_cold_cache_agree_and_the_next_compiles_nothing(
    tmp_path: Path,
) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", FIRST_USE]
    together = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    outputs = [process.communicate()[0].split() for process in together]
    assert [process.returncode for process in together] == [0] * 4
    assert len({total for total, _ in outputs}) == 1
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert all(int(compiled) > 0 for _, compiled in outputs)
    assert again.stdout.split() == [outputs[0][0], "0"]


SHARED = """
import sys
import numpy as np
from bigcorr.kernels import jit

@jit.njit(cache=True)
def inner(a):
    return a[0] * 2

@jit.njit(cache=True)
def outer(a):
    return inner(a) + 1

print(outer(np.full(2, 3, sys.argv[1])), sum(outer.stats.cache_hits.values()))
"""


def run_shared(tmp_path: Path, dtype: str) -> list[str]:
    path = tmp_path / "shared.py"
    if not path.exists():
        path.write_text(SHARED)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, path, dtype], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_code_for_two_types_never_lands_in_one_file_whoever_writes_last(tmp_path: Path) -> None:
    # Each process sees an empty folder, as two do that start at once.
    kept: dict[str, bytes] = {}
    for dtype in ("f4", "f8"):
        assert run_shared(tmp_path, dtype) == ["7.0", "0"]
        for path in tmp_path.glob("cache/**/*.nb*"):
            assert kept.setdefault(str(path), path.read_bytes()) == path.read_bytes()
            path.unlink()
    assert len(kept) == 4
    for name, content in kept.items():
        Path(name).write_bytes(content)
    assert run_shared(tmp_path, "f4") == ["7.0", "1"]
    assert run_shared(tmp_path, "f8") == ["7.0", "1"]


@pytest.mark.parametrize("harm", ["torn", "other sources", "unwritable"])
def test_kept_code_that_cannot_be_used_or_written_is_compiled_again(
    tmp_path: Path, harm: str
) -> None:
    run_shared(tmp_path, "f4")
    files = list(tmp_path.glob("cache/**/*.nbc"))
    if harm == "torn":
        for path in files:
            path.write_bytes(path.read_bytes()[:100])
    elif harm == "other sources":
        source = tmp_path / "shared.py"
        source.write_text(source.read_text().replace("* 2", "* 3"))
        assert run_shared(tmp_path, "f4") == ["10.0", "0"]  # of the caller too, though not edited
        assert sorted(tmp_path.glob("cache/**/*.nbc")) == sorted(files)  # replaced, no litter
    else:
        for path in files:
            path.unlink()
            path.mkdir()  # no file can be put there, whoever asks
        assert run_shared(tmp_path, "f4") == ["7.0", "0"]
        return
    again = run_shared(tmp_path, "f4")
    assert again[1] == "0" if harm == "torn" else again == ["10.0", "1"]
    assert run_shared(tmp_path, "f4")[1] == "1"


def test_all_kernels_are_kept_by_our_own_cache() -> None:
    import bigcorr

    sources = Path(bigcorr.__file__).parent.rglob("*.py")
    direct = [path.name for path in sources if "numba import njit" in path.read_text()]
    assert direct == []
