"""Train the network of `merlin` on simulated complex images. See README.md."""

import argparse
from pathlib import Path

import torch
from references import load_references
from train_on_device import show
from training_options import add_references, make_parser

from sarstack.networks.card import make_card
from sarstack.networks.inference import choose_precision
from sarstack.networks.model_file import load_model, save_model, shipped_model
from sarstack.networks.variants import build_network
from sarstack.speckle.complex_parts import PART_LOOKS
from sarstack.training.batch import TensorBatch, to_tensors
from sarstack.training.checkpoint import plot_curve
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
    parser = make_parser(__doc__, steps=12000, learning_rate=1.2e-3, data="references")
    add_references(parser)
    parser.add_argument("--start", type=Path, default=shipped_model("despecknet-lite"))
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="end after this time, in place of --steps"
    )
    return parser.parse_args()


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
