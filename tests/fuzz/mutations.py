"""How inputs are spoiled: bytes, plain data and command lines, by a seeded generator."""

from __future__ import annotations

import copy
import random
from typing import Any

NUMBERS = [
    "0",
    "-1",
    "1",
    "2",
    "7",
    "1e309",
    "-0.0",
    "nan",
    "inf",
    "1e-300",
    "10" * 12,
    "0x10",
    "1_0",
]
WORDS = [
    "",
    " ",
    "../x",
    "/",
    ".",
    "..",
    "#",
    "stack.npy#c1",
    "stack.npy#99999999999999999999",
    "stack.zarr/raster",
    "a\nb",
    "é",
    "\U0001f9ec",
    "\udcff",
    "x" * 300,
    ",",
    "1,,2",
    "1,2,3",
    "3,4",
    "=",
    "a=b",
    "x=y,y=x,gene=gene",
    "2GiB",
    "1e3MB",
    "auto",
    "none",
    "null",
    "~",
    "True",
    "[1, 2]",
    "{a: 1}",
    "!!python/object/apply:os.system [id]",
    "&a [*a]",
    "*a",
    "file:///etc/passwd",
    "http://x.invalid/a.zarr",
    "tcp://127.0.0.1:9",
    "１２",
]
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**63) - 1,
    10**30,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../../x",
    "/x",
    "a\x00b",
    "é" * 40,
    "NaN",
    "AAAAAAAA+H8=",
    [],
    {},
    [None],
    [0],
    [1, 2, 3],
    [[]],
    {"a": {"b": []}},
    ["y", "x"],
    "float32",
    "object",
    "bytes",
]


def spoiled_bytes(data: bytes, rng: random.Random, head: int | None = None) -> bytes:
    """Some bytes flipped, cut, doubled, replaced; `head`: only among the first so many."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        end = len(out) if head is None else min(head, len(out))
        if end == 0:
            return bytes(out)
        at = rng.randrange(end)
        how = rng.randrange(8)
        if how < 3:
            out[at] ^= 1 << rng.randrange(8)
        elif how == 3:
            out[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x2C, 0x0A, 0x5B, 0x7B])
        elif how == 4:
            word = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\1\0\0\0"])
            out[at : at + 4] = word
        elif how == 5:
            del out[at : at + rng.choice([1, 2, 8, 100])]
        elif how == 6:
            out[at:at] = out[at : at + rng.choice([1, 4, 30])]
        elif rng.random() < 0.5:
            del out[at:]
        else:
            out[at:at] = rng.choice(WORDS).encode("utf-8", "surrogateescape")
    return bytes(out)


def spoiled_data(data: Any, rng: random.Random) -> Any:
    """Plain data (of JSON or YAML) with one or two of its parts replaced, lost, doubled, moved."""
    out = copy.deepcopy(data)
    for _ in range(rng.choice([1, 1, 2])):
        places = list(_places(out))
        if not places:
            return _any_value(rng)
        holder, key = rng.choice(places)
        how = rng.randrange(6)
        if how < 3:
            holder[key] = _any_value(rng)
        elif how == 3 and isinstance(holder[key], (int, float)):
            holder[key] = type(holder[key])(holder[key] * rng.choice([-1, 0, 2, 3, 1000]))
        elif how == 4:
            del holder[key]
        elif isinstance(holder, dict):
            holder[rng.choice([*WORDS[:12], f"{key}x"])] = holder.pop(key)
        else:
            holder.insert(0, _any_value(rng))
    return out


def _any_value(rng: random.Random) -> Any:
    """A copy: what is put in may be spoiled in its turn."""
    return copy.deepcopy(rng.choice(VALUES))


def _places(data: Any) -> Any:
    """Each (holder, key or index) inside plain data."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in list(items):
        yield data, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def spoiled_arguments(arguments: list[str], rng: random.Random) -> list[str]:
    """A command line with words lost, doubled, replaced, or options put in."""
    out = list(arguments)
    for _ in range(rng.choice([1, 1, 2, 3])):
        at = rng.randrange(len(out)) if out else 0
        how = rng.randrange(6)
        if how == 0 and out:
            del out[at]
        elif how == 1 and out:
            out[at] = rng.choice(WORDS)
        elif how == 2 and out:
            out[at] = rng.choice(NUMBERS)
        elif how == 3 and out:
            out[at] = spoiled_text(out[at], rng)
        elif how == 4:
            out[at:at] = [rng.choice(OPTIONS), rng.choice([*NUMBERS, *WORDS])]
        else:
            out.insert(at, rng.choice(OPTIONS))
    return out


def spoiled_text(text: str, rng: random.Random) -> str:
    spoiled = spoiled_bytes(text.encode("utf-8", "surrogateescape"), rng)
    return spoiled.replace(b"\0", b"").decode("utf-8", "surrogateescape")


OPTIONS = [
    "--output",
    "-o",
    "--sigma",
    "--window",
    "--stride",
    "--measure",
    "-m",
    "--contrast-floor",
    "--no-significance",
    "--mask",
    "--nodata",
    "--min-count",
    "--against",
    "--detrend",
    "--n-shifts",
    "--shift-seed",
    "--plan-only",
    "--by",
    "--order",
    "--top",
    "--bottom",
    "--clusters",
    "--threshold",
    "--stack",
    "--bin",
    "--pixel-size",
    "--origin",
    "--round",
    "--normalize",
    "--columns",
    "--chunk",
    "--shard",
    "--boundary",
    "--min-valid",
    "--weights",
    "--blur",
    "--points",
    "--radius",
    "--method",
    "--truncate",
    "--fill",
    "--data-range",
    "--gaussian-weights",
    "--k1",
    "--k2",
    "--memory",
    "--threads",
    "--workers",
    "--restart",
    "--json",
    "--quiet",
    "--help",
    "--cluster",
    "--version",
    "-h",
    "--",
]
