"""A figure that a notebook shows by itself, and a program can save."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sarstack.errors import UsageError
from sarstack.output.complete_file import complete_file


@dataclass(frozen=True)
class Picture:
    """A figure.

    A notebook shows it when it is the last line of a cell. It needs no ``%matplotlib`` and does
    not change the settings of pyplot.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
        To change titles, sizes and so on.
    description : str
        What the figure shows.
    """

    figure: Any
    description: str

    def save(self, path: str | Path) -> Path:
        """Write a PNG, and return its path; it gets its name when it is complete.

        Raises
        ------
        UsageError
            If its folder does not exist.
        """
        folder = Path(path).parent
        if not folder.is_dir():
            raise UsageError(
                f"the folder {folder} does not exist",
                expected="the path of a PNG in a folder that exists",
                do="make the folder, or choose another path",
            )
        with complete_file(Path(path)) as unfinished:
            self.figure.savefig(unfinished, format="png")
        return Path(path)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png")
        return buffer.getvalue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.description}; .save('x.png') writes it>"
