"""What a value that was refused should have been, in the words of the bench."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

_EXPECTED = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table of settings",
    "literal_error": "{expected}",
    "path_type": "a path",
}
_OTHERS = {"missing": "is missing", "extra_forbidden": "is not known here"}
_LONGEST = 80


def first_problem(error: ValidationError) -> tuple[tuple[str, ...], str]:
    """Return where the first of the values refused stands, and what was expected and found there."""
    first = error.errors(include_url=False)[0]
    return tuple(map(str, first["loc"])), _in_words(first["type"], first.get("ctx", {}), first["msg"], first["input"])


def _in_words(kind: str, limits: Mapping[str, Any], message: str, found: Any) -> str:
    if kind in _OTHERS:
        return _OTHERS[kind]
    if kind in _EXPECTED:
        shown = repr(found)
        return f"expected {_EXPECTED[kind].format(**limits)}, found {shown[:_LONGEST]}"
    return message.removeprefix("Value error, ")
