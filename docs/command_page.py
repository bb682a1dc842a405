"""The page of all commands, made from the same click objects as `--help`."""

from collections.abc import Iterator
from inspect import cleandoc

import click

from sarstack.errors import EXIT_CODES

# click sets this mark before a paragraph whose lines must not be joined.
_KEEP_LINES = "\b"


def describe_commands(root: click.Group, program: str) -> str:
    """Return the page: each command with its description, arguments and options; exit codes."""
    lines = ["# Commands", "", "The same text as `sarstack COMMAND --help`."]
    for name, command in walk_commands(root, program):
        lines += ["", f"## {name}", "", *describe_command(name, command)]
    lines += ["", "## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    return "\n".join([*lines, ""])


def walk_commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and all commands below it, with their full names."""
    yield name, command
    if isinstance(command, click.Group):
        for below in sorted(command.commands):
            yield from walk_commands(command.commands[below], f"{name} {below}")


def describe_command(name: str, command: click.Command) -> list[str]:
    """Return the section of one command."""
    context = click.Context(command, info_name=name, help_option_names=["-h", "--help"])
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    lines = ["```console", f"$ {usage}", "```", "", *describe_help(command.help or "")]
    options = [p for p in command.get_params(context) if isinstance(p, click.Option)]
    records = filter(None, (option.get_help_record(context) for option in options))
    rows = [f"| `{escape(names)}` | {escape(meaning)} |" for names, meaning in records]
    return [*lines, "", "| option | meaning |", "|---|---|", *rows] if rows else lines


def describe_help(text: str) -> list[str]:
    """Return a help text as Markdown: paragraphs, and the lines to keep as a block of code."""
    lines: list[str] = []
    for paragraph in cleandoc(text).split("\n\n"):
        kept = paragraph.startswith(_KEEP_LINES)
        first, *rest = paragraph.removeprefix(_KEEP_LINES).strip().splitlines()
        if not kept:
            lines += ["", " ".join([first, *rest])]
        else:
            lines += ["", first, "", "```console", *(f"$ {line.strip()}" for line in rest), "```"]
    return lines


def escape(text: str) -> str:
    """Keep text in one cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
