"""The commands that describe methods, and that check them."""

import click

from sarstack.cli.options import parse_parameters


@click.command()
@click.argument("method", required=False)
@click.option("--speed", is_flag=True, help="Measure the speed of each method on this machine.")
def methods(method: str | None, *, speed: bool) -> None:
    """List the methods with paper, domain, halo and licence of weights, or describe one.

    METHOD is a name, or a class in a file: my_file.py:MyFilter. Methods of installed packages
    are listed with the package.

    \b
    Example:
      sarstack methods
      sarstack methods lee-sigma
    """
    from sarstack.despecklers import find_class
    from sarstack.despecklers.catalogue import describe_class, list_methods

    if method is not None:
        click.echo(describe_class(find_class(method)))
        return
    for entry in list_methods(measure=speed):
        click.echo(entry.render())


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
