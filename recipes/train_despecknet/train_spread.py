"""Train the part of a model that tells how uncertain its result is. See README.md beside this file.

All other weights stay as they are, so the despeckled pixels do too.
"""

import argparse
import dataclasses
from pathlib import Path

import torch
from spread_patches import SpreadPatches
from training_log import show

from sarstack.networks.card import make_card
from sarstack.networks.model_file import load_model, save_model
from sarstack.networks.network import DeSpeckNet
from sarstack.networks.variants import build_network
from sarstack.training.batch import PatchSource
from sarstack.training.simulated_stack_patches import SimulatedStackPatches
from sarstack.training.spread import SpreadSettings, train_spread

VALIDATION_SEED = 992
N_CHANNELS = 16


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="checkpoint, curve and model; is resumed")
    parser.add_argument("--start", type=Path, required=True, help="model with all other weights")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--patch-px", type=int, default=128)
    parser.add_argument("--seed", type=int, default=701)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--float32", action="store_true", help="no bfloat16")
    return parser.parse_args()


def make_patches(variant: str, seed: int, batch_size: int, patch_px: int) -> PatchSource:
    """Make patches without clean images: their truth is not exact."""
    if variant == "despecknet-mt":
        return SimulatedStackPatches(seed, batch_size, patch_px)
    return SpreadPatches(seed, batch_size, patch_px)


def add_spread(network: DeSpeckNet, n_channels: int = N_CHANNELS) -> DeSpeckNet:
    """Return the same network with a new spread; one that it had is left out."""
    sizes = {name: size for name, size in network.architecture.items() if name != "spread"}
    wider = build_network(network.variant, **sizes, spread=n_channels)
    weights = wider.state_dict()
    wider.load_state_dict(
        weights | {k: v for k, v in network.state_dict().items() if ".spread." not in k}
    )
    return wider.eval()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    trained, card = load_model(options.start)
    network = add_spread(trained)
    sizes = (options.batch_size, options.patch_px)
    patches = make_patches(card.variant, options.seed, *sizes)
    held_back = make_patches(card.variant, VALIDATION_SEED, *sizes)
    settings = SpreadSettings(
        steps=options.steps, learning_rate=options.learning_rate, bfloat16=not options.float32
    )
    validation = [held_back.batch(i * 50) for i in range(6)]
    history = train_spread(
        network, card, patches, validation, settings, options.folder, progress=show
    )
    made = make_card(network)
    command = (
        f"{card.command.partition(' (spread: ')[0]} (spread: python"
        f" recipes/train_despecknet/train_spread.py FOLDER --start {options.start.name}"
        f" --steps {options.steps} --learning-rate {options.learning_rate}"
        f" --batch-size {options.batch_size} --patch-px {options.patch_px} --seed {options.seed})"
    )
    spread = {k: v for k, v in history[-1].items() if k.startswith("inside_")} if history else {}
    card = dataclasses.replace(
        card, architecture=made.architecture, command=command, scores=card.scores | spread,
        sarstack_version=made.sarstack_version, created=made.created,
    )  # fmt: skip
    target = options.folder / options.start.name
    print(f"model: {save_model(target, network.float(), card)}, {spread}")


if __name__ == "__main__":
    main()
