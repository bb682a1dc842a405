"""State of a despeckling run: statistics, failures and records of its images; its outcome."""

import logging
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from sarstack.errors import SarstackError, SomeDatesFailedError, StackReadError
from sarstack.html_repr import Details, render_html
from sarstack.output.pieces import Pieces
from sarstack.readers.paths import file_name, public_path
from sarstack.readers.remote import is_server_file
from sarstack.speckle.statistics import SceneStatistics
from sarstack.tiles import Tile, order_in_row_pairs
from sarstack.workflows.despeckle.images import Image
from sarstack.workflows.despeckle.plan import Plan
from sarstack.workflows.despeckle.results import RUN_REPORT, Record
from sarstack.workflows.despeckle.tasks import ExtraOutput, ImageRecord, TileRecord
from sarstack.workflows.fingerprint import FileStamp, stamp_file
from sarstack.workflows.progress import count_images

LOGGER = logging.getLogger("sarstack")


def _stamp(path: str) -> FileStamp:
    try:
        return stamp_file(path)
    except StackReadError:  # the server no longer has it
        return []


@dataclass
class Run:
    """State of a run."""

    plan: Plan
    folder: Path
    statistics: dict[str, dict[int, SceneStatistics]] = field(default_factory=dict)
    failures: dict[Path, str] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    peak_bytes: int = 0
    inputs: dict[str, FileStamp] = field(default_factory=dict)
    when_finished: Callable[[Image], None] = lambda _image: None

    def changed_inputs(self, paths: Iterable[str]) -> list[str]:
        """Return the files whose size or modification time changed since the run began."""
        known = [path for path in paths if is_server_file(path) or Path(path).is_file()]
        return [path for path in known if _stamp(path)[:2] != self.inputs.get(path, [])[:2]]

    def fail(self, image: Image, reason: Exception | str) -> None:
        """Record that an image failed; the others continue."""
        text = reason.summary() if isinstance(reason, SarstackError) else str(reason)
        text = text.removeprefix(f"{public_path(image.raster.path)} ") or type(reason).__name__
        if image.output not in self.failures:
            LOGGER.warning("%s: %s", file_name(image.raster.path), text)
        self.failures.setdefault(image.output, text)

    def todo(self) -> list[Image]:
        """Return the images that have not failed."""
        return [image for image in self.plan.images if image.output not in self.failures]

    def pieces(self, image: Image) -> Pieces:
        """Return the pieces of an image."""
        name = f"{image.layer}-noise" if image.is_noise else str(image.layer)
        folder = self.folder / image.polarisation / name
        config = self.plan.config
        return Pieces(folder, image.grid.shape, config.tile_px, config.keep_bits)

    def extras(self, image: Image) -> tuple[ExtraOutput, ...]:
        """Return the further outputs of an image."""
        pieces = self.pieces(image)
        return tuple(
            ExtraOutput(
                extra,
                replace(pieces, folder=pieces.folder.with_name(f"{image.layer}-{extra.content}")),
                str(path),
                image.describe_extra(extra),
            )
            for extra, path in image.extras
        )

    def _all_pieces(self, image: Image) -> list[Pieces]:
        return [self.pieces(image), *(extra.pieces for extra in self.extras(image))]

    def missing_tiles(self, image: Image) -> list[Tile]:
        """Return the tiles of an image of which a piece is not written, in the order of work."""
        wanted, tiles = self._all_pieces(image), order_in_row_pairs(self.pieces(image).tiles())
        return [t for t in tiles if not all(pieces.path(t).exists() for pieces in wanted)]

    def delete_pieces(self, image: Image) -> None:
        """Delete all pieces of an image."""
        for pieces in self._all_pieces(image):
            shutil.rmtree(pieces.folder, ignore_errors=True)

    @property
    def polarisations(self) -> list[str]:
        """Polarisations of the images to compute."""
        return sorted({image.polarisation for image in self.plan.images})

    def summary(self, polarisation: str) -> str:
        """Return the path of the sums over dates of a polarisation."""
        return str(self.folder / f"{polarisation}-summary")

    def first_pass(self, polarisation: str, layer: int) -> str:
        """Return the path of the first pass of a date, for methods of two passes."""
        return str(self.folder / f"{polarisation}-first-{layer}")

    def note_tile(self, record: TileRecord) -> None:
        """Record a finished tile."""
        self.peak_bytes = max(self.peak_bytes, record.peak_bytes)

    def note_image(self, image: Image, record: ImageRecord) -> None:
        """Record a finished image, and delete its pieces."""
        self.records |= {own["output"]: own for own in record.records}
        self.delete_pieces(image)
        self.peak_bytes = max(self.peak_bytes, record.peak_bytes)
        LOGGER.debug("finished %s", image.output.name)
        if record.records[0].get("valid_px") == 0 and not image.is_noise:
            name = file_name(image.raster.path)
            LOGGER.warning("%s has no valid pixel in this part: its result is empty", name)
        self.when_finished(image)


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB" if path.exists() else "uploaded"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes
    ----------
    outputs : tuple of Path
        All COGs of the plan, also those of earlier runs. If the output is a URL, they were
        uploaded and are no longer at these paths.
    failures : dict of str
        Reasons why images failed, by input file.
    peak_bytes : int
        Largest memory of a worker process.
    url : str
        Folder that the results were uploaded to; empty if they are in `folder`.
    record : dict
        The content of ``run.json``.
    """

    folder: Path
    outputs: tuple[Path, ...]
    failures: dict[str, str]
    peak_bytes: int
    url: str = ""
    record: Record = field(default_factory=dict)

    @property
    def places(self) -> list[str]:
        """Paths of all COGs, or their URLs if they were uploaded."""
        return [f"{self.url}/{p.name}" if self.url else str(p) for p in self.outputs]

    def _repr_html_(self) -> str:
        """Return the outcome as a notebook shows it."""
        memory = f"{self.peak_bytes / 1e6:.0f} MB per worker process" if self.peak_bytes else ""
        report = self.folder / RUN_REPORT
        facts = {
            "results": count_images(len(self.outputs)),
            "folder": self.url or str(self.folder),
            "report": str(report) if report.exists() else "",
            "peak memory": memory,
            "failed": count_images(len(self.failures)) if self.failures else "",
        }
        images = {path.name: _size(path) for path in self.outputs}
        details = [Details("reasons of failures", self.failures), Details("images", images)]
        return render_html("Despeckled" if not self.failures else "Despeckled in part",
                           facts, details)  # fmt: skip

    def raise_failures(self) -> None:
        """Raise if images have failed.

        Raises
        ------
        SomeDatesFailedError
            With the reasons. All other images are finished.
        """
        if self.failures:
            raise SomeDatesFailedError(
                f"{len(self.failures)} image(s) failed; all others are finished",
                where=[f"{name}: {reason}" for name, reason in self.failures.items()],
                do="repair or remove these files, and run the same command again (for a "
                "multi-temporal method, whose results depend on all dates, add --overwrite to make "
                "all again, or --keep-dates to keep the finished ones)",
            )
