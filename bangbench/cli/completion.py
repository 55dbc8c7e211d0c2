"""Names that a user may type: what a shell completes, and the same names in capitals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer


def completer(field: str) -> Callable[[typer.Context, list[str], str], list[str]] | None:
    """Return what completes the values of the option or argument `field`, or None where nothing does."""
    names = _NAMES.get(field)
    if names is None:
        return None

    def complete(ctx: typer.Context, args: list[str], incomplete: str) -> list[str]:
        return [name for name in names(ctx.params) if name.startswith(incomplete)]

    return complete


def canonical(field: str, word: Any) -> Any:
    """Return a word given for `field` as the name is written that it spells in other letters, else as it is.

    Names are looked up only where a word has capitals: this loads what they belong to.
    """
    if field not in _NAMES or field in _WITH_CASE or not isinstance(word, str) or word == word.casefold():
        return word
    names = list(_NAMES[field]({}))
    return word if word in names else next((name for name in names if name.casefold() == word.casefold()), word)


def _models(given: dict[str, Any]) -> Iterable[str]:
    from bangbench.store.layout import trained_models

    return trained_models(Path(given.get("root") or "."))


def _attacks(given: dict[str, Any]) -> Iterable[str]:
    from bangbench.attacks.registry import ATTACKS

    return ATTACKS.names()


def _methods(given: dict[str, Any]) -> Iterable[str]:
    from bangbench.training.methods.registry import METHODS

    return METHODS.names()


def _nets(given: dict[str, Any]) -> Iterable[str]:
    from bangbench.nets.registry import NETS

    return NETS.names()


def _data(given: dict[str, Any]) -> Iterable[str]:
    from bangbench.data.sources import SOURCES

    return SOURCES.names()


def _recipes(given: dict[str, Any]) -> Iterable[str]:
    from bangbench.recipes.recipe import BUILT_IN

    return [*BUILT_IN, *sorted(path.name for path in Path().glob("*.toml") if path.name != "pyproject.toml")]


def _codes(given: dict[str, Any]) -> Iterable[str]:
    from bangbench.auditing.reasons import REASONS

    return REASONS


#: By the field of the spec that takes such names.
_NAMES: dict[str, Callable[[dict[str, Any]], Iterable[str]]] = {
    "model": _models,
    "models": _models,
    "against": _models,
    "compare": _models,
    "attack": _attacks,
    "attacks": _attacks,
    "method": _methods,
    "net": _nets,
    "data": _data,
    "recipe": _recipes,
    "code": _codes,
}

#: Those that name folders, which tell capitals from small letters.
_WITH_CASE = frozenset({"model", "models", "against", "compare"})
