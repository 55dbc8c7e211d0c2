"""Tables as text: Markdown for GitHub, LaTeX with booktabs, CSV for pandas, HTML for the page."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping
from html import escape

from bangbench.reporting.frames import records_of
from bangbench.reporting.table import KIND, Cell, Column, Table, Value

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # a bracket after a line break would be read as that command's argument
    "]": "{]}",
    "–": "--",  # noqa: RUF001  # the en dash of a missing number
    "±": r"$\pm$",
    "L∞": r"$L_\infty$",
    "∞": r"$\infty$",
    "β": r"$\beta$",
    "ε": r"$\epsilon$",
    "σ": r"$\sigma$",  # noqa: RUF001  # the Greek letter
}
#: Characters from which on a text is a sentence, and the width of a column of them.
_SENTENCE, _SENTENCE_WIDTH = 60, "6cm"
_LATEX_PATTERN = re.compile("|".join(map(re.escape, _LATEX)))

#: What a model was told to be, not what was measured of it: no difference is taken.
_GIVEN = frozenset({"beta", "epsilon", "year", "iterations"})
_LONG_TEXT, _LONG_HEADER = 32, 14
_MARK = re.compile(r" \[(masked|suspect|inconclusive|sound|no audit)\]$")
_VERDICT = re.compile(r"(?:.*\[)?(masked|suspect|inconclusive|sound)\]?(?: \(.*\))?")


def to_markdown(table: Table) -> str:
    """Return a table as GitHub's Markdown: a heading, the table, its notes as a list."""
    lines = [[_markdown_escape(column.header) for column in table.columns]]
    lines.append([":---" if column.left else "---:" for column in table.columns])
    lines.extend([_markdown_escape(value) for value in row] for _, row in table.printed())
    grid = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "\n".join(f"- {_markdown_escape(note)}" for note in table.notes)
    return f"### {_markdown_escape(table.title)}\n\n{grid}\n\n{notes}\n"


def to_latex(table: Table) -> str:
    r"""Return a table as a LaTeX ``table`` environment, shrunk where it is wider than the text.

    Needs ``\usepackage{booktabs,graphicx}``.
    """
    printed = [row for _, row in table.printed()]
    align = "".join(_latex_align(column, [row[place] for row in printed]) for place, column in enumerate(table.columns))
    header = _latex_line([column.header for column in table.columns])
    body = "\n".join(f"    {_latex_line(row)}" for row in printed)
    notes = " \\par\n    ".join(latex_escape(note) for note in table.notes)
    label = re.sub(r"[^A-Za-z0-9.-]", "-", table.name)
    return rf"""% \usepackage{{booktabs,graphicx}}
\begin{{table}}
  \centering
  \caption{{{latex_escape(table.title)}}}
  \label{{tab:{label}}}
  \resizebox{{\ifdim\width>\linewidth\linewidth\else\width\fi}}{{!}}{{%
    \begin{{tabular}}{{{align}}}
    \toprule
    {header}
    \midrule
{body}
    \bottomrule
    \end{{tabular}}%
  }}
  \par\smallskip
  \begin{{minipage}}{{\linewidth}}
    \footnotesize
    {notes}
  \end{{minipage}}
\end{{table}}
"""


def to_csv(table: Table) -> str:
    """Return a table as CSV: one header line, plain numbers at full precision, nothing for a missing one.

    A text that a spreadsheet would compute, such as a name that begins with =, has an apostrophe before it.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.csv_frame.columns)
    # pandas itself would write 1000 as 1000.0 where another of the column is missing
    writer.writerows(map(_no_formula, row.values()) for row in records_of(table.csv_frame))
    return stream.getvalue()


def _no_formula(value: Value) -> Value:
    """Return a value that no spreadsheet computes."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def to_html(table: Table) -> str:
    """Return a table as an HTML ``table`` without a caption: a body for each row and those that belong under it.

    Cells carry their first number as ``data-value``, by which the page sorts; under each published row stands the
    difference of the measured one from it.
    """
    head = "".join(
        f'<th scope="col"{_classes(column, long=len(column.header) > _LONG_HEADER)}>{escape(column.header)}</th>'
        for column in table.columns
    )
    bodies: list[list[str]] = []
    measured: list[Cell] = []
    for kind, cells in table.rows():
        if kind == "measured" or not bodies:
            bodies.append([])
            measured = cells
        bodies[-1].append(_html_row(table, kind, cells))
        if kind == "published":
            bodies[-1].append(_html_difference(table, measured, cells))
    body = "\n".join(f"<tbody>\n{chr(10).join(rows)}\n</tbody>" for rows in bodies)
    return f"<table>\n<thead>\n<tr>{head}</tr>\n</thead>\n{body}\n</table>"


DIFFERENCE_NOTE = (
    "Difference: measured minus published, of the means where there are any, computed before rounding; rates and "
    "accuracies in percentage points."
)

#: What each format of a table is rendered by; its name is the file's suffix.
RENDERERS: Mapping[str, Callable[[Table], str]] = {"md": to_markdown, "tex": to_latex, "csv": to_csv}


def is_compared(table: Table) -> bool:
    """Return whether a table has published rows."""
    return KIND in table.frame.columns and "published" in set(table.frame[KIND])


def latex_escape(text: str) -> str:
    r"""Return text with LaTeX's special characters escaped and mathematical signs as commands."""
    return _LATEX_PATTERN.sub(lambda match: _LATEX[match.group()], text)


def _latex_line(values: list[str]) -> str:
    return " & ".join(map(latex_escape, values)) + r" \\"


def _latex_align(column: Column, values: list[str]) -> str:
    """Return how a column is set: one with sentences in it breaks into lines."""
    longest = max(map(len, values), default=0)
    return f"p{{{_SENTENCE_WIDTH}}}" if longest > _SENTENCE else "l" if column.left else "r"


def _markdown_escape(text: str) -> str:
    """Escape what GitHub would read as markup; an underscore inside a word is none."""
    return re.sub(r"[\\|*<>`]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", text)


def _classes(column: Column, value: str = "", *more: str, long: bool = False) -> str:
    """Return a cell's ``class``; text is set to the left and numbers (`value`) to the right without one."""
    side = "" if column.left == (not value) else "left" if column.left else "right"
    names = " ".join(filter(None, (side, "long" if long else "", *more)))
    return f' class="{names}"' if names else ""


def _html_row(table: Table, kind: str, cells: list[Cell]) -> str:
    pairs = list(zip(table.columns, cells, strict=True))
    first = f'<th scope="row"{_data_value(pairs[0][1])}>{escape(pairs[0][0].show(pairs[0][1]))}</th>'
    given = "" if kind == "measured" else f' class="{kind}"'
    return f"<tr{given}>{first}{''.join(_html_cell(*pair) for pair in pairs[1:])}</tr>"


def _html_cell(column: Column, cell: Cell) -> str:
    shown, value = column.show(cell), _data_value(cell)
    found, mark = _VERDICT.fullmatch(shown), _MARK.search(shown) if value else None
    text = escape(shown) if mark is None else f'{escape(shown[: mark.start()])} <span class="mark">{mark[0][1:]}</span>'
    verdict = "" if found is None or (found[1] == "sound" and mark is not None) else found[1]
    long = not value and len(shown) > _LONG_TEXT
    return f"<td{_classes(column, value, verdict, long=long)}{value}>{text}</td>"


def _data_value(cell: Cell) -> str:
    """Return the first number of a cell, to ten digits; nothing where it has none or begins with a word."""
    numbers = [value for value in cell if isinstance(value, (int, float))]
    return f' data-value="{numbers[0]:.10g}"' if numbers and not isinstance(cell[0], str) else ""


def _html_difference(table: Table, measured: list[Cell], published: list[Cell]) -> str:
    triples = list(zip(table.columns, measured, published, strict=True))[1:]
    cells = "".join(_difference_cell(*triple) for triple in triples)
    return f'<tr class="difference"><th scope="row">difference</th>{cells}</tr>'


def _difference_cell(column: Column, measured: Cell, published: Cell) -> str:
    """Return the difference of the first values, with as many decimals as the column shows."""
    first, second = measured[0], published[0]
    numbers = isinstance(first, int | float) and isinstance(second, int | float)
    if set(column.fields) & _GIVEN or not numbers:
        return f"<td{_classes(column)}></td>"
    difference = float(first or 0) - float(second or 0)
    shown = column.show((abs(difference), *(None,) * (len(measured) - 1)))
    sign = "" if not any(digit in shown for digit in "123456789") else "+" if difference > 0 else "-"
    value = f' data-value="{difference:.10g}"'
    return f"<td{_classes(column, value)}{value}>{sign}{escape(shown)}</td>"
