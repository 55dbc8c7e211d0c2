"""Every defence beside the others: one row a model, and clean against robust accuracy in a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bangbench.reporting.audit_tables import BADGES, COLLAPSED, Standing, standings
from bangbench.reporting.experiments import Experiment
from bangbench.reporting.figure import COLOURS, PAGE, Figure
from bangbench.reporting.frames import Frames, Values, interval_fields, records_of
from bangbench.reporting.table import (
    SIGMA,
    VERDICT_WORDS,
    Cell,
    Column,
    Table,
    left_out_notes,
    make_table,
    number,
    real,
    text,
    whole,
    words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

#: Fewer defences than this are seen at a glance in the table.
_ENOUGH = 4

_KEY_COLUMNS = 5

#: Marker and colour of a verdict.
_MARKS = {
    "sound": ("o", COLOURS[0]),
    "inconclusive": ("D", COLOURS[7]),
    "suspect": ("^", COLOURS[4]),
    "masked": ("X", COLOURS[1]),
    COLLAPSED: ("v", COLOURS[3]),
}


def defence_table(experiment: Experiment, frames: Frames) -> Table | None:
    """Return one row per model: its method and where that is from, clean and robust accuracy, verdict and cost."""
    listed = standings(experiment, frames)
    known = {row["model"]: row for row in records_of(frames.models)}
    budgets = sorted({budget for item in listed for budget in item.robust})
    costs = costs_of_a_step(experiment)
    return make_table(
        f"{experiment.name}-defences",
        f"{experiment.title}; every defence in one row",
        [
            _defence(experiment, item, known[item.model.name], budgets)
            | {"step_cost_regular_steps": costs.get(item.model.name)}
            for item in listed
        ],
        (
            words("ID"),
            words("Method"),
            words("Paper", terminal=False),
            Column("Year", ("year",), lambda cell: str(cell[0]) if cell[0] else text((None,)), terminal=False),
            real("Clean (%)", "clean_percent", 1),
            *(real(f"Robust at {budget} (%)", _robust_fields(budget), 1) for budget in budgets),
            real("FGS alone (%)", "fgs_alone_percent", 1),
            Column(f"Noise flips (%), at {SIGMA}", ("noise_flipped_percent", "noise_sigma_grey_levels"), _show_noise),
            Column("Verdict", ("audit_verdict", "strength"), _show_verdict, left=True),
            words("Reasons", terminal=False),
            real("A step costs", "step_cost_regular_steps", 1, terminal=False),
            real("Training (s)", "training_seconds", 0, terminal=False),
            real("Audit (s)", "audit_seconds", 0, terminal=False),
            whole("Audit forwards", "audit_forwards", terminal=False),
        ),
        (
            "Robust: percent of all audited images that are correct and stay so under all attacks of the audit "
            "together within an L∞ budget (grey levels), with the 95 % Wilson interval; sorted by the largest budget. "
            "FGS alone: what that attack by itself would have left within the largest budget (at any distance where no "
            "model is audited); far above the robust accuracy, it is a vanished gradient.",
            f"Noise: percent of copies with Gaussian noise of the largest {SIGMA} tried (grey levels, in brackets) "
            f"that are flipped. Verdict: {VERDICT_WORDS}; (quick): the audit did not try hard; {COLLAPSED}: right "
            "hardly more often than by guessing.",
            "A step costs so many of the regular model of the same net (by the clock, whatever else the "
            "machine did meanwhile), seconds of training and of the audit, and forward passes of the audit.",
            *left_out_notes(experiment),
        ),
    )


def _defence(experiment: Experiment, item: Standing, known: Values, budgets: Sequence[int]) -> Values:
    row: Values = {"id": item.model.id, "model": item.model.name, "data": experiment.data.name}
    row |= {field: known[field] for field in ("method", "method_settings", "paper", "year")}
    row["clean_percent"] = item.clean
    for budget in budgets:
        value, low, high = item.robust[budget][:3] if budget in item.robust else (None, None, None)
        row |= dict(zip(_robust_fields(budget), (value, low, high), strict=True))
    sigma, flipped = item.noise or (None, None)
    row |= {"fgs_alone_percent": item.fgs, "noise_sigma_grey_levels": sigma, "noise_flipped_percent": flipped}
    row |= {"audit_verdict": item.verdict, "strength": item.strength, "reasons": known["reasons"]}
    images, seconds, forwards = (getattr(item.model.audited, name, None) for name in ("images", "seconds", "forwards"))
    row |= {"images": images, "training_seconds": known["training_seconds"]}
    return row | {"audit_seconds": seconds, "audit_forwards": forwards}


def _robust_fields(budget: int) -> tuple[str, str, str]:
    return interval_fields(f"robust_at_{budget}_grey_levels", "_percent")


def _show_noise(cell: Cell) -> str:
    flipped, sigma = cell
    return text((None,)) if flipped is None else f"{number(flipped, 1)} ({number(sigma, 0)})"


def _show_verdict(cell: Cell) -> str:
    verdict, strength = cell
    return f"{verdict} (quick)" if strength == "quick" else str(verdict)


def costs_of_a_step(experiment: Experiment) -> dict[str, float]:
    """Return by name what a training step of a model took beside one of the first regular model of that net."""
    cards = {model.name: model.card for model in experiment.everyone if model.card is not None}
    seconds = {
        name: (card.model.net, card.seconds / card.model.iterations)
        for name, card in cards.items()
        if card.seconds and card.model.iterations
    }
    regular: dict[str, float] = {}
    for name, (net, step) in seconds.items():
        if cards[name].model.method == "regular":
            regular.setdefault(net, step)
    return {name: step / regular[net] for name, (net, step) in seconds.items() if net in regular}


class Dot(NamedTuple):
    """A defence in the picture: number and name in the key, verdict, cost of a step, accuracies in percent."""

    number: int
    name: str
    verdict: str
    cost: float | None
    clean: float
    robust: tuple[float, ...]


class Scatter(NamedTuple):
    """Clean against robust accuracy, one panel a budget in grey levels."""

    budgets: tuple[int, ...]
    dots: tuple[Dot, ...]


def defence_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield clean against robust accuracy of all audited models, where there are enough for a picture."""
    listed = [item for item in standings(experiment) if item.robust and item.clean is not None]
    budgets = tuple(sorted(set.intersection(*(set(item.robust) for item in listed)))) if listed else ()
    if len(listed) < _ENOUGH or not budgets:
        return
    costs = costs_of_a_step(experiment)
    dots = tuple(
        Dot(
            place + 1,
            item.model.id,
            item.verdict,
            costs.get(item.model.name),
            item.clean or 0.0,
            tuple(item.robust[budget].value for budget in budgets),
        )
        for place, item in enumerate(listed)
    )
    images = sorted({item.worst.n for item in listed if item.worst})
    best = ", ".join(f"{dot.name} {dot.robust[-1]:.1f} %" for dot in dots[:5])
    yield Figure(
        f"{experiment.name}-defences",
        "audit",
        f"{experiment.title}: clean against robust accuracy",
        f"Each mark is a model, numbered as in the table (robust within the largest budget first). Across: clean "
        f"accuracy; up: accuracy under all attacks of the audit within the budget above the panel (grey levels), of "
        f"{' or '.join(f'{count:,}' for count in images)} images. Marks by verdict; the larger, the more a training "
        "step costs beside a regular one.",
        f"The most robust within {budgets[-1]} grey levels: {best}.",
        Scatter(budgets, dots),
        "bangbench.reporting.defences:draw_scatter",
    )


def draw_scatter(scatter: Scatter) -> Drawing:
    """Draw the panels side by side, and beneath them the key of the numbers and of the marks."""
    from bangbench.reporting.draw import new_drawing

    lines = -(-len(scatter.dots) // _KEY_COLUMNS)
    drawing = new_drawing(PAGE, 3.4 + 0.16 * lines)
    panels = drawing.subplots(1, len(scatter.budgets), sharex=True, squeeze=False)[0]
    for place, (axes, budget) in enumerate(zip(panels, scatter.budgets, strict=True)):
        _draw_dots(axes, scatter.dots, place)
        axes.set_title(f"within {budget}")
        axes.set_xlabel("clean accuracy (%)")
    panels[0].set_ylabel("robust accuracy (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside upper center", ncols=len(labels), markerscale=0.8)
    names = [f"{dot.number} {dot.name}" for dot in scatter.dots]
    width = max(map(len, names), default=0)
    rows = ["     ".join(name.ljust(width) for name in names[line::lines]) for line in range(lines)]
    drawing.supxlabel("\n".join(rows), fontsize=7, family="monospace", multialignment="left")
    return drawing


def _draw_dots(axes: Axes, dots: Sequence[Dot], place: int) -> None:
    for verdict, (marker, colour) in _MARKS.items():
        chosen = [dot for dot in dots if dot.verdict == verdict]
        if chosen:
            axes.scatter(
                [dot.clean for dot in chosen],
                [dot.robust[place] for dot in chosen],
                s=[24.0 * (dot.cost or 1.0) ** 0.5 for dot in chosen],
                marker=marker,
                color=colour,
                alpha=0.65,
                label=BADGES[verdict],
            )
    for dot in dots:
        axes.annotate(str(dot.number), (dot.clean, dot.robust[place]), (3, 3), textcoords="offset points", fontsize=6)
