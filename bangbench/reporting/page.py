"""The report as one page: a single HTML file that needs no network and no other file, and answers first."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from bangbench import __version__
from bangbench.reporting.attack_tables import masking_sentences
from bangbench.reporting.audit_tables import BADGES, Standing, answer, sources_note, standings, verdict_sentences
from bangbench.reporting.contents import Reported, WrittenFigure
from bangbench.reporting.experiments import Experiment, ModelResults
from bangbench.reporting.facts import (
    Link,
    commands,
    downloads_of,
    environments_table,
    lead,
    limits,
    links_to,
    models_table,
)
from bangbench.reporting.figure import Section
from bangbench.reporting.frames import records_of, worst_first
from bangbench.reporting.pairs import Comparison, comparison_table
from bangbench.reporting.render import DIFFERENCE_NOTE, is_compared, to_html
from bangbench.reporting.table import Table
from bangbench.store.audits import VERDICTS, Check
from bangbench.store.headline import robust_accuracy

_STYLES = ("style.css", "answer.css", "parts.css", "print.css")
#: Ids in the template; an experiment may have any of these names.
_OWN_IDS = (
    "main",
    "theme",
    "status",
    "filter",
    "page-answer",
    "page-why",
    "page-compare",
    "page-end",
    "page-downloads",
)
_SCREEN_DPI = 96
_WIDE = 620  # CSS pixels; figures above take the full width
_REASONS = 3
#: Letters that a list of notes may have without being folded.
_FEW_LETTERS = 240


class PageContent(NamedTuple):
    """Everything on the page.

    problems: whole messages about records that are unusable or doubtful; unfinished: names such as ``table1/R0 fgs``;
    downloads: links, relative to the page, of the files next to it; folder: what the figures' files are relative to;
    comparison, compared: of two models, and the paragraph about them.
    """

    reported: Sequence[Reported]
    problems: tuple[str, ...]
    unfinished: tuple[str, ...]
    downloads: tuple[str, ...]
    folder: Path
    comparison: Comparison | None = None
    compared: str = ""


class ShownTable(NamedTuple):
    """A table as HTML, its notes and its files; folded: whether the notes are many words."""

    id: str
    title: str
    html: Markup
    notes: tuple[str, ...]
    links: tuple[Link, ...]

    @property
    def folded(self) -> bool:
        """Return whether the notes are too long to stand open."""
        return sum(map(len, self.notes)) > _FEW_LETTERS


class ShownFigure(NamedTuple):
    """source: the picture as a data URI; width, height: CSS pixels; layout: full width, half, or beside its caption."""

    id: str
    name: str
    title: str
    caption: str
    alternative: str
    source: str
    width: int
    height: int
    layout: Literal["wide", "half", "beside"]
    links: tuple[Link, ...]


class ShownSection(NamedTuple):
    """A part of an experiment; folded until a reader wants it."""

    id: str
    title: str
    callouts: tuple[str, ...]
    tables: tuple[ShownTable, ...]
    figures: tuple[ShownFigure, ...]
    notes: tuple[str, ...] = ()
    open: bool = False


class ShownModel(NamedTuple):
    """Why a model has its verdict: the strongest reasons, everything else found, and the checks that passed."""

    id: str
    name: str
    whole_name: str
    verdict: str
    badge: str
    meaning: str
    reasons: tuple[Check, ...]
    others: tuple[Check, ...]
    passed: tuple[Check, ...]


class ShownLine(NamedTuple):
    """One model on the first screen; robust: percent and interval by budget; curve: the points of a polyline."""

    standing: Standing
    id: str
    href: str
    badge: str
    robust: dict[int, tuple[str, str]]
    curve: str


class ShownExperiment(NamedTuple):
    """An experiment with its lines on the first screen and its sections below."""

    id: str
    title: str
    lead: str
    budgets: tuple[int, ...]
    lines: tuple[ShownLine, ...]
    why: tuple[ShownModel, ...]
    paper: ShownSection | None
    sections: tuple[ShownSection, ...]
    run: ShownSection
    limits: tuple[str, ...]
    commands: tuple[str, ...]


class _Part(NamedTuple):
    """What belongs into a section: tables by the end of their names, figures by their section."""

    key: str
    title: str
    tables: tuple[str, ...]
    figures: tuple[Section, ...]


#: Tables that no part names follow the first part.
_PARTS = (
    _Part("defences", "Every defence in one row", ("-defences",), ("audit",)),
    _Part("audit", "Audit: verdicts, and rates within each budget", ("-verdicts", "-budgets"), ()),
    _Part("masking", "Masked against unmasked", ("-masking",), ("masking",)),
    _Part("robustness", "Robustness curves", ("-robustness", "-pairs", "-seeds"), ("robustness",)),
    _Part("rates", "Rates and distances", ("-bench",), ()),
    _Part("noise", "Gaussian noise", ("-noise",), ("noise",)),
    _Part("examples", "Example images", (), ("examples",)),
    _Part("training", "Settings and training", (), ("settings", "training")),
)
_PAPER = ("", "-claims")
_FINDINGS = "-findings"


def build_page(content: PageContent) -> str:
    """Return the page as HTML; the same content gives the same text."""
    folder = files("bangbench.reporting").joinpath("static")
    *styles, script = (folder.joinpath(name).read_text(encoding="utf-8") for name in (*_STYLES, "script.js"))
    style = "\n".join(styles)
    environment = Environment(
        loader=PackageLoader("bangbench.reporting", "static"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    taken, names = set(_OWN_IDS), ", ".join(each.experiment.name for each in content.reported)
    shown = [_experiment(each, content, taken) for each in content.reported]
    return environment.get_template("template.html.j2").render(
        title=f"bangbench report: {names}" if names else "bangbench report",
        answer=answer([line.standing for each in shown for line in each.lines]),
        policy=_policy(style, script),
        style=Markup(style),  # the package's own file
        script=Markup(script),  # the package's own file
        experiments=shown,
        badges=BADGES,
        compared=content.compared,
        comparison=_comparison(content, taken),
        problems=content.problems,
        unfinished=content.unfinished,
        downloads=downloads_of(content.downloads),
        generated_with=__version__,
    )


def _policy(style: str, script: str) -> str:
    """Return a content security policy: this style, this script, embedded images, and nothing from anywhere else."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _experiment(reported: Reported, content: PageContent, taken: set[str]) -> ShownExperiment:
    experiment = reported.experiment
    anchor = _anchor(experiment.name, taken)
    why = tuple(
        _why(model, _anchor(f"{anchor}-why-{model.id}", taken))
        for model in experiment.everyone
        if model.audit is not None
    )
    listed = standings(experiment, reported.frames)
    targets = {model.whole_name: model.id for model in why}
    sections = (_section(part, reported, content, anchor, taken) for part in _PARTS)
    run = tuple(
        _table(table, experiment, (), taken)
        for table in (models_table(experiment), environments_table(experiment))
        if table is not None
    )
    return ShownExperiment(
        id=anchor,
        title=experiment.title,
        lead=lead(experiment),
        budgets=tuple(sorted({budget for line in listed for budget in line.robust})),
        lines=tuple(_line(line, _anchor(f"{anchor}-{line.model.id}", taken), targets) for line in listed),
        why=tuple(sorted(why, key=lambda model: -VERDICTS.index(model.verdict))),
        paper=_paper(reported, content, anchor, taken),
        sections=tuple(each for each in sections if each.tables or each.figures),
        run=ShownSection(_anchor(f"{anchor}-run", taken), "What was run", (), run, ()),
        limits=limits(experiment),
        commands=commands(experiment),
    )


def _line(standing: Standing, anchor: str, targets: dict[str, str]) -> ShownLine:
    robust = {
        budget: (f"{found.value:.1f}", f"{found.low:.1f}, {found.high:.1f}")
        for budget, found in standing.robust.items()
    }
    largest = max(standing.robust, default=1)
    points = [(0, standing.clean or 0.0), *((budget, found.value) for budget, found in standing.robust.items())]
    curve = " ".join(f"{1 + 62 * budget / largest:.1f},{1 + 14 * (1 - value / 100):.1f}" for budget, value in points)
    href = f"#{targets[standing.model.name]}" if standing.model.name in targets else ""
    return ShownLine(standing, anchor, href, BADGES[standing.verdict], robust, curve if standing.robust else "")


def _why(model: ModelResults, anchor: str) -> ShownModel:
    if model.audit is None:
        raise ValueError(f"{model.name} is not audited")
    summary = model.audit.summary
    checks = worst_first(summary)
    reasons = [check for check in checks if check.outcome in VERDICTS[1:]][:_REASONS]
    worst = max(summary.budgets, key=lambda rates: rates.budget, default=None)
    held = "" if worst is None else f"{robust_accuracy(summary, worst)} within {worst.budget}/255 under the worst case"
    return ShownModel(
        id=anchor,
        name=model.id,
        whole_name=model.name,
        verdict=summary.verdict,
        badge=BADGES[summary.verdict],
        meaning=held,
        reasons=tuple(reasons),
        others=tuple(check for check in checks if check not in reasons and check.outcome != "passed"),
        passed=tuple(check for check in checks if check.outcome == "passed"),
    )


def _paper(reported: Reported, content: PageContent, anchor: str, taken: set[str]) -> ShownSection | None:
    """Return the paper's numbers beside the measured ones; None where it has none about these models."""
    claims, main = reported.table("-claims"), reported.table("")
    if claims is None or main is None:
        return None
    tables = tuple(_table(table, reported.experiment, content.downloads, taken) for table in (main, claims))
    title, place = "The paper beside the measured", _anchor(f"{anchor}-paper", taken)
    return ShownSection(place, title, claims.notes[:1], tables, (), open=True)


def _section(part: _Part, reported: Reported, content: PageContent, anchor: str, taken: set[str]) -> ShownSection:
    experiment = reported.experiment
    named = {suffix for each in _PARTS for suffix in each.tables} | {_FINDINGS}
    if reported.table("-claims") is not None:
        named |= set(_PAPER)
    tables = [
        table
        for table in reported.tables
        if (suffix := table.name.removeprefix(experiment.name)) in part.tables
        or (part is _PARTS[0] and suffix not in named)
    ]
    told = {"audit": verdict_sentences, "masking": masking_sentences}.get(part.key)
    checks = records_of(reported.frames.checks) if part.key == "audit" else []
    return ShownSection(
        id=_anchor(f"{anchor}-{part.key}", taken),
        title=part.title,
        callouts=told(experiment) if told and tables else (),
        tables=tuple(_table(table, experiment, content.downloads, taken) for table in tables),
        figures=_figures(part, reported, content, anchor, taken),
        notes=sources_note(checks) if checks else (),
    )


def _table(table: Table, experiment: Experiment, downloads: tuple[str, ...], taken: set[str]) -> ShownTable:
    title = table.title.removeprefix(f"{experiment.title}; ")
    said = {
        *verdict_sentences(experiment),
        *masking_sentences(experiment),
        *table.notes[: table.name.endswith("-claims")],
    }
    notes = tuple(note for note in table.notes if note not in said)
    return ShownTable(
        id=_anchor(f"table-{table.name}", taken),
        title=title[:1].upper() + title[1:],
        html=Markup(to_html(table)),  # every text in it is escaped there
        notes=(DIFFERENCE_NOTE, *notes) if is_compared(table) else notes,
        links=links_to([link for link in downloads if "/" not in link and link.rpartition(".")[0] == table.name]),
    )


def _comparison(content: PageContent, taken: set[str]) -> ShownTable | None:
    """Return the table about the two models that were to be compared."""
    if content.comparison is None:
        return None
    experiment = next(
        each.experiment for each in content.reported if each.experiment.find(content.comparison.first.name)
    )
    table = comparison_table(experiment, [content.comparison])
    return None if table is None else _table(table._replace(name=f"{table.name}-compared"), experiment, (), taken)


def _figures(
    part: _Part, reported: Reported, content: PageContent, anchor: str, taken: set[str]
) -> tuple[ShownFigure, ...]:
    shown = [
        _figure(written, content.folder, _anchor(f"{anchor}-figure-{written.figure.name}", taken))
        for section in part.figures
        for written in reported.figures
        if written.figure.section == section
    ]
    return tuple(_laid_out(shown))


def _laid_out(figures: list[ShownFigure]) -> Iterator[ShownFigure]:
    """Yield figures, the last one of an odd number of halves in a row with its caption beside it."""
    for layout, several in groupby(figures, key=lambda figure: figure.layout):
        row = list(several)
        if layout == "half" and len(row) % 2:
            row[-1] = row[-1]._replace(layout="beside")
        yield from row


def _figure(written: WrittenFigure, folder: Path, anchor: str) -> ShownFigure:
    figure, pixels = written.figure, (folder / written.files[-1]).read_bytes()
    with Image.open(io.BytesIO(pixels)) as picture:
        dpi = float(picture.info.get("dpi", (_SCREEN_DPI, _SCREEN_DPI))[0])
        width, height = (round(size * _SCREEN_DPI / dpi) for size in picture.size)
    return ShownFigure(
        id=anchor,
        name=figure.name,
        title=figure.title,
        caption=figure.caption,
        alternative=figure.alternative,
        source=f"data:image/png;base64,{base64.b64encode(pixels).decode()}",
        width=width,
        height=height,
        layout="wide" if width > _WIDE else "half",
        links=links_to(written.files),
    )


def _anchor(name: str, taken: set[str]) -> str:
    """Return an id made of letters, digits, ``_``, ``.`` and ``-`` that is not in `taken`, and take it."""
    base = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-") or "section"
    anchor, number = base, 1
    while anchor in taken:
        number += 1
        anchor = f"{base}-{number}"
    taken.add(anchor)
    return anchor
