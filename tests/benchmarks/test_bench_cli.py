"""How long the command line takes to answer: people wait for this one."""

from __future__ import annotations

import subprocess
import sys


def test_help(benchmark):
    command = [sys.executable, "-m", "bigcorr", "--help"]
    done = benchmark.pedantic(
        lambda: subprocess.run(command, capture_output=True, check=True), rounds=3
    )
    assert b"pairs" in done.stdout
