"""Train the network of `merlin` on simulated complex images. See README.md."""

import argparse
import time
from pathlib import Path

import torch
from references import load_references

from sarstack.networks.card import make_card
from sarstack.networks.inference import choose_precision
from sarstack.networks.model_file import load_model, save_model, shipped_model
from sarstack.networks.variants import build_network
from sarstack.speckle.complex_parts import PART_LOOKS
from sarstack.training.batch import TensorBatch, to_tensors
from sarstack.training.checkpoint import TrainingState, plot_curve
from sarstack.training.scheduled import ScheduleSettings, train_by_schedule
from sarstack.training.simulated_parts import SimulatedParts

VALIDATION_SEED = 992


class CpuPatches:
    """Batches of a source, as tensors."""

    def __init__(self, patches: SimulatedParts) -> None:
        self.patches = patches

    def batch(self, step: int) -> TensorBatch:
        return to_tensors(self.patches.batch(step), "cpu")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="checkpoint, curve and model; is resumed")
    parser.add_argument("--start", type=Path, default=shipped_model("despecknet-lite"))
    parser.add_argument("--references", type=Path, help="folder with aerial/ and stacks/")
    parser.add_argument("--data", default="", help="description of the references for the card")
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="end after this time, in place of --steps"
    )
    parser.add_argument("--learning-rate", type=float, default=1.2e-3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--patch-px", type=int, default=96)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def show(state: TrainingState) -> None:
    scores = state.history[-1] if state.history and state.history[-1]["step"] == state.step else {}
    rmse = f", validation {scores['rmse_db']:.4f} dB" if scores else ""
    now = time.strftime("%H:%M:%S")
    print(
        f"{now} step {state.step}, {state.seconds:.1f} s, loss {state.smoothed_loss:.5f}{rmse}",
        flush=True,
    )


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    references = load_references(options.references) if options.references else []
    sizes = (options.batch_size, options.patch_px)
    patches = CpuPatches(SimulatedParts(options.seed, *sizes, references=references))
    held_back = SimulatedParts(VALIDATION_SEED, *sizes)
    validation = [held_back.batch(i * 50) for i in range(8)]
    network = build_network("merlin")
    network.initialise_from(load_model(options.start)[0])  # type: ignore[operator]
    settings = ScheduleSettings(
        steps=options.steps,
        seconds=options.seconds,
        learning_rate=options.learning_rate,
        validate_every=250,
        checkpoint_every=250,
        bfloat16=choose_precision("cpu") == "bfloat16",
    )
    state = train_by_schedule(network, patches, validation, settings, options.folder, report=show)
    plot_curve(state.history, options.folder / "curve.png")
    card = make_card(
        network,
        looks=(PART_LOOKS, PART_LOOKS),
        correlation=(0.0, 0.5),
        data="; ".join(filter(None, ["simulated landscapes and complex speckle", options.data]))
        + f"; started from {options.start.stem}",
        licence="Apache-2.0",
        command=f"python recipes/train_despecknet/train_merlin.py FOLDER"
        f"{' --references REFERENCES' if references else ''} --steps {state.step}"
        f" --learning-rate {options.learning_rate} --seed {options.seed}",
        scores={"validation": round(state.history[-1]["rmse_db"], 3)},
    )
    print(save_model(options.folder / "merlin.safetensors", network, card))


if __name__ == "__main__":
    main()
