"""Tables as text: Markdown for GitHub, LaTeX with booktabs, CSV for pandas."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping

from bangbench.reporting.table import Row, Table, cell_text, printed_columns

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


def to_markdown(table: Table) -> str:
    """Return a table as GitHub's Markdown: a heading, the table, its notes as a list."""
    columns = printed_columns(table)
    lines = [[_markdown_escape(table.columns[index].header) for index in columns]]
    lines.append(["---:" if table.columns[index].align == "right" else ":---" for index in columns])
    lines.extend([_markdown_escape(value) for value in _printed_row(table, row, columns)] for row in table.rows)
    grid = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "\n".join(f"- {_markdown_escape(note)}" for note in table.notes)
    return f"### {_markdown_escape(table.title)}\n\n{grid}\n\n{notes}\n"


def to_latex(table: Table) -> str:
    r"""Return a table as a LaTeX ``table`` environment, shrunk where it is wider than the text.

    Needs ``\usepackage{booktabs,graphicx}``.
    """
    columns = printed_columns(table)
    align = "".join(_latex_align(table, index) for index in columns)
    header = _latex_line([table.columns[index].header for index in columns])
    body = "\n".join(f"    {_latex_line(_printed_row(table, row, columns))}" for row in table.rows)
    notes = " \\par\n    ".join(latex_escape(note) for note in table.notes)
    return rf"""% \usepackage{{booktabs,graphicx}}
\begin{{table}}
  \centering
  \caption{{{latex_escape(table.title)}}}
  \label{{tab:{_latex_label(table.name)}}}
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
    """Return a table as CSV: one header line, plain numbers at full precision, nothing for a missing one."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(field for column in table.columns for field in column.fields)
    for row in table.rows:
        cells = zip(table.columns, row.cells, strict=True)
        writer.writerow(value for column, cell in cells if column.fields for value in cell)
    return stream.getvalue()


#: What each format of a table is rendered by; its name is the file's suffix.
RENDERERS: Mapping[str, Callable[[Table], str]] = {"md": to_markdown, "tex": to_latex, "csv": to_csv}


def latex_escape(text: str) -> str:
    r"""Return text with LaTeX's special characters escaped and mathematical signs as commands."""
    return _LATEX_PATTERN.sub(lambda match: _LATEX[match.group()], text)


def _latex_line(values: list[str]) -> str:
    return " & ".join(map(latex_escape, values)) + r" \\"


def _latex_align(table: Table, index: int) -> str:
    """Return how a column is set: one with sentences in it breaks into lines."""
    column = table.columns[index]
    longest = max((len(cell_text(column, row.cells[index])) for row in table.rows), default=0)
    return f"p{{{_SENTENCE_WIDTH}}}" if longest > _SENTENCE else "r" if column.align == "right" else "l"


def _latex_label(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", name)


def _markdown_escape(text: str) -> str:
    """Escape what GitHub would read as markup; an underscore inside a word is none."""
    return re.sub(r"[\\|*<>`]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", text)


def _printed_row(table: Table, row: Row, columns: list[int]) -> list[str]:
    return [cell_text(table.columns[index], row.cells[index]) for index in columns]
