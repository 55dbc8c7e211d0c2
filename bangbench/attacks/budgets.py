"""Budgets as they are typed, in whole grey levels."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bangbench.core.errors import UsageError

#: Budgets unless told otherwise, as shares of the grey-level range: grey images, colour images.
BUDGETS = {1: ("0.1", "0.2", "0.3"), 3: ("2/255", "4/255", "8/255")}


def parse_budget(text: str) -> int:
    """Return a budget in whole grey levels, rounded down: ``0.3`` is 76, ``8/255`` is 8.

    text: a share of the grey-level range, a number or a fraction in (0, 1]. Raises `UsageError` for anything else and
    for less than one grey level.
    """
    share = _share(text)
    levels = int(share * 255.0 + 1e-6) if 0.0 < share <= 1.0 else 0
    if levels < 1:
        raise UsageError(
            f"expected a budget as a share of the grey-level range, such as 0.3 or 8/255, of at least 1/255 and at "
            f"most 1, found '{text}'"
        )
    return levels


def _share(text: str) -> float:
    """Return the number or fraction in a text; 0 where it is none, or has no finite value."""
    match = re.fullmatch(r"\s*(\d*\.?\d+)\s*(?:/\s*(\d*\.?\d+)\s*)?", text)
    if match is None:
        return 0.0
    numerator, denominator = float(match[1]), float(match[2] or 1.0)
    return numerator / denominator if denominator > 0.0 else 0.0


def budgets_in_grey_levels(given: Sequence[str] | None, channels: int) -> tuple[int, ...]:
    """Return the budgets asked for, increasing and without repetition; the usual ones for the images if None."""
    return tuple(sorted({parse_budget(text) for text in given or BUDGETS.get(channels, BUDGETS[3])}))
