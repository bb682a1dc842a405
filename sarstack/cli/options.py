"""Options that commands share, and the settings made of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sarstack.errors import UsageError


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which images of a stack take part."""
    options = [
        click.option("--config", type=click.Path(dir_okay=False, path_type=Path),
                     help="Settings in YAML (a run.yaml replays that run); options win over it."),
        click.option("--scale", type=click.Choice(["linear", "amplitude", "db"]),
                     help="What the stored numbers are; found out when not given."),
        click.option("--bands", metavar="POL,POL", callback=parse_bands,
                     help="Polarisations of the bands, where the files do not say."),
        click.option("--dates", metavar="FIRST/LAST", help="For example 2021-01-01/2021-12-31."),
        click.option("--bbox", metavar="XMIN,YMIN,XMAX,YMAX", callback=_parse_bbox,
                     help="Part of the stack, in its own coordinates."),
        click.option("--pol", "polarisations", multiple=True, metavar="POL",
                     help="vv, vh, hh or hv; may be repeated."),
        click.option("--looks", type=float, help="Equivalent number of looks; measured if absent."),
        click.option("--overwrite", is_flag=True, help="Make finished results again."),
    ]  # fmt: skip
    return _add_options(command, options)


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of jobs on the workers one chooses."""
    options = [
        click.option("--cluster", is_flag=False, flag_value="local", default=None,
                     metavar="[ADDRESS]",
                     help="Alone: a Dask cluster on this machine. With an address "
                     "(tcp://host:port) or a scheduler file: that cluster."),
        click.option("--workers", type=int, help="Worker processes or threads; default all cores."),
    ]  # fmt: skip
    return selection_options(_add_options(command, options))


def stack_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of jobs that go over a stack tile by tile."""
    tile = click.option("--tile-px", type=int, help="Edge of a tile, a multiple of 256.")
    return tile(worker_options(command))


def learning_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of jobs in which a network learns from patches of a stack."""
    options = [
        click.option("--batch-size", type=int, help="Patches per batch."),
        click.option("--patch-px", type=int, help="Edge of a patch."),
        click.option("--seed", type=int, help="Decides places, dates and flips of all patches."),
        click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]),
                     help="Of convolutions; auto: bfloat16 where this processor has it."),
    ]  # fmt: skip
    return worker_options(_add_options(command, options))


def _add_options(command: Callable[..., Any], options: list[Any]) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command


def _parse_bbox(_context: Any, _option: Any, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 4:
        raise click.BadParameter(f"{text!r} is not four numbers XMIN,YMIN,XMAX,YMAX")
    return values


def parse_bands(_context: Any, _option: Any, text: str | None) -> tuple[str, ...] | None:
    """Turn ``vv,vh`` into the names of polarisations."""
    return tuple(part.strip().lower() for part in text.split(",")) if text else None


def read_config(kind: Any, stack: str | None, config: Path | None, entries: dict[str, Any]) -> Any:
    """Join the settings file and the options; without both, find sarstack.yaml here."""
    from sarstack.workflows.settings import DEFAULT_FILE

    cluster = entries.get("cluster")
    if stack is None and cluster and "://" not in cluster and Path(cluster).is_dir():
        # `--cluster stack/`: the optional value of --cluster swallowed the argument.
        stack, entries["cluster"] = cluster, "local"
    entries["polarisations"] = entries["polarisations"] or None
    given = {k: v for k, v in entries.items() if v is not None and v is not False}
    if stack is not None:
        given["stack"] = stack
    if config is None and stack is None:
        if not Path(DEFAULT_FILE).exists():
            raise UsageError(
                "no STACK was given",
                expected=f"a folder of images, or a {DEFAULT_FILE} in the current folder",
                do=f"sarstack {kind.command()} FOLDER",
            )
        return _without_code(kind.read(Path(DEFAULT_FILE), **given), entries)
    return kind.read(config, **given) if config else kind.make(**given)


def _without_code(settings: Any, entries: dict[str, Any]) -> Any:
    """Refuse to run code that only the settings file of the current folder names.

    Nobody has named it: such a file may come with somebody else's data.
    """
    from sarstack.despecklers.external import is_method_file
    from sarstack.workflows.settings import DEFAULT_FILE

    method = getattr(settings, "method", "")
    if is_method_file(method) and not entries.get("method"):
        raise UsageError(
            f"{DEFAULT_FILE} of this folder names code: method = {method}",
            expected="code of a file runs only if you name the file",
            where=str(Path(DEFAULT_FILE).absolute()),
            do=f"read it, then run sarstack {settings.command()} --method {method}",
        )
    return settings


def parse_parameters(pairs: tuple[str, ...]) -> dict[str, Any] | None:
    """Turn pairs ``NAME=VALUE`` into parameters of a method, None for no pairs."""
    import yaml

    parameters = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise UsageError(f"--set {pair!r} has no value", do="write --set NAME=VALUE")
        parameters[name.strip().replace("-", "_")] = yaml.safe_load(value)
    return parameters or None
