"""From the chapters of a report and the files written for it to what the page is built from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bangbench import __version__
from bangbench.reporting.chapter import Chapter, WrittenFigure
from bangbench.reporting.groups import Group
from bangbench.reporting.page.build import PageChapter, PageContent, PageFigure
from bangbench.reporting.page.facts import runs_of

#: Bytes. Of a figure with more in its SVG (thousands of points), the page holds the PNG.
_LARGEST_SVG = 400_000


def page_content(
    chapters: Sequence[Chapter],
    problems: tuple[str, ...],
    unfinished: tuple[str, ...],
    folder: Path,
    downloads: Iterable[str],
) -> PageContent:
    """Return what stands on the page; figures are read from `folder`, which their files are relative to."""
    names = ", ".join(chapter.group.name for chapter in chapters)
    return PageContent(
        title=f"bangbench report: {names}" if names else "bangbench report",
        chapters=tuple(
            PageChapter(
                group=chapter.group,
                tables=chapter.all_tables,
                figures=tuple(_figure(figure, folder) for figure in chapter.figures),
                commands=commands(chapter.group),
            )
            for chapter in chapters
        ),
        problems=problems,
        unfinished=unfinished,
        downloads=tuple(downloads),
        generated_with=__version__,
    )


def commands(group: Group) -> tuple[str, ...]:
    """Return the commands that made the records of a group, training first, each once, and the one of the report."""
    return (*dict.fromkeys(run.provenance.command for run in runs_of(group)), "bangbench report")


def _figure(figure: WrittenFigure, folder: Path) -> PageFigure:
    drawn = next(name for name in figure.files if name.endswith(".svg"))
    if (folder / drawn).stat().st_size <= _LARGEST_SVG:
        return PageFigure(figure.plot, (folder / drawn).read_bytes(), "image/svg+xml", figure.files)
    pixels = next(name for name in figure.files if name.endswith(".png"))
    return PageFigure(figure.plot, (folder / pixels).read_bytes(), "image/png", figure.files)
