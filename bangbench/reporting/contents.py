"""What a report is made of: the builders of its tables and figures, by name, so that any of them can be taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from bangbench.core.registry import load_object
from bangbench.reporting.experiments import Experiment
from bangbench.reporting.figure import Figure
from bangbench.reporting.frames import Frames
from bangbench.reporting.table import Table

#: In the order in which a report shows them; each is called with an experiment and its frames.
TABLES = (
    "bangbench.reporting.audit_tables:defence_table",
    "bangbench.paper.tables:paper_table",
    "bangbench.reporting.audit_tables:verdict_table",
    "bangbench.reporting.attack_tables:bench_table",
    "bangbench.reporting.attack_tables:masking_table",
    "bangbench.reporting.noise:noise_table",
    "bangbench.reporting.audit_tables:budget_table",
    "bangbench.reporting.audit_tables:finding_table",
    "bangbench.reporting.robustness:robustness_table",
    "bangbench.reporting.pairs:pair_table",
    "bangbench.reporting.attack_tables:seed_table",
    "bangbench.paper.claims:claim_table",
)

#: Each is called with an experiment, and yields figures that are not drawn yet.
FIGURES = (
    "bangbench.reporting.curves:audit_figures",
    "bangbench.reporting.curves:margin_figures",
    "bangbench.reporting.curves:robustness_figures",
    "bangbench.reporting.robustness:similarity_figures",
    "bangbench.paper.figures:noise_figures",
    "bangbench.reporting.noise:noise_figures",
    "bangbench.reporting.pictures:example_figures",
    "bangbench.paper.figures:settings_figures",
    "bangbench.reporting.curves:training_figures",
)


class WrittenFigure(NamedTuple):
    """A figure with its files, relative to the report's folder; the PNG is the last."""

    figure: Figure
    files: tuple[str, ...]


class Reported(NamedTuple):
    """Everything a report says about one experiment."""

    experiment: Experiment
    frames: Frames
    tables: tuple[Table, ...]
    figures: tuple[WrittenFigure, ...] = ()

    def table(self, suffix: str) -> Table | None:
        """Return a table by the end of its name, such as ``-claims``; None where there is none."""
        return next((table for table in self.tables if table.name == f"{self.experiment.name}{suffix}"), None)


def tables_of(experiment: Experiment, frames: Frames) -> Iterator[Table]:
    """Yield every table that an experiment has numbers for."""
    for name in TABLES:
        build: Callable[[Experiment, Frames], Table | None] = load_object(name, "a table of the report")
        table = build(experiment, frames)
        if table is not None:
            yield table


def figures_of(experiment: Experiment) -> Iterator[Figure]:
    """Yield every figure that an experiment has numbers for."""
    for name in FIGURES:
        build: Callable[[Experiment], Iterator[Figure]] = load_object(name, "a figure of the report")
        yield from build(experiment)
