"""HTML that notebooks show for an object: a title, its facts, and details to unfold.

Only styles inside the elements: a notebook that is not trusted drops style sheets. Colours are
those of the page, so light and dark themes work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

MAX_CHARACTERS = 800
_MAX_ROWS = 40
_BOX = "font-size:0.9em;line-height:1.45;max-width:52em;text-align:left"
_TITLE = "font-weight:600;overflow-wrap:anywhere"
_GRID = (
    "display:grid;grid-template-columns:minmax(5em,max-content) minmax(0,1fr);column-gap:1em;"
    "border-top:1px solid rgba(128,128,128,.5);margin-top:.2em;padding-top:.2em"
)
_NAME, _VALUE = "opacity:.7", "overflow-wrap:anywhere"
_CODE = "white-space:pre-wrap;overflow-wrap:anywhere;margin:.2em 0;background:none;color:inherit"


@dataclass(frozen=True)
class Details:
    """A part that is folded at first: facts, and lines of code below them."""

    title: str
    facts: Mapping[str, str]
    code: Sequence[str] = ()


def render_html(title: str, facts: Mapping[str, str], details: Sequence[Details] = ()) -> str:
    """Return the HTML of an object for a notebook.

    Parameters
    ----------
    title : str
    facts : mapping of str to str
        Names and values; empty values are left out.
    details : sequence of Details
        Parts that are folded at first; empty ones are left out.

    Returns
    -------
    str
        Every text is escaped and cut to `MAX_CHARACTERS`. Characters that change the direction
        of text or that cannot be printed are replaced.
    """
    parts = [f'<div style="{_TITLE}">{_clean(title)}</div>', _grid(facts)]
    for part in details:
        if part.facts or part.code:
            code = "\n".join(map(_clean, part.code))
            inside = _grid(part.facts) + (f'<pre style="{_CODE}">{code}</pre>' if code else "")
            summary = f'<summary style="cursor:pointer">{_clean(part.title)}</summary>'
            parts.append(f"<details>{summary}{inside}</details>")
    # The classes keep notebooks from setting text between dollar signs as formulas.
    classes = "sarstack-repr tex2jax_ignore mathjax_ignore"
    return f'<div class="{classes}" style="{_BOX}">{"".join(parts)}</div>'


def _grid(facts: Mapping[str, str]) -> str:
    rows = [(name, value) for name, value in facts.items() if value]
    more = len(rows) - _MAX_ROWS
    if more > 0:
        rows = [*rows[:_MAX_ROWS], ("", f"and {more} more")]
    cells = "".join(
        f'<div style="{_NAME}">{_clean(name)}</div><div style="{_VALUE}">{_clean(value)}</div>'
        for name, value in rows
    )
    return f'<div style="{_GRID}">{cells}</div>' if cells else ""


def _clean(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        text = text[: MAX_CHARACTERS - 3] + "..."
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))
