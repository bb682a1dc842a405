"""Pack clean images and pairs of real dates into one file, and read it.

A machine that trains then needs neither the images nor a network.

    python packed_data.py CLEAN PACKED.npz      # CLEAN as for run.py --references
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sarstack.speckle.statistics import SceneStatistics
    from sarstack.training.patch_cuts import RealPairs

FloatImage = NDArray[np.float32]
STEPS_PER_DB = 8
SMALLEST_POWER = 1e-8


def pack_data(folder: Path, target: Path, model: Path) -> None:
    """Write all references and pairs of a folder; `model` distinguishes change from speckle."""
    from pairs import load_pairs
    from references import load_references

    from sarstack.networks.model_file import load_model

    arrays: dict[str, NDArray[np.generic]] = {}
    for number, image in enumerate(load_references(folder)):
        steps = np.clip(np.round((image - np.median(image)) * STEPS_PER_DB), -127, 127)
        arrays[f"image_{number}"] = steps.astype(np.int8)
    pairs = load_pairs(folder, load_model(model)[0])
    if pairs:
        side = max(max(pair.noisy.shape) for pair in pairs)
        for name in ("noisy", "target", "weight", "detail"):
            images = np.stack([_pad(getattr(pair, name), side) for pair in pairs])
            if name in ("noisy", "target"):
                images = np.log(np.maximum(images, SMALLEST_POWER))
            arrays[name] = images.astype(np.float16)
        arrays["sensor"] = np.array([_describe(pair.statistics) for pair in pairs])
    np.savez_compressed(target, **arrays)  # type: ignore[arg-type]
    print(
        f"{target}: {len(arrays)} arrays, {len(pairs)} pairs, {target.stat().st_size / 1e6:.1f} MB"
    )


def _describe(statistics: "SceneStatistics") -> tuple[float, ...]:
    """Return looks, correlation, and 1 if a network may be told of them, else 0."""
    return (statistics.looks, *statistics.correlation, float(statistics.sensor is not None))


def _pad(image: FloatImage, side: int) -> FloatImage:
    missing = [(0, side - n) for n in image.shape]
    return np.pad(image, missing, constant_values=np.nan)


def read_packed(path: Path, device: str) -> tuple[list[FloatImage], "RealPairs | None"]:
    """Return the clean images in dB, and the pairs on a device."""
    import torch

    from sarstack.training.patch_cuts import RealPairs

    with np.load(path) as arrays:
        # Between two steps, values are spread evenly: steps would be seen as edges.
        rng = np.random.default_rng(0)
        images = [
            ((arrays[name] + rng.uniform(-0.5, 0.5, arrays[name].shape)) / STEPS_PER_DB)
            .astype(np.float32)
            for name in arrays.files
            if name.startswith("image_")
        ]  # fmt: skip
        if "noisy" not in arrays.files:
            return images, None
        noisy, target = (
            torch.from_numpy(arrays[name].astype(np.float32)).exp() for name in ("noisy", "target")
        )
        weight, detail = (
            torch.from_numpy(arrays[name].astype(np.float32)) for name in ("weight", "detail")
        )
        pairs = torch.stack([noisy, target, weight, detail], 1).to(device)
        return images, RealPairs(pairs, arrays["sensor"])


def main() -> None:
    from sarstack.networks.model_file import shipped_model

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--model", type=Path, help="finds changes of the land; default: shipped")
    options = parser.parse_args()
    pack_data(options.folder, options.target, options.model or Path(shipped_model("despecknet")))


if __name__ == "__main__":
    main()
