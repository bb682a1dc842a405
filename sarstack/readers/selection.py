"""Selection of a part of a stack: dates, polarisations, or a rectangle on the ground."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sarstack.errors import UsageError
from sarstack.readers.raster import Raster
from sarstack.readers.stack import Date, Stack


def select_part(
    stack: Stack,
    dates: tuple[Any, Any] | Sequence[Any] | None = None,
    bbox: tuple[float, float, float, float] | None = None,
    polarisations: Sequence[str] | None = None,
    max_dates: int | None = None,
    relative_orbit: int | None = None,
) -> Stack:
    """Return a stack with fewer dates, polarisations or pixels. Pixels are not resampled.

    Parameters
    ----------
    stack : Stack
    dates : tuple of (first, last), or list, optional
        A tuple is a period: both ends are included, and either may be None. A list names
        dates. A day (``'2021-03-04'``) or a month means all of it, UTC.
    bbox : tuple of 4 float, optional
        ``(xmin, ymin, xmax, ymax)`` in the CRS of the stack; every pixel that it touches is kept.
    polarisations : sequence of str, optional
        Names in upper or lower case.
    max_dates : int, optional
        Keep only the first dates, for a trial on a small part.
    relative_orbit : int, optional
        Keep the dates of this orbit.

    Returns
    -------
    Stack

    Raises
    ------
    UsageError
        If nothing is left, or an argument has no meaning.
    """
    if polarisations is not None:
        stack = _keep_polarisations(stack, [p.lower() for p in polarisations])
    if dates is not None:
        stack = _keep_dates(stack, _date_test(dates), f"dates = {dates!r}")
    if relative_orbit is not None:
        wanted = f"relative_orbit = {relative_orbit}"
        stack = _keep_dates(stack, lambda d: d.relative_orbit == relative_orbit, wanted)
    if max_dates is not None:
        if max_dates < 1:
            raise UsageError(
                f"max_dates = {max_dates}", expected="at least 1", do="leave it out for all dates"
            )
        first = stack.dates[:max_dates]
        stack = _keep_dates(stack, lambda d: d in first, f"max_dates = {max_dates}")
    return stack if bbox is None else _crop(stack, bbox)


def _keep_polarisations(stack: Stack, wanted: Sequence[str]) -> Stack:
    absent = [p for p in wanted if p not in stack.rasters]
    if absent or not wanted:
        raise UsageError(
            f"polarisations = {list(wanted)} are not all in the stack",
            expected=f"some of {', '.join(stack.polarisations)}",
            do="leave it out to use all of them",
        )
    return _drop_empty_dates(replace(stack, rasters={p: stack.rasters[p] for p in wanted}))


def _drop_empty_dates(stack: Stack) -> Stack:
    kept = [any(series[i] for series in stack.rasters.values()) for i in range(stack.n_dates)]
    return _take_dates(stack, kept)


def _keep_dates(stack: Stack, test: Callable[[Date], bool], wanted: str) -> Stack:
    kept = [bool(test(date)) for date in stack.dates]
    if not any(kept):
        times = [str(d.time.astype("datetime64[s]")) for d in stack.dates]
        orbits = sorted({d.relative_orbit for d in stack.dates if d.relative_orbit})
        where = f", orbits {', '.join(map(str, orbits))}" if orbits else ""
        raise UsageError(
            f"{wanted} leaves no date of the stack",
            expected=f"some of its {len(times)} dates, {times[0]} to {times[-1]}{where}",
            do="select more; `sarstack info` lists the dates",
        )
    return _take_dates(stack, kept)


def _take_dates(stack: Stack, kept: Sequence[bool]) -> Stack:
    indices = [i for i, keep in enumerate(kept) if keep]
    rasters = {p: tuple(series[i] for i in indices) for p, series in stack.rasters.items()}
    present = {p: series for p, series in rasters.items() if any(series)}
    grids = stack.grids if stack.is_coregistered else tuple(stack.grids[i] for i in indices)
    dates = tuple(stack.dates[i] for i in indices)
    return replace(stack, grids=grids, dates=dates, rasters=present)


def _date_test(dates: tuple[Any, Any] | Sequence[Any]) -> Callable[[Date], bool]:
    if isinstance(dates, tuple) and len(dates) == 2:
        first, last = (None if d in (None, "") else _parse_span(d) for d in dates)
        return lambda d: bool(
            (first is None or d.time >= first[0]) and (last is None or d.time <= last[1])
        )
    spans = [_parse_span(d) for d in ([dates] if isinstance(dates, str) else dates)]
    return lambda d: any(bool(a <= d.time <= b) for a, b in spans)


def _parse_span(value: Any) -> tuple[np.datetime64, np.datetime64]:
    """Return the first and last moment of a date, month or time as a user writes it."""
    text = value.strip().removesuffix("Z") if isinstance(value, str) else value
    if isinstance(text, str) and text[:8].isdigit() and len(text) in (8, 15):
        text = f"{text[:4]}-{text[4:6]}-{text[6:8]}" + (
            f"T{text[9:11]}:{text[11:13]}:{text[13:]}" if len(text) == 15 else ""
        )
    try:
        if str(text).upper() in ("NAT", ""):  # NumPy reads them, with a warning
            raise ValueError("not a time")  # noqa: TRY301 (handled as a text that is not a time)
        start = np.datetime64(text)
    except ValueError as err:
        raise UsageError(
            f"{value!r} is not a date",
            expected="for example 2021-03-04, 2021-03, 20210304 or 2021-03-04T05:34:12",
            do="write it in one of these forms, UTC",
        ) from err
    unit: Any = np.datetime_data(start.dtype)[0]
    end = (start + np.timedelta64(1, unit)).astype("datetime64[ns]") - np.timedelta64(1, "ns")
    return start.astype("datetime64[ns]"), end


def _crop(stack: Stack, bbox: tuple[float, float, float, float]) -> Stack:
    stack.check_coregistered(f"bbox = {tuple(bbox)}", do="leave out the bbox")
    window = stack.grid.find_window(bbox)

    def crop(raster: Raster | None) -> Raster | None:
        if raster is None:
            return None
        origin = (raster.origin[0] + window.y0, raster.origin[1] + window.x0)
        return replace(raster, origin=origin, shape=window.shape)

    rasters = {p: tuple(crop(r) for r in series) for p, series in stack.rasters.items()}
    return replace(stack, grids=(stack.grid.crop(window),), rasters=rasters)
