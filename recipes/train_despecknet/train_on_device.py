"""Train the clean branch of a network by a schedule, on a GPU or a CPU. See README.md.

Processes that draw landscapes import this file: so torch is imported inside of functions.
"""

import argparse
import dataclasses
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from packed_data import read_packed
from schedule import Schedule, read_schedule

if TYPE_CHECKING:
    from sarstack.networks.network import DeSpeckNet
    from sarstack.training.batch import Batch
    from sarstack.training.checkpoint import TrainingState

VALIDATION_SEED = 990
SINGLE_LOOK_CORRELATION = 0.0, 0.35
BEGAN = time.monotonic()
SAVING_S = 5


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="checkpoint, curve and model; a training in it is continued"
    )
    parser.add_argument("--schedule", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="file of packed_data.py; default: simulated only")
    parser.add_argument("--start", help="replaces the start of the schedule")
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.0,
        help="end after this time, from the start of the program",
    )
    parser.add_argument("--device", help="default: a GPU if there is one")
    parser.add_argument("--processes", type=int, help="that draw landscapes; default: cores less 3")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="replaces a setting of the schedule, for instance training.steps=500",
    )  # fmt: skip
    return parser.parse_args()


def read_options(options: argparse.Namespace, device: str) -> Schedule:
    """Read the schedule, with the changes of the command line."""
    from sarstack.networks.inference import choose_precision

    changes: dict[str, Any] = {}
    for text in options.set:
        name, found, value = text.partition("=")
        if not found:
            raise SystemExit(f"--set {text}: NAME=VALUE is expected")
        changes[name] = yaml.safe_load(value)
    if options.start:
        changes["start"] = options.start
    changes["training.device"] = device
    changes.setdefault("training.bfloat16", choose_precision(device) == "bfloat16")
    changes.setdefault("training.compiled", device.startswith("cuda"))
    return read_schedule(options.schedule, changes)


def load_start(schedule: Schedule) -> "DeSpeckNet | None":
    """Load the network to start from; None: from scratch."""
    from sarstack.networks.model_file import load_model, shipped_model

    if schedule.start == "scratch":
        return None
    is_shipped = schedule.start == "shipped"
    return load_model(shipped_model(schedule.network) if is_shipped else schedule.start)[0]


def start_network(schedule: Schedule) -> "DeSpeckNet":
    from sarstack.networks.variants import build_network

    network, start = build_network(schedule.network, **schedule.architecture), load_start(schedule)
    if start is not None:
        network.initialise_from(start)
    return network


def load_first_passes(schedule: Schedule) -> "list[DeSpeckNet]":
    """Load the networks that tell which dates agree; none if no dates are compared."""
    from sarstack.networks.model_file import load_model, shipped_model

    if schedule.architecture.get("sums", 1) == 1:
        return []
    start, lite = load_start(schedule), load_model(shipped_model("despecknet-lite"))[0]
    return [lite] if start is None else [start, lite]


def make_validation(schedule: Schedule) -> "list[Batch]":
    """Make held-out batches with the NumPy simulator: always the same, for all schedules."""
    from sarstack.speckle.sensor import SpeckleSimulator
    from sarstack.training.simulated_patches import SimulatedPatches
    from sarstack.training.simulated_stack_patches import SimulatedStackPatches

    sizes = min(16, schedule.simulation.batch_size), min(96, schedule.simulation.patch_px)
    if schedule.simulation.sensors == "single-look":
        sources = [
            SimulatedPatches(VALIDATION_SEED, *sizes, simulator=SpeckleSimulator(1.0, (c, c)))
            for c in SINGLE_LOOK_CORRELATION
        ]
    elif schedule.network == "despecknet-mt":
        sources = [SimulatedStackPatches(VALIDATION_SEED, *sizes)]
    else:
        sources = [SimulatedPatches(VALIDATION_SEED, *sizes)]
    numbers = range(schedule.validation_batches)
    return [sources[number % len(sources)].batch(number * 50) for number in numbers]


def show(state: "TrainingState") -> None:
    scores = state.history[-1] if state.history and state.history[-1]["step"] == state.step else {}
    rmse = f", validation {scores['rmse_db']:.4f} dB" if scores else ""
    now = time.strftime("%H:%M:%S")
    print(
        f"{now} step {state.step}, {state.seconds:.1f} s, loss {state.smoothed_loss:.5f}{rmse}",
        flush=True,
    )


def save_result(network: "DeSpeckNet", schedule: Schedule, options: argparse.Namespace) -> Path:
    """Write the model; its noise branch and its calibration are those of no training."""
    from sarstack.networks.card import make_card
    from sarstack.networks.model_file import save_model

    network.to("cpu")
    source = f", clean images and pairs of dates of {options.data.name}" if options.data else ""
    card = make_card(
        network,
        data=f"simulated landscapes and speckle{source}; started from: {schedule.start}",
        licence="Apache-2.0",
        command=f"python recipes/train_despecknet/train_on_device.py FOLDER "
        f"--schedule {options.schedule.name}",
    )
    path: Path = save_model(options.folder / f"{schedule.network}.safetensors", network, card)
    return path


def main() -> None:
    import torch

    from sarstack.cluster.layout import n_cores
    from sarstack.networks.inference import choose_device
    from sarstack.training.device_patches import DevicePatches
    from sarstack.training.device_stack_patches import DeviceStackPatches
    from sarstack.training.scheduled import train_by_schedule

    options = parse()
    logging.basicConfig(level=logging.WARNING)
    device = choose_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    schedule = read_options(options, device)
    torch.manual_seed(schedule.simulation.seed)
    if device.startswith("cuda"):
        torch.backends.cudnn.benchmark = True
        # Not for matrix products: sums over dates need all bits of float32.
        torch.backends.cudnn.allow_tf32 = True
    images, pairs = read_packed(options.data, device) if options.data else ([], None)
    if schedule.simulation.pair_fraction and pairs is None:
        print("there are no pairs of real dates: all patches are simulated")
    n_processes = max(1, n_cores() - 3) if options.processes is None else options.processes
    source: Callable[..., DevicePatches] = DevicePatches
    if schedule.network == "despecknet-mt":
        source = partial(DeviceStackPatches, first_passes=load_first_passes(schedule))
    patches = source(
        schedule.simulation, device, n_processes=n_processes, references=images, pairs=pairs
    )
    try:
        validation, network = make_validation(schedule), start_network(schedule)
        settings = schedule.training
        if options.seconds:
            left_s = options.seconds - (time.monotonic() - BEGAN) - SAVING_S
            settings = dataclasses.replace(settings, seconds=max(1.0, left_s))
        state = train_by_schedule(
            network, patches, validation, settings, options.folder, report=show
        )
    finally:
        patches.close()
    simulation = schedule.simulation
    n_px = state.step * simulation.batch_size * simulation.patch_px**2
    print(f"{n_px / 1e6 / max(state.seconds, 1e-9):.2f} Mpx/s on {device}")
    print(f"model: {save_result(network, schedule, options)}")


if __name__ == "__main__":
    main()
