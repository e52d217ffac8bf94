"""Options that several commands share, and how a command's text becomes a step of a job."""

from __future__ import annotations

from typing import Annotated

import typer

_RUNNING = "How it runs (never changes the result)"

Cluster = Annotated[
    str | None,
    typer.Option(
        help="local, FILE.yaml (a cluster described), or tcp://HOST:PORT (a scheduler).",
        metavar="WHERE",
        show_default="local",
        rich_help_panel=_RUNNING,
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Worker processes.", rich_help_panel=_RUNNING)
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads in each worker.", rich_help_panel=_RUNNING)
]
Memory = Annotated[
    str | None,
    typer.Option(help="Memory of each worker, as 2GiB.", metavar="SIZE", rich_help_panel=_RUNNING),
]
Resume = Annotated[
    bool | None,
    typer.Option(
        "--resume/--restart",
        help="Go on from what an earlier run of the same command finished, or start afresh.",
        show_default="resume",
        rich_help_panel=_RUNNING,
    ),
]
ForceUnlock = Annotated[
    bool | None,
    typer.Option(
        "--force-unlock",
        help="Remove the output's lock. Only where the run that holds it is surely dead: two runs "
        "on one output damage it.",
        rich_help_panel=_RUNNING,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No progress, no summary.", rich_help_panel=_RUNNING),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="One JSON line on stdout instead.", rich_help_panel=_RUNNING),
]

Output = Annotated[str, typer.Option("--output", "-o", help="What to write.", metavar="PATH")]
OptionalOutput = Annotated[
    str | None, typer.Option("--output", "-o", help="What to write.", metavar="PATH")
]
Blur = Annotated[
    float | None,
    typer.Option("--blur", help="Blur both by this sigma first; nothing is stored in between."),
]
Register = Annotated[
    bool,
    typer.Option("--register", help="Lay B on A first; nothing is stored in between."),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="How B may be moved.", metavar="translation|affine", show_default="translation"
    ),
]
NoData = Annotated[
    float | None, typer.Option("--nodata", help="The value that means missing (NaN always does).")
]
