"""Despecklers of other authors: timed in the same rounds if installed, else published figures."""

import sys
import types
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.stages import Sizes, despeckle_task
from benchmarks.timing import PX, Reference, Row, Stage, time_in_threads
from sarstack.despecklers import make_despeckler

_PAPER = "published (Mullissa et al. 2020, their machine)"
PUBLISHED_INFERENCE = Row("deSpeckNet on a CPU", rates={PX: 1 / 2.69e-5}, note=_PAPER)
PUBLISHED_TUNING = Row("deSpeckNet, tuning", rates={PX: 1 / 7.7e-4}, note=_PAPER)
NOT_INSTALLED = Row("SAR2SAR", note="not installed (pip install deepdespeckling)")

# SAR2SAR was trained on digital numbers of about this median, in patches of this side.
SAR2SAR_AMPLITUDE, SAR2SAR_PX = 100.0, 256


def peer_stages(sizes: Sizes) -> list[Stage]:
    """Return SAR2SAR and two of our networks on one thread; nothing if it is not installed."""
    sar2sar = load_sar2sar()
    if sar2sar is None:
        return []
    block = sizes.block(512)
    work = {PX: float(block.size)}
    stages = [Stage("SAR2SAR", time_in_threads(lambda _: sar2sar(block)), work)]
    for name in ("despecknet", "despecknet-lite"):
        run = time_in_threads(despeckle_task(make_despeckler(name), block))
        stages.append(Stage(name, run, work, [Reference("SAR2SAR", PX)]))
    return stages


def load_sar2sar() -> Callable[[NDArray[np.float32]], Any] | None:
    """Return SAR2SAR (package deepdespeckling) as a function of intensity; None if missing."""
    if find_spec("deepdespeckling") is None:
        return None
    if find_spec("osgeo") is None:
        # deepdespeckling imports osgeo without declaring it, and needs it for TIFF files only.
        gdal = types.ModuleType("osgeo.gdal")
        sys.modules["osgeo"] = types.ModuleType("osgeo")
        sys.modules["osgeo"].gdal, sys.modules["osgeo.gdal"] = gdal, gdal  # type: ignore[attr-defined]
    import torch

    # The weight file has objects of three numpy types, which torch refuses by default.
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    torch.serialization.add_safe_globals(
        [(scalar, "numpy.core.multiarray.scalar"), np.dtype, np.dtypes.Float64DType]
    )
    denoiser = import_module("deepdespeckling.sar2sar.sar2sar_denoiser").Sar2SarDenoiser()

    def despeckle(intensity: NDArray[np.float32]) -> Any:
        filled = np.nan_to_num(intensity, nan=float(np.nanmedian(intensity)))
        amplitude = np.sqrt(filled)
        scaled = amplitude * (SAR2SAR_AMPLITUDE / np.median(amplitude))
        # It prints messages and progress bars.
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            return denoiser.denoise_image(scaled, patch_size=SAR2SAR_PX, stride_size=SAR2SAR_PX - 2)

    return despeckle
