"""Train the weights that sarstack ships, from a seed. See README.md beside this file."""

import argparse
import dataclasses
import time
from pathlib import Path

import torch
from calibrate import print_table
from evaluate import evaluate, print_scores

from sarstack.calibration import calibrate
from sarstack.learning_curve import plot_curve
from sarstack.networks.card import make_card, save_model
from sarstack.networks.despecknet import build_network
from sarstack.patch_simulation import SimulatedPatches
from sarstack.training import Progress, TrainingSettings, train

VALIDATION_SEED = 990


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="checkpoints, curve and model; resumes if it exists"
    )
    parser.add_argument("--variant", default="despecknet")
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--decay-steps", type=int, default=2000)
    parser.add_argument("--joint-steps", type=int, default=300, help="with the noise branch")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--patch-px", type=int, default=64)
    parser.add_argument("--detail-weight", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--float32", action="store_true", help="no bfloat16")
    return parser.parse_args()


def show(progress: Progress) -> None:
    if progress.validation_loss is not None or progress.step % 50 == 0:
        held_out = (
            "" if progress.validation_loss is None else f" held out {progress.validation_loss:.4f}"
        )
        now = time.strftime("%H:%M:%S")
        print(
            f"{now} step {progress.step}/{progress.steps} loss {progress.loss:.4f}{held_out}"
            f" {progress.eta_s / 60:.1f} min left",
            flush=True,
        )


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    linear = options.variant == "despecknet-paper"
    sizes = (options.batch_size, options.patch_px)
    # The paper's loss is a plain mean square: no weights for details.
    kinds = {"brightness": linear, "detail_weight": 0.0 if linear else options.detail_weight}
    patches = SimulatedPatches(options.seed, *sizes, **kinds)
    held_out = SimulatedPatches(VALIDATION_SEED, *sizes, **kinds)
    validation = [held_out.batch(i * 50) for i in range(12)]

    network = build_network(options.variant)
    settings = TrainingSettings(
        steps=options.steps,
        decay_steps=options.decay_steps,
        learning_rate=options.learning_rate,
        xi=0.01 if linear else 0.0,
        bfloat16=not options.float32,
        device=options.device,
    )
    result = train(network, patches, validation, settings, options.folder / "clean", progress=show)
    if not linear:
        # ln y - ln xhat = g(u): the clean branch already says what the speckle is.
        network.noise.load_state_dict(network.clean.state_dict())
        joint = dataclasses.replace(
            settings, steps=options.joint_steps, decay_steps=options.joint_steps, xi=0.01,
            learning_rate=1e-5, validate_every=100,
        )  # fmt: skip
        train(network, patches, validation, joint, options.folder / "joint", progress=show)
    network.to("cpu")
    plot_curve(result.history, options.folder / "curve.png")

    command = (
        f"python recipes/train_despecknet/run.py FOLDER --variant {options.variant}"
        f" --steps {options.steps} --decay-steps {options.decay_steps}"
        f" --joint-steps {options.joint_steps} --learning-rate {options.learning_rate}"
        f" --batch-size {options.batch_size} --patch-px {options.patch_px}"
        f" --detail-weight {options.detail_weight} --seed {options.seed}"
    )
    card = make_card(
        network,
        data="simulated landscapes and speckle (sarstack.patch_simulation); no real images",
        licence="Apache-2.0",
        command=command,
    )
    target = options.folder / f"{options.variant}.safetensors"
    save_model(target, network, card)  # a model at once, should the rest be interrupted
    card = dataclasses.replace(card, calibration=calibrate(network, card))
    print_table(card.calibration)
    save_model(target, network, card)
    scores = evaluate(target)
    print_scores(scores)
    kept = {case: round(score["rmse_db"], 3) for case, score in scores.items()}
    save_model(target, network, dataclasses.replace(card, scores=kept))
    print(f"model: {target}")


if __name__ == "__main__":
    main()
