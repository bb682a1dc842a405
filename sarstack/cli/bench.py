"""The commands under ``sarstack bench``: measure what this installation is worth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


@click.group()
def bench() -> None:
    """Measure quality on scenes whose truth is known, and on your own stacks."""


def case_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what is looked at."""
    options = [
        click.option("--suite", "suites", multiple=True, metavar="NAME",
                     help="grd, rtc, single-look-white, single-look or grd-stack; may be repeated. "
                     "Default: all, or none where --stack or --scene is given."),
        click.option("--stack", "stacks", multiple=True, metavar="PATH",
                     help="A stack of 4 dates or more: each date is judged by the others. "
                     "May be repeated."),
        click.option("--scene", "scenes", multiple=True, metavar="PATH",
                     help="A real single scene: judged by what is taken out of it. May be "
                     "repeated."),
        click.option("--scale", type=click.Choice(["linear", "amplitude", "db"]),
                     help="What the numbers of a stack or scene are, where it does not tell."),
        click.option("--size-px", type=click.IntRange(min=96), default=256, show_default=True,
                     help="Side of the simulated scenes."),
        click.option("--landscapes", "n_scenes", type=click.IntRange(min=0), default=6,
                     show_default=True,
                     help="Simulated landscapes in a suite, beside the canonical scenes."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@bench.command(epilog="\b\nExample:\n  sarstack bench quality -o quality/ --stack stack/")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path),
              default=Path("quality"), show_default=True,
              help="Folder of tables (CSV, PNG, text) and pictures.")  # fmt: skip
@click.option("--method", "methods", multiple=True, metavar="NAME",
              help="A method of `sarstack methods` or a .safetensors model; may be repeated. "
              "Default: all methods.")  # fmt: skip
@click.option("--results", multiple=True, metavar="FOLDER",
              type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="What another program made of `sarstack bench cases`; the folder's name is "
              "shown. May be repeated.")  # fmt: skip
@case_options
def quality(**options: Any) -> None:
    """Score every method against exact truth, and on real stacks and scenes without it.

    Everything simulated follows from fixed seeds: the same scenes wherever it runs.
    """
    from sarstack.evaluation.quality import bench_quality

    bench_quality(tell=click.echo, **options)


@bench.command(epilog="\b\nExample:\n  sarstack bench cases -o cases/ --suite grd")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path),
              default=Path("cases"), show_default=True,
              help="Folder of one .npy per image, and looks.json.")  # fmt: skip
@case_options
def cases(**options: Any) -> None:
    """Write the images of the benchmark for a program that is not part of sarstack.

    Its results, linear power under the same file names in another folder, are scored by
    `sarstack bench quality --results FOLDER` with the same options.
    """
    from sarstack.evaluation.quality import choose_suites
    from sarstack.evaluation.recorded_results import export_cases

    real = [*options["stacks"], *options["scenes"]]
    options["suites"] = choose_suites(options["suites"], real)
    n_images = export_cases(**options)
    click.echo(f"{n_images} images in {options['output']}")


@bench.command(epilog="\b\nExample:\n  sarstack bench speed -o speed/ --quick")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path),
              default=Path("speed"), show_default=True,
              help="Folder of speed.txt, speed.json and speed.png.")  # fmt: skip
@click.option("--stage", "stages", multiple=True, metavar="NAME",
              help="peaks, methods, peers, labels, despeckle, finetune, workers, tiles, scenes or "
              "dates; may be repeated. Default: all.")  # fmt: skip
@click.option("--quick", is_flag=True, help="A look of about a minute: small scenes, once.")
@click.option("--scene-px", type=click.IntRange(min=64),
              help="Side of the largest scene; default 4096, quick 1024.")  # fmt: skip
@click.option("--dates", "n_dates", type=click.IntRange(min=2),
              help="Largest number of dates; default 24, quick 4.")  # fmt: skip
@click.option("--workers", "n_workers", type=click.IntRange(min=1),
              help="Largest number of workers; default all cores, quick 2.")  # fmt: skip
@click.option("--rounds", "n_rounds", type=click.IntRange(min=1),
              help="Times that everything is measured in turn; default 3, quick 1.")  # fmt: skip
@click.option("--method", default="despecknet", show_default=True, metavar="NAME",
              help="Of the sweeps over workers, tiles and scenes.")  # fmt: skip
def speed(**options: Any) -> None:
    """Measure this machine's peaks, and every stage as a share of its peak.

    All of a table is measured in turn and compared round by round; commands run in processes
    of their own on stacks made for it. Let nothing else run meanwhile.
    """
    from benchmarks.speed import bench_speed

    bench_speed(tell=click.echo, **options)
