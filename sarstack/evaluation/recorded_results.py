"""Results of other programs: export the images, and read the results as those of a method.

Each date of each case is one ``.npy`` file whose name is a hash of its pixels. Another program,
in its own environment, writes its results under the same names. They are then scored like the
results of any method.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers import Despeckler
from sarstack.errors import StackReadError, UsageError
from sarstack.evaluation.real_scenes import read_scene
from sarstack.evaluation.real_stacks import read_stack
from sarstack.evaluation.scores import NAN
from sarstack.evaluation.suites import find_suite, make_cases
from sarstack.speckle.statistics import SceneStatistics

COMPLEX_FOLDER = "complex"
LOOKS_FILE = "looks.json"
COSTS_FILE = "costs.json"


def image_key(image: NDArray[np.float32]) -> str:
    """Return the name of an image: a hash of its shape and pixels."""
    pixels = np.ascontiguousarray(image, dtype="<f4")
    return hashlib.sha256(repr(image.shape).encode() + pixels.tobytes()).hexdigest()[:20]


def export_cases(
    output: Path,
    *,
    suites: Sequence[str] = (),
    stacks: Sequence[str] = (),
    scenes: Sequence[str] = (),
    scale: str | None = None,
    size_px: int = 256,
    n_scenes: int = 6,
) -> int:
    """Write every image of the evaluation for other programs.

    Parameters
    ----------
    output : Path
        Folder for ``NAME.npy`` (shape (y, x), float32, linear power, NaN = nodata) and
        ``looks.json`` (equivalent number of looks by name). Simulated images of a single look
        also have ``complex/NAME.npy`` (complex64, its power is the image).
    suites, stacks, scenes, scale, size_px, n_scenes
        As for :func:`sarstack.evaluation.quality.bench_quality`, which needs the same values
        later.

    Returns
    -------
    int
        Number of images.
    """
    (output / COMPLEX_FOLDER).mkdir(parents=True, exist_ok=True)
    looks_of: dict[str, float] = {}
    simulated = (
        case for name in suites for case in make_cases(find_suite(name), size_px, n_scenes)
    )
    for case in simulated:
        looks_of |= {_export(image, output): case.looks for image in case.noisy}
        if case.field is not None:
            np.save(output / COMPLEX_FOLDER / f"{image_key(case.noisy[0])}.npy", case.field)
    real = [(s.intensity, s.looks) for path in stacks for s in read_stack(path, scale)]
    real += [(s.intensity, s.looks) for path in scenes for s in read_scene(path, scale)]
    for dates, looks in real:
        looks_of |= {_export(image, output): looks for image in dates}
    (output / LOOKS_FILE).write_text(json.dumps(looks_of, indent=1), encoding="utf-8")
    return len(looks_of)


def _export(image: NDArray[np.float32], folder: Path) -> str:
    key = image_key(image)
    np.save(folder / f"{key}.npy", image)
    return key


class RecordedResults(Despeckler):
    """Results that another program wrote to a folder, with the interface of a method.

    Parameters
    ----------
    folder : Path
        One ``NAME.npy`` for each image of :func:`export_cases`, in linear power. Optional:
        ``costs.json`` with CPU seconds per megapixel by name.

    Attributes
    ----------
    cost_s_per_mpx : float
        Median of these CPU seconds; NaN without ``costs.json``.

    Raises
    ------
    StackReadError
        If the folder has no ``.npy`` file.
    """

    name: ClassVar[str] = "recorded"

    def __init__(self, folder: Path) -> None:
        self.folder, self.halo = folder, 0
        if not next(folder.glob("*.npy"), None):
            raise StackReadError(
                f"no results in {folder}",
                expected="the .npy files of a program that ran on `sarstack bench cases`",
                do="run that program first, or correct the path of --results",
            )
        file = folder / COSTS_FILE
        costs = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        self.cost_s_per_mpx = float(np.median(list(costs.values()))) if costs else NAN

    def despeckle(
        self,
        intensity: NDArray[np.float32],
        statistics: SceneStatistics,  # noqa: ARG002 - the results exist already
        summary: NDArray[np.float32] | None = None,  # noqa: ARG002
    ) -> NDArray[np.float32]:
        """Return the stored result of this image; see :meth:`Despeckler.despeckle`."""
        path = self.folder / f"{image_key(intensity)}.npy"
        if not path.exists():
            raise UsageError(
                "an image of the evaluation has no result",
                expected=f"a file {path.name}",
                where=str(self.folder),
                do="export cases with the same --suite, --stack, --scene, --size-px and "
                "--landscapes, and run the other program on all of them",
            )
        result = np.load(path, allow_pickle=False)
        if result.shape != intensity.shape:
            raise UsageError(
                f"the result has shape {result.shape}",
                expected=f"the shape of its image, {intensity.shape}",
                where=str(path),
                do="write one result of the same size for each image",
            )
        return np.asarray(result, dtype=np.float32)
