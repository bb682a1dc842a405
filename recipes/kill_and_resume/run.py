"""Kill runs at random moments, run the same commands again, and compare. See README.md."""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from safetensors.numpy import load_file

POLL_S = 0.004
LIMIT_S = 600


@dataclass(frozen=True)
class Job:
    """A command to kill. Its output has the name of the job, and the ending `suffix`."""

    name: str
    words: tuple[str, ...]
    suffix: str = ""


@dataclass
class Result:
    """What the rounds found."""

    n_kills: int = 0
    faults: list[str] = field(default_factory=list)


def write_stack(folder: Path, side_px: int, n_dates: int) -> Path:
    """Write dates of VV and VH: fields and a road under speckle of 4.4 looks."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(side_px)
    fields = rng.uniform(0.02, 0.3, (10, 10))
    scene = np.kron(fields, np.ones((-(-side_px // 10),) * 2))[:side_px, :side_px]
    scene[:, side_px // 3] = 0.6
    profile = {
        "driver": "GTiff", "height": side_px, "width": side_px, "count": 1, "dtype": "float32",
        "nodata": np.nan, "crs": "EPSG:32632", "transform": from_origin(4e5, 5.4e6, 10, 10),
    }  # fmt: skip
    for date in range(n_dates):
        for polarisation, level in (("vv", 1.0), ("vh", 0.2)):
            pixels = (level * scene * rng.gamma(4.4, 1 / 4.4, scene.shape)).astype(np.float32)
            pixels[: 10 + date, :30] = np.nan
            name = f"S1A_IW_202401{1 + 12 * date:02d}T054321_{polarisation}.tif"
            with rasterio.open(folder / name, "w", **profile) as raster:
                raster.write(pixels, 1)
    return folder


def list_jobs(
    folder: Path, names: list[str], side_px: int, network_px: int, method: str
) -> dict[str, Job]:
    """Write what the jobs of these names need, and return all jobs by name."""
    large = str(write_stack(folder / "stack", side_px, 2))
    small = str(write_stack(folder / "small", network_px, 3))
    labels = folder / "labels.zarr"
    if "train" in names:
        sarstack("build-labels", small, "-o", str(labels))
    tiles = ("--method", method, "--tile-px", "256")
    patches = ("--batch-size", "2", "--patch-px", "16", "--pol", "vv", "--workers", "1")
    jobs = (
        Job("threads", ("despeckle", large, *tiles)),
        Job("cluster", ("despeckle", large, *tiles, "--cluster", "--workers", "2")),
        Job("multitemporal", ("despeckle", small, "--method", "despecknet-mt")),
        Job("labels", ("build-labels", large, "--tile-px", "256"), ".zarr"),
        Job("train", ("train", small, "--labels", str(labels), "--steps", "130",
                      "--variant", "despecknet-lite", *patches), ".safetensors"),
        Job("finetune", ("finetune", small, "--steps", "60", *patches), ".safetensors"),
    )  # fmt: skip
    return {job.name: job for job in jobs}


def start(*words: str) -> subprocess.Popen[bytes]:
    """Start a command of sarstack in a process group of its own."""
    command = [sys.executable, "-m", "sarstack", "-q", *words]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def sarstack(*words: str) -> str:
    """Run a command to its end; return what went wrong, empty if nothing."""
    process = start(*words)
    try:
        _, errors = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        kill(process)
        return f"it did not end within {LIMIT_S} s"
    lines = errors.decode(errors="replace").strip().splitlines()
    return f"exit code {process.returncode}: {' / '.join(lines[-4:])}" if process.returncode else ""


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all its children at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def watch(process: subprocess.Popen[bytes], folder: Path, at_most: int) -> int:
    """Wait until the run ends, or has made or changed so many files; return their number."""
    seen: set[tuple[str, int]] = set()
    end = time.monotonic() + LIMIT_S
    while process.poll() is None and len(seen) < at_most and time.monotonic() < end:
        for root, _, names in os.walk(folder):
            for name in names:
                try:
                    path = Path(root, name)
                    seen.add((str(path), path.stat().st_mtime_ns))
                except FileNotFoundError:
                    continue
        time.sleep(POLL_S)
    return len(seen)


def compare(found: Path, expected: Path) -> str:
    """Return how the files of two folders differ, empty if they do not."""
    names = {p.relative_to(found).as_posix() for p in found.rglob("*") if p.is_file()}
    wanted = {p.relative_to(expected).as_posix() for p in expected.rglob("*") if p.is_file()}
    if names != wanted:
        return f"left behind: {sorted(names - wanted)}, missing: {sorted(wanted - names)}"
    different = [name for name in sorted(names) if not same_content(found / name, expected / name)]
    return f"different: {different}" if different else ""


def same_content(found: Path, expected: Path) -> bool:
    """Compare pixels, weights or chunks; other files have dates and need only be there."""
    if found.suffix == ".tif":
        with rasterio.open(found) as a, rasterio.open(expected) as b:
            return np.array_equal(a.read(1), b.read(1), equal_nan=True)
    if found.suffix == ".safetensors":
        a, b = load_file(found), load_file(expected)
        return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
    if found.name == "zarr.json" or found.suffix not in ("", ".csv", ".vrt"):
        return True
    return found.read_bytes() == expected.read_bytes()


def output_of(job: Job, folder: Path) -> Path:
    return folder / f"{job.name}{job.suffix}"


def run_round(
    job: Job, whole: Path, folder: Path, n_files: int, seconds: float, rng: random.Random
) -> tuple[int, str]:
    """Kill a job one to three times, finish it, and compare it with an uninterrupted run."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    output = output_of(job, folder)
    n_kills = 0
    for _ in range(rng.choice((1, 1, 2, 3))):
        process = start(*job.words, "-o", str(output))
        if rng.random() < 0.3:
            time.sleep(rng.uniform(0, seconds))
        else:
            watch(process, folder, rng.randint(1, n_files))
        if process.poll() is None:
            n_kills += 1
        kill(process) if process.poll() is None else process.communicate()
        if process.returncode not in (0, -signal.SIGKILL):
            return n_kills, f"a resumed run ended with exit code {process.returncode}"
    problem = sarstack(*job.words, "-o", str(output)) or compare(folder, whole)
    return n_kills, problem or sarstack("check", str(output))


def kill_and_resume(
    folder: Path, n_rounds: int, seed: int, names: list[str], side_px: int, network_px: int,
    method: str,
) -> Result:  # fmt: skip
    """Run the rounds, print a line for each, and return what they found."""
    shutil.rmtree(folder, ignore_errors=True)
    jobs = list_jobs(folder, names, side_px, network_px, method)
    known: dict[str, tuple[Path, int, float]] = {}
    result = Result()
    rng = random.Random(seed)
    for number in range(n_rounds):
        name = names[number % len(names)]
        job = jobs[name]
        if name not in known:
            whole, began = folder / "whole" / name, time.monotonic()
            whole.mkdir(parents=True)
            process = start(*job.words, "-o", str(output_of(job, whole)))
            n_files = watch(process, whole, 10**9)
            _, errors = process.communicate()
            if process.returncode:
                raise SystemExit(f"{name} fails without a kill: {errors.decode()}")
            known[name] = whole, n_files, time.monotonic() - began
        n_kills, fault = run_round(job, known[name][0], folder / "round", *known[name][1:], rng)
        result.n_kills += n_kills
        print(f"round {number + 1:3d} {name:<14} {n_kills} kills: {fault or 'right'}", flush=True)
        if fault:
            result.faults.append(f"round {number + 1} ({name}): {fault}")
            shutil.copytree(folder / "round", folder / f"fault-{number + 1}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="is deleted first")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    every = ["threads", "cluster", "multitemporal", "labels", "train", "finetune"]
    parser.add_argument("--jobs", nargs="+", choices=every, default=every)
    parser.add_argument("--side-px", type=int, default=600)
    parser.add_argument("--network-px", type=int, default=200)
    parser.add_argument("--method", default="lee", help="of the jobs threads and cluster")
    options = parser.parse_args()
    result = kill_and_resume(
        options.folder.absolute(), options.rounds, options.seed, options.jobs,
        options.side_px, options.network_px, options.method,
    )  # fmt: skip
    print(f"{options.rounds} rounds, {result.n_kills} kills, {len(result.faults)} faults")
    sys.exit(bool(result.faults))


if __name__ == "__main__":
    main()
