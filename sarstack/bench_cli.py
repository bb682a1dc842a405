"""The commands under ``sarstack bench``: measure what this installation is worth."""

from pathlib import Path
from typing import Any

import click


@click.group()
def bench() -> None:
    """Measure quality on scenes whose truth is known, and on your own stacks."""


@bench.command(epilog="\b\nExample:\n  sarstack bench quality -o quality/ --stack stack/")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("quality"),
    show_default=True,
    help="Folder of tables (CSV, PNG, text) and pictures.",
)
@click.option(
    "--suite",
    "suites",
    multiple=True,
    metavar="NAME",
    help="grd, rtc, single-look-white, single-look or grd-stack; may be repeated. "
    "Default: all, or none where --stack is given.",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    help="A method of `sarstack methods` or a .safetensors model; may be repeated. "
    "Default: all methods.",
)
@click.option(
    "--stack",
    "stacks",
    multiple=True,
    metavar="PATH",
    help="A stack of 4 dates or more: each date is judged by the others. May be repeated.",
)
@click.option(
    "--scale",
    type=click.Choice(["linear", "amplitude", "db"]),
    help="What the numbers of a stack are, where it does not tell.",
)
@click.option(
    "--size-px",
    type=click.IntRange(min=96),
    default=256,
    show_default=True,
    help="Side of the simulated scenes.",
)
@click.option(
    "--scenes",
    "n_scenes",
    type=click.IntRange(min=0),
    default=6,
    show_default=True,
    help="Simulated landscapes in a suite, beside the canonical scenes.",
)
def quality(**options: Any) -> None:
    """Score every method against exact truth, and by leaving out dates of real stacks.

    Everything simulated follows from fixed seeds: the same scenes wherever it runs.
    """  # fmt: skip
    from sarstack.benchmark.quality import bench_quality

    bench_quality(tell=click.echo, **options)
