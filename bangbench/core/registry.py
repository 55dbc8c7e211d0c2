"""One small registry class for everything that can be plugged in: nets, methods, attacks, data sources."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from bangbench.core.errors import BenchError, unknown_name

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Names mapped to lazily loaded objects, each written as ``"package.module:object"``.

    Third-party packages add entries through the entry-point group given; a name that is already taken raises
    `BenchError`, since silently replacing an attack would change what a table means.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        builtin: Mapping[str, str],
        check: Callable[[Any], str | None] = lambda found: None,
    ) -> None:
        """check: what is loaded -> what is wrong with it, or None."""
        self.kind = kind
        self.group = group
        self._problem = check
        self._builtin = dict(builtin)

    @cached_property
    def _targets(self) -> dict[str, str]:
        targets = dict(self._builtin)
        for point in entry_points(group=self.group):
            _insert(targets, self.kind, point.name, point.value)
        return targets

    def register(self, name: str, target: str) -> None:
        """Add `name`, loaded from ``"module:object"`` when first asked for; a duplicate name raises `BenchError`."""
        _insert(self._targets, self.kind, name, target)

    def names(self) -> list[str]:
        """Return all known names, sorted."""
        return sorted(self._targets)

    def check(self, name: str) -> None:
        """Raise `UsageError` unless `name` is known; loads nothing."""
        if name not in self._targets:
            raise unknown_name(self.kind, name, self._targets)

    def target(self, name: str) -> str:
        """Return where `name` is defined, ``"package.module:object"``; an unknown name raises `UsageError`."""
        self.check(name)
        return self._targets[name]

    def load(self, name: str) -> Entry:
        """Import and return the object behind `name`; an unknown name raises `UsageError` with a suggestion.

        `BenchError` where it cannot be imported or is not what the registry holds.
        """
        target = self.target(name)
        found = load_object(target, f"{self.kind} '{name}'")
        problem = self._problem(found)
        if problem is not None:
            raise BenchError(f"{self.kind} '{name}' ({target}): {problem}")
        return cast(Entry, found)


def load_object(target: str, what: str) -> Any:
    """Return the object that ``"package.module:object"`` names; `BenchError` says what could not be imported."""
    module_name, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise BenchError(f"{what}: '{target}' cannot be loaded: {error}") from error
    return found


def _insert(targets: dict[str, str], kind: str, name: str, target: str) -> None:
    if name in targets:
        raise BenchError(f"{kind} '{name}' is registered twice: as {targets[name]} and as {target}")
    targets[name] = target
