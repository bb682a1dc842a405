"""Run the experiments of the deSpeckNet paper on simulated scenes or a stack. See README.md."""

import argparse
import time
from pathlib import Path

import torch
from conclusions import render_conclusions
from experiments import METHODS, Outcome, SmallNetwork, run_methods
from figures import draw_distributions, draw_ratios
from scenes import KINDS, Scene, read_scenes, simulate_scene
from scoring import fit_gamma
from tables import render_tables

TABLES, SMALLEST_PX = "tables.md", 64
FITTED = "Figure 10: looks of the gamma density that fits the estimated speckle"


def main(arguments: list[str] | None = None) -> None:
    """Run, print the tables, write tables.md, figure10.png and figure11.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stack", nargs="?", help="scenes of this stack, beside the simulated ones")
    parser.add_argument("-o", "--output", type=Path, default=Path("paper_tables"))
    parser.add_argument("--size", type=int, default=256, help="width of the scenes, in pixels")
    parser.add_argument("--steps", type=int, default=300, help="of each training of Table VII")
    parser.add_argument("--no-phases", action="store_true", help="leave out Tables VI to VIII")
    given = parser.parse_args(arguments)
    if given.size < SMALLEST_PX or given.steps < 1:
        parser.error(f"--size should be at least {SMALLEST_PX}, --steps at least 1")
    given.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # two networks are trained at a time
    started = time.monotonic()
    scenes = [simulate_scene(kind, given.size) for kind in KINDS]
    real = [] if given.stack is None else read_scenes(given.stack, given.size)
    outcome = run_methods([*scenes, *real], given.output)
    draw_distributions([*scenes, *real], outcome.noises, given.output / "figure10.png")
    draw_ratios([*scenes, *real], outcome.results, given.output / "figure11.png")

    def save() -> None:
        text = render(outcome, [*scenes, *real])
        (given.output / TABLES).write_text(text, encoding="utf-8")

    save()
    if not given.no_phases:
        SmallNetwork(scenes, given.steps).run(outcome.numbers, save)
        save()
    print((given.output / TABLES).read_text(encoding="utf-8"))
    spent = f"{time.monotonic() - started:.0f} s, {time.process_time():.0f} s of processors"
    print(f"{spent}; figures and tables: {given.output}")


def render(outcome: Outcome, scenes: list[Scene]) -> str:
    """Return all tables and conclusions as Markdown."""
    used = next(iter(outcome.results.values()))
    methods = [name for name in METHODS if name in used]
    parts = [render_tables(outcome.numbers, methods), FITTED, _render_looks(outcome, scenes)]
    parts += ["Conclusions", render_conclusions(outcome.numbers)]
    return "\n\n".join(parts) + "\n"


def _render_looks(outcome: Outcome, scenes: list[Scene]) -> str:
    names = list(next(iter(outcome.noises.values())))
    lines = [f"| scene | {' | '.join(names)} | looks |", "|---" * (len(names) + 2) + "|"]
    for scene in scenes:
        noises = outcome.noises[scene.name]
        looks = [f"{fit_gamma(noises[name]):.1f}" if name in noises else "-" for name in names]
        lines.append(f"| {scene.name} | {' | '.join(looks)} | {scene.statistics.looks:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
