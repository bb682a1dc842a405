"""Read finished results and compare them with their checksums: images, labels and models."""

import logging
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

from sarstack.cluster.layout import n_cores
from sarstack.conventions import EXTRAS
from sarstack.errors import DamagedResultsError, SarstackError, UsageError
from sarstack.labels.statistics import LABELS
from sarstack.output.vrt import name_db_view
from sarstack.readers.formats.gdal import open_gdal
from sarstack.workflows.despeckle.results import (
    RUN_RECORD,
    UNFINISHED_FOLDER,
    Record,
    inspect_result,
    read_records,
)
from sarstack.workflows.fingerprint import FINGERPRINT_TAG, read_tags
from sarstack.workflows.label_tasks import CHECKSUM, CHECKSUM_ATTRIBUTE
from sarstack.workflows.places import is_url
from sarstack.workflows.settings import LabelsConfig

LOGGER = logging.getLogger("sarstack")
Status = Literal["ok", "unrecorded", "foreign", "damaged", "missing"]


@dataclass(frozen=True)
class Finding:
    """What was found at one path.

    Attributes
    ----------
    status : str
        ``ok``: as it was written. ``unrecorded``: a result without a checksum (older versions
        wrote none) that can be read. ``foreign``: not a result of sarstack. ``damaged``: other
        bytes than were written, or of another run than the image to which it belongs.
        ``missing``: was written, and is not there.
    path : Path
    reason : str
        What is wrong; empty for ``ok``.
    """

    status: Status
    path: Path
    reason: str = ""

    def render(self) -> str:
        """Return one line of columns with tabs between them."""
        return "\t".join([self.status, str(self.path), *([self.reason] if self.reason else [])])


@dataclass(frozen=True)
class Report:
    """The findings of a check, and the command that makes again what is damaged or missing."""

    findings: tuple[Finding, ...]
    remedy: str

    @property
    def n_ok(self) -> int:
        """Number of results that are as they were written."""
        return sum(finding.status == "ok" for finding in self.findings)

    def raise_damage(self) -> None:
        """Raise if results are damaged or missing.

        Raises
        ------
        DamagedResultsError
            With the command that makes them again.
        """
        bad = [f for f in self.findings if f.status in ("damaged", "missing")]
        if bad:
            raise DamagedResultsError(
                f"{len(bad)} of {len(self.findings)} results are damaged or missing",
                where=[f"{finding.path.name}: {finding.reason}" for finding in bad],
                do=f"make them again: {self.remedy}",
            )


def check_results(target: Path) -> Report:
    """Read every byte of results, and compare it with the checksums that were kept.

    Parameters
    ----------
    target : Path
        An output folder of `despeckle` or `decorrelate`, a labels store, or a model file.

    Returns
    -------
    Report
        Findings in the order of their paths.

    Raises
    ------
    UsageError
        If there are no results at this path, or it is a URL.
    """
    if is_url(target):
        raise UsageError(
            f"results at a URL cannot be checked: {target}",
            expected="an output folder, a labels store or a model on a disk of this machine",
            where="RESULTS",
            do="download them, and check the copy",
        )
    path = target.absolute()
    if path.suffix == ".safetensors" and path.is_file():
        return Report((check_model(path),), "sarstack train or finetune with --overwrite")
    if (path / "zarr.json").is_file():
        return _check_labels(path)
    if path.is_dir():
        return _check_folder(path)
    raise UsageError(
        f"there are no results at {target}",
        expected="an output folder of despeckle, a labels store, or a .safetensors model",
        do="check the path",
    )


def _check_folder(folder: Path) -> Report:
    records = read_records(folder)
    images = {path.name for path in folder.glob("*.tif")}
    models = sorted(folder.glob("*.safetensors"))
    if not (records or images or models):
        raise UsageError(f"there are no results in {folder}", do="check the path")
    jobs: list[Callable[[], Finding]] = [
        partial(_check_image, folder / name, records.get(name))
        for name in sorted(images | {*records})
    ]
    jobs += [partial(check_model, model) for model in models]
    findings = [*_run(jobs)]
    findings += _find_missing_views(findings)
    if (folder / UNFINISHED_FOLDER).exists():
        LOGGER.warning("the folder has an interrupted run: only finished images were checked")
    settings = folder / "run.yaml"
    again = (
        f"sarstack despeckle --config {settings} --verify"
        if settings.exists()
        else "delete them, and run the command that made them"
    )
    return Report(tuple(findings), again)


def _run(jobs: Iterable[Callable[[], Finding]]) -> Iterator[Finding]:
    with ThreadPoolExecutor(n_cores()) as threads:
        yield from threads.map(lambda job: job(), jobs)


def _check_image(path: Path, record: Record | None) -> Finding:
    if not path.is_file():
        return Finding("missing", path, f"listed in {RUN_RECORD}")
    found = inspect_result(path, record, every_byte=True)
    if found.damage:
        return Finding("damaged", path, found.damage)
    if found.fingerprint is not None and (reason := _describe_other_run(path, found.fingerprint)):
        return Finding("damaged", path, reason)
    if record and "sha256" in record:
        return Finding("ok", path)
    if found.fingerprint is None:
        return Finding("foreign", path, "neither listed in run.json nor with the tags of a result")
    return Finding("unrecorded", path, "no checksum was kept; all its pixels can be read")


def _describe_other_run(path: Path, mark: str) -> str:
    """Tell if a second image, for instance an uncertainty, is of another run than its image."""
    ending = next((extra.ending for extra in EXTRAS if path.stem.endswith(extra.ending)), "")
    image = path.with_name(f"{path.stem.removesuffix(ending)}.tif")
    if not ending or not image.is_file():
        return ""
    with suppress(SarstackError):  # a damaged image has a finding of its own
        if read_tags(image).get(FINGERPRINT_TAG) != mark:
            return f"it is of other settings or input than {image.name}"
    return ""


def _find_missing_views(findings: Iterable[Finding]) -> list[Finding]:
    images = [f.path for f in findings
              if f.path.suffix == ".tif" and f.status in ("ok", "unrecorded")
              and not f.path.stem.endswith(tuple(e.ending for e in EXTRAS))]  # fmt: skip
    return [
        Finding("missing", name_db_view(path), "the dB view of an image")
        for path in images
        if not name_db_view(path).exists() and not _is_decorrelated(path)
    ]


def _is_decorrelated(path: Path) -> bool:
    """Tell whether an image was written by `decorrelate`: complex numbers, without a dB view."""
    with open_gdal(str(path)) as raster:
        return str(raster.dtypes[0]).startswith("complex")


def check_model(path: Path) -> Finding:
    """Compare a model file with its checksum."""
    from sarstack.networks.model_file import load_model, read_metadata
    from sarstack.networks.stored_weights import CHECKSUM_KEY

    try:
        load_model(path)
    except SarstackError as failure:
        return Finding("damaged", path, failure.what)
    if CHECKSUM_KEY in read_metadata(path):
        return Finding("ok", path)
    return Finding("unrecorded", path, "no checksum was kept; it can be loaded")


def _check_labels(store: Path) -> Report:
    """Decode all chunks of a labels store; each ends with a checksum of its bytes."""
    import zarr

    try:
        group: Any = zarr.open_group(str(store), mode="r")
        recorded = group.attrs.get(CHECKSUM_ATTRIBUTE) == CHECKSUM
        arrays = sorted(group.arrays())
    except (OSError, ValueError, KeyError, TypeError) as failure:
        reason = f"its metadata cannot be read ({failure})"
        return Report((Finding("damaged", store, reason),), _describe_labels_command(store, {}))
    findings: list[Finding] = []
    for name, array in arrays:
        jobs = [partial(_check_chunk, store, name, array, place) for place in _places(array)]
        bad = [finding for finding in _run(jobs) if finding.status != "ok"]
        whole = Finding("ok", store / name) if recorded or name not in LABELS else Finding(
            "unrecorded", store / name, "no checksums were kept; all its chunks can be decoded"
        )  # fmt: skip
        findings += bad or [whole]
    missing = {*LABELS} - {name for name, _ in arrays}
    findings += [Finding("missing", store / name, "a variable") for name in sorted(missing)]
    return Report(tuple(findings), _describe_labels_command(store, dict(group.attrs)))


def _places(array: Any) -> Iterator[tuple[int, ...]]:
    """Yield the indices of all chunks of an array."""
    counts = [-(-n // width) for n, width in zip(array.shape, array.chunks, strict=True)]
    return product(*map(range, counts))


def _check_chunk(store: Path, name: str, array: Any, place: tuple[int, ...]) -> Finding:
    path = store.joinpath(name, "c", *map(str, place))
    # Every chunk of a variable is written, also one without data.
    if name in LABELS and not path.is_file():
        return Finding("missing", path, "a chunk")
    try:
        array.get_block_selection(place) if place else array[()]
    except Exception as failure:  # each codec has its own errors
        return Finding("damaged", path, f"it cannot be decoded: {str(failure).splitlines()[0]}")
    return Finding("ok", path)


def _describe_labels_command(store: Path, attributes: Mapping[str, Any]) -> str:
    """Return the command that makes a labels store again, with its settings."""
    try:
        settings = LabelsConfig.model_validate_json(str(attributes["settings"]))
    except (KeyError, ValueError):
        return f"sarstack build-labels STACK -o {shlex.quote(str(store))} --overwrite"
    words = ["sarstack", "build-labels", settings.stack, "-o", str(store), "--overwrite"]
    given = settings.model_dump(
        mode="json",
        exclude_defaults=True,
        exclude={"stack", "output", "cluster", "workers", "work_folder"},
    )
    for polarisation in given.pop("polarisations", ()):
        words += ["--pol", polarisation]
    for name, value in given.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(f"--{name.replace('_', '-')}={text}")
    return shlex.join(words)
