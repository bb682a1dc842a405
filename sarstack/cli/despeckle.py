"""``sarstack despeckle``: plan a run, and carry it out."""

import gc
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sarstack.cli.options import (
    compress_option,
    keep_bits_option,
    parse_parameters,
    read_config,
    stack_options,
)
from sarstack.cluster.layout import LOCAL

if TYPE_CHECKING:
    from sarstack.workflows.despeckle.state import Outcome


@click.command("despeckle")
@click.argument("stack", required=False)
@click.option(
    "-o", "--output", help="Folder of the results, or s3:// URL; default STACK-despeckled."
)
@click.option("--method", help="A method of `sarstack methods`, a .safetensors model, or a class "
              "in a file: my_file.py:MyFilter. Default: despecknet-mt for five dates or more, else "
              "despecknet.")  # fmt: skip
@click.option("--set", "parameters", multiple=True, metavar="NAME=VALUE",
              help="Parameter of the method, for instance --set window_px=9.")  # fmt: skip
@click.option("--finetune", is_flag=True, help="Finetune the network on the stack first.")
@click.option("--remove-noise", is_flag=True,
              help="Subtract the thermal noise of a SAFE or EOPF product.")  # fmt: skip
@click.option("--decorrelate", is_flag=True,
              help="Decorrelate the speckle of single look complex images first.")  # fmt: skip
@click.option(
    "--ensemble",
    type=int,
    help="4 or 8: mean over so many mirror images; better, and as many times slower.",
)
@click.option("--output-noise", is_flag=True,
              help="Write the estimated speckle too, as NAME_noise.tif (deSpeckNet).")  # fmt: skip
@click.option("--output-uncertainty", is_flag=True,
              help="Write the standard deviation of the result in dB too, as "
              "NAME_uncertainty_db.tif.")  # fmt: skip
@click.option("--output-support", is_flag=True,
              help="Write a second image, NAME_support.tif: at each pixel the number of other "
              "dates with about the same backscatter as this date "
              "(--method despecknet-mt --set passes=2).")  # fmt: skip
@keep_bits_option
@compress_option
@click.option("--keep-dates", is_flag=True,
              help="Keep finished images of a multi-temporal method when dates are added, and "
              "make the new dates only, from all dates that there are now.")  # fmt: skip
@click.option("--no-report", is_flag=True, help="Write no report.html.")
@click.option("--stac", is_flag=True, help="Write STAC items and a collection into OUTPUT/stac.")
@click.option("--dry-run", is_flag=True, help="Print the plan and write nothing.")
@click.option("--json", "as_json", is_flag=True,
              help="Print the record of the run (run.json), or the plan, as JSON for other "
              "programs; log and progress are on stderr.")  # fmt: skip
@click.option("--verify", is_flag=True,
              help="Read finished results in full and make damaged ones again; else only their "
              "size and header are checked.")  # fmt: skip
@stack_options
def despeckle_command(
    stack: str | None,
    config: Path | None,
    *,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
    verify: bool,
    **entries: Any,
) -> None:
    """Despeckle every date of a stack into Cloud-Optimized GeoTIFFs.

    Without STACK, the settings of sarstack.yaml in the current folder are used. After an
    interruption, run the same command again to continue.

    Prints the path of each result: `sarstack --quiet despeckle` one line, --json the record of
    the run.

    \b
    Example:
      sarstack despeckle stack/ -o despeckled/ --cluster
    """
    from sarstack.workflows.despeckle.preparation import prepare_workers

    if entries["cluster"] == LOCAL and not dry_run:
        prepare_workers(entries["method"] or "auto")  # before anything large is imported here
    from sarstack.workflows.despeckle.plan import plan_despeckle
    from sarstack.workflows.despeckle.run import carry_out, finetune_first
    from sarstack.workflows.progress import render_json
    from sarstack.workflows.settings import DespeckleConfig

    entries["parameters"] = parse_parameters(entries["parameters"])
    settings = read_config(DespeckleConfig, stack, config, entries)
    if settings.finetune and not dry_run:
        gc.enable()
        settings = finetune_first(settings, overwrite=overwrite)
    if settings.cluster == LOCAL and not dry_run:  # it can also come from a file
        prepare_workers(settings.method)
    plan = plan_despeckle(settings, overwrite=overwrite, verify=verify)
    if not gc.isenabled():  # see `main`: all libraries are imported now
        gc.freeze()
        gc.enable()
    if dry_run:
        click.echo(render_json(plan.facts()) if as_json else plan.render())
        plan.check_memory()
        return
    outcome = carry_out(plan, overwrite=overwrite)
    new = sum(len(image.outputs) for image in plan.images)
    _print_outcome(outcome, new=new, as_json=as_json)
    outcome.raise_failures()


def _print_outcome(outcome: "Outcome", *, new: int, as_json: bool) -> None:
    """Print the record, one line (with --quiet), or the paths of all images and a line of log."""
    from sarstack.workflows.progress import count_images, render_json

    images = count_images(len(outcome.outputs))
    line = f"{images} in {outcome.url or outcome.folder}, {new} of this run"
    if outcome.failures:
        line += f", {len(outcome.failures)} failed"
    if as_json:
        click.echo(render_json(outcome.record))
    elif click.get_current_context().find_root().params["quiet"]:
        click.echo(line)
    else:
        for path in outcome.places:
            click.echo(path)
    memory = f"; peak memory per worker {outcome.peak_bytes / 1e6:.0f} MB"
    logging.getLogger("sarstack").info("%s%s", line, memory if outcome.peak_bytes else "")
