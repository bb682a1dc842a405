"""Measure how long `sarstack despeckle` takes until its first pixels are on disk.

Run it from the root of a checkout: ``python -m benchmarks.startup``. Each command is a process of
its own. It is compared with another checkout in turn, because the speed of a machine varies.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click
import psutil

from benchmarks.simulated_stacks import write_stack
from benchmarks.timing import REPOSITORY

SIDE_PX, N_DATES = 256, 4
POLL_S = 0.002
# The first file that has pixels of a result: the piece of a tile.
PIECES = ".*/*/*/[0-9]*_*.tif"


class Start(NamedTuple):
    """What one command took.

    Attributes
    ----------
    first_s : float
        Seconds from the start of the process to its first piece.
    first_cpu_s : float
        Processor seconds of all its processes until then; those of ended ones are left out.
    total_s : float
        Seconds to its end.
    imports : dict of float
        Seconds of import before the first piece, by package, summed over all processes; empty if
        they were not measured.
    """

    first_s: float
    first_cpu_s: float
    total_s: float
    imports: dict[str, float]


def run_start(checkout: Path, stack: Path, *options: str, imports: bool = False) -> Start:
    """Run ``sarstack despeckle`` of a checkout on a stack, and watch its output folder."""
    flags = ["-X", "importtime"] if imports else []
    with (
        tempfile.TemporaryDirectory(prefix="start-", dir=stack.parent) as folder,
        tempfile.TemporaryFile() as messages,
    ):
        output = Path(folder, "result")
        command = [sys.executable, *flags, "-m", "sarstack", "-q", "despeckle", str(stack),
                   "-o", str(output), *options]  # fmt: skip
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=messages, env=environment, cwd=folder
        )
        while process.poll() is None and not any(output.glob(PIECES)):
            time.sleep(POLL_S)
        first_s, first_cpu_s = time.perf_counter() - started, _cpu_seconds(process.pid)
        n_bytes = messages.seek(0, os.SEEK_END)
        code, total_s = process.wait(), time.perf_counter() - started
        messages.seek(0)
        log = messages.read()
        if code:
            raise click.ClickException(f"{' '.join(command)}: {log.decode()}")
        return Start(first_s, first_cpu_s, total_s, _sum_imports(log[:n_bytes].decode()))


def _cpu_seconds(pid: int) -> float:
    """Return the processor seconds of a process and of those that it started."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
    return total


def _sum_imports(log: str) -> dict[str, float]:
    """Sum the import times that Python printed, by package."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for line in log.splitlines():
        own_us, _, name = line.removeprefix("import time:").rpartition("|")
        with suppress(ValueError):
            # Negative if another thread imported meanwhile.
            seconds[name.strip().partition(".")[0]] += max(int(own_us.partition("|")[0]), 0) / 1e6
    return seconds


def describe(name: str, starts: list[Start]) -> str:
    """Return the medians of several starts, and the fastest first piece, in one line."""
    first, cpu = median(s.first_s for s in starts), median(s.first_cpu_s for s in starts)
    fastest, total = min(s.first_s for s in starts), median(s.total_s for s in starts)
    return f"{name:<34}{first:6.2f} ({fastest:5.2f}) {cpu:10.2f} {total:9.2f}"


def describe_imports(start: Start) -> str:
    """Return the import time of the packages that take most of it."""
    ranked = sorted(start.imports.items(), key=lambda entry: -entry[1])
    most = ", ".join(f"{name} {seconds:.2f}" for name, seconds in ranked[:8])
    return f"    imports {sum(start.imports.values()):.2f} s of {start.first_s:.2f}: {most}"


@click.command()
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--against", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Root of another checkout, measured in turn with this one.")  # fmt: skip
@click.option("--method", "methods", multiple=True, default=("lee", "despecknet-lite"))
@click.option("--imports", is_flag=True, help="Also one run with the time of each import.")
def measure_starts(
    repeats: int, against: Path | None, methods: tuple[str, ...], *, imports: bool
) -> None:
    """Measure the start of `sarstack despeckle`, with threads and on a local cluster."""
    checkouts = {"this": REPOSITORY} | ({"other": against.absolute()} if against else {})
    click.echo(
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; medians of {repeats}"
    )
    click.echo(f"{'':<34}first piece (fastest), its CPU s, total s")
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        stack = write_stack(Path(folder), SIDE_PX, N_DATES)
        for method in methods:
            for mode in ([], ["--cluster"]):
                options = ["--method", method, *mode]
                starts: dict[str, list[Start]] = {name: [] for name in checkouts}
                for _ in range(repeats + 1):
                    for name, checkout in checkouts.items():
                        starts[name].append(run_start(checkout, stack, *options))
                for name, measured in starts.items():
                    # Without the first, which reads libraries from the disk.
                    click.echo(describe(f"{method} {' '.join(mode)} {name}", measured[1:]))
                    if imports:
                        once = run_start(checkouts[name], stack, *options, imports=True)
                        click.echo(describe_imports(once))
    click.echo(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    measure_starts()
