"""Despecklers of others, timed in the same run where they are installed, or as published."""

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

from benchmarks.timing import PX, Row

PAPER = "published (Mullissa et al. 2020, their machine)"
PUBLISHED_INFERENCE = Row("deSpeckNet on a CPU", rates={PX: 1 / 2.69e-5}, note=PAPER)
PUBLISHED_TUNING = Row("deSpeckNet, tuning", rates={PX: 1 / 7.7e-4}, note=PAPER)

# What SAR2SAR was trained on: digital numbers of about this median, patches of this side.
SAR2SAR_AMPLITUDE, SAR2SAR_PX = 100.0, 256


def find_sar2sar() -> Callable[[NDArray[np.float32]], Any] | None:
    """Return SAR2SAR of the package deepdespeckling as a function of intensity, if installed."""
    if find_spec("deepdespeckling") is None:
        return None
    if find_spec("osgeo") is None:
        # Imported at import time, not declared, and only used to read TIFF files.
        gdal = types.ModuleType("osgeo.gdal")
        sys.modules["osgeo"] = types.ModuleType("osgeo")
        sys.modules["osgeo"].gdal, sys.modules["osgeo.gdal"] = gdal, gdal  # type: ignore[attr-defined]
    import torch

    # Three numpy types lie in the weight file.
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    torch.serialization.add_safe_globals(
        [(scalar, "numpy.core.multiarray.scalar"), np.dtype, np.dtypes.Float64DType]
    )
    denoiser = import_module("deepdespeckling.sar2sar.sar2sar_denoiser").Sar2SarDenoiser()

    def despeckle(intensity: NDArray[np.float32]) -> Any:
        filled = np.nan_to_num(intensity, nan=float(np.nanmedian(intensity)))
        amplitude = np.sqrt(filled)
        scaled = amplitude * (SAR2SAR_AMPLITUDE / np.median(amplitude))
        # It prints, and shows bars.
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            return denoiser.denoise_image(scaled, patch_size=SAR2SAR_PX, stride_size=SAR2SAR_PX - 2)

    return despeckle
