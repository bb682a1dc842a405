"""Costs measured side by side: what a stage is, how rounds go, what follows from them.

Machines are noisy and speed is only worth something beside something: all stages of a table
run in turn, round after round, and a share is the median over rounds of two rates of the
same round.
"""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sarstack.cluster.process import worker_settings
from sarstack.errors import SarstackError

PX, FLOP, BYTES, TASKS = "px", "FLOP", "B", "tasks"
"""Units of work: pixels, operations (a multiply-accumulate is two), bytes before compression,
calls on a worker."""

LOGGER = logging.getLogger("sarstack")
LAUNCHER = Path(__file__).with_name("launch.py")


class Cost(NamedTuple):
    """What one execution of a stage cost.

    Attributes
    ----------
    seconds : float
        On the clock.
    cpu_seconds : float
        Of all threads and processes together.
    peak_bytes : int
        Largest memory of one process; 0 where it was not measured.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int = 0


class Beside(NamedTuple):
    """What a stage is compared with: the rate of another stage in a unit that both have."""

    stage: str
    unit: str


@dataclass(frozen=True)
class Stage:
    """One thing whose cost is measured.

    Attributes
    ----------
    name : str
    run : callable
        Does it once.
    work : dict of float
        How much it does, by unit; for shares only what is needed counts, not what is done
        twice.
    beside : sequence of Beside
        Stages of the same table.
    less : str
        Stage of the same table whose seconds are taken off before rates: what does not
        grow with the work, such as the start of a command.
    planned_bytes : int
        Memory that its plan foresees, if it has one.
    """

    name: str
    run: Callable[[], Cost]
    work: Mapping[str, float]
    beside: Sequence[Beside] = ()
    less: str = ""
    planned_bytes: int = 0


@dataclass(frozen=True)
class Row:
    """What was found out about a stage.

    Attributes
    ----------
    name : str
    seconds, cpu_seconds : float
        Medians over rounds; NaN for a figure that is not from this run.
    range : float
        Slowest minus fastest round, as a share of the median; NaN with one round.
    rounds : int
    peak_bytes : int
        Largest of all rounds; 0 where it was not measured.
    planned_bytes : int
        What the plan foresaw; 0 where there was none.
    rates : dict of float
        Work per second by unit, without what is in `Stage.less`.
    shares : dict of float
        Rate over that of another stage, by its name and the unit.
    note : str
        Where the figure is from, if not from this run; or why there is none.
    """

    name: str
    seconds: float = float("nan")
    cpu_seconds: float = float("nan")
    range: float = float("nan")
    rounds: int = 0
    peak_bytes: int = 0
    planned_bytes: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


def measure(stages: Sequence[Stage], rounds: int) -> list[Row]:
    """Run all stages in turn, `rounds` times, and compare them.

    Parameters
    ----------
    stages : sequence of Stage
        With different names.
    rounds : int
        1 or more.

    Returns
    -------
    list of Row
        In the order of the stages; one that failed (a plan that does not fit into memory)
        says so, the others go on.
    """
    costs: dict[str, list[Cost]] = {stage.name: [] for stage in stages}
    failures: dict[str, str] = {}
    for _ in range(rounds):
        for stage in stages:
            if stage.name in failures or stage.less in failures:
                continue
            try:
                costs[stage.name].append(stage.run())
            except SarstackError as failure:
                LOGGER.warning("%s: %s", stage.name, failure)
                failures[stage.name] = failure.summary()
    done = [s for s in stages if s.name not in failures and s.less not in failures]
    rows = {row.name: row for row in compare(done, costs)}
    return [rows.get(s.name) or Row(s.name, note=failures.get(s.name, "not run")) for s in stages]


def compare(stages: Sequence[Stage], costs: Mapping[str, Sequence[Cost]]) -> list[Row]:
    """Turn the costs of all rounds into rows; see :class:`Row`."""
    seconds = {s.name: np.array([c.seconds for c in costs[s.name]]) for s in stages}
    # What a start takes wanders as well: where it took longer than the whole, nothing is known.
    net = {s.name: seconds[s.name] - (seconds[s.less] if s.less else 0) for s in stages}
    net = {name: np.where(found > 0, found, np.nan) for name, found in net.items()}
    known = {stage.name: stage for stage in stages}
    rows = []
    for stage in stages:
        found, here = costs[stage.name], seconds[stage.name]
        middle = float(np.median(here))
        shares = {}
        for other, unit in stage.beside:
            if other not in known:  # it failed
                continue
            gain = stage.work[unit] / known[other].work[unit]
            shares[f"{other} ({unit}/s)"] = gain * float(np.median(net[other] / net[stage.name]))
        rows.append(
            Row(
                stage.name,
                middle,
                float(np.median([c.cpu_seconds for c in found])),
                float(np.ptp(here)) / middle if len(here) > 1 else float("nan"),
                len(here),
                max(c.peak_bytes for c in found),
                stage.planned_bytes,
                {u: work / float(np.median(net[stage.name])) for u, work in stage.work.items()},
                shares,
            )
        )
    return rows


def in_threads(work: Callable[[int], object], n_threads: int = 1) -> Callable[[], Cost]:
    """Make a function that calls ``work(0)`` ... ``work(n - 1)`` at once, as tasks run.

    Each call has the settings of a worker: one thread of arithmetic, a small block cache. The
    first call, which loads and allocates, is not measured.
    """

    def call(number: int) -> None:
        with worker_settings():
            work(number)

    def run() -> Cost:
        with ThreadPoolExecutor(n_threads) as pool:
            started, cpu_started = time.perf_counter(), time.process_time()
            list(pool.map(call, range(n_threads)))
            return Cost(time.perf_counter() - started, time.process_time() - cpu_started)

    warm = False

    def run_warm() -> Cost:
        nonlocal warm
        if not warm:
            run()
            warm = True
        return run()

    return run_warm


def run_command(*arguments: str) -> Cost:
    """Run ``sarstack ARGUMENTS`` in a process of its own, as a user would.

    Raises
    ------
    SarstackError
        If the command fails, with what it said.
    """
    command = [sys.executable, "-m", "sarstack", "-q", *arguments]
    launch = [sys.executable, "-I", str(LAUNCHER), *command]
    done = subprocess.run(launch, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SarstackError(
            f"`sarstack {' '.join(arguments)}` ended with code {done.returncode}",
            where=done.stderr.strip().splitlines()[-4:],
            do="run this command by itself",
        )
    return Cost(**json.loads(done.stdout))
