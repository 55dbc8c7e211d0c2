"""All kinds of figures, in the order in which a report shows them."""

from __future__ import annotations

from collections.abc import Callable

from bangbench.reporting.figures.audit import audit_plots
from bangbench.reporting.figures.examples import example_plots
from bangbench.reporting.figures.margins import margin_plots
from bangbench.reporting.figures.noise import noise_plots
from bangbench.reporting.figures.robustness import robustness_plots
from bangbench.reporting.figures.settings import settings_plots
from bangbench.reporting.figures.similarity import similarity_plots
from bangbench.reporting.figures.training import training_plots
from bangbench.reporting.groups import Group
from bangbench.reporting.plot import Plot

_KINDS: tuple[Callable[[Group], list[Plot]], ...] = (
    audit_plots,
    margin_plots,
    robustness_plots,
    similarity_plots,
    noise_plots,
    example_plots,
    settings_plots,
    training_plots,
)


def plots_of(group: Group) -> list[Plot]:
    """Return every figure that a group has numbers for."""
    return [plot for make in _KINDS for plot in make(group)]
