"""Acquisition times in texts: names, tags, band descriptions."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np

NOT_A_TIME = np.datetime64("NaT", "ns")
FIRST_YEAR, LAST_YEAR = 1978, 2100
"""Years of imaging radars in space. A time outside, such as 1970-01-01, was never set."""

# Hours, minutes, seconds, all with the same separator or none; a fraction of a second is ignored.
_CLOCK = r"(?P<h>\d\d)(?P<c>[-_:.]?)(?P<min>\d\d)(?P=c)(?P<s>\d\d)(?!\d)"
_COMPACT = re.compile(
    r"(?<!\d)(?P<y>(?:19|20)\d\d)(?P<m>\d\d)(?P<d>\d\d)"
    rf"(?:[Tt]?{_CLOCK}|[Tt](?P<h2>\d\d)(?P<min2>\d\d)(?!\d)|[Tt]x{{6}}|(?!\d))"
)
_COMPACT_SEPARATED = re.compile(
    r"(?<!\d)(?P<y>(?:19|20)\d\d)(?P<m>\d\d)(?P<d>\d\d)"
    r"[_ -](?P<h>\d\d)(?P<c>)(?P<min>\d\d)(?P<s>\d\d)(?!\d)"
)
_DASHED = re.compile(
    r"(?<!\d)(?P<y>(?:19|20)\d\d)(?P<p>[-_:./])(?P<m>\d\d)(?P=p)(?P<d>\d\d)"
    rf"(?:[Tt _-]{_CLOCK}|[Tt ](?P<h2>\d\d):(?P<min2>\d\d)(?!\d)|(?!\d))"
)
_NAMED_MONTH = re.compile(
    r"(?<!\d)(?P<d>\d\d)(?P<p>[- ]?)(?P<month>[A-Za-z]{3})(?P=p)(?P<y>(?:19|20)\d\d)"
    rf"(?:[Tt _]{_CLOCK}|(?!\d))"
)
_PATTERNS = (_COMPACT_SEPARATED, _COMPACT, _DASHED, _NAMED_MONTH)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ZONE = re.compile(r"(?:\.\d+)?\s*(?P<sign>[+-])(?P<h>\d\d):?(?P<min>\d\d)\s*$")

# Layouts that can be confused with each other or with running numbers.
_CLOCK_BESIDE = r"(?:[Tt_-](?P<clock>\d{6}))?(?!\d)"
_UNCLEAR = {
    "DDMMYYYY": re.compile(r"(?<!\d)(\d\d)[-_.]?(\d\d)[-_.]?((?:19|20)\d\d)" + _CLOCK_BESIDE),
    "MMDDYYYY": re.compile(r"(?<!\d)(\d\d)[-_.]?(\d\d)[-_.]?((?:19|20)\d\d)" + _CLOCK_BESIDE),
    "YYMMDD": re.compile(r"(?<!\d)(\d\d)(\d\d)(\d\d)" + _CLOCK_BESIDE),
    "DDMMYY": re.compile(r"(?<!\d)(\d\d)(\d\d)(\d\d)" + _CLOCK_BESIDE),
    "MMDDYY": re.compile(r"(?<!\d)(\d\d)(\d\d)(\d\d)" + _CLOCK_BESIDE),
    "year and day of year": re.compile(r"(?<!\d)((?:19|20)\d\d)-?(\d{3})" + _CLOCK_BESIDE),
    "seconds since 1970": re.compile(r"(?<!\d)(\d{10})(?!\d)"),
    "milliseconds since 1970": re.compile(r"(?<!\d)(\d{13})(?!\d)"),
}


def parse_time(text: str) -> np.datetime64:
    """Return the first UTC time in a text, NaT if there is none."""
    times = find_times(text)
    return times[0] if times else NOT_A_TIME


def find_times(text: str) -> list[np.datetime64]:
    """Return every clear UTC time in a text, in order of appearance.

    Forms: ``20210304T053412``, ``20210304_053412``, ``20210304``, ``2021-03-04T05:34:12``,
    ``2021-03-04-05-34-12``, the colons of S1Tiling (``2021:03:04``) and SNAP's ``04Mar2021``.
    A zone such as ``+02:00`` at the end of the text is converted. Times outside 1978 to 2100
    are left out.
    """
    found: dict[int, np.datetime64] = {}
    for pattern in _PATTERNS:
        for match in pattern.finditer(text):
            time = _read_match(match)
            if time is not None and match.start() not in found:
                found[match.start()] = _to_datetime64(time - _read_zone(text, match))
    return [found[start] for start in sorted(found)]


def find_unclear_times(text: str) -> dict[str, np.datetime64]:
    """Return the times that a text without a clear time may mean, by layout.

    Layouts: ``DDMMYYYY``, ``MMDDYYYY``, ``YYMMDD``, ``DDMMYY``, ``MMDDYY``, day of year, and
    seconds or milliseconds since 1970. Only the first number of each length counts.
    """
    found = {}
    for layout, pattern in _UNCLEAR.items():
        for match in pattern.finditer(text):
            time = _read_unclear(layout, match)
            if time is not None and FIRST_YEAR <= time.year < LAST_YEAR:
                found[layout] = _to_datetime64(time)
                break
    return found


def _read_match(match: re.Match[str]) -> datetime | None:
    parts = match.groupdict()
    month = parts.get("m")
    if month is None:
        name = parts["month"].lower()
        if name not in _MONTHS:
            return None
        month = str(_MONTHS.index(name) + 1)
    clock = (parts["h"] or parts.get("h2"), parts["min"] or parts.get("min2"), parts["s"])
    time = _make_time(parts["y"], month, parts["d"], *(part or "0" for part in clock))
    return time if time is not None and FIRST_YEAR <= time.year < LAST_YEAR else None


def _make_time(*parts: str) -> datetime | None:
    try:
        return datetime(*map(int, parts))  # type: ignore[arg-type]
    except ValueError:
        return None


def _read_zone(text: str, match: re.Match[str]) -> timedelta:
    """Return the offset to UTC: only of a text that is nothing but a time, not of a name."""
    zone = _ZONE.match(text, match.end()) if not text[: match.start()].strip() else None
    if zone is None or match.groupdict()["h"] is None:
        return timedelta(0)
    offset = timedelta(hours=int(zone["h"]), minutes=int(zone["min"]))
    return offset if zone["sign"] == "+" else -offset


def _read_unclear(layout: str, match: re.Match[str]) -> datetime | None:
    numbers = match.groups()
    if layout.endswith("1970"):
        seconds = int(numbers[0]) / (1000 if layout.startswith("milli") else 1)
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None, microsecond=0)
    clock = numbers[-1] or "000000"
    hours = (clock[:2], clock[2:4], clock[4:])
    if layout.startswith("year"):
        first = _make_time(numbers[0], "1", "1", *hours)
        time = None if first is None else first + timedelta(days=int(numbers[1]) - 1)
        return time if time is not None and time.year == int(numbers[0]) else None
    parts = dict(zip(_split_layout(layout), numbers[:3], strict=True))
    year = parts["Y"]
    if len(year) == 2:
        year = ("19" if int(year) >= FIRST_YEAR % 100 else "20") + year
    return _make_time(year, parts["M"], parts["D"], *hours)


def _split_layout(layout: str) -> Iterator[str]:
    return iter(dict.fromkeys(layout))


def _to_datetime64(time: datetime) -> np.datetime64:
    return np.datetime64(time, "ns")
