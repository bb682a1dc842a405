"""The command that scores despeckled images."""

import logging
from pathlib import Path

import click

from sarstack.cli.options import parse_output
from sarstack.conventions import SCALES

_SCALES = click.Choice(SCALES)


@click.command("evaluate")
@click.argument("noisy")
@click.argument("despeckled", nargs=-1, required=True)
@click.option("--reference", help="Images without speckle on the same grid, if there are some.")
@click.option("-o", "--output", callback=parse_output,
              help="Report to write: .html, or .csv for the numbers alone.")  # fmt: skip
@click.option("--looks", type=float, help="Equivalent number of looks; measured by default.")
@click.option("--scale", type=_SCALES,
              help="Scale of the stored numbers of NOISY; detected by default.")  # fmt: skip
@click.option("--result-scale", type=_SCALES,
              help="Scale of each DESPECKLED that has no tag with its scale; detected by default. "
              "Amplitude cannot be detected.")  # fmt: skip
@click.option("--reference-scale", type=_SCALES,
              help="Scale of the reference; detected by default.")  # fmt: skip
@click.option("--images", "n_images", type=click.IntRange(0, 100), default=3, show_default=True,
              help="Number of input images of which the report shows pictures.")  # fmt: skip
def evaluate_command(
    noisy: str,
    despeckled: tuple[str, ...],
    reference: str | None,
    output: Path | None,
    looks: float | None,
    scale: str | None,
    result_scale: str | None,
    reference_scale: str | None,
    n_images: int,
) -> None:
    """Score despeckled images, of sarstack or of other programs, with or without a reference.

    NOISY is the input: a stack or an image. Each DESPECKLED is a folder of results or an image, on
    the grid of its input. With -o report.html, pictures are shown beside the scores.

    \b
    Example:
      sarstack evaluate stack/ lee/ despecknet/ -o report.html
    """
    from sarstack.checks import check_looks
    from sarstack.evaluation.evaluation_report import write_evaluation
    from sarstack.evaluation.scored_results import evaluate, render_text, write_csv

    check_looks(looks=looks)
    evaluated = evaluate(
        noisy, despeckled, reference, looks=looks,
        scale=scale, result_scale=result_scale, reference_scale=reference_scale,
    )  # fmt: skip
    click.echo(render_text(evaluated))
    if output is not None and output.suffix == ".csv":
        write_csv(evaluated, output)
    elif output is not None:
        write_evaluation(evaluated, output, n_images=n_images)
    if output is not None:
        logging.getLogger("sarstack").info("written: %s", output)
