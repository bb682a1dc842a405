"""A progress bar below the cell of a notebook, without widgets: one line of HTML that is replaced.

Nothing here imports IPython in a program that does not run in a notebook.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

FIRST_S, STEP_S = 0.5, 0.2
"""Shorter work shows no bar; a longer one is redrawn after this time."""

Show = Callable[[int, str, float], None]


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def open_notebook_bar(what: str, total: int) -> Iterator[Show | None]:
    """Show a bar below the cell that runs, and remove it at the end.

    Parameters
    ----------
    what : str
        Name of the work.
    total : int
        Amount of the work.

    Yields
    ------
    callable or None
        ``show(done, speed, seconds_left)`` changes the bar; None outside of a notebook.
    """
    if not in_notebook():
        yield None
        return
    bar = _NotebookBar(what, total)
    try:
        yield bar.show
    finally:
        bar.remove()


class _NotebookBar:
    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, max(total, 1)
        self._handle: Any = None
        self._next = time.monotonic() + FIRST_S

    def show(self, done: int, speed: str, left_s: float) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + STEP_S
        text = f"{self._what}: {100 * done / self._total:.0f} %, {speed}, {left_s:.0f} s left"
        bar = f'<progress value="{done}" max="{self._total}"></progress> {escape(text)}'
        self._draw({"text/plain": text, "text/html": f"<div>{bar}</div>"})

    def remove(self) -> None:
        if self._handle is not None:
            self._draw({"text/plain": "", "text/html": ""})

    def _draw(self, forms: dict[str, str]) -> None:
        from IPython.display import display

        if self._handle is None:
            self._handle = display(forms, raw=True, display_id=True)
        else:
            self._handle.update(forms, raw=True)
