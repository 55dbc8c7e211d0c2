"""Docstrings and settings from the specs of the commands, so that names, defaults and meanings have one definition."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

#: What means something else in Python than on the command line, or is told by the docstring itself.
HERE = {
    **dict.fromkeys(("model", "models", "attack"), ""),
    "workers": "Processes that share the work (None: this one alone).",
    "input_scale": "Grey levels 0..255 are divided by this before the model (default: 255).",
    "mean": "Per channel, subtracted after that, as in torchvision's Normalize.",
    "std": "Per channel, divided by after that.",
}

Function = TypeVar("Function", bound=Callable[..., Any])


def described_by(spec: type[BaseModel], also: Mapping[str, str] | None = None) -> Callable[[Function], Function]:
    """Add to a function's docstring what the fields of `spec`, and those of `also`, mean that are its parameters."""

    def add(function: Function) -> Function:
        known = {name: info.description or "" for name, info in spec.model_fields.items()} | dict(also or {})
        lines = [
            textwrap.fill(f"{name}: {known[name]}", 112, subsequent_indent="    ")
            for name in inspect.signature(function).parameters
            if known.get(name)
        ]
        function.__doc__ = "\n".join((inspect.cleandoc(function.__doc__ or ""), "", "Settings:", *lines))
        return function

    return add
