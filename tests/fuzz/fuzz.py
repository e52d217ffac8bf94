"""`make fuzz`: spoiled inputs by the thousand, none of which may do more than be refused.

    python tests/fuzz/fuzz.py [CASES [SEED [KIND ...]]]

Asked of every case: no error but those that a user is meant to read (one line, status 1 or 2), no
case longer than its time, no file changed outside of its output, no process that dies. Each case
follows from its kind, the seed and its number alone. Cases run in processes of some hundreds, each
of which says which case it is at, so that one that dies or hangs is known; a few command lines run
as processes of their own. Ends with status 1 where anything was found.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from kinds import KINDS, Finding, check_outcome, one_thread_pools, writes_elsewhere

SHARES = {
    "arguments": 0.2,
    "jobs": 0.2,
    "tables": 0.15,
    "images": 0.15,
    "metadata": 0.1,
    "measures": 0.2,
}
BATCH = 400
CASE_SECONDS = 60.0
MEMORY_BYTES = 12 * 2**30
FILE_BYTES = 256 * 2**20


class Hang(BaseException):
    """A case took longer than its time."""


def generator(kind: str, seed: int, number: int) -> random.Random:
    return random.Random(f"{kind} {seed} {number}")


def run_cases(kind: str, seed: int, numbers: range, root: Path, report: Path | None = None) -> Any:
    """Run cases in this process: outcomes counted, findings as (number, words, input).

    `report` is told of each case before it begins.
    """
    outcomes: Counter[str] = Counter()
    found: list[tuple[int, str, str]] = []

    def late(*_: object) -> None:
        raise Hang

    before = os.getcwd()
    handler = signal.signal(signal.SIGALRM, late)
    try:
        with one_thread_pools(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = KINDS[kind](root)
            for number in numbers:
                if report is not None:
                    report.write_text(json.dumps({"case": number}))
                words = ""
                signal.setitimer(signal.ITIMER_REAL, CASE_SECONDS)
                try:
                    outcome = made.case(generator(kind, seed, number))
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    made.after()
                    outcomes[outcome] += 1
                except Hang:
                    words = f"took more than {CASE_SECONDS} s: {traceback.format_exc()[-1500:]}"
                except Finding as error:
                    words = str(error)
                except BaseException:
                    words = traceback.format_exc()[-1800:]
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                if words:
                    outcomes["FOUND"] += 1
                    found.append((number, words, made.describe()))
                    with contextlib.suppress(Finding):
                        made.after()
    finally:
        signal.signal(signal.SIGALRM, handler)
        os.chdir(before)
    return outcomes, found


def _batch(kind: str, seed: int, numbers: range, root: str, report: str, answer: str) -> None:
    """In a process of its own."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    outcomes, found = run_cases(kind, seed, numbers, Path(root), Path(report))
    Path(answer).write_text(json.dumps([outcomes, found]))


def fuzz(kind: str, cases: int, seed: int) -> tuple[Counter[str], list[tuple[int, str, str]]]:
    """So many cases of a kind, a batch of them a process."""
    outcomes: Counter[str] = Counter()
    found: list[tuple[int, str, str]] = []
    start = 0
    spawn = multiprocessing.get_context("spawn")
    while start < cases:
        numbers = range(start, min(start + BATCH, cases))
        folder = Path(tempfile.mkdtemp(prefix="bigcorr-fuzz-"))
        report, answer = folder / "case", folder / "answer"
        process = spawn.Process(
            target=_batch,
            args=(kind, seed, numbers, str(folder / "root"), str(report), str(answer)),
        )
        process.start()
        start = numbers.stop
        last, since = -1, time.monotonic()
        while process.is_alive():
            process.join(0.2)
            with contextlib.suppress(OSError, ValueError):
                now = json.loads(report.read_text())["case"]
                if now != last:
                    last, since = now, time.monotonic()
            # The alarm is only heard between two steps of Python; kernels are compiled at first.
            patience = 10 if last < 0 else 3
            if time.monotonic() - since > patience * CASE_SECONDS:
                process.kill()
                process.join()
        if answer.exists():
            told, what = json.loads(answer.read_text())
            outcomes.update(told)
            found += [tuple(each) for each in what]  # type: ignore[misc]
        else:
            how = f"the process ended with {process.exitcode} (-9: it hung and was killed)"
            found.append((last, how, "generate it again from its number"))
            outcomes["FOUND"] += 1
            outcomes["lost with their process"] += max(0, last - numbers.start)
            start = last + 1
        shutil.rmtree(folder, ignore_errors=True)
    return outcomes, found


def as_processes(cases: int, seed: int) -> tuple[Counter[str], list[tuple[int, str, str]]]:
    """Command lines as processes of their own: the same rules."""
    outcomes: Counter[str] = Counter()
    found = []
    with tempfile.TemporaryDirectory(prefix="bigcorr-fuzz-") as folder, one_thread_pools():
        before = os.getcwd()
        made = KINDS["arguments"](Path(folder) / "root")
        try:
            for number in range(cases):
                told: list[str] = []
                with _instead_of_commands(told):
                    made.case(generator("processes", seed, number))
                if any("\0" in word for word in told) or writes_elsewhere(told, made.out):
                    outcomes["skipped"] += 1
                    continue
                done = subprocess.run(
                    [sys.executable, "-m", "bigcorr", *told],
                    capture_output=True,
                    text=True,
                    errors="replace",
                    stdin=subprocess.DEVNULL,
                    timeout=120,
                    check=False,
                )
                try:
                    check_outcome(done.returncode, done.stderr)
                    made.after()
                    outcomes[f"status {done.returncode}"] += 1
                except Finding as error:
                    outcomes["FOUND"] += 1
                    found.append((number, str(error), made.describe()))
        finally:
            os.chdir(before)
    return outcomes, found


@contextlib.contextmanager
def _instead_of_commands(told: list[str]) -> Any:
    """The command lines that would be run go to `told`."""
    import kinds

    command = kinds.command

    def tell(arguments: list[str]) -> str:
        told.extend(arguments)
        return "told"

    kinds.command = tell
    try:
        yield
    finally:
        kinds.command = command


def signature(words: str) -> str:
    """What findings of one cause have in common: the last line of ours in a traceback."""
    ours = re.findall(r'File ".*?(bigcorr/[^"]+)", line (\d+)', words)
    return str(ours[-1]) if ours else words.strip()[-60:]


def main() -> int:
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    kinds = sys.argv[3:] or list(SHARES)
    total, wrong = 0, 0
    for kind in [*kinds, *(["processes"] if not sys.argv[3:] else [])]:
        started = time.monotonic()
        if kind == "processes":
            outcomes, found = as_processes(max(1, cases // 400), seed)
        else:
            share = SHARES[kind] if len(kinds) > 1 else 1.0
            outcomes, found = fuzz(kind, max(1, round(cases * share)), seed)
        seconds = time.monotonic() - started
        ran = sum(n for name, n in outcomes.items() if name != "skipped")
        told = ", ".join(f"{name} {n}" for name, n in sorted(outcomes.items()))
        print(f"{kind}: {ran} cases in {seconds:.0f} s: {told}", flush=True)
        alike: dict[str, list[tuple[int, str, str]]] = {}
        for each in found:
            alike.setdefault(signature(each[1]), []).append(each)
        for many in alike.values():
            number, words, given = min(many, key=lambda each: len(each[2]))
            print(f"--- {kind}, seed {seed}, case {number}, {len(many)} alike: {given[:1500]}")
            print(words, flush=True)
        total, wrong = total + ran, wrong + len(found)
    print(f"{total} cases, {wrong} found")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
