"""The commands under ``sarstack bench``: measure quality and speed."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sarstack.conventions import SCALES
from sarstack.errors import UsageError

CHECKOUT = Path(__file__).parents[2]
"""Folder of the package `sarstack`: the root of the repository, or where wheels are installed."""


@click.group()
def bench() -> None:
    """Measure quality, on simulated scenes and on your own stacks, and speed."""


def case_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose the cases: simulated suites, stacks, scenes."""
    options = [
        click.option("--suite", "suites", multiple=True, metavar="NAME",
                     help="grd, rtc, single-look-white, single-look, grd-map, the same five with "
                     "real- before the name (images of real land as truth), grd-stack, "
                     "grd-nearest, rtc-map or grd-border; may be repeated. "
                     "Default: all, or none where --stack or --scene is given."),
        click.option("--stack", "stacks", multiple=True, metavar="PATH",
                     help="A stack of 4 dates or more: each date is compared with the mean of "
                     "the others. May be repeated."),
        click.option("--scene", "scenes", multiple=True, metavar="PATH",
                     help="A real single scene: scored by its ratio image (input / result). May "
                     "be repeated."),
        click.option("--scale", type=click.Choice(SCALES),
                     help="Scale of the values of a stack or scene, if its files do not have it."),
        click.option("--size-px", type=click.IntRange(min=96), default=256, show_default=True,
                     help="Side of the simulated scenes."),
        click.option("--landscapes", "n_scenes", type=click.IntRange(min=0), default=6,
                     show_default=True,
                     help="Simulated landscapes in a suite, in addition to the canonical scenes."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@bench.command(epilog="\b\nExample:\n  sarstack bench quality -o quality/ --stack stack/")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path),
              default=Path("quality"), show_default=True,
              help="Folder for tables (CSV, PNG, text) and pictures.")  # fmt: skip
@click.option("--method", "methods", multiple=True, metavar="NAME",
              help="A method of `sarstack methods` or a .safetensors model; may be repeated. "
              "Default: all methods.")  # fmt: skip
@click.option("--results", multiple=True, metavar="FOLDER",
              type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Results of another program for the images of `sarstack bench cases`; the "
              "name of the folder is the name in the tables. May be repeated.")  # fmt: skip
@case_options
def quality(**options: Any) -> None:
    """Score methods on simulated scenes with exact truth, and on real data without truth.

    The simulation has fixed seeds: the scenes are the same on every machine. The truth of the
    suites real-... are real images that no shipped network was trained on.
    """
    from sarstack.evaluation.quality import bench_quality
    from sarstack.workflows.places import local_output

    local_output(options["output"])
    bench_quality(show=click.echo, **options)


@bench.command(epilog="\b\nExample:\n  sarstack bench cases -o cases/ --suite grd")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path),
              default=Path("cases"), show_default=True,
              help="Folder for one .npy file per image, and looks.json.")  # fmt: skip
@case_options
def cases(**options: Any) -> None:
    """Write the images of the quality benchmark as input for other programs.

    `sarstack bench quality --results FOLDER` with the same options scores their results: files
    in FOLDER with the names of the images, in linear power.
    """
    from sarstack.evaluation.quality import choose_suites
    from sarstack.evaluation.recorded_results import export_cases
    from sarstack.workflows.places import local_output

    local_output(options["output"])
    real = [*options["stacks"], *options["scenes"]]
    options["suites"] = choose_suites(options["suites"], real)
    n_images = export_cases(**options)
    click.echo(f"{n_images} images in {options['output']}")


@bench.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
    short_help="Measure the speed of this machine; only in a checkout of the repository.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def speed(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Pass all arguments to `benchmarks/speed.py`, which is not part of the wheel."""
    if not (CHECKOUT / "benchmarks" / "speed.py").is_file():
        raise UsageError(
            "the speed benchmark is not part of the installed package",
            expected="a checkout of the sarstack repository: its folder benchmarks/ has the code",
            where=f"there is no {CHECKOUT / 'benchmarks'}",
            do="run `make install` and `.venv/bin/python -m benchmarks.speed` in a checkout",
        )
    # First on the path: other packages install a folder `benchmarks` too.
    sys.path.insert(0, str(CHECKOUT))
    from benchmarks.speed import measure_speed

    with measure_speed.make_context("speed", list(arguments), parent=context.parent) as inner:
        measure_speed.invoke(inner)
