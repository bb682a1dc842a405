"""The command that checks results."""

import logging
from pathlib import Path

import click


@click.command("check")
@click.argument("results", type=click.Path(path_type=Path))
def check(results: Path) -> None:
    """Read finished results in full, and compare them with the checksums that were kept.

    RESULTS is an output folder, a labels store or a model file. Each line has a status, a path
    and a reason, with tabs between them. Status: ok, unrecorded (readable, without checksum),
    foreign (not a result), damaged, missing. Exit code 6 if results are damaged or missing.

    \b
    Example:
      sarstack check despeckled/
      sarstack check despeckled/ | grep -v ^ok
    """
    from sarstack.workflows.check import check_results

    report = check_results(results)
    for finding in report.findings:
        click.echo(finding.render())
    report.raise_damage()
    logging.getLogger("sarstack").info("%d results are as they were written", report.n_ok)
