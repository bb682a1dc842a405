"""Read a schedule: the settings of a training on a device, from YAML."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from sarstack.training.device_patches import Simulation
    from sarstack.training.scheduled import ScheduleSettings


@dataclass(frozen=True)
class Schedule:
    """A schedule.

    Attributes
    ----------
    network : str
        Variant to train.
    start : str
        ``shipped``, ``scratch``, or the path of a model.
    validation_batches : int
        Number of held-out batches.
    training : ScheduleSettings
    simulation : Simulation
    architecture : dict of str to int
        Sizes that differ from those of the variant.
    """

    network: str
    start: str
    validation_batches: int
    training: "ScheduleSettings"
    simulation: "Simulation"
    architecture: dict[str, int] = field(default_factory=dict)


def read_schedule(path: Path, changes: dict[str, Any]) -> Schedule:
    """Read a schedule.

    Parameters
    ----------
    path : Path
    changes : dict
        Values that replace those of the file, by name, for instance ``training.steps``.

    Raises
    ------
    SystemExit
        If the file, or a change, has a name that does not exist, or a value of another type.
    """
    from sarstack.training.device_patches import Simulation
    from sarstack.training.scheduled import ScheduleSettings

    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, value in changes.items():
        section, _, key = name.rpartition(".")
        (entries.setdefault(section, {}) if section else entries)[key] = value
    kinds: dict[str, type] = {"training": ScheduleSettings, "simulation": Simulation}
    for section, kind in kinds.items():
        entries[section] = _make(kind, entries.get(section, {}), f"{path.name}: {section}.")
    made: Schedule = _make(Schedule, entries, f"{path.name}: ")
    return made


def _make(kind: type, entries: dict[str, Any], where: str) -> Any:
    known = {field.name: field.type for field in fields(kind)}
    for name, value in entries.items():
        if name not in known:
            raise SystemExit(f"{where}{name} is no setting; there are {', '.join(known)}")
        if known[name] in ("float", float):
            entries[name] = _read_number(value)
        wanted = {"int": int, "float": float, "str": str, "bool": bool}.get(str(known[name]))
        wanted = known[name] if isinstance(known[name], type) else wanted  # type: ignore[assignment]
        if wanted is not None and not isinstance(entries[name], wanted):
            raise SystemExit(f"{where}{name} = {value!r} is no {wanted.__name__}")
    return kind(**entries)


def _read_number(value: Any) -> Any:
    """Return a float; YAML reads 3e-4, without a point, as text."""
    try:
        return value if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return value
