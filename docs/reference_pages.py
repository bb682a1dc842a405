"""Pages that are made from the code: methods, settings of runs, commands."""

import inspect
from inspect import Parameter, cleandoc, signature
from pathlib import Path

import yaml
from command_page import describe_commands
from pydantic.fields import FieldInfo

from sarstack.cli.commands import cli
from sarstack.conventions import TAGS
from sarstack.despecklers import Despeckler
from sarstack.despecklers.catalogue import make_entry
from sarstack.despecklers.moving_window_method import MovingWindowMethod
from sarstack.despecklers.network_method import NetworkMethod
from sarstack.despecklers.registry import MIN_DATES_MULTI_TEMPORAL, builtin_classes
from sarstack.evaluation.laws import LAWS
from sarstack.networks.model_file import read_card, shipped_model
from sarstack.workflows.settings import (
    DespeckleConfig,
    FinetuneConfig,
    LabelsConfig,
    SelectionConfig,
    TrainConfig,
)


def write_reference_pages(folder: Path) -> list[Path]:
    """Write all pages; return their paths.

    A page whose text is the same as before is not written again: Sphinx then does not render it
    again either.
    """
    classes = builtin_classes()
    pages = {
        "methods/index.md": describe_index(classes),
        "settings.md": describe_settings(),
        "commands.md": describe_commands(cli, "sarstack"),
        "weights.md": describe_weights(),
        "laws.txt": describe_laws(),
        "tags.txt": describe_tags(),
        **{f"methods/{name}.md": describe_method(cls) for name, cls in classes.items()},
    }
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    return [folder / name for name in pages]


def group_methods(classes: dict[str, type[Despeckler]]) -> dict[str, list[str]]:
    """Return the names of all methods, by the heading that they stand under."""
    groups: dict[str, list[str]] = {
        "Networks": [], "Several dates": [], "Moving windows": [], "Larger surroundings": [],
    }  # fmt: skip
    for name, cls in sorted(classes.items()):
        if issubclass(cls, NetworkMethod):
            groups["Networks"].append(name)
        elif cls.n_summary:
            groups["Several dates"].append(name)
        elif issubclass(cls, MovingWindowMethod):
            groups["Moving windows"].append(name)
        else:
            groups["Larger surroundings"].append(name)
    return groups


def describe_index(classes: dict[str, type[Despeckler]]) -> str:
    """Return the page that lists all methods."""
    lines = [
        "# Methods", "",
        "Every method keeps the same laws ([How it works](../../how-it-works.md)). "
        f"Without `--method`, stacks of {MIN_DATES_MULTI_TEMPORAL} dates or more get "
        "[`despecknet-mt`](despecknet-mt.md), all others [`despecknet`](despecknet.md). "
        "[Choose a method](../../choose.md) helps, and [How good is it](../../quality.md) compares "
        "them. `sarstack methods` prints this list; "
        "`sarstack methods --speed` also measures the speed of each on your machine.",
    ]  # fmt: skip
    groups = group_methods(classes)
    for title, names in groups.items():
        lines += ["", f"## {title}", "", "| method | what it does | halo |", "|---|---|---|"]
        for name in names:
            entry = make_entry(classes[name])
            lines.append(f"| [`{name}`]({name}.md) | {entry.summary} | {entry.halo}&nbsp;px |")
    pages = [name for names in groups.values() for name in names]
    return "\n".join([*lines, "", "```{toctree}", ":hidden:", "", *pages, "```", ""])


def describe_method(cls: type[Despeckler]) -> str:
    """Return the page of one method: facts, parameters, how to run it, description, paper."""
    entry = make_entry(cls)
    facts = {
        "computes on": entry.domain,
        "dates": "all dates of the stack (multi-temporal)" if cls.n_summary else "one at a time",
        "halo": f"{entry.halo} px with the default parameters",
        "weights": f"shipped, licence {entry.licence}" if entry.licence else "",
        "paper": entry.paper or "none",
    }
    lines = [f"# {cls.name}", "", entry.summary, "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items() if value]
    lines += ["", "```console", f"$ sarstack despeckle stack/ -o out/ --method {cls.name}", "```"]
    lines += ["", "```python", f'clean = cube.despeck.apply("{cls.name}")', "```", ""]
    lines += describe_parameters(cls)
    body = cleandoc(cls.__doc__ or "").partition("\n")[2].strip()
    if body:
        lines += ["## Description", "", "```{eval-rst}", f".. autoclass:: {qualified_name(cls)}",
                  "   :no-members:", "```", ""]  # fmt: skip
    return "\n".join(lines)


def describe_parameters(cls: type[Despeckler]) -> list[str]:
    """Return a table of the parameters that `--set NAME=VALUE` takes."""
    parameters = signature(cls).parameters.values()
    if not parameters:
        return ["There are no parameters.", ""]
    rows = [f"| `{p.name}` | {show_default(p)} |" for p in parameters]
    return ["| parameter (`--set NAME=VALUE`) | default |", "|---|---|", *rows, ""]


def show_default(parameter: Parameter) -> str:
    """Return the default of a parameter as it is written with `--set`."""
    empty = parameter.default in (None, Parameter.empty)
    return "chosen by the program" if empty else f"`{parameter.default}`"


def qualified_name(cls: type[Despeckler]) -> str:
    """Return the name under which a class is imported."""
    return f"{inspect.getmodule(cls).__name__}.{cls.__name__}"


def describe_laws() -> str:
    """Return a list of the laws, a part of a page."""
    return "".join(f"- {law.title}\n" for law in LAWS)


def describe_tags() -> str:
    """Return a table of the tags of a result, a part of a page."""
    rows = "".join(f"| `{name}` | {meaning} |\n" for name, meaning in TAGS.items())
    return f"| tag | meaning |\n|---|---|\n{rows}"


def describe_weights() -> str:
    """Return the page of the weights that ship: size, licence, data, from their cards."""
    lines = [
        "# Weights and their licences", "",
        "sarstack is under the Apache-2.0 licence. So are the weights that ship with it. "
        "The table says which images they were trained on, as their model cards do. "
        "Weights that you train are yours.", "",
        "| weights | size | licence | trained on |", "|---|---|---|---|",
    ]  # fmt: skip
    folder = shipped_model("despecknet").parent
    for path in sorted(folder.glob("*.safetensors")):
        card = read_card(path)
        size_mb = path.stat().st_size / 1e6
        facts = (f"`{path.stem}`", f"{size_mb:.1f}&nbsp;MB", card.licence, card.data)
        lines.append(f"| {' | '.join(facts)} |")
    lines += [
        "", "Images of Sentinel-1 and OPERA among them contain modified Copernicus Sentinel data. "
        "None of these images is part of the package. The images of the benchmark suites "
        "`real-...`, which trained no weights, [have licences of their own]"
        "(../quality.md#unseen-real-textures).", "",
    ]  # fmt: skip
    return "\n".join(lines)


def describe_settings() -> str:
    """Return the page of the settings that run.yaml, sarstack.yaml and the Config classes have."""
    lines = [
        "# Settings", "",
        "Every run writes its settings to `run.yaml`; `sarstack despeckle --config run.yaml` "
        "repeats it. Commands without arguments use a file `sarstack.yaml` with the same names. "
        'In Python, `DespeckleConfig.make(stack="stack/", output="out/")` makes the settings of a '
        "run. Unknown names and impossible values are refused, all at once.",
    ]  # fmt: skip
    known: set[str] = set()
    for config in (SelectionConfig, DespeckleConfig, LabelsConfig, TrainConfig, FinetuneConfig):
        shared = config is SelectionConfig
        title = "All commands" if shared else f"sarstack {config.command()}"
        lines += ["", f"## {title}", "", "| setting | default | meaning |", "|---|---|---|"]
        for name, field in config.model_fields.items():
            if name not in known:
                lines.append(f"| `{name}` | {show_value(field)} | {field.description} |")
        known |= set(config.model_fields) if shared else set()
    return "\n".join([*lines, ""])


def show_value(field: FieldInfo) -> str:
    """Return the default of a setting as it is written in YAML; empty if its meaning tells it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return ""
    return f"`{yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}`"
