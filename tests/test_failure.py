"""How a command ends that is told to: an interruption that got lost comes again, and only then."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import os, signal, sys, time
from contextlib import contextmanager, suppress
from bigcorr.cli import failure

class Drops:
    def __del__(self):  # what is raised here is told and dropped
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(100):
            time.sleep(0.0001)

@contextmanager
def tidy():
    try:
        yield
    finally:
        with suppress(ValueError):
            try:
                raise KeyError
            except KeyError:
                time.sleep(0.4)  # an interruption here would be a second one
                raise ValueError
        time.sleep(0.4)
        print("tidied up")

try:
    with failure.interruptible(), tidy():
        if sys.argv[1] == "dropped":
            Drops()
        else:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(2)
        print("ran to its end")
except failure.Interrupted as error:
    time.sleep(0.4)
    print(error.status)
"""


def ended(how: str) -> tuple[list[str], str]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, how], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout.splitlines(), done.stderr


def test_an_interruption_unwinds_once_and_is_not_disturbed() -> None:
    assert ended("raised") == (["tidied up", "143"], "")


def test_one_that_a_finaliser_dropped_comes_again() -> None:
    said, told = ended("dropped")
    assert said == ["tidied up", "143"]
    assert "Exception ignored" in told
