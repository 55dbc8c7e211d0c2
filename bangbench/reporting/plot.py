"""A figure of the report before it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from matplotlib.figure import Figure

Section = Literal["audit", "examples", "robustness", "masking", "noise", "settings", "training"]


class Plot(NamedTuple):
    """One figure, drawn by `draw` when it is written.

    name: stem of its files; caption: what is shown, with units and the number of images; alternative: what a reader
    who cannot see it should know, with the main numbers. `draw` is a ``functools.partial`` of a module's function:
    worker processes draw figures, and must be able to receive it.
    """

    name: str
    section: Section
    title: str
    caption: str
    alternative: str
    draw: Callable[[], Figure]
