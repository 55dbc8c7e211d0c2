"""A table: numbers that stay numbers, columns that say how they are printed, and the sentences to read beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from bangbench.reporting.collect import short_name
from bangbench.reporting.experiments import LEVELS, NOT_AUDITED, Experiment, ModelResults
from bangbench.reporting.frames import plain
from bangbench.store.audits import PREDICTIONS, VERDICTS, WORST_CASE, AuditSummary

Value = float | int | str | None
Cell = tuple[Value, ...]
Show = Callable[[Cell], str]

MISSING = "–"  # an en dash, as papers print it  # noqa: RUF001
INFINITE = "∞"
SIGMA = "σ"  # noqa: RUF001  # the Greek letter

#: Tells the paper's rows, and those that correct a masked one, from the bench's own; not in the CSV.
KIND = "_kind"
#: What the first column prints where that is not a field of the CSV.
LABEL = "_label"

#: A gap in rate between an attack and its twin, in percentage points, from which on it is put into words.
RATE_GAP = 5.0

_TITLES = {"fgs": "FGS", "fgs-unmasked": "FGS-unmasked", "hc1": "HC1", "hc1-unmasked": "HC1-unmasked"}

VERDICT_WORDS = (
    "sound: nothing speaks against the number, be it high or low; suspect: something does; masked: the attack was kept "
    "from working, so its rate is no robustness; inconclusive: too few images to say"
)
#: What is said of an audit that knew of no strengths.
_BEFORE_STRENGTHS = ", by an earlier version that tried less than strength standard (its robust accuracy is too high)"


class Column(NamedTuple):
    """One printed column: its header, the fields of the frame that it shows, and how.

    left: text, set to the left; terminal: whether a terminal has room for it.
    """

    header: str
    fields: tuple[str, ...]
    show: Show
    left: bool = False
    terminal: bool = True


class Table(NamedTuple):
    """`name` is the stem of the files it is written to; `notes` are sentences to print below it.

    frame: one row per line, its columns those of the CSV, and some that begin with an underscore and are not in it.
    """

    name: str
    title: str
    frame: pd.DataFrame
    columns: tuple[Column, ...]
    notes: tuple[str, ...]

    @property
    def csv_frame(self) -> pd.DataFrame:
        """Return the frame as the CSV holds it."""
        return self.frame[[name for name in self.frame.columns if not name.startswith("_")]]

    def rows(self) -> Iterator[tuple[str, list[Cell]]]:
        """Yield the kind of each row (measured, unmasked or published) and its printed cells."""
        for record in self.frame.to_dict("records"):
            cells = [tuple(plain(record[field]) for field in column.fields) for column in self.columns]
            yield record.get(KIND) or "measured", cells

    def printed(self) -> list[tuple[str, list[str]]]:
        """Return the kind of each row and its cells as text."""
        return [
            (kind, [column.show(cell) for column, cell in zip(self.columns, cells, strict=True)])
            for kind, cells in self.rows()
        ]


def make_table(
    name: str, title: str, records: Sequence[Mapping[str, Any]], columns: Sequence[Column], notes: Sequence[str]
) -> Table | None:
    """Return a table of records whose keys, in order, are the fields of the CSV; None where there are none.

    Values keep their types: a whole number stays one where others of its column are missing.
    """
    fields = list(dict.fromkeys(field for record in records for field in record))
    if not records:
        return None
    values = {field: pd.Series([plain(record.get(field)) for record in records], dtype="object") for field in fields}
    return Table(name, title, pd.DataFrame(values), tuple(columns), tuple(notes))


def words(header: str, field: str = "", **options: Any) -> Column:
    """Return a column of names or sentences."""
    return Column(header, (field or header.lower(),), text, left=True, **options)


def whole(header: str, field: str = "", **options: Any) -> Column:
    """Return a column of counts."""
    return Column(header, (field or header.lower(),), text, **options)


def real(header: str, fields: str | tuple[str, ...], places: int, **options: Any) -> Column:
    """Return a column of numbers with so many decimals; of three, the others are the ends of an interval."""
    listed = (fields,) if isinstance(fields, str) else fields
    return Column(header, listed, shown(places, "" if len(listed) == 1 else " [{}, {}]"), **options)


def spread(header: str, stem: str, places: int, unit: str = "", **options: Any) -> Column:
    """Return a column of means and standard deviations."""
    return Column(header, (f"{stem}_mean{unit}", f"{stem}_std{unit}"), shown(places, " ± {}"), **options)


def text(cell: Cell) -> str:
    """Show a name, or a number with thousands separated and no more decimals than it has."""
    value = cell[0]
    if value is None:
        return MISSING
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def shown(places: int, others: str = "") -> Show:
    """Return a function that shows a number and, where nothing of a cell is missing, its others: `` ± {}``."""
    return lambda cell: (
        number(cell[0], places)
        + ("" if None in cell else others.format(*(number(value, places) for value in cell[1:])))
    )


def value_and_verdict(places: int) -> Show:
    """Return a function that shows (value, ..., verdict on it) as ``1.68 [masked]``; None has no verdict."""

    def show(cell: Cell) -> str:
        value, verdict = cell[0], cell[-1]
        if value is None or not isinstance(verdict, str):
            return number(value, places)
        return f"{number(value, places)} [{'no audit' if verdict == NOT_AUDITED else verdict}]"

    return show


def if_doubted(places: int) -> Show:
    """Return a function that shows (number, verdict): the verdict only where it is a bad one."""
    judged, bare = value_and_verdict(places), shown(places)
    return lambda cell: judged(cell) if cell[-1] in ("inconclusive", "suspect", "masked") else bare(cell)


def joined(cell: Cell) -> str:
    """Show several whole numbers as ``3 / 0``."""
    return " / ".join(MISSING if value is None else str(value) for value in cell)


def number(value: Value, places: int) -> str:
    """Return one number with so many decimals; None is an en dash, infinity its sign."""
    if value is None or isinstance(value, str):
        return value or MISSING
    if math.isinf(value):
        return INFINITE if value > 0 else f"-{INFINITE}"
    shown = f"{value:.{places}f}"
    return shown if float(shown) else f"{0:.{places}f}"  # what rounds to nothing has no sign


def interval_text(interval: tuple[Value, Value] | None, places: int) -> str:
    """Return ``[low, high]``, or nothing where there is no interval."""
    return "" if interval is None else f"[{number(interval[0], places)}, {number(interval[1], places)}]"


def attack_title(attack: str) -> str:
    """Return an attack's name as headings print it: FGS for fgs; the names of other attacks stay as they are."""
    return _TITLES.get(attack, attack)


def left_out_notes(experiment: Experiment) -> tuple[str, ...]:
    """Return sentences that name the runs without numbers yet, and those on fewer images than others of their model."""
    runs = ", ".join(f"{short_name(item.name)} {item.run}" for item in experiment.unfinished)
    fewer = ", ".join(
        f"{short_name(item.name)} {item.record.attack} ({item.record.data.images:,})" for item in experiment.fewer
    )
    return (
        *([f"Started but not finished, so not in the tables: {runs}."] if runs else []),
        *([f"Not in the tables, since the same model was attacked on more images: {fewer}."] if fewer else []),
    )


def audit_notes(
    experiment: Experiment, claims: Iterable[str], models: Iterable[ModelResults] | None = None
) -> tuple[str, ...]:
    """Return what to know under a table that prints these claims: what is masked, what is not audited.

    models: those printed (None: those that were attacked). Ends with the runs that are left out.
    """
    printed = list(dict.fromkeys(claims))
    listed = list({model.name: model for model in (experiment.attacked if models is None else models)}.values())
    marks = (f"Audit: whether a number means what it seems to. {_capital(VERDICT_WORDS)}.",)
    return (
        *(marks if experiment.audited else ()),
        *_masked_note(listed, printed),
        *_missing_notes(experiment, listed, printed),
        *left_out_notes(experiment),
    )


def _masked_note(models: Sequence[ModelResults], claims: Sequence[str]) -> tuple[str, ...]:
    parts = [
        f"{model.id} ({', '.join(masked)}): {worst_case_text(model.audited)}"
        for model in models
        if model.audited is not None and (masked := [claim for claim in claims if model.is_masked(claim)])
    ]
    return (f"Masked, with the worst case over all attacks of the audit: {'; '.join(parts)}.",) if parts else ()


def _missing_notes(experiment: Experiment, models: Sequence[ModelResults], claims: Sequence[str]) -> tuple[str, ...]:
    missing = [model for model in models if model.audit is None]
    notes = []
    if missing:
        notes.append(
            f"Not audited: {', '.join(model.id for model in missing)}; a low rate may be robustness or a gradient "
            f"that is gone. To tell: {how_to_audit(experiment, missing)}"
        )
    beyond = [
        f"{model.id} {claim}"
        for model in experiment.models
        for claim in claims
        if model.audit is not None and claim in model.attacks and model.verdict(claim) == NOT_AUDITED
    ]
    return (*notes, *([f"Not looked into by the audit: {', '.join(beyond)}."] if beyond else []))


def how_to_audit(experiment: Experiment, models: Sequence[ModelResults]) -> str:
    """Return the command that audits the first of these models, against a regular one where there is one."""
    regular = next((model.name for model in experiment.models if model.model.method == "regular"), None)
    against = f" --against {regular}" if regular is not None and regular != models[0].name else ""
    return f"bangbench audit {models[0].name}{against}"


def audited_images(models: Iterable[ModelResults]) -> list[str]:
    """Say what was audited: how many images, how many of them correct, against which model, how hard was tried."""
    told: dict[str, list[str]] = {}
    for model in models:
        if model.audit is None:
            continue
        record, summary = model.audit.record, model.audit.summary
        against = f", with images transferred from {short_name(record.against.name)}" if record.against else ""
        tried = f", strength {summary.strength}" if summary.strength else _BEFORE_STRENGTHS
        what = f"{summary.images:,} test images of {record.data.name}{against}{tried}"
        told.setdefault(what, []).append(f"{model.id} ({summary.correct:,} correct)")
    return [f"Audited on the first {what}: {', '.join(names)}." for what, names in told.items()]


def budget_text(budget: float) -> str:
    """Return a budget in grey levels with its share of the range: ``76 (0.3)``."""
    return f"{budget:g} ({budget / LEVELS:.2g})"


def worst_case_text(summary: AuditSummary) -> str:
    """Return the worst case within the largest budget: ``99.90 % [...] flipped at L_inf 76 (0.3)``."""
    worst = max(summary.budgets, key=lambda rates: rates.budget, default=None)
    if worst is None:
        return "no budget tried"
    ends = "" if worst.rate_interval is None else f" {interval_text(worst.rate_interval, 2)}"
    quick = ", quick" if summary.strength == "quick" else ""
    return f"{number(worst.rate, 2)} %{ends} flipped at L∞ {budget_text(worst.budget)}{quick}"


def verdicts_in_words(models: Iterable[ModelResults], claims: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence for a caption: which of the models' numbers are masked, suspect, sound or not audited.

    Empty where none of the models is audited.
    """
    listed = list(models)
    if not any(model.audit for model in listed):
        return ()
    parts: dict[str, list[str]] = {}
    for model in listed:
        by_verdict: dict[str, list[str]] = {}
        for claim in claims:
            if claim in model.attacks or claim in (PREDICTIONS, WORST_CASE):
                by_verdict.setdefault(model.verdict(claim), []).append(claim)
        for verdict, names in by_verdict.items():
            which = "" if len(by_verdict) == 1 else f" {', '.join(names)}"
            parts.setdefault(verdict, []).append(f"{model.id}{which}")
    order = [verdict for verdict in (*reversed(VERDICTS), NOT_AUDITED) if verdict in parts]
    return (f"Audit: {'; '.join(f'{verdict}: ' + ', '.join(parts[verdict]) for verdict in order)}.",)


def audit_mark(model: ModelResults, attack: str) -> str:
    """Return `` (audit: masked)`` to set behind a number in a sentence, nothing for a model without an audit."""
    return "" if model.audit is None else f" (audit: {model.verdict(attack)})"


def not_shown(left_out: Iterable[str], without_images: Iterable[str] = ()) -> tuple[str, ...]:
    """Return a sentence that names what a figure of single images leaves out, and the models that have none."""
    lists = (("not shown", ", ".join(left_out)), ("no single images", ", ".join(without_images)))
    told = "; ".join(f"{what}: {names}" for what, names in lists if names)
    return (f"{_capital(told)}.",) if told else ()


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
