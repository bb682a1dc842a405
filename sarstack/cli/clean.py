"""The command that removes what dead runs left."""

import logging
from pathlib import Path

import click


@click.command("clean")
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Print what would be removed, and remove nothing.")
def clean_command(results: Path, *, dry_run: bool) -> None:
    """Remove unfinished work of runs that were killed and will not be continued.

    RESULTS is an output folder, a labels store or a model file. Finished files stay. While a run
    writes there, nothing is removed (exit code 2). Each line has a size and a path. Without this
    command, the same run continues where it was killed.

    \b
    Example:
      sarstack clean despeckled/ --dry-run
      sarstack clean despeckled/
    """
    from sarstack.workflows.clean import clean

    leftovers = clean(results, dry_run=dry_run)
    for leftover in leftovers:
        click.echo(f"{leftover.n_bytes / 1e6:.1f} MB\t{leftover.path}")
    total = sum(leftover.n_bytes for leftover in leftovers)
    verb = "would be removed" if dry_run else "removed"
    logging.getLogger("sarstack").info(
        "%d leftovers, %.1f MB %s", len(leftovers), total / 1e6, verb
    )
