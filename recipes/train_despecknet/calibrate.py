"""Measure the bias of a model on flat fields, write it into the card, check the remaining bias."""

import argparse
from pathlib import Path

from sarstack.networks.bias import add_bias_tables, flat_bias, simulate_flat
from sarstack.networks.card import PART_VARIANTS, BiasTable
from sarstack.networks.inference import load_network
from sarstack.networks.model_file import load_model, model_sha256, save_model
from sarstack.speckle.complex_parts import PART_LOOKS

# Apart from both ends, none of these values is in the table; nor is the seed.
CHECKED_LOOKS = (1.0, 1.2, 1.8, 2.3, 2.75, 3.3, 4.5, 8.0, 12.0, 20.0)
CHECKED_CORRELATION = (0.0, 0.1, 0.35, 0.65, 0.75, 0.85)
CHECKED_SEED = 5


def print_table(table: BiasTable) -> None:
    """Print the bias in percent: a row for each looks, a column for each correlation."""
    print("bias on flat fields [%], correlation", *table.correlation)
    for kind, bias in (("given", table.bias), ("not given", table.bias_without_sensor)):
        for looks, row in zip(table.looks, bias, strict=True):
            shown = " ".join(f"{100 * (b - 1):+6.2f}" for b in row)
            print(f"{looks:5.1f} looks, {kind:9s} {shown}")


def recalibrate(path: Path) -> None:
    """Measure the table again, and write the model with it."""
    network, card = load_model(path)
    card = add_bias_tables(network, card)
    print_table(card.calibration)
    save_model(path, network, card)


def check(path: Path) -> float:
    """Print the remaining bias on other flat fields, and return the largest, in percent."""
    network, card = load_network(str(path), model_sha256(path)), load_model(path)[1]
    largest = 0.0
    for looks in (PART_LOOKS,) if card.variant in PART_VARIANTS else CHECKED_LOOKS:
        for band_limited in (True, False):
            flats = [simulate_flat(looks, c, band_limited=band_limited, seed=CHECKED_SEED)
                     for c in CHECKED_CORRELATION]  # fmt: skip
            for given in (True, False):
                row = [
                    100 * (flat_bias(network, card, flat, looks, c, sensor_given=given) - 1)
                    for flat, c in zip(flats, CHECKED_CORRELATION, strict=True)
                ]
                largest = max(largest, *map(abs, row))
                edge, sensor = (
                    "sharp" if band_limited else "soft",
                    "given" if given else "not given",
                )
                shown = " ".join(f"{b:+6.2f}" for b in row)
                print(f"{looks:5.1f} looks, {edge:5s} {sensor:9s} {shown}", flush=True)
    print(f"largest remaining bias: {largest:.2f} %")
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--check-only", action="store_true")
    options = parser.parse_args()
    if not options.check_only:
        recalibrate(options.model)
    check(options.model)


if __name__ == "__main__":
    main()
