"""How many test images hold against each L_inf budget: a row per model and attack, and for all attacks together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bangbench.core.statistics import wilson_interval
from bangbench.reporting.bench_rows import attack_names
from bangbench.reporting.groups import Group, ModelResults, short_name
from bangbench.reporting.per_image import AttackRows, Numbers
from bangbench.reporting.robustness import robust_accuracy, robust_counts, same_images, worst_case
from bangbench.reporting.rows import group_title, unfinished_note
from bangbench.reporting.table import Cell, Column, Row, Table, Value, csv_column, decimals, text
from bangbench.reporting.verdicts import attack_claims, audit_notes, verdict_on, worst_of
from bangbench.store.audits import VERDICTS
from bangbench.store.audits import WORST_CASE as WORST_CASE_CLAIM

WORST_CASE = "worst case"

#: Budgets of L_inf in grey levels: small changes show on colour photographs, digits bear large ones.
GREY_BUDGETS = (8, 16, 32, 64, 96, 128, 255)
COLOUR_BUDGETS = (1, 2, 4, 8, 16, 32, 255)

_COLOUR_CHANNELS = 3


class Held(NamedTuple):
    """What an attack could do: L_inf of each correct image (infinite: not flipped), and the number of test images."""

    linf: Numbers
    total: int

    def accuracy(self, budgets: Sequence[float]) -> list[float]:
        """Return the robust accuracy in percent at each budget."""
        return [float(value) for value in robust_accuracy(self.linf, self.total, budgets)]

    def interval(self, budget: float) -> tuple[float, float]:
        """Return the 95 % Wilson interval of the robust accuracy at a budget, in percent."""
        return wilson_interval(int(robust_counts(self.linf, budget)), self.total) or (0.0, 100.0)


class RobustModel(NamedTuple):
    """A model against each of its attacks that has single images, and against all those in `covered` at once.

    covered: the attacks over the same images, of which `worst` takes the smallest L_inf per image.
    """

    model: ModelResults
    attacks: Mapping[str, Held]
    worst: Held
    covered: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the name without its folder."""
        return short_name(self.model.name)


def robustness_table(group: Group) -> Table | None:
    """Return robust accuracies in percent per model, attack and budget; None where no single images are there."""
    models = robust_models(group)
    if not models:
        return None
    budgets = budgets_of(group)
    return Table(
        name=f"{group.name}-robustness",
        title=f"{group_title(group)}; robust accuracy against an L∞ budget",
        columns=_columns(budgets, audited=bool(group.audits)),
        rows=tuple(_row(group, item, attack, held, budgets) for item in models for attack, held in _lines(item)),
        notes=(
            "Robust accuracy at a budget: percent of all test images that are classified correctly and not flipped "
            "at an L∞ of at most so many grey levels (0 to 255). Images classified wrongly stay in the denominator; "
            "those an attack fails on, blank gradients included, count as robust at every budget. Clean: at 0.",
            f"{WORST_CASE.capitalize()}: an image counts as flipped at the smallest L∞ that any of the attacks run "
            f"needs ({covered_attacks(models)}). Other attacks could need less: an upper bound of robustness.",
            *_left_out_note(models),
            "The CSV file holds the 95 % Wilson interval of each robust accuracy over the test images.",
            *audit_notes(group, attack_claims(group)),
            *unfinished_note(group),
        ),
    )


def robust_verdict(item: RobustModel, attack: str) -> str:
    """Return the verdict on the robust accuracy under an attack.

    Under the worst case it is as good as the best of the attacks covered, where the audit's own worst case is no worse.
    """
    if attack != WORST_CASE:
        return verdict_on(item.model.audit, attack)
    covered = {verdict_on(item.model.audit, name) for name in item.covered}
    best = next((verdict for verdict in VERDICTS if verdict in covered), None)
    return worst_of([best or verdict_on(None, attack), verdict_on(item.model.audit, WORST_CASE_CLAIM)])


def robust_models(group: Group) -> list[RobustModel]:
    """Return the models of a group that have single images of at least one attack, in the group's order."""
    return [item for model in group.models if (item := _robust_model(model)) is not None]


def attacks_with_rows(model: ModelResults) -> dict[str, AttackRows]:
    """Return the attacks of a model whose single images are there: the bench's own first, then others by name."""
    found = {name: model.rows(name) for name in attack_names(model)}
    return {name: rows for name, rows in found.items() if rows is not None and len(rows.indices)}


def budgets_of(group: Group) -> tuple[int, ...]:
    """Return the budgets in grey levels at which a group's table gives numbers."""
    colour = any(model.model.input_shape[0] == _COLOUR_CHANNELS for model in group.models)
    return COLOUR_BUDGETS if colour else GREY_BUDGETS


def covered_attacks(models: Sequence[RobustModel]) -> str:
    """Return the attacks that a worst case covers in words, by model where the models differ."""
    if len({item.covered for item in models}) == 1:
        return ", ".join(models[0].covered)
    return "; ".join(f"{item.name}: {', '.join(item.covered)}" for item in models)


def varied_models(models: Iterable[ModelResults], most: int) -> list[ModelResults]:
    """Return at most so many models, in their order: every method's first before any method's second."""
    seen: Counter[str | None] = Counter()
    ranked = []
    for place, model in enumerate(models):
        seen[model.model.method] += 1
        ranked.append((seen[model.model.method], place, model))
    chosen = sorted(ranked, key=lambda entry: entry[:2])[:most]
    return [model for _, _, model in sorted(chosen, key=lambda entry: entry[1])]


def _robust_model(model: ModelResults) -> RobustModel | None:
    found = attacks_with_rows(model)
    if not found:
        return None
    same = same_images(found)
    total = len(next(iter(same.values())).indices)
    return RobustModel(
        model=model,
        attacks={name: Held(rows.linf_or_infinite(), len(rows.indices)) for name, rows in found.items()},
        worst=Held(worst_case(list(same.values())), total),
        covered=tuple(same),
    )


def _lines(item: RobustModel) -> list[tuple[str, Held]]:
    return [*item.attacks.items(), (WORST_CASE, item.worst)]


def _columns(budgets: tuple[int, ...], *, audited: bool) -> tuple[Column, ...]:
    return (
        Column("ID", "ID", ("id",), text, "left"),
        csv_column("source"),
        csv_column("model"),
        csv_column("data"),
        Column("Attack", "Attack", ("attack",), text, "left"),
        Column("Audit", "Audit", ("audit_verdict",), text if audited else None, "left"),
        csv_column("attacks_covered"),
        Column("Images", "Images", ("images",), text),
        Column("Clean (%)", "Clean\n%", _fields("accuracy"), decimals(2)),
        *(
            Column(f"At {budget} (%)", f"At {budget}\n%", _fields(f"robust_at_{budget}_grey_levels"), decimals(2))
            for budget in budgets
        ),
    )


def _fields(stem: str) -> tuple[str, str, str]:
    return f"{stem}_percent", f"{stem}_low_percent", f"{stem}_high_percent"


def _row(group: Group, item: RobustModel, attack: str, held: Held, budgets: tuple[int, ...]) -> Row:
    levels = (0, *budgets)
    covered = item.covered if attack == WORST_CASE else (attack,)
    verdict = robust_verdict(item, attack)
    labels: tuple[Value, ...] = (item.name, "measured", item.model.name, group.data.name, attack, verdict)
    numbers: list[Cell] = [
        (accuracy, *held.interval(level)) for level, accuracy in zip(levels, held.accuracy(levels), strict=True)
    ]
    return Row("measured", (*((name,) for name in labels), (" ".join(covered),), (held.total,), *numbers))


def _left_out_note(models: Sequence[RobustModel]) -> tuple[str, ...]:
    """Return a sentence that names the attacks whose images are not those of the worst case."""
    left_out = [f"{item.name} {name}" for item in models for name in item.attacks if name not in item.covered]
    if not left_out:
        return ()
    return (f"Not in the {WORST_CASE}, since run on other images or weights: {', '.join(left_out)}.",)
