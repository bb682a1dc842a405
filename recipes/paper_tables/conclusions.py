"""What the paper concludes from its tables, tested on its numbers and on ours."""

from collections.abc import Callable
from dataclasses import dataclass, field

from paper import (
    BM3D,
    BOTH,
    DESPECKNET,
    LEE,
    METHODS,
    PHASE_1_ONLY,
    PHASE_2_ONLY,
    REFERENCE,
    SAR_CNN,
    SCENES,
    TABLE_4,
    TABLE_5,
    TABLE_6,
    TABLE_7,
    TABLE_8,
    WITH_REFERENCE,
    Losses,
    Table,
)


@dataclass
class Numbers:
    """The numbers of all tables.

    Attributes
    ----------
    methods : dict
        Tables IV and V: scores of each method by scene and name of the score.
    phases : dict
        Table VI: the same by phases in place of methods.
    training, tuning : dict
        Tables VII and VIII: scores by weights of the losses.
    """

    methods: Table = field(default_factory=dict)
    phases: Table = field(default_factory=dict)
    training: dict[Losses, dict[str, float]] = field(default_factory=dict)
    tuning: dict[Losses, dict[str, float]] = field(default_factory=dict)


PAPER = Numbers(TABLE_4 | TABLE_5, TABLE_6, TABLE_7, TABLE_8)


@dataclass(frozen=True)
class Conclusion:
    """A statement about some scenes, and the test of it."""

    table: str
    text: str
    scenes: tuple[str, ...]
    holds: Callable[[Numbers, str], bool]


def _of_methods(numbers: Numbers, scene: str, score: str) -> dict[str, float]:
    """Return the scores of the paper's methods, without those that were not run."""
    row = numbers.methods[scene, score]
    return {method: row[method] for method in METHODS if method in row}


def _is_highest(numbers: Numbers, scene: str, score: str) -> bool:
    row = _of_methods(numbers, scene, score)
    return row[DESPECKNET] == max(row.values())


def _is_lowest(numbers: Numbers, scene: str, score: str, method: str) -> bool:
    row = _of_methods(numbers, scene, score)
    return row[method] == min(row.values())


def _is_nearest_ratio(numbers: Numbers, scene: str) -> bool:
    ideal = numbers.methods[scene, "VoR"][REFERENCE]
    row = _of_methods(numbers, scene, "VoR")
    return min(row, key=lambda method: abs(row[method] - ideal)) == DESPECKNET


def _is_best_tuning(numbers: Numbers, _: str) -> bool:
    best = numbers.tuning[1e-2, 0, 1]["PSNR"]
    return all(best >= scores["PSNR"] for scores in numbers.tuning.values())


def _more_noise_weight(numbers: Numbers, _: str) -> bool:
    low, high = numbers.training[1, 0, 1e-3], numbers.training[1, 0, 1]
    return high["ENL"] > low["ENL"] and high["EPI"] < low["EPI"]


CONCLUSIONS = (
    Conclusion("IV", "deSpeckNet has the highest PSNR of the four methods", WITH_REFERENCE,
               lambda n, s: _is_highest(n, s, "PSNR")),
    Conclusion("IV", "deSpeckNet has the highest SSIM", WITH_REFERENCE,
               lambda n, s: _is_highest(n, s, "SSIM")),
    Conclusion("IV", "deSpeckNet has the most looks (ENL)", SCENES,
               lambda n, s: _is_highest(n, s, "ENL")),
    Conclusion("IV, text", "improved Lee sigma has the lowest PSNR", WITH_REFERENCE,
               lambda n, s: _is_lowest(n, s, "PSNR", LEE)),
    Conclusion("IV", "SAR-BM3D keeps edges better than Lee sigma (EPI)", WITH_REFERENCE,
               lambda n, s: n.methods[s, "EPI"][BM3D] > n.methods[s, "EPI"][LEE]),
    Conclusion("IV", "SAR-BM3D leaves most speckle of GRD images (ENL below that of Lee sigma)",
               ("Indonesia", "DRC", "NL-Utrecht", "NL-Flevoland"),
               lambda n, s: n.methods[s, "ENL"][BM3D] < n.methods[s, "ENL"][LEE]),
    Conclusion("IV", "SAR-CNN makes the town worse than the input (DG below 0)", ("NL-Utrecht",),
               lambda n, s: n.methods[s, "DG"][SAR_CNN] < 0),
    Conclusion("IV", "SAR-BM3D keeps strong scatterers better than deSpeckNet (C_NN)",
               ("NL-Utrecht",),
               lambda n, s: n.methods[s, "C_NN"][BM3D] > n.methods[s, "C_NN"][DESPECKNET]),
    Conclusion("V, text", "the variance of the ratio of deSpeckNet is nearest to the reference",
               WITH_REFERENCE, _is_nearest_ratio),
    Conclusion("V", "SAR-BM3D has the smallest variance of the ratio on GRD images",
               ("Indonesia", "DRC", "NL-Utrecht", "NL-Flevoland"),
               lambda n, s: _is_lowest(n, s, "VoR", BM3D)),
    Conclusion("VI", "both phases have a higher PSNR than phase 1 only", WITH_REFERENCE[1:],
               lambda n, s: n.phases[s, "PSNR"][BOTH] > n.phases[s, "PSNR"][PHASE_1_ONLY]),
    Conclusion("VI", "both phases have more looks than phase 1 only", SCENES[1:],
               lambda n, s: n.phases[s, "ENL"][BOTH] > n.phases[s, "ENL"][PHASE_1_ONLY]),
    Conclusion("VI", "both phases have a higher PSNR than phase 2 only", WITH_REFERENCE,
               lambda n, s: n.phases[s, "PSNR"][BOTH] > n.phases[s, "PSNR"][PHASE_2_ONLY]),
    Conclusion("VI", "phase 1 only makes the town worse than the input (DG below 0)",
               ("NL-Utrecht",), lambda n, s: n.phases[s, "DG"][PHASE_1_ONLY] < 0),
    Conclusion("VII", "total variation of weight 1e-2 costs more than 1 dB of PSNR in training",
               ("Indonesia",),
               lambda n, _: n.training[1, 1e-2, 1e-2]["PSNR"] < n.training[1, 0, 1e-2]["PSNR"] - 1),
    Conclusion("VII", "a larger weight of the noisy image gives more looks and weaker edges",
               ("Indonesia",), _more_noise_weight),
    Conclusion("VIII", "mu 1e-2 without total variation has the highest PSNR", ("DRC",),
               _is_best_tuning),
    Conclusion("VIII", "total variation of weight 1e-2 ruins the image (DG below 0)", ("DRC",),
               lambda n, _: n.tuning[1e-2, 1e-2, 1]["DG"] < 0),
    Conclusion("VIII", "a larger weight of the clean image leaves more speckle", ("DRC",),
               lambda n, _: n.tuning[1.5e-1, 1e-4, 1]["ENL"] < n.tuning[1.5e-3, 1e-6, 1]["ENL"]),
)  # fmt: skip


def check_conclusion(conclusion: Conclusion, numbers: Numbers) -> dict[str, bool]:
    """Return for each scene whether a conclusion holds; without scenes that were not computed."""
    found = {}
    for scene in conclusion.scenes:
        try:
            found[scene] = conclusion.holds(numbers, scene)
        except KeyError:
            continue
    return found


def render_conclusions(ours: Numbers) -> str:
    """Return a table: the conclusion, where it holds in the paper's numbers, and in ours."""
    lines = ["| table | the paper says | in its numbers | in ours | |", "|---|---|---|---|---|"]
    for one in CONCLUSIONS:
        paper, own = check_conclusion(one, PAPER), check_conclusion(one, ours)
        lines.append(
            f"| {one.table} | {one.text} | {_count(paper)} | {_count(own)} | {_judge(own)} |"
        )
    return "\n".join(lines)


def _count(found: dict[str, bool]) -> str:
    holds = [scene for scene, true in found.items() if true]
    if len(found) == 1:
        return "yes" if holds else "no"
    named = f": {', '.join(holds)}" if holds and len(holds) < len(found) else ""
    return f"{len(holds)} of {len(found)}{named}" if found else "not computed"


def _judge(found: dict[str, bool]) -> str:
    if not found:
        return ""
    return "agree" if all(found.values()) else "in part" if any(found.values()) else "differ"
