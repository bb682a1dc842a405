"""Measure the cost of stages in turn, and compare their rates.

The speed of a machine varies with time. So all stages of a table run in turn, round after
round. Two stages are compared by the median, over rounds, of the ratio of their rates in the
same round.
"""

import json
import logging
import os
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

PX, PX_PER_WORKER, FLOP, BYTES, TASKS = "px", "px/worker", "FLOP", "B", "tasks"
"""Units of work: pixels, pixels over the number of workers, operations (a multiply-accumulate
is two), bytes before compression, calls on a worker."""

LOGGER = logging.getLogger("sarstack")
LAUNCHER = Path(__file__).with_name("launch.py")
REPOSITORY = Path(__file__).parents[1]


class Cost(NamedTuple):
    """Cost of one run of a stage.

    Attributes
    ----------
    seconds : float
        Elapsed time.
    cpu_seconds : float
        Sum over all threads and processes.
    peak_bytes : int
        Peak memory of the largest process; 0 if it was not measured.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int = 0


class Reference(NamedTuple):
    """A stage to compare with, and the unit of the two rates; both stages have work in it."""

    stage: str
    unit: str


@dataclass(frozen=True)
class Stage:
    """One operation or command whose cost is measured.

    Attributes
    ----------
    name : str
        Unique in its table.
    run : callable
        Runs it once and returns its :class:`Cost`.
    work : dict of float
        Amount of work by unit. Only necessary work counts: halos that are computed twice do
        not.
    references : sequence of Reference
        Stages of the same table to compare with.
    startup : str
        Name of a stage of the same table that measures the constant part, such as the start
        of a command. Its seconds are subtracted before rates are computed.
    planned_bytes : int
        Memory estimate of the plan; 0 if there is none.
    """

    name: str
    run: Callable[[], Cost]
    work: Mapping[str, float]
    references: Sequence[Reference] = ()
    startup: str = ""
    planned_bytes: int = 0


@dataclass(frozen=True)
class Row:
    """The results of one stage; a row of a table.

    Attributes
    ----------
    name : str
        Name of the stage.
    seconds, cpu_seconds : float
        Medians over rounds; NaN for a published figure.
    range : float
        (Slowest - fastest round) / median; NaN with one round.
    rounds : int
        Number of rounds.
    peak_bytes : int
        Maximum over rounds; 0 if it was not measured.
    planned_bytes : int
        As in :class:`Stage`.
    rates : dict of float
        Work per second by unit, without the time of the startup stage.
    shares : dict of float
        Ratio of the rate to that of a reference; the key has its name and the unit.
    note : str
        Source of a published figure, or the reason why there is no result.
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
        Stages of one table.
    rounds : int
        1 or more.

    Returns
    -------
    list of Row
        In the order of the stages. If a stage fails (for example, its plan does not fit into
        memory), the note of its row is the error message, and the other stages go on.
    """
    costs: dict[str, list[Cost]] = {stage.name: [] for stage in stages}
    failures: dict[str, str] = {}
    for _ in range(rounds):
        for stage in stages:
            if stage.name in failures or stage.startup in failures:
                continue
            try:
                costs[stage.name].append(stage.run())
            except SarstackError as failure:
                LOGGER.warning("%s: %s", stage.name, failure)
                failures[stage.name] = failure.summary()
    done = [s for s in stages if s.name not in failures and s.startup not in failures]
    rows = {row.name: row for row in compare(done, costs)}
    return [rows.get(s.name) or Row(s.name, note=failures.get(s.name, "not run")) for s in stages]


def compare(stages: Sequence[Stage], costs: Mapping[str, Sequence[Cost]]) -> list[Row]:
    """Compute rates and shares from the costs of all rounds.

    Parameters
    ----------
    stages : sequence of Stage
        Stages that did not fail. References to other stages are left out.
    costs : dict of sequence of Cost
        Costs by name of the stage, one for each round.

    Returns
    -------
    list of Row
        Rates and shares are NaN where the startup took longer than the whole stage.
    """
    seconds = {s.name: np.array([c.seconds for c in costs[s.name]]) for s in stages}
    net = {s.name: seconds[s.name] - (seconds[s.startup] if s.startup else 0) for s in stages}
    net = {name: np.where(value > 0, value, np.nan) for name, value in net.items()}
    by_name = {stage.name: stage for stage in stages}
    rows = []
    for stage in stages:
        stage_costs, stage_seconds = costs[stage.name], seconds[stage.name]
        median = float(np.median(stage_seconds))
        shares = {}
        for other, unit in stage.references:
            if other not in by_name:  # it failed
                continue
            work_ratio = stage.work[unit] / by_name[other].work[unit]
            time_ratio = float(np.median(net[other] / net[stage.name]))
            shares[f"{other} ({unit}/s)"] = work_ratio * time_ratio
        rows.append(
            Row(
                stage.name,
                median,
                float(np.median([c.cpu_seconds for c in stage_costs])),
                float(np.ptp(stage_seconds)) / median if len(stage_costs) > 1 else float("nan"),
                len(stage_costs),
                max(c.peak_bytes for c in stage_costs),
                stage.planned_bytes,
                {u: work / float(np.median(net[stage.name])) for u, work in stage.work.items()},
                shares,
            )
        )
    return rows


def time_in_threads(work: Callable[[int], object], n_threads: int = 1) -> Callable[[], Cost]:
    """Make a function that runs ``work(0)`` ... ``work(n_threads - 1)`` in parallel threads.

    Each call has the settings of a worker: one torch thread, a small GDAL block cache. Before
    the first measurement everything runs once, to load libraries and to allocate memory.
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
    """Run ``sarstack ARGUMENTS`` in a process of its own, as a user does.

    Raises
    ------
    SarstackError
        If the command fails; with the last lines that it printed.
    """
    command = [sys.executable, "-m", "sarstack", "-q", *arguments]
    launch = [sys.executable, "-I", str(LAUNCHER), *command]
    # The sarstack of this checkout, also if another one is installed.
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        launch, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path}
    )
    if done.returncode:
        raise SarstackError(
            f"`sarstack {' '.join(arguments)}` ended with exit code {done.returncode}",
            expected="exit code 0",
            where=done.stderr.strip().splitlines()[-4:],
            do="run this command alone to see all its output",
        )
    return Cost(**json.loads(done.stdout))
