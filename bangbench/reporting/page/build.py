"""The report as one page: a single HTML file that needs no network, no server and no other file."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterator
from importlib.resources import files
from itertools import groupby
from pathlib import PurePosixPath
from typing import Literal, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from bangbench.reporting.audit_rows import verdict_sentences
from bangbench.reporting.finding_rows import sources_note
from bangbench.reporting.groups import Group
from bangbench.reporting.masking_rows import masking_sentences
from bangbench.reporting.page.cells import TableView, is_compared, table_view
from bangbench.reporting.page.facts import attacks_of, environments_table, models_of, models_table
from bangbench.reporting.page.findings import ShownModel, shown_findings
from bangbench.reporting.page.limits import limits
from bangbench.reporting.plot import Plot, Section
from bangbench.reporting.rows import group_title
from bangbench.reporting.table import Table

_PACKAGE = "bangbench.reporting.page"
_STYLES = ("style.css", "parts.css", "print.css")
#: Ids in the template; a group may have any of these names.
_OWN_IDS = ("main", "theme", "status", "page-limits", "page-reproduce", "page-downloads")
_SCREEN_DPI = 96
_PLAIN_DPI = 72  # what an image is taken to have that does not say
_WIDE = 620  # CSS pixels; figures above take the full width
_SVG_SIZE = re.compile(rb'<svg[^>]*?\bheight="([0-9.]+)pt"[^>]*?\bwidth="([0-9.]+)pt"|'
                       rb'<svg[^>]*?\bwidth="([0-9.]+)pt"[^>]*?\bheight="([0-9.]+)pt"')  # fmt: skip


class PageFigure(NamedTuple):
    """A drawn figure.

    embedded: the bytes of an image file of `media_type`, ``image/svg+xml`` or ``image/png``; files: links relative to
    the page, such as ``figures/NAME.svg``.
    """

    plot: Plot
    embedded: bytes
    media_type: str
    files: tuple[str, ...]


class PageChapter(NamedTuple):
    """One group with its tables and figures, and the commands that measure it again."""

    group: Group
    tables: tuple[Table, ...]
    figures: tuple[PageFigure, ...]
    commands: tuple[str, ...]


class PageContent(NamedTuple):
    """Everything on the page.

    problems: whole messages about records that are unusable or doubtful; unfinished: names such as ``table1/R0 fgs``;
    downloads: links, relative to the page, of the files next to it; generated_with: the version of bangbench.
    """

    title: str
    chapters: tuple[PageChapter, ...]
    problems: tuple[str, ...]
    unfinished: tuple[str, ...]
    downloads: tuple[str, ...]
    generated_with: str


class _Link(NamedTuple):
    href: str
    text: str


class _ShownTable(NamedTuple):
    view: TableView
    links: tuple[_Link, ...]


class _ShownFigure(NamedTuple):
    """width, height: CSS pixels at natural size, None where the file does not say; kind: svg or png.

    layout: wide (the full width), half, or beside: the caption stands beside a figure that would leave half a row
    empty.
    """

    id: str
    name: str
    title: str
    caption: str
    alternative: str
    source: str
    kind: str
    width: int | None
    height: int | None
    layout: Literal["wide", "half", "beside"]
    links: tuple[_Link, ...]


class _Callout(NamedTuple):
    """A sentence in three parts, of which the last is what it comes to; the first two may be empty."""

    subject: str
    evidence: str
    conclusion: str


class _ShownAudits(NamedTuple):
    """The findings of each model, the files that hold them, and where the checks come from."""

    models: tuple[ShownModel, ...]
    links: tuple[_Link, ...]
    notes: tuple[str, ...]


class _ShownSection(NamedTuple):
    id: str
    title: str
    callouts: tuple[_Callout, ...]
    tables: tuple[_ShownTable, ...]
    figures: tuple[_ShownFigure, ...]
    figures_first: bool
    audits: _ShownAudits | None = None


class _ShownChapter(NamedTuple):
    id: str
    title: str
    lead: str
    sections: tuple[_ShownSection, ...]
    limits: tuple[str, ...]
    commands: tuple[str, ...]


class _Part(NamedTuple):
    """What belongs into a section: tables by the end of their names, figures by their section."""

    key: str
    title: str
    tables: tuple[str, ...]
    plots: tuple[Section, ...]
    figures_first: bool = True


#: Tables that no part names follow the paper's, in "main".
_PARTS = (
    _Part("audit", "Audit: robust, or are its gradients gone?", ("-verdicts", "-budgets"), ("audit",), False),
    _Part("main", "Accuracy, rates and distances", ("", "-bench"), (), figures_first=False),
    _Part("masking", "Masked against unmasked", ("-masking",), ("masking",), figures_first=False),
    _Part("robustness", "Robustness curves", ("-robustness", "-pairs", "-seeds"), ("robustness",)),
    _Part("noise", "Gaussian noise", ("-noise",), ("noise",)),
    _Part("examples", "Example images", (), ("examples",)),
    _Part("settings", "Settings and training", (), ("settings", "training")),
    _Part("claims", "Claims", ("-claims",), ()),
)
#: Shown as text, not as a table.
_FINDINGS = "-findings"
_MAIN = "main"
_COMPARED_TITLE = "Measured beside published"


def build_page(content: PageContent) -> str:
    """Return the page as HTML; the same content gives the same text."""
    style, script = "\n".join(map(_resource, _STYLES)), _resource("script.js")
    environment = Environment(
        loader=PackageLoader("bangbench.reporting", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("template.html.j2").render(
        title=content.title,
        policy=_policy(style, script),
        style=Markup(style),  # the package's own file
        script=Markup(script),  # the package's own file
        chapters=_chapters(content),
        problems=content.problems,
        unfinished=content.unfinished,
        downloads=_downloads(content.downloads),
        generated_with=content.generated_with,
    )


def _resource(name: str) -> str:
    return files(_PACKAGE).joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Return a content security policy: this style, this script, embedded images, and nothing from anywhere else."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _chapters(content: PageContent) -> list[_ShownChapter]:
    taken = set(_OWN_IDS)
    anchors = [_anchor(chapter.group.name, taken) for chapter in content.chapters]
    return [
        _chapter(chapter, anchor, content.downloads, taken)
        for chapter, anchor in zip(content.chapters, anchors, strict=True)
    ]


def _chapter(chapter: PageChapter, anchor: str, downloads: tuple[str, ...], taken: set[str]) -> _ShownChapter:
    group = chapter.group
    shown = [
        _run_section(group, anchor, taken),
        *(_section(part, chapter, anchor, downloads, taken) for part in _PARTS),
    ]
    return _ShownChapter(
        id=anchor,
        title=group_title(group),
        lead=_lead(group),
        sections=tuple(section for section in shown if section.tables or section.figures),
        limits=limits(group),
        commands=chapter.commands,
    )


def _lead(group: Group) -> str:
    """Return the first sentence of a chapter: how many models, which attacks, which images."""
    models, attacks = len(models_of(group)), attacks_of(group)
    parts = [f"{models} model{'' if models == 1 else 's'}"]
    parts += [f"attacks: {', '.join(attacks)}"] if attacks else []
    noise = len(group.noise)
    parts += [f"{noise} noise evolution{'' if noise == 1 else 's'}"] if noise else []
    images = f"{group.data.images:,} test images of {group.data.name}"
    return f"{'; '.join([*parts, images])} (fingerprint {group.data.fingerprint[:12]})."


def _run_section(group: Group, anchor: str, taken: set[str]) -> _ShownSection:
    tables = [table for table in (models_table(group), environments_table(group)) if table.rows]
    shown = tuple(_ShownTable(_short_title(table_view(table), group), ()) for table in tables)
    return _ShownSection(_anchor(f"{anchor}-run", taken), "What was run", (), shown, (), figures_first=False)


def _section(
    part: _Part, chapter: PageChapter, anchor: str, downloads: tuple[str, ...], taken: set[str]
) -> _ShownSection:
    tables = [table for table in chapter.tables if _part_of(table, chapter.group) is part]
    compared = part.key == _MAIN and any(map(is_compared, tables))
    return _ShownSection(
        id=_anchor(f"{anchor}-{part.key}", taken),
        title=_COMPARED_TITLE if compared else part.title,
        callouts=tuple(_callout(note) for table in tables for note in _sentences(table, chapter.group)),
        tables=tuple(_shown_table(table, chapter.group, downloads) for table in tables),
        figures=_figures(part, chapter, anchor, taken),
        figures_first=part.figures_first,
        audits=_audits(chapter, downloads) if part.key == "audit" else None,
    )


def _audits(chapter: PageChapter, downloads: tuple[str, ...]) -> _ShownAudits:
    name = f"{chapter.group.name}{_FINDINGS}"
    shown = shown_findings(chapter.group) if any(table.name == name for table in chapter.tables) else ()
    return _ShownAudits(shown, _links(name, downloads), sources_note(chapter.group))


def _part_of(table: Table, group: Group) -> _Part | None:
    """Return the part that a table belongs into, None for what is not shown as a table."""
    suffix = table.name.removeprefix(group.name)
    if suffix == _FINDINGS:
        return None
    main = next(part for part in _PARTS if part.key == _MAIN)
    return next((part for part in _PARTS if suffix in part.tables), main)


def _shown_table(table: Table, group: Group, downloads: tuple[str, ...]) -> _ShownTable:
    said = _sentences(table, group)
    view = _short_title(table_view(table), group)
    view = view._replace(notes=tuple(note for note in view.notes if note not in said))
    return _ShownTable(view, _links(table.name, downloads))


def _links(name: str, downloads: tuple[str, ...]) -> tuple[_Link, ...]:
    """Return the files that a table was written to."""
    links = [link for link in downloads if "/" not in link and link.rpartition(".")[0] == name]
    return tuple(_Link(_href(link), link.rpartition(".")[2]) for link in links)


def _short_title(view: TableView, group: Group) -> TableView:
    """Leave out of a title what the chapter's title says already."""
    title = view.title.removeprefix(f"{group_title(group)}; ")
    return view._replace(title=title[:1].upper() + title[1:] if title != view.title else title)


def _sentences(table: Table, group: Group) -> tuple[str, ...]:
    """Return the notes that say what a table comes to: they are set apart, above it."""
    match table.name.removeprefix(group.name):
        case "-claims":
            return table.notes[:1]
        case "-masking":
            return masking_sentences(group)
        case "-verdicts":
            return verdict_sentences(group)
    return ()


def _callout(sentence: str) -> _Callout:
    """Split ``A against B (numbers): meaning`` where it has this form; nothing is left out or reordered."""
    subject, bracket, rest = sentence.partition(" (")
    evidence, colon, conclusion = rest.rpartition("): ")
    return _Callout(subject, f" ({evidence}): ", conclusion) if bracket and colon else _Callout("", "", sentence)


def _figures(part: _Part, chapter: PageChapter, anchor: str, taken: set[str]) -> tuple[_ShownFigure, ...]:
    shown = [
        _figure(figure, _anchor(f"{anchor}-figure-{figure.plot.name}", taken))
        for section in part.plots
        for figure in chapter.figures
        if figure.plot.section == section
    ]
    return tuple(_laid_out(shown))


def _laid_out(figures: list[_ShownFigure]) -> Iterator[_ShownFigure]:
    """Yield figures, the last one of an odd number of halves in a row with its caption beside it."""
    for layout, several in groupby(figures, key=lambda figure: figure.layout):
        row = list(several)
        if layout == "half" and len(row) % 2:
            row[-1] = row[-1]._replace(layout="beside")
        yield from row


def _figure(figure: PageFigure, anchor: str) -> _ShownFigure:
    plot, kind = figure.plot, "svg" if figure.media_type == "image/svg+xml" else "png"
    width, height = _size(figure.embedded, kind)
    return _ShownFigure(
        id=anchor,
        name=plot.name,
        title=plot.title,
        caption=plot.caption,
        alternative=plot.alternative,
        source=f"data:{figure.media_type};base64,{base64.b64encode(figure.embedded).decode()}",
        kind=kind,
        width=width,
        height=height,
        layout="wide" if width is not None and width > _WIDE else "half",
        links=tuple(_Link(_href(link), link.rpartition(".")[2]) for link in figure.files),
    )


def _size(embedded: bytes, kind: str) -> tuple[int | None, int | None]:
    """Return width and height in CSS pixels, so that the page does not move while it is read."""
    if kind == "png":
        with Image.open(io.BytesIO(embedded)) as image:
            dpi = float(image.info.get("dpi", (_SCREEN_DPI, _SCREEN_DPI))[0])
            return round(image.width * _SCREEN_DPI / dpi), round(image.height * _SCREEN_DPI / dpi)
    found = _SVG_SIZE.search(embedded)
    if found is None:
        return None, None
    height, width = (found[1], found[2]) if found[1] else (found[4], found[3])
    return round(float(width) * _SCREEN_DPI / _PLAIN_DPI), round(float(height) * _SCREEN_DPI / _PLAIN_DPI)


def _downloads(links: tuple[str, ...]) -> list[tuple[str, list[_Link]]]:
    """Return the files by stem, each with its formats, in the order given."""
    found: dict[str, list[_Link]] = {}
    for link in links:
        path = PurePosixPath(link)
        found.setdefault(path.with_suffix("").as_posix(), []).append(
            _Link(_href(link), path.suffix.lstrip(".") or link)
        )
    return list(found.items())


def _href(link: str) -> str:
    """Return a relative link in which a file's name cannot be taken for anything else."""
    return quote(link, safe="/")


def _anchor(name: str, taken: set[str]) -> str:
    """Return an id made of letters, digits, ``_``, ``.`` and ``-`` that is not in `taken`, and take it."""
    base = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-") or "section"
    anchor, number = base, 1
    while anchor in taken:
        number += 1
        anchor = f"{base}-{number}"
    taken.add(anchor)
    return anchor
