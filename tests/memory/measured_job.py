"""A job whose memory is measured: ``measured_job.py KIND WHAT INPUT OUTPUT POOL``.

KIND is "map", "registered", "displacement" or "pairs"; WHAT and POOL are JSON. Prints the summary
and the most resident memory that this process had, as one line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def operator(name: str, parameters: dict[str, Any]) -> Any:
    """An operator of one or two rasters by its name; `blur` before it, if given."""
    from bigcorr import operators, operators_chain, operators_lbp, operators_move, operators_ssim

    blur = parameters.pop("blur", None)
    kinds = {
        "ncc": operators.NCC,
        "ssim": operators_ssim.SSIM,
        "blur": operators.GaussianBlur,
        "blurs": operators_chain.GaussianBlurs,
        "lbp": operators_lbp.LocalBinaryPattern,
        "shift": operators_move.Shift,
        "affine": operators_move.Affine,
    }
    listed = {k: tuple(v) if isinstance(v, list) else v for k, v in parameters.items()}
    made: Any = kinds[name](**listed)
    return made if blur is None else operators_chain.Blurred(made, operators.GaussianBlur(blur))


def run(kind: str, what: dict[str, Any], source: str, output: str, pool: Any) -> dict[str, Any]:
    """Run one job; its summary."""
    what = dict(what)
    if kind == "pairs":
        from bigcorr.run.pairs_job import run_pairs

        return run_pairs(source, output, **what, **pool)
    pair = [f"{source}#0", f"{source}#1"]
    if kind == "displacement":
        from bigcorr.run.displacement_job import run_displacement

        return run_displacement(*pair, output, **what, **pool)
    op = operator(what.pop("name"), what)
    if kind == "registered":
        from bigcorr.run.registered_job import run_registered_map

        return run_registered_map(op, pair, output, **pool)
    from bigcorr.run.map_job import run_map

    return run_map(op, pair[: op.inputs], output, **pool)


def most_resident() -> int:
    """Not by getrusage, whose peak is inherited from the parent process."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    from bigcorr.run.heap import set_heap

    set_heap()  # as the command line does
    kind, what, source, output, pool = sys.argv[1:6]
    summary = run(kind, json.loads(what), source, output, json.loads(pool))
    print(json.dumps({"summary": summary, "most": most_resident()}, default=str), flush=True)
