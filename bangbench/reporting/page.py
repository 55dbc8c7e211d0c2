"""The report as one page: a single HTML file that needs no network and no other file, and answers first."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bangbench import __version__
from bangbench.reporting import audit_tables, facts
from bangbench.reporting.attack_tables import masking_sentences
from bangbench.reporting.audit_tables import BADGES, Standing, answer, standings, verdict_sentences
from bangbench.reporting.document import Reported, WrittenFigure
from bangbench.reporting.figure import Embedded, Figure, Section, embedded
from bangbench.reporting.frames import records_of, worst_first
from bangbench.reporting.pairs import Comparison, comparison_table, paragraph
from bangbench.reporting.render import DIFFERENCE_NOTE, is_compared, to_html
from bangbench.reporting.table import Table
from bangbench.store.audits import VERDICTS, AuditSummary, Check

_STYLES = ("style.css", "answer.css", "parts.css", "print.css")
#: Ids in the template; an experiment may have any of these names.
_OWN_IDS = frozenset({"main", "theme", "status", "filter"}) | {
    f"page-{part}" for part in ("answer", "why", "checks", "alike", "compare", "end", "downloads")
}
#: Files that are linked at the end; those of a table or a figure are linked where it stands.
_LISTED = (".json", ".parquet")
_WIDE = 620  # CSS pixels; figures above take the full width
_REASONS = 3
#: Letters that a list of notes may have without being folded.
_FEW_LETTERS = 240


class PageContent(NamedTuple):
    """Everything on the page.

    problems: whole messages about records that are unusable or doubtful; unfinished: names such as ``table1/R0 fgs``;
    downloads: links, relative to the page, of the files next to it; folder: what the figures' files are relative to;
    comparison: of two models.
    """

    reported: Sequence[Reported]
    problems: tuple[str, ...]
    unfinished: tuple[str, ...]
    downloads: tuple[str, ...]
    folder: Path
    comparison: Comparison | None = None


class Link(NamedTuple):
    """A link and its text."""

    href: str
    text: str


class ShownTable(NamedTuple):
    """A table as HTML, its notes and its files; folded: whether the notes are too long to stand open."""

    id: str
    title: str
    html: Markup
    notes: tuple[str, ...]
    folded: bool
    links: tuple[Link, ...]


class ShownFigure(NamedTuple):
    """layout: full width, half, or beside its caption."""

    id: str
    figure: Figure
    picture: Embedded
    layout: Literal["wide", "half", "beside"]
    links: tuple[Link, ...]


class ShownSection(NamedTuple):
    """A part of an experiment; folded until a reader wants it."""

    id: str
    title: str
    callouts: tuple[str, ...]
    tables: tuple[ShownTable, ...]
    figures: tuple[ShownFigure, ...] = ()
    notes: tuple[str, ...] = ()
    open: bool = False


class ShownModel(NamedTuple):
    """Why a model has its verdict: the strongest reasons, everything else found, and the checks that passed.

    alike: the codes of those that passed with the same evidence as on another model, which is said once for all.
    """

    id: str
    line: Standing
    summary: AuditSummary
    reasons: list[Check]
    others: list[Check]
    passed: list[Check]
    alike: tuple[str, ...] = ()


class Meaning(NamedTuple):
    """What a check means and what to do, said once for all models: None where there is nothing to say."""

    id: str
    code: str
    meaning: str | None
    advice: str | None


class ShownLine(NamedTuple):
    """One model on the first screen; curve: the points of a polyline, its robust accuracy over the budgets."""

    id: str
    standing: Standing
    href: str
    curve: str


class ShownExperiment(NamedTuple):
    """An experiment with its lines on the first screen and its sections below."""

    id: str
    title: str
    lead: str
    budgets: list[int]
    lines: list[ShownLine]
    why: list[ShownModel]
    sections: list[ShownSection]
    run: ShownSection
    limits: tuple[str, ...]
    commands: tuple[str, ...]


class _Part(NamedTuple):
    """What belongs into a section: tables by the end of their names, figures by their section."""

    key: str
    title: str
    tables: tuple[str, ...]
    figures: tuple[Section, ...]


#: Only where the paper has numbers about these models.
_PAPER = _Part("paper", "The paper beside the measured", ("", "-claims"), ("claims",))
#: Tables that no part names follow the second of these.
_PARTS = (
    _Part("grid", "The grid", (), ("grid",)),
    _Part("defences", "Every defence in one row", ("-defences",), ("audit",)),
    _Part("audit", "Audit: verdicts, and rates within each budget", ("-verdicts", "-budgets"), ()),
    _Part("masking", "Masked against unmasked", ("-masking",), ("masking",)),
    _Part("robustness", "Robustness curves", ("-robustness", "-pairs", "-seeds"), ("robustness",)),
    _Part("rates", "Rates and distances", ("-bench",), ()),
    _Part("noise", "Gaussian noise", ("-noise",), ("noise",)),
    _Part("examples", "Example images", (), ("examples",)),
    _Part("training", "Settings and training", (), ("settings", "training")),
    _Part("cells", "Every cell of the grid", ("-cells",), ()),
)
#: Open parts, and the tables whose first notes they begin with.
_TOLD = {"paper": "-claims", "grid": "-cells"}


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
    page, names = _Page(content), ", ".join(each.experiment.name for each in content.reported)
    shown = [page.experiment(each) for each in content.reported]
    return environment.get_template("template.html.j2").render(
        title=f"bangbench report: {names}" if names else "bangbench report",
        answer=answer([line.standing for each in shown for line in each.lines]),
        policy=_policy(style, script),
        style=Markup(style),  # the package's own file
        script=Markup(script),  # the package's own file
        experiments=shown,
        meanings=page.meanings([model for each in shown for model in each.why]),
        alike=page.alike,
        badges=BADGES,
        compared="" if content.comparison is None else paragraph(content.comparison),
        comparison=page.comparison(),
        problems=content.problems,
        unfinished=content.unfinished,
        downloads=_downloads([name for name in content.downloads if name.endswith(_LISTED)]),
        generated_with=__version__,
    )


def _policy(style: str, script: str) -> str:
    """Return a content security policy: this style, this script, embedded images, and nothing from anywhere else."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


class _Page:
    """What is shown of the content, under ids that occur once."""

    def __init__(self, content: PageContent) -> None:
        self._content = content
        self._taken = set(_OWN_IDS)
        audits = (model.audited for each in content.reported for model in each.experiment.everyone)
        self.alike = audit_tables.passed_alike([summary for summary in audits if summary is not None])
        names = [written.files[-1] for each in content.reported for written in each.figures]
        with ThreadPoolExecutor() as threads:  # which is for the pictures' sake: Pillow encodes outside the GIL
            self._pictures = dict(
                zip(names, threads.map(lambda name: embedded(content.folder / name), names), strict=True)
            )

    def anchor(self, *names: str) -> str:
        """Return a new id made of letters, digits, ``_``, ``.`` and ``-``."""
        base = re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(names)).strip("-") or "section"
        anchor, number = base, 1
        while anchor in self._taken:
            number += 1
            anchor = f"{base}-{number}"
        self._taken.add(anchor)
        return anchor

    def experiment(self, reported: Reported) -> ShownExperiment:
        experiment, frames = reported.experiment, reported.frames
        anchor, listed = self.anchor(experiment.name), standings(experiment, frames)
        lines = {line.model.name: line for line in listed}
        why = [
            _why(lines[model.name], model.audit.summary, self.anchor(anchor, "why", model.id), self.alike)
            for model in experiment.everyone
            if model.audit is not None
        ]
        targets = {shown.line.model.name: f"#{shown.id}" for shown in why}
        papers = [_PAPER] if reported.table("-claims") is not None else []
        sections = [self.section(part, reported, anchor) for part in (*papers, *_PARTS)]
        about = facts.models_table(experiment, frames), facts.environments_table(experiment)
        run = tuple(self.table(table, reported, ()) for table in about if table is not None)
        return ShownExperiment(
            id=anchor,
            title=experiment.title,
            lead=facts.lead(experiment),
            budgets=sorted({budget for line in listed for budget in line.robust}),
            lines=[
                ShownLine(self.anchor(anchor, line.model.id), line, targets.get(line.model.name, ""), _curve(line))
                for line in listed
            ],
            why=sorted(why, key=lambda shown: -VERDICTS.index(shown.summary.verdict)),
            sections=[each for each in sections if each.tables or each.figures],
            run=ShownSection(self.anchor(anchor, "run"), "What was run", (), run),
            limits=facts.limits(experiment),
            commands=facts.commands(experiment),
        )

    def meanings(self, models: Sequence[ShownModel]) -> dict[tuple[str, str | None, str | None], Meaning]:
        """Return what is said of the checks that found something, by what tells one saying from another."""
        found = {
            (check.code, check.meaning, check.advice): None
            for model in models
            for check in (*model.reasons, *model.others)
            if check.meaning or check.advice
        }
        return {key: Meaning(self.anchor("check", key[0]), *key) for key in sorted(found, key=lambda key: key[0])}

    def section(self, part: _Part, reported: Reported, anchor: str) -> ShownSection:
        experiment, claims = reported.experiment, reported.table("-claims")
        named = {suffix for each in (*_PARTS, _PAPER) for suffix in each.tables}
        if claims is None:
            named -= {*_PAPER.tables}
        tables = [
            table
            for table in reported.tables
            if (suffix := table.name.removeprefix(experiment.name)) in part.tables
            or (part is _PARTS[1] and suffix not in named)
        ]
        source = reported.table(_TOLD[part.key]) if part.key in _TOLD else None
        callouts = () if source is None else source.notes[:1]
        if told := {"audit": verdict_sentences, "masking": masking_sentences}.get(part.key):
            callouts = told(experiment.models) if tables else ()
        checks = records_of(reported.frames.checks) if part.key == "audit" else []
        return ShownSection(
            id=self.anchor(anchor, part.key),
            title=part.title,
            callouts=callouts,
            tables=tuple(self.table(table, reported, self._content.downloads) for table in tables),
            figures=self.figures(part, reported, anchor),
            notes=audit_tables.sources_note(checks) if checks else (),
            open=part.key in _TOLD,
        )

    def table(self, table: Table, reported: Reported, downloads: Sequence[str]) -> ShownTable:
        experiment = reported.experiment
        title = table.title.removeprefix(f"{experiment.title}; ")
        said = {*verdict_sentences(experiment.models), *masking_sentences(experiment.models)}
        said |= {*table.notes[: table.name.endswith((*_TOLD.values(),))]}
        notes = tuple(note for note in table.notes if note not in said)
        notes = (DIFFERENCE_NOTE, *notes) if is_compared(table) else notes
        return ShownTable(
            id=self.anchor("table", table.name),
            title=title[:1].upper() + title[1:],
            html=Markup(to_html(table)),  # every text in it is escaped there
            notes=notes,
            folded=sum(map(len, notes)) > _FEW_LETTERS,
            links=_links([link for link in downloads if "/" not in link and link.rpartition(".")[0] == table.name]),
        )

    def comparison(self) -> ShownTable | None:
        """Return the table about the two models that were to be compared."""
        compared = self._content.comparison
        if compared is None:
            return None
        reported = next(each for each in self._content.reported if each.experiment.find(compared.first.name))
        table = comparison_table(reported.experiment, [compared])
        return None if table is None else self.table(table._replace(name=f"{table.name}-compared"), reported, ())

    def figures(self, part: _Part, reported: Reported, anchor: str) -> tuple[ShownFigure, ...]:
        """Return the figures of a part, the last one of an odd number of halves in a row with its caption beside it."""
        written = [each for section in part.figures for each in reported.figures if each.figure.section == section]
        shown = [self.figure(each, self.anchor(anchor, "figure", each.figure.name)) for each in written]
        for layout, several in groupby(range(len(shown)), key=lambda place: shown[place].layout):
            *_, last = places = list(several)
            if layout == "half" and len(places) % 2:
                shown[last] = shown[last]._replace(layout="beside")
        return tuple(shown)

    def figure(self, written: WrittenFigure, anchor: str) -> ShownFigure:
        picture = self._pictures[written.files[-1]]
        return ShownFigure(
            id=anchor,
            figure=written.figure,
            picture=picture,
            layout="wide" if picture.width > _WIDE else "half",
            links=_links(written.files),
        )


def _curve(line: Standing) -> str:
    largest = max(line.robust, default=0)
    points = [(0, line.clean or 0.0), *((budget, found.value) for budget, found in line.robust.items())]
    return " ".join(f"{1 + 62 * x / largest:.1f},{1 + 14 * (1 - y / 100):.1f}" for x, y in points) if largest else ""


def _why(line: Standing, summary: AuditSummary, anchor: str, alike: Collection[tuple[str, str]]) -> ShownModel:
    checks = worst_first(summary)
    reasons = [check for check in checks if check.outcome in VERDICTS[1:]][:_REASONS]
    others = [check for check in checks if check not in reasons and check.outcome != "passed"]
    passed = [check for check in checks if check.outcome == "passed"]
    own = [check for check in passed if (check.code, check.evidence) not in alike]
    return ShownModel(
        anchor, line, summary, reasons, others, own, tuple(check.code for check in passed if check not in own)
    )


def _links(names: Sequence[str]) -> tuple[Link, ...]:
    """Return files by the ends of their names; a name cannot be taken for anything else."""
    return tuple(Link(quote(name, safe="/"), name.rpartition(".")[2]) for name in names)


def _downloads(names: Sequence[str]) -> list[tuple[str, tuple[Link, ...]]]:
    """Return the files by stem, each with its formats, in the order given."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(PurePosixPath(name).with_suffix("").as_posix(), []).append(name)
    return [(stem, _links(several)) for stem, several in found.items()]
