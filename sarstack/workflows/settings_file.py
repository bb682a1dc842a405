"""Read YAML that somebody else may have written: bounded in size and depth, without references."""

from pathlib import Path
from typing import Any

import yaml

from sarstack.errors import ConfigError

MAX_BYTES = 2**20
MAX_DEPTH = 20


class _BoundedLoader(yaml.SafeLoader):
    """Loads plain values only. A reference could make a short text expand to gigabytes."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("references (*name) cannot be used in settings")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError(f"more than {MAX_DEPTH} levels of nesting")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML of plain values.

    Parameters
    ----------
    text : str
    source : str
        File or option, for the error.

    Raises
    ------
    ConfigError
        If it is not YAML, is nested too deep, or has references.
    """
    try:
        return yaml.load(text, _BoundedLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError) as failure:
        reason = " ".join(str(failure).split())[:300]
        raise ConfigError(
            f"the settings cannot be read: {reason}",
            expected="YAML: one `name: value` a line",
            where=source,
            do="correct it there",
        ) from failure


def read_settings(path: Path) -> dict[str, Any]:
    """Read a YAML file in UTF-8, with or without a byte order mark, that maps names to values.

    Raises
    ------
    ConfigError
        If it is no regular file (a named pipe would wait for ever), is too large, is not UTF-8 or
        is not such a mapping.
    """
    do = "check the file"
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no regular file")  # noqa: TRY301
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")  # noqa: TRY301
        entries = parse_yaml(content.decode("utf-8-sig"), str(path))
        if entries is None:
            return {}
        if isinstance(entries, dict) and all(isinstance(name, str) for name in entries):
            return entries
        reason = "it is not a mapping of names to values"
    except UnicodeDecodeError:
        reason, do = "it is not a text in UTF-8", "save it again in the encoding UTF-8"
    except ConfigError:
        raise
    except OSError as failure:
        reason = failure.strerror or str(failure)
    except ValueError as failure:
        reason = str(failure)
    raise ConfigError(
        f"the settings cannot be read: {reason}",
        expected="a YAML file such as run.yaml",
        where=str(path),
        do=do,
    )
