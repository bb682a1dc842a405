"""Checks name the argument, show its value and say what would fit."""

import numpy as np
import pytest

from sarstack import checks
from sarstack.errors import UsageError


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (checks.check_positive_int, [1, np.int64(7)], [0, -2, 1.5, True, "3", None]),
        (checks.check_odd_window, [3, np.int32(9)], [1, 4, 7.0, -3, "7", None]),
        (checks.check_looks, [None, 0.5, 1, 4.4], [0, -1, np.nan, np.inf, "4", True]),
    ],
)
def test_valid_values_pass_and_the_error_names_an_invalid_one(check, good, bad):
    for value in good:
        check(width=value)
    for value in bad:
        with pytest.raises(UsageError) as refused:
            check(width=value)
        assert f"width = {value!r}" in str(refused.value)
        assert "expected: " in str(refused.value)


def test_the_limits_of_an_interval_are_refused():
    checks.check_between(0, 1, share=0.5)
    for value in (0, 1, np.nan, "half"):
        with pytest.raises(UsageError, match=r"share = .*\n  expected: a number between 0 and 1"):
            checks.check_between(0, 1, share=value)


def test_the_error_names_the_first_invalid_argument():
    with pytest.raises(UsageError, match="rows = 0"):
        checks.check_positive_int(columns=3, rows=0)
