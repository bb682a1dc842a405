"""The commands: parse, call one workflow, print, exit with a documented code.

Results (paths, tables) go to stdout; log, progress and errors go to stderr.
"""

import gc
import logging
import multiprocessing
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from sarstack import __version__
from sarstack.cli.bench import bench
from sarstack.cli.check import check
from sarstack.cli.clean import clean_command
from sarstack.cli.decorrelate import decorrelate_command
from sarstack.cli.despeckle import despeckle_command
from sarstack.cli.evaluate import evaluate_command
from sarstack.cli.methods import check_method, methods
from sarstack.cli.options import (
    calibration_option,
    gain_option,
    learning_options,
    mask_option,
    parse_bands,
    read_config,
    scale_option,
    slices_option,
    stack_options,
)
from sarstack.errors import EXIT_CODES, SarstackError, SarstackWarning, hide_secrets


class _StderrHandler(logging.StreamHandler[Any]):
    """Log to the current ``sys.stderr``: a notebook or a test may replace and close it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:  # type: ignore[override]
        return sys.stderr


_CODES = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"\b\nExit codes:\n{_CODES}",
)
@click.version_option(__version__, prog_name="sarstack")
@click.option("-v", "--verbose", is_flag=True, help="Print details: --log-level debug.")
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Print warnings and errors only; `despeckle` prints one line as its result.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Least important messages to print on stderr; default info. The log file in "
    "the output folder has all.",
)
@click.option("--debug", is_flag=True, help="Print the traceback of an error.")
def cli(*, verbose: bool, quiet: bool, log_level: str | None, debug: bool) -> None:  # noqa: ARG001
    """Despeckle whole Sentinel-1 archives.

    \b
    Example:
      sarstack info stack/
      sarstack build-labels stack/ -o labels.zarr
      sarstack despeckle stack/ -o despeckled/ --cluster
    """
    if click.get_current_context().invoked_subcommand != "despeckle":
        gc.enable()
    level = (log_level or ("debug" if verbose else "warning" if quiet else "info")).upper()
    from sarstack.workflows.progress import PublicFormatter

    handler = _StderrHandler()
    handler.setFormatter(PublicFormatter("%(message)s"))
    handler.setLevel(level)
    logger = logging.getLogger("sarstack")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG)
    # Without a handler, Python prints the messages of GDAL. What matters of them is in our errors.
    logging.getLogger("rasterio").addHandler(logging.NullHandler())
    warnings.showwarning = _show_warning  # type: ignore[assignment]


for command in (
    bench,
    check,
    check_method,
    clean_command,
    decorrelate_command,
    despeckle_command,
    evaluate_command,
    methods,
):
    cli.add_command(command)


def _show_warning(message: Any, kind: type[Warning], *_where: Any) -> None:
    """Print warnings of sarstack; those of libraries only with --verbose."""
    ours = issubclass(kind, SarstackWarning)
    logging.getLogger("sarstack").log(
        logging.WARNING if ours else logging.DEBUG, "warning: %s", message
    )


@cli.command()
@click.argument("stack")
@scale_option
@click.option("--bands", metavar="POL,POL", callback=parse_bands)
@calibration_option
@slices_option
@mask_option
@gain_option
def info(
    stack: str,
    *,
    scale: str | None,
    bands: tuple[str, ...] | None,
    calibration: str | None,
    separate_slices: bool,
    mask: tuple[str, ...] | None,
    gain_db: float | None,
) -> None:
    """Show dates, orbits, grid, scale, nodata and looks of a stack.

    \b
    Example:
      sarstack info stack/
    """
    from sarstack.readers import index_stack
    from sarstack.workflows.info import describe_stack

    found = index_stack(
        stack,
        scale=scale,
        bands=bands,
        skip_unreadable=True,
        calibration=calibration,
        separate_slices=separate_slices,
        mask=mask,
        gain_db=gain_db,
    )
    click.echo(describe_stack(found).render())


@cli.command("build-labels")
@click.argument("stack", required=False)
@click.option("-o", "--output", help="Zarr store to write, also at s3://; default labels.zarr.")
@click.option(
    "--rule",
    type=click.Choice(["cv", "paper"]),
    help="Stable pixels: by coefficient of variation (cv) or standard deviation (paper).",
)
@click.option(
    "--threshold",
    type=float,
    help="Largest standard deviation of a stable pixel, for --rule paper.",
)
@click.option(
    "--quantile", type=float, help="Share of pixels with speckle only that --rule cv calls stable."
)
@click.option(
    "--multilook-px", type=int, help="Odd width of a spatial mean that is taken of each date first."
)
@stack_options
def build_labels_command(
    stack: str | None, config: Path | None, *, overwrite: bool, **entries: Any
) -> None:
    """Compute temporal mean, standard deviation, count and stable mask into a Zarr store.

    \b
    Example:
      sarstack build-labels stack/ -o labels.zarr
    """
    from sarstack.workflows.build_labels import build_labels
    from sarstack.workflows.settings import LabelsConfig

    settings = read_config(LabelsConfig, stack, config, entries)
    click.echo(build_labels(settings, overwrite=overwrite))


@cli.command("train")
@click.argument("stack", required=False)
@click.option("--labels", help="Zarr store that build-labels made from the same stack.")
@click.option("-o", "--output", help="Model to write; default model.safetensors.")
@click.option(
    "--variant",
    type=click.Choice(["despecknet", "despecknet-lite", "despecknet-paper", "speckle2void"]),
    help="Network to train; default despecknet.",
)
@click.option(
    "--start", help="Weights to start from: shipped (default), scratch (random), or a model file."
)
@click.option("--steps", type=int, help="Largest number of batches.")
@click.option(
    "--learning-rate", type=float, help="Learning rate of Adam; use 1e-3 with --start scratch."
)
@learning_options
def train_command(
    stack: str | None, config: Path | None, *, overwrite: bool, **entries: Any
) -> None:
    """Train a network on a stack; the target of a date is the label without that date.

    The variant speckle2void needs no labels: it learns from the noisy images alone.

    After an interruption, the same command continues from the last checkpoint. With --cluster
    every worker computes a part of each batch; the steps are those of one process.

    \b
    Example:
      sarstack train stack/ --labels labels.zarr -o model.safetensors
      sarstack train stack/ --variant speckle2void -o model.safetensors
    """
    from sarstack.workflows.learning.train import train_on_stack
    from sarstack.workflows.settings import TrainConfig

    _print_model(
        train_on_stack(read_config(TrainConfig, stack, config, entries), overwrite=overwrite)
    )


@cli.command("finetune")
@click.argument("stack", required=False)
@click.option("--model", help="Model to start from: shipped (default), or a .safetensors file.")
@click.option("-o", "--output", help="Model to write; default finetuned.safetensors.")
@click.option("--mode", type=click.Choice(["auto", "noise2noise", "paper", "parts"]),
              help="Target: other dates (noise2noise), the image itself (paper), or the other part "
              "of complex numbers (parts: starts from merlin); auto: noise2noise with 4 dates or "
              "more.")  # fmt: skip
@click.option("--steps", type=int, help="Largest number of batches.")
@click.option("--learning-rate", type=float, help="Learning rate of Adam.")
@learning_options
def finetune_command(
    stack: str | None, config: Path | None, *, overwrite: bool, **entries: Any
) -> None:
    """Finetune a network on the noisy images, without labels.

    With 4 dates or more, the target of a date is the mean of the other dates; else this is
    phase 2 of the deSpeckNet paper. With --mode parts, the network of merlin learns from single
    look complex images: one part is the target of the other. Validation uses held-out places. If
    nothing became better, the weights are those of the start. After an interruption, the same
    command continues from the last checkpoint. With --cluster every worker computes a part of
    each batch.

    \b
    Example:
      sarstack finetune stack/ -o tuned.safetensors
    """
    from sarstack.workflows.learning.finetune import finetune_on_stack
    from sarstack.workflows.settings import FinetuneConfig

    _print_model(
        finetune_on_stack(read_config(FinetuneConfig, stack, config, entries), overwrite=overwrite)
    )


def _print_model(adapted: Any) -> None:
    logging.getLogger("sarstack").info("%s", adapted.message)
    click.echo(adapted.model)


@cli.command()
def versions() -> None:
    """Print the versions for a bug report."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import rasterio

    click.echo(f"sarstack {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in ("numpy", "scipy", "xarray", "dask", "distributed", "zarr", "rasterio",
                 "rioxarray", "rio-cogeo", "torch", "safetensors"):  # fmt: skip
        try:
            click.echo(f"{name} {version(name)}")
        except PackageNotFoundError:
            click.echo(f"{name} missing")
    click.echo(f"GDAL {rasterio.__gdal_version__}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    # Libraries make a million objects that stay. To look for garbage among them again and again
    # takes a tenth of the start of `despeckle`, which therefore looks at them never.
    gc.disable()
    if sys.platform == "linux":  # elsewhere a library may not survive a fork
        multiprocessing.set_start_method("forkserver", force=True)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code.

    An error that a user can correct is printed without a traceback.
    """
    debug = "--debug" in arguments
    _handle_signals()
    try:
        cli(args=arguments, prog_name="sarstack", standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as wrong:
        wrong = _explain_place(wrong)
        setattr(wrong, "message", hide_secrets(wrong.message))  # noqa: B010 (final for mypy)
        wrong.show()
        return wrong.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; run the same command again to continue", err=True)
        return 130
    except SarstackError as failure:
        if debug:
            _print_traceback()
        click.echo(f"error: {failure}", err=True)
        return failure.exit_code
    except Exception as bug:
        if debug:
            _print_traceback()
        text = hide_secrets(str(bug))
        click.echo(f"unexpected {type(bug).__name__}: {text}\n  do this: repeat with "
                   "`sarstack --debug ...` and report what it prints", err=True)  # fmt: skip
        return 1
    return 0


def _explain_place(wrong: click.ClickException) -> click.ClickException:
    """Return an error that says so if an option belongs on the other side of the command."""
    if not isinstance(wrong, click.NoSuchOption) or wrong.ctx is None:
        return wrong
    commands, place = [*cli.commands.values()], "after"
    if wrong.ctx.parent is not None:
        commands, place = [wrong.ctx.find_root().command], "before"
    if any(wrong.option_name in option.opts for c in commands for option in c.params):
        text = f"{wrong.option_name} must stand {place} the name of the command."
        return click.UsageError(text, wrong.ctx)
    return wrong


def _print_traceback() -> None:
    import traceback

    click.echo(hide_secrets(traceback.format_exc()), err=True)


def _handle_signals() -> None:
    """Handle Ctrl-C and SIGTERM: first finish the running tiles, at the second stop at once."""
    received: list[bool] = []

    def stop(_signal: int, _frame: Any) -> None:
        if received:
            os._exit(130)
        received.append(True)
        click.echo("stopping after the running tiles (press Ctrl-C again to stop now)", err=True)
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread, e.g. inside a notebook's server
        return
