"""A grid of models as data: settings that take many values each, and which of their combinations come first."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from itertools import product
from typing import Any, NamedTuple

#: Levels of a grid, coarse to fine: of 13 values 4, the 7 that contain them, all.
LEVELS = 3

#: What a grid says besides its settings.
_OWN = ("id", "seeds")


class Axis(NamedTuple):
    """One setting and its values; those of a range are refined level by level, those of a list are all in the first."""

    name: str
    values: tuple[Any, ...]
    ranged: bool

    def level(self, place: int) -> int:
        """Return the first level, from 1, that has the value at `place`."""
        if not self.ranged or place == len(self.values) - 1:
            return 1
        return next(level for level in range(1, LEVELS + 1) if place % 2 ** (LEVELS - level) == 0)


class Point(NamedTuple):
    """One model of a grid: its id, its training settings, where it lies on the axes, and the first level it is in."""

    id: str
    settings: dict[str, Any]
    place: dict[str, Any]
    level: int


def axes_of(grid: Mapping[str, Any]) -> tuple[Axis, ...]:
    """Return the settings of a grid that take several values, in order.

    Raises `ValueError` for a range that does not end at its end, and for a grid without such a setting.
    """
    axes = tuple(
        _range(name, value) if isinstance(value, dict) else Axis(name, tuple(value), ranged=False)
        for name, value in grid.items()
        if name not in _OWN and isinstance(value, dict | list)
    )
    if not axes:
        raise ValueError("expected a setting with several values, a list or {from, to, step}, found none")
    for axis in axes:
        if len({str(value) for value in axis.values}) < max(1, len(axis.values)) or not axis.values:
            raise ValueError(f"{axis.name}: expected values that differ, found {list(axis.values)}")
    return axes


def points_of(grid: Mapping[str, Any]) -> list[Point]:
    """Return the points of a grid, those of coarser levels first; errors as in `axes_of`."""
    axes = axes_of(grid)
    template = grid.get("id") or "-".join(_named(axis, axes) for axis in axes)
    common = {name: value for name, value in grid.items() if name not in _OWN and not isinstance(value, dict | list)}
    points = []
    for places in product(*(range(len(axis.values)) for axis in axes)):
        place = {axis.name: axis.values[number] for axis, number in zip(axes, places, strict=True)}
        level = max(axis.level(number) for axis, number in zip(axes, places, strict=True))
        points.append(Point(_formatted(template, place), {**common, **place}, place, level))
    if len({point.id for point in points}) < len(points):
        raise ValueError(f"id: '{template}' gives several models the same id; name every setting with enough digits")
    return sorted(points, key=lambda point: point.level)


def _range(name: str, given: Mapping[str, Any]) -> Axis:
    if set(given) != {"from", "to", "step"} or not all(isinstance(value, int | float) for value in given.values()):
        raise ValueError(f"{name}: expected a list, or numbers from, to and step, found {dict(given)}")
    first, last, step = (Decimal(str(given[key])) for key in ("from", "to", "step"))
    if step <= 0 or last < first or (last - first) % step:
        raise ValueError(f"{name}: expected steps above 0 that lead from {first} to {last}, found {step}")
    count = int((last - first) / step) + 1
    values = [first + number * step for number in range(count)]
    whole = all(isinstance(value, int) for value in given.values())
    return Axis(name, tuple(int(value) if whole else float(value) for value in values), ranged=True)


def _named(axis: Axis, axes: tuple[Axis, ...]) -> str:
    """Return the part of an id that an axis has: its first letter, or its name where others begin alike."""
    alike = [other for other in axes if other.name[0] == axis.name[0]]
    short = axis.name[0] if len(alike) == 1 else axis.name
    digits = max((_digits(value) for value in axis.values), default=0)
    return f"{short}{{{axis.name}:.{digits}f}}" if digits else f"{short}{{{axis.name}}}"


def _digits(value: Any) -> int:
    exponent = Decimal(str(value)).as_tuple().exponent if isinstance(value, float) else 0
    return max(2, -exponent) if isinstance(value, float) and isinstance(exponent, int) else 0


def _formatted(template: str, place: Mapping[str, Any]) -> str:
    try:
        return template.format(**place)
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"id: '{template}' cannot be filled in with {', '.join(place)}: {error!r}") from error
