"""The commands: what each takes, and nothing of how it is done.

A command's function turns its options into the fields of a step (see `bigcorr.jobs`); carrying a
step out is `actions`' part, the same for a command and for a job file. Nothing heavy is imported
here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from bigcorr import __version__
from bigcorr.cli import options
from bigcorr.cli.failure import BAD_INPUT, DONE, Interrupted, interruptible
from bigcorr.cli.failure import report as report_failure
from bigcorr.errors import InputError

app = typer.Typer(
    name="bigcorr",
    help="Similarity of very large rasters: every pair of channels, or two images pixel by pixel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Fields = dict[str, Any]

_OUTPUT_OPTIONS = {"quiet": options.Quiet, "json": options.Json}
_RUN_OPTIONS = {
    "cluster": options.Cluster,
    "workers": options.Workers,
    "threads": options.Threads,
    "memory": options.Memory,
    "resume": options.Resume,
    "force_unlock": options.ForceUnlock,
}

# Read by dask here and in the worker processes that we start. What fails in a worker comes back as
# an exception and is told in one line; its own log would be in the way.
WORKER_ENVIRONMENT = {
    "DASK_LOGGING": "{'distributed': 'critical', 'distributed.client': 'critical'}",
    "DASK_DISTRIBUTED__WORKER__PRELOAD": "['bigcorr.cli.worker']",
    # The process that sweeps up semaphores behind a command that ended at once says so.
    "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning",
}


def command(**extra: Any) -> Callable[[Callable[..., Fields]], Callable[..., None]]:
    """Register a function that makes a step's fields; `extra` common options are added to it."""

    def register(make_fields: Callable[..., Fields]) -> Callable[..., None]:
        @functools.wraps(make_fields)
        def run(**given: Any) -> None:
            common = {name: given.pop(name) for name in (*extra, *_OUTPUT_OPTIONS)}
            for name, value in WORKER_ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            from bigcorr.run.heap import set_heap

            set_heap()
            from bigcorr.cli import actions

            quiet, as_json = common.pop("quiet"), common.pop("json")
            with interruptible():
                status = actions.command(
                    make_fields.__name__, make_fields(**given), common, quiet, as_json
                )
            if status != DONE:
                raise typer.Exit(status)

        own = inspect.signature(make_fields, eval_str=True)
        added = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=False if name in _OUTPUT_OPTIONS else None,
                annotation=annotation,
            )
            for name, annotation in (extra | _OUTPUT_OPTIONS).items()
        ]
        parameters = [*own.parameters.values(), *added]
        run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(name=make_fields.__name__)(run)
        return run

    return register


def _version(wanted: bool) -> None:
    if wanted:
        print(f"bigcorr {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@command(**_RUN_OPTIONS)
def ingest(
    sources: Annotated[list[str], typer.Argument(help="Points tables, images, .npy, counts.")],
    output: Annotated[str, typer.Argument(help="The stack to write.", metavar="DEST.zarr")],
    bin: Annotated[float | None, typer.Option(help="Table units that make a pixel.")] = None,
    pixel_size: Annotated[
        float | None, typer.Option(help="A pixel's side, in the unit of the positions.")
    ] = None,
    origin: Annotated[
        str | None, typer.Option(help="Where bins start; else the least position.", metavar="Y,X")
    ] = None,
    round: Annotated[
        bool, typer.Option("--round", help="Round positions to bins instead of flooring them.")
    ] = False,
    normalize: Annotated[
        str | None, typer.Option(help="log1p-cp10k: log1p of counts per 10 000.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Columns of a table (x, y, gene, count), where their names do not tell.",
            metavar="x=NAME,y=...",
        ),
    ] = None,
    chunk: Annotated[int | None, typer.Option(help="Side of a chunk.")] = None,
    shard: Annotated[int | None, typer.Option(help="Side of a shard (one file).")] = None,
) -> Fields:
    """Make a stack of channels from transcripts, images or arrays.

    Works on threads of this process, in bounded memory: --cluster and --memory change nothing.
    """
    fields = locals()
    if columns is not None:
        fields["columns"] = dict(item.partition("=")[::2] for item in columns.split(","))
    return fields


@command()
def info(
    path: Annotated[
        str, typer.Argument(help="A raster, a stack, a map, a displacement or a result.")
    ],
) -> Fields:
    """Say what a file or store holds."""
    return locals()


@command()
def check(
    path: Annotated[str, typer.Argument(help="A store, a result, or a job that is half done.")],
) -> Fields:
    """Verify what lies on the disk: markers, checksums, missing or torn files.

    Exit status 0 if all is well, 1 if something is damaged.
    """
    return locals()


@command(**_RUN_OPTIONS)
def simulate(
    output: Annotated[str, typer.Argument(help="The stack to write.", metavar="OUT.zarr")],
    kind: Annotated[
        str | None,
        typer.Option(
            help="Tissue, or a pair of images.", metavar="tissue|images", show_default="tissue"
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Side in pixels, or Y,X.", metavar="N|Y,X")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same pixels.")] = None,
    channels: Annotated[int | None, typer.Option(help="Number of channels of tissue.")] = None,
    cell: Annotated[
        float | None, typer.Option(help="Pixels of a cell, the unit of every pattern.")
    ] = None,
    level: Annotated[float | None, typer.Option(help="Highest mean count of a pixel.")] = None,
    background: Annotated[
        float | None, typer.Option(help="Count outside a pattern, as a share of that inside.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Of tissue's pixels; else the smallest that holds them.",
            metavar="uint8|uint16|uint32",
        ),
    ] = None,
    shift: Annotated[
        str | None, typer.Option(help="Shift of the second image.", metavar="DY,DX")
    ] = None,
    changed_fraction: Annotated[
        float | None, typer.Option(help="Share of the images that changed.")
    ] = None,
    noise: Annotated[float | None, typer.Option(help="Noise of the images.")] = None,
) -> Fields:
    """Make data with known truth: tissue whose channels share patterns, or a pair of images.

    Works on threads of this process, tile by tile: --cluster and --memory change nothing.
    """
    return locals()


@command(**_RUN_OPTIONS)
def register(
    a: Annotated[str, typer.Argument(help="The reference: PATH or PATH#CHANNEL.", metavar="A")],
    b: Annotated[str, typer.Argument(help="What is to be moved, of the same shape.", metavar="B")],
    model: options.Model = None,
    upsample: Annotated[int | None, typer.Option(help="Steps a pixel that are looked at.")] = None,
    sigma: Annotated[
        str | None,
        typer.Option(help="Blur both first.", metavar="S|auto|none", show_default="auto"),
    ] = None,
    tile: Annotated[int | None, typer.Option(help="Side of the tiles.")] = None,
    nodata: options.NoData = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Write B, moved, as Zarr.", metavar="PATH"),
    ] = None,
    report: Annotated[
        str | None, typer.Option(help="Write a page with figures.", metavar="FILE.html")
    ] = None,
) -> Fields:
    """Find how image B lies on image A, to a fraction of a pixel: shift, spread, scores.

    The shift is what to apply to B. The search runs on threads of this process unless --cluster
    names another place.
    """
    return locals()


@command(**_RUN_OPTIONS)
def ncc(
    a: Annotated[str, typer.Argument(help="PATH or PATH#CHANNEL.", metavar="A")],
    b: Annotated[str, typer.Argument(help="The same place, of the same shape.", metavar="B")],
    output: options.Output,
    window: Annotated[int | None, typer.Option(help="Side of the window, odd.")] = None,
    boundary: Annotated[
        str | None, typer.Option(help="Outside the raster.", metavar="reflect|nearest|nan")
    ] = None,
    min_valid: Annotated[float | None, typer.Option(help="Least valid share of a window.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Of a window's pixels.", metavar="uniform|gaussian")
    ] = None,
    blur: options.Blur = None,
    nodata: options.NoData = None,
    register: options.Register = False,
    model: options.Model = None,
) -> Fields:
    """Map the similarity of two images at every pixel, in [-1, 1]."""
    return _aligned(locals())


@command(**_RUN_OPTIONS)
def ssim(
    a: Annotated[str, typer.Argument(help="PATH or PATH#CHANNEL.", metavar="A")],
    b: Annotated[str, typer.Argument(help="The same place, of the same shape.", metavar="B")],
    output: options.Output,
    window: Annotated[int | None, typer.Option(help="Side of the window, odd.")] = None,
    data_range: Annotated[
        float | None,
        typer.Option(
            help="From the least to the greatest value; needed for floats.",
            show_default="that of integers of A's kind",
        ),
    ] = None,
    gaussian_weights: Annotated[
        bool, typer.Option("--gaussian-weights", help="Weigh 11 x 11 pixels by a Gaussian.")
    ] = False,
    sigma: Annotated[float | None, typer.Option(help="Of these weights, in pixels.")] = None,
    k1: Annotated[float | None, typer.Option(help="Constant of the means.")] = None,
    k2: Annotated[float | None, typer.Option(help="Constant of the variances.")] = None,
    use_sample_covariance: Annotated[
        bool,
        typer.Option(
            "--sample-covariance/--population-covariance",
            help="Divide variances by the pixels less one, or by the pixels.",
        ),
    ] = True,
    boundary: Annotated[
        str | None, typer.Option(help="Outside the raster.", metavar="reflect|nearest|nan")
    ] = None,
    min_valid: Annotated[float | None, typer.Option(help="Least valid share of a window.")] = None,
    blur: options.Blur = None,
    nodata: options.NoData = None,
    register: options.Register = False,
    model: options.Model = None,
) -> Fields:
    """Map the structural similarity of two images at every pixel."""
    return _aligned(locals())


def _aligned(fields: Fields) -> Fields:
    """``--register --model M`` as the one field of the step."""
    model, wanted = fields.pop("model"), fields.pop("register")
    if model is not None and not wanted:
        raise InputError(f"--model: got {model!r} without --register, takes both or none")
    return {**fields, "register": (model or "translation") if wanted else None}


@command(**_RUN_OPTIONS)
def blur(
    source: Annotated[str, typer.Argument(help="PATH or PATH#CHANNEL.")],
    output: options.Output,
    sigma: Annotated[
        str,
        typer.Option(help="Standard deviation in pixels; several at once as 1,2,4.", metavar="S"),
    ],
    truncate: Annotated[float | None, typer.Option(help="Radius of the kernel, in sigmas.")] = None,
    fill: Annotated[
        bool, typer.Option("--fill", help="Give missing pixels the blur of their neighbours.")
    ] = False,
    nodata: options.NoData = None,
) -> Fields:
    """Blur an image or a stack by a Gaussian; missing pixels stay missing."""
    return locals()


@command(**_RUN_OPTIONS)
def lbp(
    source: Annotated[str, typer.Argument(help="PATH or PATH#CHANNEL.")],
    output: options.Output,
    points: Annotated[int | None, typer.Option(help="Samples on the circle.")] = None,
    radius: Annotated[float | None, typer.Option(help="Of the circle, in pixels.")] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="What a code stands for.",
            metavar="default|ror|uniform|nri_uniform|var",
            show_default="uniform",
        ),
    ] = None,
    nodata: options.NoData = None,
) -> Fields:
    """Map the local binary pattern of every pixel, the same as scikit-image's."""
    return locals()


@command(**_RUN_OPTIONS)
def displacement(
    a: Annotated[str, typer.Argument(help="The reference: PATH or PATH#CHANNEL.", metavar="A")],
    b: Annotated[str, typer.Argument(help="What has moved, of the same shape.", metavar="B")],
    output: options.Output,
    window: Annotated[int | None, typer.Option(help="Side of the windows.")] = None,
    search: Annotated[int | None, typer.Option(help="How far to look, in pixels.")] = None,
    step: Annotated[int | None, typer.Option(help="From node to node, in pixels.")] = None,
    passes: Annotated[
        str | None,
        typer.Option(
            help="Searches: windows halve and end at --window; or the windows, as 64,32,16.",
            metavar="N|W[,W...]",
        ),
    ] = None,
    levels: Annotated[
        int | None, typer.Option(help="Search smaller images first, halved so many times.")
    ] = None,
    subpixel: Annotated[
        str | None,
        typer.Option(help="How a peak is refined.", metavar="quadratic|gaussian|soft_argmax|none"),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Of a window's pixels.", metavar="uniform|gaussian")
    ] = None,
    min_valid: Annotated[float | None, typer.Option(help="Least valid share of a window.")] = None,
    smooth: Annotated[
        bool | None,
        typer.Option(
            "--smooth/--raw",
            help="Test and smooth the last pass as well.",
            show_default="smooth with several passes",
        ),
    ] = None,
    outlier_threshold: Annotated[
        float | None, typer.Option(help="Of the normalised median test.")
    ] = None,
    max_inconsistency: Annotated[
        float | None,
        typer.Option(help="Search back as well; leave out what misses by more pixels."),
    ] = None,
    initial: Annotated[
        str | None,
        typer.Option(
            help="Start from a vector (what is at (y, x) in A is at (y + DY, x + DX) in B), an "
            "earlier displacement, or what `register --json` printed: its shift is what to apply "
            "to B, so the start is minus that.",
            metavar="DY,DX|STORE.zarr|FILE.json",
        ),
    ] = None,
    nodata: options.NoData = None,
) -> Fields:
    """Find where each part of an image lies in another, to a fraction of a pixel."""
    return locals()


@command(**_RUN_OPTIONS)
def pairs(
    stack: Annotated[str, typer.Argument(help="The channels to compare.")],
    output: options.Output,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "--measure",
            "-m",
            help="Repeat for several: pearson, cosine, ncc:window=32,stride=16 ...",
            metavar="MEASURE",
            show_default="pearson",
        ),
    ] = None,
    sigma: Annotated[
        str | None,
        typer.Option(
            help="Blur first, in pixels; 2 to 3 for sparse counts. Several: 2,4,8.",
            metavar="S[,S...]",
        ),
    ] = None,
    window: Annotated[int | None, typer.Option(help="Window of measures that have one.")] = None,
    stride: Annotated[int | None, typer.Option(help="Step between windows.")] = None,
    contrast_floor: Annotated[
        float | None, typer.Option(help="Contrast below which a window counts for little.")
    ] = None,
    significance: Annotated[
        bool, typer.Option(help="Null mean and sd of every pair, by its autocorrelation.")
    ] = True,
    mask: Annotated[
        str | None, typer.Option(help="Pixels that count (tissue, land).", metavar="PATH|auto")
    ] = None,
    nodata: options.NoData = None,
    min_count: Annotated[
        float | None, typer.Option(help="Leave out channels of a smaller total count.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="Only these channels against all; repeat.", metavar="CHANNEL"),
    ] = None,
    detrend: Annotated[
        str | None,
        typer.Option(
            help="Take a fitted surface off each channel first.",
            metavar="none|plane|quadratic",
            show_default="none",
        ),
    ] = None,
    n_shifts: Annotated[
        int | None,
        typer.Option(
            help="Null mean and sd from N random toroidal shifts, each one more pass.",
            metavar="N",
        ),
    ] = None,
    shift_seed: Annotated[int | None, typer.Option(help="Of these shifts.")] = None,
    coarsen: Annotated[
        int | None,
        typer.Option(
            help="Compare means of K x K pixels: an approximation, whose error is measured.",
            metavar="K",
        ),
    ] = None,
    plan_only: Annotated[
        bool,
        typer.Option("--plan-only", help="Print the plan and the memory it needs; run nothing."),
    ] = False,
) -> Fields:
    """Compare every pair of channels."""
    return {**locals(), "measures": measures or ["pearson"]}


@command(memory=options.Memory, resume=options.Resume, force_unlock=options.ForceUnlock)
def rank(
    result: Annotated[str, typer.Argument(help="What `pairs` wrote.", metavar="RESULT.zarr")],
    by: Annotated[str | None, typer.Option(help="The measure; the first, if not given.")] = None,
    order: Annotated[
        str | None, typer.Option(help="By similarity, or by evidence.", metavar="value|z")
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Which blur, where the result has several.")
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(help="How many of the most similar.", show_default="20 shown, all written"),
    ] = None,
    bottom: Annotated[
        int | None, typer.Option(help="How many of the least similar, as well or instead.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="Only pairs of these channels; repeat.", metavar="CHANNEL"),
    ] = None,
    output: options.OptionalOutput = None,
) -> Fields:
    """Show the pairs, most similar first, or write them to .parquet or .csv.

    All pairs of any number of channels are written in bounded memory (2 GiB if --memory is not
    given), sorted through files beside the output.
    """
    return locals()


@command()
def clusters(
    result: Annotated[str, typer.Argument(help="What `pairs` wrote.", metavar="RESULT.zarr")],
    by: Annotated[str | None, typer.Option(help="The measure; the first, if not given.")] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Which blur, where the result has several.")
    ] = None,
    clusters: Annotated[
        int | None,
        typer.Option(help="How many clusters.", show_default="2 to 40, as stand apart best"),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Instead: the least mean similarity (greatest mean distance) inside."),
    ] = None,
    output: options.OptionalOutput = None,
) -> Fields:
    """Group the channels that share a pattern, by average linkage; show or write .csv, .parquet."""
    return locals()


@command()
def report(
    result: Annotated[
        str, typer.Argument(help="What `pairs` or `displacement` wrote.", metavar="RESULT.zarr")
    ],
    output: options.Output,
    by: Annotated[str | None, typer.Option(help="The measure; the first, if not given.")] = None,
    stack: Annotated[
        str | None,
        typer.Option(
            help="The stack, or the reference of a displacement, if it moved since.",
            show_default="as recorded",
        ),
    ] = None,
) -> Fields:
    """Write a result as one HTML file that needs no network."""
    return locals()


@command(**_RUN_OPTIONS)
def run(
    job: Annotated[str, typer.Argument(help="The job file.", metavar="JOB.yaml")],
) -> Fields:
    """Carry out a job file, step by step."""
    return locals()


@command(**_RUN_OPTIONS)
def demo(
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder to write to.", metavar="DIR")
    ] = "demo-output",
) -> Fields:
    """Rank simulated tissue with a known answer, map a real pair, and write a report."""
    return locals()


# typer has carried its own copy of click since 0.20 and used the installed one before.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def main() -> None:
    """Run the command line and leave with its exit status."""
    sys.exit(_main(sys.argv[1:]))


def _main(arguments: list[str]) -> int:
    try:
        status = app(arguments, prog_name="bigcorr", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else DONE
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())  # type: ignore[attr-defined]
            return BAD_INPUT
        return report_failure(InputError(_usage_message(error)))
    except BrokenPipeError:
        # The reader (head, less) has seen enough; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (Exception, Interrupted) as error:
        return report_failure(error)


def _usage_message(error: Exception) -> str:
    message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    return f"{message}; see `{context.command_path} --help`" if context else message
