"""The heap of a command's own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import json, os, sys, threading
import numpy as np
from bigcorr.run.heap import set_heap

def resident():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024

taken = set_heap() if sys.argv[1] == "one" else None
held = []

def work(gate, go_on):
    # Many pieces below the size that is mapped, all freed but the last: it keeps the heap's top.
    some = [np.ones(100_000, np.uint8) for _ in range(600)]
    held.append(some.pop())
    del some
    gate.set()
    go_on.wait()

# One after the other: in one heap the next takes what the last one freed.
go_on = threading.Event()
threads = []
for _ in range(6):
    gate = threading.Event()
    threads.append(threading.Thread(target=work, args=(gate, go_on)))
    threads[-1].start()
    gate.wait()
print(json.dumps([taken, resident()]))
go_on.set()
"""


def told(how: str) -> list:
    # Where a cluster was started from here, its settings stand in our environment.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", CODE, how],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_threads_share_one_heap_where_the_allocator_can() -> None:
    taken, one = told("one")
    if not taken:
        pytest.skip("not glibc")
    _, several = told("several")
    assert one < several - 100
