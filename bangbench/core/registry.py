"""One small registry class for everything that can be plugged in: nets, methods, attacks, data sources."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast, overload

from bangbench.core.errors import BenchError, unknown_name

Entry = TypeVar("Entry")
Given = TypeVar("Given")


class Registry(Generic[Entry]):
    """Names mapped to lazily loaded objects, each written as ``"package.module:object"``.

    Third-party packages add entries through the entry-point group given, a notebook with ``@ATTACKS.register("name")``;
    a name that is already taken raises `BenchError`, since silently replacing an attack would change what a table
    means. Iterating yields the names.
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
        self._objects: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"{self.kind}s: {', '.join(self.names())}"

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    @cached_property
    def _targets(self) -> dict[str, str]:
        targets = dict(self._builtin)
        for point in entry_points(group=self.group):
            _insert(targets, self.kind, point.name, point.value)
        return targets

    @overload
    def register(self, name: str, target: str) -> None: ...

    @overload
    def register(self, name: str) -> Callable[[Given], Given]: ...

    def register(self, name: str, target: str | None = None) -> Callable[[Given], Given] | None:
        """Add `name`, loaded from ``"module:object"`` when first asked for; a duplicate name raises `BenchError`.

        Without a target it returns a decorator, which adds what it decorates and returns it; the cell of a notebook
        that does so may run again.
        """
        if target is not None:
            _insert(self._targets, self.kind, name, target)
            return None

        def add(given: Given) -> Given:
            self.add_object(name, given)
            return given

        return add

    def add_object(self, name: str, given: Any) -> None:
        """Add an object, or its new definition, under `name`; `BenchError` where it is not what the registry holds."""
        problem = self._problem(given)
        if problem is not None:
            raise BenchError(f"{self.kind} '{name}': {problem}")
        target = f"{getattr(given, '__module__', '?')}:{getattr(given, '__qualname__', type(given).__qualname__)}"
        if name not in self._objects or self._targets[name] != target:
            _insert(self._targets, self.kind, name, target)
        self._objects[name] = given

    def objects(self) -> dict[str, Any]:
        """Return what was added as an object, by name: other processes know nothing of it."""
        return dict(self._objects)

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
        if name in self._objects:
            return cast(Entry, self._objects[name])
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
