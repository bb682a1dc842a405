"""Options that several commands share, and the settings that they make."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sarstack.conventions import CALIBRATIONS, SCALES
from sarstack.errors import UsageError

scale_option = click.option(
    "--scale", type=click.Choice(SCALES), help="Scale of the stored numbers; detected by default."
)

calibration_option = click.option(
    "--calibration", type=click.Choice(CALIBRATIONS),
    help="Of a SAFE or EOPF product; default sigma0. dn: squared digital numbers, not calibrated.",
)  # fmt: skip

slices_option = click.option(
    "--separate-slices", is_flag=True,
    help="Keep SAFE products apart whose lines follow each other; else they become one image.",
)  # fmt: skip

mask_option = click.option(
    "--mask", metavar="shadow,layover", callback=lambda *arguments: parse_mask(*arguments),
    help="Parts of the mask file of an OPERA or HyP3 product that are nodata; default none.",
)  # fmt: skip

keep_bits_option = click.option(
    "--keep-bits", type=int,
    help="Bits of the mantissa that results are rounded to; default 12: an error of at most "
    "0.0005 dB. 23 keeps all; the files are twice as large.",
)  # fmt: skip

compress_option = click.option(
    "--compress", type=click.Choice(["zstd", "deflate"]),
    help="Compression of the results; default zstd. deflate: for old programs.",
)  # fmt: skip

gain_option = click.option(
    "--gain-db", type=float,
    help="Decibels added to the backscatter, for example -83 for PALSAR-2; default: the "
    "calibration factor of the product, if it tells one.",
)  # fmt: skip


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select images of a stack."""
    options = [
        click.option("--config", type=click.Path(dir_okay=False, path_type=Path),
                     help="Settings in YAML; options override them. A run.yaml repeats its run."),
        scale_option,
        click.option("--bands", metavar="POL,POL", callback=parse_bands,
                     help="Polarisations of bands that files do not name; - leaves one out. "
                     "Of NISAR: frequencyA (default) or frequencyB."),
        calibration_option,
        slices_option,
        gain_option,
        click.option("--dates", metavar="FIRST/LAST",
                     help="First and last date, for example 2021-01-01/2021-12-31."),
        click.option("--bbox", metavar="XMIN,YMIN,XMAX,YMAX", callback=_parse_bbox,
                     help="Part of the stack, in the coordinates of its CRS."),
        click.option("--pol", "polarisations", multiple=True, metavar="POL",
                     help="vv, vh, hh or hv; can be repeated. Default: all."),
        click.option("--overwrite", is_flag=True, help="Replace finished results."),
    ]  # fmt: skip
    return _add_options(command, options)


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of workflows over intensity: those of the selection, mask, looks, workers."""
    options = [
        mask_option,
        click.option("--looks", type=float,
                     help="Equivalent number of looks; measured by default."),
        click.option("--cluster", is_flag=False, flag_value="local", default=None,
                     metavar="[ADDRESS]",
                     help="Without a value: a Dask cluster on this machine. With an address "
                     "(tcp://host:port) or a scheduler file: that cluster."),
        click.option("--workers", type=int,
                     help="Number of worker processes or threads; default: one per core."),
    ]  # fmt: skip
    return selection_options(_add_options(command, options))


def stack_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of workflows that compute tiles of a stack."""
    tile = click.option(
        "--tile-px",
        type=int,
        help="Width of a tile, a multiple of 256; it changes speed and memory, never pixels.",
    )
    work = click.option(
        "--work-folder",
        help="Local folder of unfinished work if OUTPUT is a URL; default: in the current folder.",
    )
    return tile(work(worker_options(command)))


def learning_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of workflows that train a network on patches of a stack."""
    options = [
        click.option("--batch-size", type=int, help="Number of patches in a batch."),
        click.option("--patch-px", type=int, help="Width of a patch."),
        click.option("--seed", type=int,
                     help="Random seed of places, dates and flips of the patches."),
        click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]),
                     help="Of convolutions; auto: bfloat16 if this processor supports it."),
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


def parse_mask(_context: Any, _option: Any, text: str | None) -> tuple[str, ...] | None:
    """Parse ``shadow,layover`` into words."""
    return tuple(part.strip().lower() for part in text.split(",")) if text else None


def parse_bands(_context: Any, _option: Any, text: str | None) -> tuple[str, ...] | None:
    """Parse ``vv,vh`` into names of polarisations."""
    return tuple(part.strip().lower() for part in text.split(",")) if text else None


def read_config(kind: Any, stack: str | None, config: Path | None, entries: dict[str, Any]) -> Any:
    """Combine a settings file with the options; without STACK and file, use sarstack.yaml."""
    from sarstack.workflows.settings import DEFAULT_FILE

    cluster = entries.get("cluster")
    if stack is None and cluster and "://" not in cluster and Path(cluster).is_dir():
        # In `--cluster stack/` click takes the stack for the optional value of --cluster.
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
        return _refuse_code(kind.read(Path(DEFAULT_FILE), **given), entries)
    return kind.read(config, **given) if config else kind.make(**given)


def _refuse_code(settings: Any, entries: dict[str, Any]) -> Any:
    """Refuse a method from a Python file that only sarstack.yaml names.

    The user did not name it: sarstack.yaml may come with the data of somebody else.
    """
    from sarstack.despecklers.external import is_method_file
    from sarstack.workflows.settings import DEFAULT_FILE

    method = getattr(settings, "method", "")
    if is_method_file(method) and not entries.get("method"):
        raise UsageError(
            f"{DEFAULT_FILE} of this folder names code: method = {method}",
            expected="a Python file that you name yourself: its code will run",
            where=str(Path(DEFAULT_FILE).absolute()),
            do=f"read it, then run sarstack {settings.command()} --method {method}",
        )
    return settings


def parse_output(_context: Any, _option: Any, text: str | None) -> Path | None:
    """Check the name of a report: its folder exists, and it is no folder or URL."""
    if text is None:
        return None
    path = Path(text)
    problem = (
        "is a URL" if "://" in text
        else "is a folder" if path.is_dir()
        else "does not end with .html or .csv" if path.suffix not in (".html", ".csv")
        else f"is in the folder {path.parent}, which does not exist"
        if not path.parent.is_dir() else ""
    )  # fmt: skip
    if problem:
        raise UsageError(f"the output {text} {problem}", expected="a file name such as report.html",
                         where="--output", do="give another name")  # fmt: skip
    return path


def parse_parameters(pairs: tuple[str, ...]) -> dict[str, Any] | None:
    """Parse ``NAME=VALUE`` into parameters of a method; None without any."""
    from sarstack.workflows.settings_file import parse_yaml

    parameters = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise UsageError(f"--set {pair!r} has no value", expected="a name and a value",
                             do="write --set NAME=VALUE")  # fmt: skip
        parameters[name.strip().replace("-", "_")] = parse_yaml(value, f"--set {pair}")
    return parameters or None
