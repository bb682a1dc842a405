"""Hand thousands of odd inputs to sarstack: each must give the right result or a clear error.

Each batch of inputs runs in a process of its own, so a crash or a hang is found and the next
input follows.
"""

import argparse
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

BATCH = 100
INPUT_SECONDS = 60.0
START_SECONDS = 120.0


def list_kinds(*, products: bool) -> dict:
    from inputs import KINDS

    if products:
        from products import PRODUCTS

        return PRODUCTS
    return KINDS


def kind_of(seed: int, number: int, *, products: bool = False) -> str:
    kinds = list_kinds(products=products)
    weights = np.array([weight for _, weight in kinds.values()], float)
    rng = np.random.default_rng([seed, number, 0])
    return str(rng.choice(list(kinds), p=weights / weights.sum()))


def run_one(
    seed: int, number: int, *, products: bool = False, debug: bool = False
) -> tuple[str, str, str]:
    """Run one input; return its kind, outcome and reason."""
    from outcomes import run_input

    kind = kind_of(seed, number, products=products)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    rng = np.random.default_rng([seed, number, 1])

    def case() -> None:
        try:
            list_kinds(products=products)[kind][0](rng, folder)
        except BaseException:
            if debug:
                traceback.print_exc()
            raise

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return (kind, *run_input(case))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def work(seed: int, first: int, last: int, *, products: bool) -> None:
    """Run inputs and print one line before and one after each."""
    channel, sys.stdout = sys.stdout, sys.stderr
    for number in range(first, last):
        kind = kind_of(seed, number, products=products)
        print(json.dumps([number, kind]), file=channel, flush=True)
        result = run_one(seed, number, products=products)
        print(json.dumps([number, *result]), file=channel, flush=True)


def add_result(results: list[list], number: int, kind: str, outcome: str, reason: str) -> None:
    """Keep a result; print a bad one at once, because a run can take an hour."""
    from outcomes import GOOD

    results.append([number, kind, outcome, reason])
    if outcome not in GOOD:
        print(f"--only {number}  {outcome}  {kind}: {reason}", file=sys.stderr, flush=True)


def run_batch(
    seed: int, first: int, last: int, deadline: float, *, products: bool = False
) -> list[list]:
    """Run a batch in other processes; an input that crashes or hangs ends its process."""
    results: list[list] = []
    while first < last and time.monotonic() < deadline:
        command = [sys.executable, __file__, "--work", str(seed), str(first), str(last)]
        command += ["--products"] if products else []
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        lines: queue.Queue[bytes] = queue.Queue()

        def pump(stream=process.stdout, to=lines) -> None:
            for line in stream:
                to.put(line)
            to.put(b"")

        threading.Thread(target=pump, daemon=True).start()
        started: list | None = None
        while True:
            try:
                line = lines.get(timeout=INPUT_SECONDS if started else START_SECONDS)
            except queue.Empty:
                process.kill()
                line = b"hang"
            if not line.startswith(b"["):
                break
            told = json.loads(line)
            started = told if len(told) == 2 else started
            if len(told) > 2:
                add_result(results, *told)
                first = told[0] + 1
                if time.monotonic() > deadline:
                    process.kill()
        code = process.wait()
        if first < last and time.monotonic() < deadline:
            number, kind = started or [first, "start of the process"]
            outcome = "hang" if line == b"hang" else "crash"
            add_result(results, number, kind, outcome, f"exit code {code}")
            first = number + 1
    return results


def fuzz(
    seed: int, n_inputs: int, seconds: float, n_workers: int, *, products: bool = False
) -> list[list]:
    """Return number, kind, outcome and reason of each input that was run."""
    deadline = time.monotonic() + seconds
    starts = range(0, n_inputs, BATCH)
    with ThreadPoolExecutor(n_workers) as pool:
        batches = pool.map(
            lambda first: run_batch(
                seed, first, min(first + BATCH, n_inputs), deadline, products=products
            ),
            starts,
        )
        return [result for batch in batches for result in batch]


def table(results: list[list]) -> str:
    from outcomes import BAD, GOOD

    counts = Counter((kind, outcome) for _, kind, outcome, _ in results)
    columns = [*GOOD, *BAD]
    rows = [["kind", "inputs", *columns]]
    for kind in sorted({kind for kind, _ in counts}):
        own = [counts[kind, outcome] for outcome in columns]
        rows.append([kind, str(sum(own)), *map(str, own)])
    totals = [sum(counts[kind, outcome] for kind in {k for k, _ in counts}) for outcome in columns]
    rows.append(["all", str(sum(totals)), *map(str, totals)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=7200, help="time limit of the whole run")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--products", action="store_true", help="damaged products instead")
    parser.add_argument("--only", type=int, help="run this input alone, and print its traceback")
    parser.add_argument("--work", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work, products=options.products)
        return 0
    if options.only is not None:
        print(*run_one(options.seed, options.only, products=options.products, debug=True))
        return 0
    from outcomes import GOOD

    results = fuzz(options.seed, options.inputs, options.seconds, options.workers,
                   products=options.products)  # fmt: skip
    print(table(results))
    return 0 if all(outcome in GOOD for _, _, outcome, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
