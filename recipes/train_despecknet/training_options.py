"""The options that trainings on a processor have in common."""

import argparse
from pathlib import Path


def make_parser(
    description: str | None, *, steps: int, learning_rate: float, data: str
) -> argparse.ArgumentParser:
    """Return a parser with the folder, the sizes of the training, and the seed.

    Parameters
    ----------
    description : str
    steps : int
        Default of ``--steps``.
    learning_rate : float
        Default of ``--learning-rate``.
    data : str
        What ``--data`` describes: "references" or "images".
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path, help="checkpoint, curve and model; is resumed")
    parser.add_argument("--data", default="", help=f"description of the {data} for the card")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--patch-px", type=int, default=96)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def add_references(parser: argparse.ArgumentParser) -> None:
    """Add the option for a folder with clean images."""
    parser.add_argument("--references", type=Path, help="folder with aerial/ and stacks/")
