"""The commands that check results, and that check methods."""

import logging
from pathlib import Path

import click

from sarstack.cli.options import parse_parameters


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


@click.command("check-method")
@click.argument("method")
@click.option("--set", "parameters", multiple=True, metavar="NAME=VALUE",
              help="Parameter of the method, for instance --set window_px=9.")  # fmt: skip
def check_method(method: str, parameters: tuple[str, ...]) -> None:
    """Check that a method keeps the laws: tiling, scale, mean, nodata and others.

    METHOD is a name, a model, or a class in a file: my_file.py:MyFilter. Exit code 5 if a law
    is broken.

    \b
    Example:
      sarstack check-method my_file.py:MyFilter
    """
    from sarstack.despecklers import make_despeckler
    from sarstack.errors import MethodError
    from sarstack.evaluation.laws import LAWS, find_violation

    despeckler = make_despeckler(method, **parse_parameters(parameters) or {})
    broken = []
    for law in LAWS:
        problem = find_violation(despeckler, law)
        click.echo(f"{'BROKEN' if problem else 'kept':<7} {law.title}")
        if problem:
            broken.append(law.title)
            click.echo(f"        {problem}")
    if broken:
        raise MethodError(
            f"{despeckler.name} breaks {len(broken)} of {len(LAWS)} laws",
            expected="all laws kept: results of a method that breaks one can have seams, a bias "
            "or lost pixels",
            where=broken,
            do="correct the method and check it again",
        )
