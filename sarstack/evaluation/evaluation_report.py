"""The report of an evaluation: tables of scores, maps, crops and distributions of each image."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import TAGS
from sarstack.errors import UsageError, hide_secrets
from sarstack.evaluation import report
from sarstack.evaluation.image_pairs import Comparison
from sarstack.evaluation.image_scores import Column, ImagePair
from sarstack.evaluation.scored_results import ScoredResult, explain, used_columns
from sarstack.output.quicklook import choose_stretch
from sarstack.readers.paths import file_name, public_path
from sarstack.tiles import Shape, Window

CROP_PX, N_CROPS = 320, 2
"""Width and number of the crops of an image in a report."""
_PLACES_PER_AXIS, _BLOCK_PX = 5, 8
_HASHES = ("SARSTACK_FINGERPRINT", "SARSTACK_SETTINGS", "SARSTACK_DATES")


def write_evaluation(
    evaluated: Sequence[ScoredResult], path: Path, *, title: str = "Evaluation", n_images: int = 3
) -> Path:
    """Write the report of an evaluation.

    Parameters
    ----------
    evaluated : sequence of ScoredResult
    path : Path
        HTML file.
    title : str
    n_images : int
        Pictures are drawn of at most this number of input images: the middle ones of each
        polarisation first.

    Raises
    ------
    UsageError
        If there is nothing to show.
    """
    if not evaluated:
        raise UsageError("there is no result to show", expected="one result or more",
                         do="give a folder or an image")  # fmt: skip
    groups = _group_by_input(evaluated)
    shown = _choose_groups(list(groups), n_images)
    facts = [
        ("input", public_path(str(Path(evaluated[0].comparison.noisy.path).parent))),
        ("methods", ", ".join(dict.fromkeys(one.comparison.method for one in evaluated))),
        ("images", f"{len(groups)} inputs, {len(evaluated)} results"),
        ("looks of the inputs", _span(one.pair.looks for one in evaluated)),
        ("reference", "yes" if evaluated[0].comparison.reference else "none"),
    ]
    return report.write_report(
        report.Report(
            title, facts, make_tables(evaluated),
            [_show_image(key, groups[key]) for key in shown],
            settings=list_settings(evaluated),
        ),
        path,
    )  # fmt: skip


def make_tables(evaluated: Sequence[ScoredResult]) -> list[report.ReportTable]:
    """Return the means of each method and polarisation, and the scores of all results."""
    columns = used_columns(evaluated)
    groups: dict[str, dict[str, list[ScoredResult]]] = {}
    for one in evaluated:
        of_polarisation = groups.setdefault(one.comparison.polarisation.upper(), {})
        of_polarisation.setdefault(one.comparison.method, []).append(one)
    means = {
        polarisation: {method: _average(own, columns) for method, own in methods.items()}
        for polarisation, methods in groups.items()
    }
    by_input = {
        " ".join(key): {one.name: one.scores.values for one in group}
        for key, group in _group_by_input(evaluated).items()
    }
    legend = [f"{column.heading}: {explain(column)}" for column in columns.values()]
    headings = [column.heading for column in columns.values()]
    n_images = len(by_input)
    first = f"Means over {n_images} images" if n_images > 1 else "Scores"
    tables = [report.ReportTable(first, "method", headings,
                                 _make_rows(means, columns, with_group=True), legend)]  # fmt: skip
    if n_images > 1:
        title = f"Scores of all {len(evaluated)} results"
        rows = _make_rows(by_input, columns)
        tables.append(report.ReportTable(title, "result", headings, rows, folded=True))
    return tables


def list_settings(evaluated: Sequence[ScoredResult]) -> list[report.ReportSettings]:
    """Return how the results of each method were made: their files, and the tags of sarstack.

    Images of other programs without such tags have the names of their files only. Of a tag that
    differs between the images of a method, the first and the last value are given.
    """
    groups: dict[str, list[Comparison]] = {}
    for one in evaluated:
        groups.setdefault(one.comparison.method, []).append(one.comparison)
    settings = []
    for method, own in groups.items():
        files = _summarise([file_name(public_path(one.despeckled.path)) for one in own])
        tags = dict.fromkeys(tag for one in own for tag in sorted(one.tags) if _is_shown(tag))
        values = {tag: _summarise([one.tags[tag] for one in own if tag in one.tags])
                  for tag in tags}  # fmt: skip
        settings.append(report.ReportSettings(method, [("file", files), *values.items()]))
    return settings


def _is_shown(tag: str) -> bool:
    return (tag in TAGS or tag.startswith("SPECKLE_")) and tag not in _HASHES


def _summarise(values: Sequence[str]) -> str:
    different = sorted(set(values), key=_sort_key)
    if len(different) == 1:
        return hide_secrets(different[0])
    return hide_secrets(f"{different[0]} to {different[-1]} ({len(different)} values)")


def _sort_key(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return np.inf, value


def _average(group: Sequence[ScoredResult], columns: dict[str, Column]) -> dict[str, float]:
    values = {name: np.array([one.scores.values[name] for one in group]) for name in columns}
    return {name: float(v[np.isfinite(v)].mean()) if np.isfinite(v).any() else np.nan
            for name, v in values.items()}  # fmt: skip


def _make_rows(
    groups: dict[str, dict[str, dict[str, float]]],
    columns: dict[str, Column],
    *,
    with_group: bool = False,
) -> list[report.Row]:
    """Return one row a result; the best value of each column among the rivals of a group."""
    rows = []
    for group, rivals in groups.items():
        best = {name: _find_best(rivals, name, column) for name, column in columns.items()}
        for label, values in rivals.items():
            cells = [
                report.Cell(
                    f"{values[name]:.{column.decimals}f}" if np.isfinite(values[name]) else "-",
                    len(rivals) > 1 and best[name] == label,
                )
                for name, column in columns.items()
            ]
            rows.append(report.Row(f"{label} {group}" if with_group else label, cells))
    return rows


def _find_best(rivals: dict[str, dict[str, float]], name: str, column: Column) -> str | None:
    known = {label: values[name] for label, values in rivals.items() if np.isfinite(values[name])}
    if not column.ideal or not known:
        return None
    if column.ideal in ("low", "high"):
        sign = 1 if column.ideal == "low" else -1
        return min(known, key=lambda label: sign * known[label])
    return min(known, key=lambda label: abs(known[label] - float(column.ideal)))


Input = tuple[str, str, str]


def _input_of(one: ScoredResult) -> Input:
    return one.comparison.polarisation, one.comparison.date, one.comparison.noisy.path


def _group_by_input(evaluated: Iterable[ScoredResult]) -> dict[Input, list[ScoredResult]]:
    groups: dict[Input, list[ScoredResult]] = {}
    for one in evaluated:
        groups.setdefault(_input_of(one), []).append(one)
    return groups


def _choose_groups(keys: Sequence[Input], n_images: int) -> list[Input]:
    """Return the middle date of each polarisation, then the first ones."""
    by_polarisation: dict[str, list[Input]] = {}
    for key in keys:
        by_polarisation.setdefault(key[0], []).append(key)
    middle = [own[len(own) // 2] for own in by_polarisation.values()]
    return [*middle, *(key for key in keys if key not in middle)][:n_images]


def _show_image(key: Input, group: Sequence[ScoredResult]) -> report.ReportImage:
    polarisation, first = key[0], group[0]
    maps = first.scores
    low, high = choose_stretch(maps.despeckled_map, polarisation)
    pictures = [report.Picture("input, homogeneous areas outlined", report.draw_map(
        maps.noisy_map, maps.map_step_px, low, high, maps.windows))]  # fmt: skip
    pictures += [
        report.Picture(one.comparison.method, report.draw_map(
            one.scores.despeckled_map, maps.map_step_px, low, high))
        for one in group
    ]  # fmt: skip
    crops = []
    for window in choose_crops(first.pair):
        before = first.pair.noisy(window)
        after = {one.comparison.method: one.pair.despeckled(window) for one in group}
        title = f"rows {window.y0} to {window.y1}, columns {window.x0} to {window.x1}"
        crops.append(report.make_crop(title, before, after, polarisation))
    counts = {one.comparison.method: one.scores.ratio_counts for one in group}
    return report.ReportImage(
        " ".join(part for part in (polarisation.upper(), key[1], Path(key[2]).name) if part),
        crops, f"{polarisation.upper()}, {low:g} to {high:g} dB from black to white.",
        pictures, report.draw_distribution(counts, first.pair.looks),
        "Distribution of input / despeckled over all pixels, and the gamma density of speckle "
        "(dotted).",
    )  # fmt: skip


def choose_crops(pair: ImagePair) -> list[Window]:
    """Choose the places with most detail, among a grid of places of the image.

    Detail is the standard deviation of the mean level of blocks of 8 px, in dB. Places that are
    mostly nodata are left out, unless all are.
    """
    side = Shape(min(pair.shape.y, CROP_PX), min(pair.shape.x, CROP_PX))
    ys, xs = (
        np.unique(np.linspace(0, size - crop, _PLACES_PER_AXIS).astype(int))
        for size, crop in zip(pair.shape, side, strict=True)
    )
    places = [Window(int(y), int(y) + side.y, int(x), int(x) + side.x) for y in ys for x in xs]
    detail = [_measure_detail(pair.despeckled(place)) for place in places]
    chosen: list[Window] = []
    for index in np.argsort(detail)[::-1]:
        place = places[int(index)]
        if all(place.overlap(other) is None for other in chosen):
            chosen.append(place)
        if len(chosen) == N_CROPS:
            break
    return chosen


def _measure_detail(image: NDArray[np.float32]) -> float:
    rows, columns = (max(size // _BLOCK_PX, 1) for size in image.shape)
    if min(image.shape) < _BLOCK_PX:
        return 0.0
    whole = image[: rows * _BLOCK_PX, : columns * _BLOCK_PX]
    blocks = whole.reshape(rows, _BLOCK_PX, columns, _BLOCK_PX).mean(axis=(1, 3))
    valid = blocks[np.isfinite(blocks) & (blocks > 0)]
    return float(np.log(valid).std()) * valid.size / blocks.size if valid.size else 0.0


def _span(values: Iterable[float]) -> str:
    numbers = sorted(values)
    low, high = numbers[0], numbers[-1]
    return f"{low:.1f}" if high - low < 0.05 else f"{low:.1f} to {high:.1f}"
