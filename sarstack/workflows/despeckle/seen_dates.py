"""Which dates a result of a multi-temporal method has seen: its tags, and what they still allow.

The tags of a result name each date that is in its sums, with a hash of the input image. So the
image alone tells whether it can stay when dates are added to the stack (`keep_dates`): its settings
are those of the run, and every date that it has seen is the same file, or is gone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from sarstack.readers.raster import Raster
from sarstack.readers.stack import Date
from sarstack.workflows.fingerprint import fingerprint

DATES_TAG, SETTINGS_TAG = "SARSTACK_DATES", "SARSTACK_SETTINGS"
_N_HEX = 8


class DateMark(NamedTuple):
    """One date of a polarisation, as tags name it.

    Attributes
    ----------
    layer : int
        Index of the date in the stack.
    time : str
        ISO 8601; empty if it is unknown.
    name : str
        The time, or else the name of the input without its ending; without spaces and signs.
    content : str
        Hash of all that decides the pixels of the input.
    """

    layer: int
    time: str
    name: str
    content: str

    @property
    def entry(self) -> str:
        """The date in the tag of all dates."""
        return f"{self.name}={self.content}"


def mark_date(layer: int, date: Date, raster: Raster, identity: Mapping[str, Any]) -> DateMark:
    """Return what tags say of one date; `identity` is that of its input image."""
    time = date.timestamp
    name = quote(time or raster.stem, safe=":")
    return DateMark(layer, time, name, fingerprint(identity)[:_N_HEX])


@dataclass(frozen=True)
class StackDates:
    """The dates that an image of a run depends on.

    Attributes
    ----------
    settings : str
        Hash of settings and grid, without the inputs.
    own : int
        Index of the date of the image.
    marks : tuple of DateMark
        All dates of its polarisation; empty for a method of single dates.
    """

    settings: str = ""
    own: int = 0
    marks: tuple[DateMark, ...] = ()

    def make_tags(self, readable: Iterable[int]) -> dict[str, str]:
        """Return the tags that tell the dates; none for a method of single dates.

        Parameters
        ----------
        readable : iterable of int
            Indices of the dates whose pixels could be read: only these are in the sums.
        """
        if not self.marks:
            return {}
        known = {*readable}
        seen = [date for date in self.marks if date.layer in known]
        times = sorted(date.time for date in seen if date.time)
        return {
            "DATES_SEEN": str(len(seen)),
            "DATES_SEEN_FIRST": times[0] if times else "",
            "DATES_SEEN_LAST": times[-1] if times else "",
            DATES_TAG: " ".join(date.entry for date in seen),
            SETTINGS_TAG: self.settings,
        }

    def refuse_reason(self, tags: Mapping[str, str]) -> str:
        """Return why a finished image with these tags cannot stay; empty if it can."""
        if DATES_TAG not in tags:
            return "its tags do not tell which dates it has seen" if self.marks else "other inputs"
        if tags.get(SETTINGS_TAG) != self.settings:
            return "other settings"
        now, seen = {date.entry for date in self.marks}, tags[DATES_TAG].split()
        own = {date.entry for date in self.marks if date.layer == self.own}
        if not own <= {*seen}:
            return "its input changed"
        names = {date.name for date in self.marks}
        changed = [name for entry in seen if entry not in now and (name := _name(entry)) in names]
        return f"a date that it has seen changed: {unquote(changed[0])}" if changed else ""

    def find_gone(self, tags: Mapping[str, str]) -> list[str]:
        """Return the dates that an image with these tags has seen, and that are no longer here."""
        names = {date.name for date in self.marks}
        seen = map(_name, tags.get(DATES_TAG, "").split())
        return [unquote(name) for name in seen if name not in names]


def describe_seen(tags: Mapping[str, str]) -> str:
    """Return the dates that an image has seen as text; empty if its tags do not tell."""
    if "DATES_SEEN" not in tags:
        return ""
    period = [tags[name] for name in ("DATES_SEEN_FIRST", "DATES_SEEN_LAST") if name in tags]
    count = "1 date" if tags["DATES_SEEN"] == "1" else f"{tags['DATES_SEEN']} dates"
    return ", ".join([count, *([" to ".join(period)] if period else [])])


def _name(entry: str) -> str:
    return entry.rpartition("=")[0]
