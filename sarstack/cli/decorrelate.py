"""The command that decorrelates the speckle of complex images."""

from pathlib import Path
from typing import Any

import click

from sarstack.cli.options import compress_option, read_config, selection_options


@click.command("decorrelate")
@click.argument("stack", required=False)
@click.option("-o", "--output", help="Folder of the results; default decorrelated.")
@click.option("--resample", is_flag=True,
              help="Keep only the band that the spectrum fills: fewer pixels, each with its own "
              "speckle (not correlated with that of its neighbours).")  # fmt: skip
@click.option("--workers", type=int, help="Number of threads; default: one per core.")
@compress_option
@selection_options
def decorrelate_command(
    stack: str | None, config: Path | None, *, overwrite: bool, **entries: Any
) -> None:
    """Decorrelate the speckle of single look complex images into complex GeoTIFFs.

    STACK is a SAFE SLC product, a complex GeoTIFF or a folder of these. Each result is complex64,
    and its spectrum is flat inside its band. Without --resample it has the pixels of its input.

    \b
    Example:
      sarstack decorrelate S1A_IW_SLC.SAFE -o decorrelated/
    """
    from sarstack.workflows.decorrelate import decorrelate_files
    from sarstack.workflows.settings import DecorrelateConfig

    settings = read_config(DecorrelateConfig, stack, config, entries)
    for path in decorrelate_files(settings, overwrite=overwrite):
        click.echo(path)
