"""Train the weights that sarstack ships, from a seed. See README.md beside this file."""

import argparse
import dataclasses
from pathlib import Path

import torch
from calibrate import print_table
from pairs import PairedPatches, load_pairs
from references import FloatImage, load_references
from training_log import show

from sarstack.despecklers import make_despeckler
from sarstack.evaluation.quality import bench_suite
from sarstack.evaluation.suites import SUITES
from sarstack.networks.bias import SIDE_PX, add_bias_tables
from sarstack.networks.card import make_card
from sarstack.networks.model_file import load_model, read_card, save_model
from sarstack.networks.network import DeSpeckNet
from sarstack.networks.variants import build_network
from sarstack.training.batch import Batch, PatchSource
from sarstack.training.checkpoint import copy_weights, plot_curve
from sarstack.training.pixel_weights import LOOKS_POWER
from sarstack.training.simulated_patches import SimulatedPatches
from sarstack.training.simulated_stack_patches import SimulatedStackPatches
from sarstack.training.supervised import TrainingSettings, train

VALIDATION_SEED = 990
REAL_DATA = (
    "; a quarter of the scenes from clean images: aerial photographs (NAIP, public domain) and"
    " temporal means of OPERA RTC bursts T137-292318-IW1, -292320-IW2 and -292323-IW2"
    " (contains modified Copernicus Sentinel data 2021-2025)"
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="checkpoints, curve and model; a training in it is resumed"
    )
    parser.add_argument("--variant", default="despecknet")
    parser.add_argument("--references", type=Path, help="folder with aerial/ and stacks/")
    parser.add_argument(
        "--pairs", type=int, default=0, help="patches of each batch that are pairs of real dates"
    )
    parser.add_argument("--start", type=Path, help="model with the initial weights")
    parser.add_argument(
        "--keep",
        type=float,
        default=0.0,
        help="weight of the start in the final average",
    )
    parser.add_argument(
        "--steps", type=int, default=12000,
        help="steps of the clean branch; 0: keep that of --start, train the noise branch alone",
    )  # fmt: skip
    parser.add_argument("--decay-steps", type=int, default=6000)
    parser.add_argument("--noise-steps", type=int, default=500, help="steps of the noise branch")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--patch-px", type=int, default=96)
    parser.add_argument("--detail-weight", type=float, default=1.0)
    parser.add_argument(
        "--looks-power",
        type=float,
        default=LOOKS_POWER,
        help="the weight of a patch is its looks to this power",
    )
    parser.add_argument(
        "--flat-px", type=int, default=SIDE_PX,
        help="width of the flat fields on which the bias of the network is measured",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--float32", action="store_true", help="no bfloat16")
    return parser.parse_args()


def make_patches(
    options: argparse.Namespace, seed: int, references: list[FloatImage]
) -> PatchSource:
    sizes = (options.batch_size, options.patch_px)
    if options.variant == "despecknet-mt":
        return SimulatedStackPatches(seed, *sizes, detail_weight=options.detail_weight)
    if options.variant == "despecknet-paper":
        # The paper's loss is a plain mean square: no weights for details.
        return SimulatedPatches(seed, *sizes, brightness=True, detail_weight=0.0)
    return SimulatedPatches(
        seed,
        *sizes,
        detail_weight=options.detail_weight,
        looks_power=options.looks_power,
        references=references,
    )


def add_pairs(patches: PatchSource, options: argparse.Namespace) -> PatchSource:
    """Replace some patches of each batch by pairs of real dates; --start detects change."""
    if not (options.start and options.references and isinstance(patches, SimulatedPatches)):
        raise SystemExit("--pairs needs --references with stacks/, --start, and single dates")
    network = load_model(options.start)[0]
    return PairedPatches(patches, load_pairs(options.references, network), options.pairs)


def start_network(options: argparse.Namespace) -> DeSpeckNet:
    """Make the network, with the weights of --start and as many sets of sums over dates."""
    if not options.start:
        return build_network(options.variant)
    trained, card = load_model(options.start)
    sets = {name: n for name, n in card.architecture.items() if name == "sums"}
    network = build_network(options.variant, **sets)
    network.initialise_from(trained)
    return network


def keep_start(branch: torch.nn.Module, start: dict[str, torch.Tensor], fraction: float) -> None:
    """Average the weights of a branch with its initial weights, in place."""
    for name, weight in branch.state_dict().items():
        weight.lerp_(start[name].to(weight.device), fraction)


def describe_data(options: argparse.Namespace) -> str:
    """Describe the training data of a network and of the network it started from."""
    data = "simulated landscapes and speckle" + (REAL_DATA if options.references else "")
    if options.pairs:
        data += f"; {options.pairs} of {options.batch_size} patches are pairs of dates of them"
    earlier = "; started from a network that saw: "
    data_of_start = read_card(options.start).data.split(earlier) if options.start else []
    return earlier.join(dict.fromkeys([data, *data_of_start]))


def score(model: Path) -> dict[str, float]:
    """Return the RMSE in dB on the suites of `sarstack bench quality`, at reduced size."""
    methods = {"model": make_despeckler(str(model))}
    tables = [bench_suite(suite, methods, 192, 6)[0] for suite in SUITES.values()]
    return {table.name: round(table.rows["model"]["rmse_db"], 3) for table in tables}


def train_branches(
    network: DeSpeckNet,
    options: argparse.Namespace,
    patches: PatchSource,
    validation: list[Batch],
) -> None:
    """Train the clean branch, then the noise branch with the finished clean branch."""
    is_paper = options.variant == "despecknet-paper"
    settings = TrainingSettings(
        steps=options.steps,
        decay_steps=options.decay_steps,
        learning_rate=options.learning_rate,
        xi=0.01 if is_paper else 0.0,  # the paper trains both branches together
        bfloat16=not options.float32,
        device=options.device,
    )
    if options.steps:
        start = copy_weights(network.clean)
        folder = options.folder / "clean"
        result = train(network, patches, validation, settings, folder, progress=show)
        plot_curve(result.history, options.folder / "curve.png")
        if options.keep:
            keep_start(network.clean, start, options.keep)
    if not is_paper:  # only phase 2 needs the noise branch
        network.clean.requires_grad_(requires_grad=False)
        steps = options.noise_steps
        noise_settings = dataclasses.replace(settings, steps=steps, decay_steps=steps, xi=1.0)
        train(network, patches, validation, noise_settings, options.folder / "noise", progress=show)
    network.to("cpu")


def main() -> None:
    options = parse()
    if (options.keep or not options.steps) and not options.start:
        raise SystemExit("--keep and --steps 0 need --start")
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    references = load_references(options.references) if options.references else []
    patches = make_patches(options, options.seed, references)
    validation_patches = make_patches(options, VALIDATION_SEED, [])
    validation = [validation_patches.batch(i * 50) for i in range(12)]
    network = start_network(options)
    if options.pairs:
        patches = add_pairs(patches, options)
    train_branches(network, options, patches, validation)

    command = (
        f"python recipes/train_despecknet/run.py FOLDER --variant {options.variant}"
        f" --steps {options.steps} --decay-steps {options.decay_steps}"
        f" --noise-steps {options.noise_steps} --learning-rate {options.learning_rate}"
        f" --batch-size {options.batch_size} --patch-px {options.patch_px}"
        f" --detail-weight {options.detail_weight} --looks-power {options.looks_power}"
        f" --seed {options.seed}"
        f"{' --references REFERENCES' if references else ''}"
        f"{f' --pairs {options.pairs}' if options.pairs else ''}"
        f"{f' --start {options.start.name}' if options.start else ''}"
        f"{f' --keep {options.keep}' if options.keep else ''}"
    )
    if not options.steps:
        command += f" (noise branch; clean branch: {read_card(options.start).command})"
    card = make_card(
        network,
        data=describe_data(options),
        licence="Apache-2.0",
        command=command,
    )
    target = options.folder / f"{options.variant}.safetensors"
    save_model(target, network, card)  # before the long steps below, which may be interrupted
    if options.steps:
        card = add_bias_tables(network, card, side_px=options.flat_px)
        print_table(card.calibration)
    else:  # the noise branch has no part in the result, so none in its bias
        kept = read_card(options.start)
        card = dataclasses.replace(card, calibration=kept.calibration, with_others=kept.with_others)
    save_model(target, network, card)
    scores = score(target)
    save_model(target, network, dataclasses.replace(card, scores=scores))
    print(f"model: {target}, RMSE in dB: {scores}")


if __name__ == "__main__":
    main()
