"""The job of ``sarstack bench quality``: score methods on suites, stacks and scenes."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers import Despeckler, despeckler_names, make_despeckler
from sarstack.errors import ModelCardError
from sarstack.evaluation.metrics import SCORES
from sarstack.evaluation.real_scenes import RealScene, read_scene, score_scene
from sarstack.evaluation.real_stacks import RealStack, read_stack, score_stack
from sarstack.evaluation.recorded_results import RecordedResults
from sarstack.evaluation.scores import NAN, Cube, Scores, pool
from sarstack.evaluation.suites import SUITES, Suite, find_suite, make_cases, score_case
from sarstack.evaluation.tables import (
    Table,
    draw_crops,
    draw_table,
    explain_columns,
    render_text,
    write_csv,
    write_rows,
)
from sarstack.evaluation.textures import describe_sources
from sarstack.labels.statistics import leave_one_out_means

LOGGER = logging.getLogger("sarstack")

INPUT = "input"
# Crops of these scenes only: a picture of eight panels takes seconds and megabytes.
SCENES_WITH_CROPS = ("lines", "points", "fields", "town")
CROP_PX = 256

Methods = dict[str, Despeckler | None]
"""Methods by the name in tables: despecklers, recorded results of other programs, None (input)."""


def choose_methods(names: Sequence[str] = ()) -> Methods:
    """Build despecklers by name; the first entry is the input itself.

    Parameters
    ----------
    names : sequence of str
        Registered names or ``.safetensors`` files. Without names: all registered methods whose
        model is installed; a warning names the others.

    Returns
    -------
    dict of Despeckler
        By the name shown in tables; None stands for the input.

    Raises
    ------
    UsageError, ModelCardError
        If a method of `names` cannot be built.
    """
    chosen: Methods = {INPUT: None}
    for name in names or despeckler_names():
        try:
            despeckler = make_despeckler(name)
        except ModelCardError as failure:
            if names:
                raise
            LOGGER.warning("without %s: %s", name, failure.what)
            continue
        despeckler.warm_up()
        chosen[Path(name).stem if name.endswith(".safetensors") else name] = despeckler
    return chosen


def keep_intensity_methods(methods: Methods) -> Methods:
    """Return the methods that do not need complex numbers."""
    return {name: m for name, m in methods.items() if m is None or not m.needs_complex}


def choose_suites(suites: Sequence[str], real: Sequence[str]) -> Sequence[str]:
    """Return the given suites; all suites if neither suites nor real data are given."""
    return suites or ([] if real else list(SUITES))


def bench_quality(
    output: Path,
    *,
    suites: Sequence[str] = (),
    methods: Sequence[str] = (),
    results: Sequence[Path] = (),
    stacks: Sequence[str] = (),
    scenes: Sequence[str] = (),
    scale: str | None = None,
    size_px: int = 256,
    n_scenes: int = 6,
    show: Callable[[str], object] = LOGGER.info,
) -> list[Table]:
    """Score methods on simulated suites, real stacks and real scenes.

    Parameters
    ----------
    output : Path
        Folder of tables (CSV, PNG, ``tables.txt``) and crops; created if it does not exist.
    suites : sequence of str
        Names in :data:`sarstack.evaluation.suites.SUITES`. Default: all, or none if `stacks`
        or `scenes` are given.
    methods : sequence of str
        Registered names or ``.safetensors`` models. Default: all methods whose model is installed.
        Those that need complex numbers are scored on suites of a single look only.
    results : sequence of Path
        Folders with results of other programs, see :mod:`sarstack.evaluation.recorded_results`.
    stacks : sequence of str
        Paths of real stacks of four dates or more.
    scenes : sequence of str
        Paths of real scenes of one date.
    scale : {"linear", "amplitude", "db"}, optional
        Scale of stacks and scenes whose tags and values do not show it.
    size_px, n_scenes : int
        Side and number of simulated landscapes, see
        :func:`sarstack.evaluation.suites.make_cases`.
    show : callable
        Called with the text of each table when it is complete.

    Returns
    -------
    list of Table

    Raises
    ------
    UsageError, ModelCardError, StackError
        If a name, size or path cannot be used; raised before any method runs.
    """
    chosen_suites = [find_suite(name) for name in choose_suites(suites, [*stacks, *scenes])]
    chosen = choose_methods(methods) | {folder.name: RecordedResults(folder) for folder in results}
    real_stacks = [stack for path in stacks for stack in read_stack(path, scale)]
    real_scenes = [scene for path in scenes for scene in read_scene(path, scale)]
    output.mkdir(parents=True, exist_ok=True)
    tables, rows = [], []
    for suite in chosen_suites:
        table, found = bench_suite(suite, chosen, size_px, n_scenes, output)
        rows += found
        tables.append(_write_table(table, output, show))
    for kind, computed in (
        ("stacks", (bench_stack(stack, chosen, output) for stack in real_stacks)),
        ("scenes", (bench_scene(scene, chosen, output) for scene in real_scenes)),
    ):
        written = [_write_table(table, output, show) for table in computed]
        if len(written) > 1:
            written.append(_write_table(pool_tables(kind, written), output, show))
        tables += written
    if rows:
        write_rows(rows, output / "scenes.csv")
    notes = [explain_columns(tables)]
    if any(suite.has_real_truth for suite in chosen_suites):
        notes.append(describe_sources())
    for note in notes:
        show(note)
    text = "\n\n".join([*(render_text(table) for table in tables), *notes])
    (output / "tables.txt").write_text(text + "\n", encoding="utf-8")
    return tables


def _write_table(table: Table, output: Path, show: Callable[[str], object]) -> Table:
    write_csv(table, output / f"{table.name}.csv")
    draw_table(table, output / f"{table.name}.png")
    show(render_text(table) + "\n")
    return table


def bench_suite(
    suite: Suite, methods: Methods, size_px: int, n_scenes: int, output: Path | None = None
) -> tuple[Table, list[dict[str, str | float]]]:
    """Score methods on one suite; write crops to `output` if given.

    Returns
    -------
    table : Table
        Scores pooled over scenes.
    rows : list of dict
        Scores of each scene and method.
    """
    methods = methods if suite.has_fields else keep_intensity_methods(methods)
    found: dict[str, list[Scores]] = {name: [] for name in methods}
    costs: Scores = {}
    rows: list[dict[str, str | float]] = []
    for case in make_cases(suite, size_px, n_scenes):
        LOGGER.debug("%s, %s", suite.name, case.scene.name)
        costs = costs or {name: measure_cost(m, case.input_of(m)) for name, m in methods.items()}
        results = {}
        for name, despeckler in methods.items():
            given = case.input_of(despeckler)
            results[name] = given if despeckler is None else despeckler.apply(given)
            scores = score_case(case, results[name])
            found[name].append(scores)
            rows.append({"suite": suite.name, "scene": case.scene.name, "method": name, **scores})
        if output and (case.scene.name in SCENES_WITH_CROPS or suite.n_dates > 1):
            _draw_centre(
                case.noisy, case.truth, results, output / f"{suite.name}-{case.scene.name}.png"
            )
    pooled = {
        name: {**pool_scores(scores), "cpu_s_per_mpx": costs.get(name, NAN)}
        for name, scores in found.items()
    }
    return Table(suite.name, suite.title, compare_with_lee(pooled)), rows


def compare_with_lee(rows: Mapping[str, Scores]) -> dict[str, Scores]:
    """Add to each row its RMSE divided by that of ``lee``, a well-known method.

    NaN without ``lee``.
    """
    lee_db = rows.get("lee", {}).get("rmse_db", NAN)
    return {
        name: {**row, "rmse_relative_to_lee": row["rmse_db"] / lee_db} for name, row in rows.items()
    }


def bench_stack(stack: RealStack, methods: Methods, output: Path | None = None) -> Table:
    """Score methods on a real stack; write crops to `output` if given."""
    rows: dict[str, Scores] = {}
    results: dict[str, Cube] = {}
    for name, despeckler in keep_intensity_methods(methods).items():
        results[name], scores = score_stack(stack, despeckler)
        rows[name] = {**scores, "cpu_s_per_mpx": measure_cost(despeckler, stack.intensity)}
    if output:
        others = leave_one_out_means(stack.intensity)
        _draw_centre(stack.intensity, others, results, output / f"{stack.name}-crop.png")
    n_dates, height, width = stack.intensity.shape
    title = f"{stack.name}: {n_dates} dates of {height} x {width}, {stack.looks:.1f} looks"
    return Table(stack.name, title, rows)


def bench_scene(scene: RealScene, methods: Methods, output: Path | None = None) -> Table:
    """Score methods on a real scene; write crops to `output` if given."""
    rows: dict[str, Scores] = {}
    results: dict[str, Cube] = {}
    for name, despeckler in keep_intensity_methods(methods).items():
        results[name], scores = score_scene(scene, despeckler)
        rows[name] = {**scores, "cpu_s_per_mpx": measure_cost(despeckler, scene.intensity)}
    if output:
        _draw_centre(scene.intensity, None, results, output / f"{scene.name}-crop.png")
    _, height, width = scene.intensity.shape
    title = (
        f"{scene.name}: {height} x {width}, {scene.looks:.1f} looks, "
        f"{scene.flat.mean():.0%} of it homogeneous"
    )
    return Table(scene.name, title, rows)


def pool_tables(kind: str, tables: Sequence[Table]) -> Table:
    """Pool the tables of several stacks or scenes; each polarisation has equal weight."""
    rows = {
        method: pool_scores([table.rows[method] for table in tables]) for method in tables[0].rows
    }
    return Table(f"all-{kind}", f"All {len(tables)} {kind} and polarisations together", rows)


def pool_scores(scores: Sequence[Mapping[str, float]]) -> Scores:
    """Pool the scores of scenes, each score by its own rule, in the order of `SCORES`."""
    return {
        name: pool([s[name] for s in scores if name in s], score.pool)
        for name, score in SCORES.items()
        if any(name in s for s in scores)
    }


def measure_cost(method: Despeckler | None, noisy: NDArray[Any]) -> float:
    """Measure the CPU seconds per megapixel of a method; all threads of this process are added.

    The second of two calls is timed. The first one includes work that is done once per scene
    (loading a library, measuring a bias), which would dominate on small scenes. Two dates are
    enough. NaN for the input itself; the stored cost for results of other programs.
    """
    if method is None:
        return NAN
    if isinstance(method, RecordedResults):
        return method.cost_s_per_mpx
    few = noisy[:2]
    method.apply(few)
    started = time.process_time()
    method.apply(few)
    return (time.process_time() - started) / (few.size / 1e6)


def _draw_centre(noisy: Cube, reference: Cube | None, results: dict[str, Cube], path: Path) -> None:
    """Draw the centre of the middle date: input, reference and results."""
    date = len(noisy) // 2
    rows, columns = (
        slice((n - min(n, CROP_PX)) // 2, (n + min(n, CROP_PX)) // 2) for n in noisy.shape[1:]
    )

    def crop(cube: Cube) -> Cube:
        return np.asarray(cube[date, rows, columns])

    crops = {name: crop(cube) for name, cube in results.items() if name != INPUT}
    draw_crops(crop(noisy), None if reference is None else crop(reference), crops, path, path.stem)
