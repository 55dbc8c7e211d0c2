"""Tables of what attacks and noise did: the bench's own columns, masked against unmasked, noise, several seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bangbench.core.spec import fingerprint_of
from bangbench.core.statistics import t_interval
from bangbench.reporting.experiments import (
    NOT_AUDITED,
    UNMASKED,
    Experiment,
    ModelResults,
    attacks_run,
)
from bangbench.reporting.frames import Frames, Values, claim_values, measured, records_of
from bangbench.reporting.table import (
    KIND,
    RATE_GAP,
    Cell,
    Column,
    Show,
    Table,
    attack_title,
    audit_notes,
    decimals,
    interval_text,
    joined,
    make_table,
    mean_and_std,
    number,
    real,
    spread,
    value_and_verdict,
    whole,
    words,
)
from bangbench.store.records import ModelCard

#: How many times larger the median L_inf has to be.
_MEDIAN_FACTOR = 1.25
#: An unmasked rate, in percent, below which the images that withstand it are put into words.
_NEARLY_ALL = 95.0
#: The bench's own attacks that have an unmasked twin.
_OWN = ("fgs", "hc1")

_RATE, _MEDIAN = "rate_percent", "linf_median_censored_grey_levels"
_ECC = ("ecc_failures_definition", "ecc_failures_paper")
_BENCH = (
    *("id", "source", "model", "data", "attack", "images", "correct", "flipped"),
    *("rate_percent", "rate_low_percent", "rate_high_percent", "audit_verdict", "blank_percent"),
    *("linf_mean_grey_levels", "linf_std_grey_levels", "linf_median_censored_grey_levels"),
    *("pass_mean", "pass_std", "pass_paper_mean", "pass_paper_std", "ssim_unaligned_mean", "ssim_unaligned_std", *_ECC),
)


def bench_table(experiment: Experiment, frames: Frames) -> Table | None:
    """Return rates with intervals, blank gradients, medians and every similarity score of an experiment."""
    rows = []
    for record in records_of(frames.attacks):
        rows.append({"source": "measured"} | record)
        model = experiment.find(record["model"])
        twin = _twin(model, record["attack"]) if model is not None else None
        if twin is not None:
            named = {name: record[name] for name in ("id", "model", "data")}
            rows.append(named | {"source": "audit", KIND: "unmasked", "attack": twin["claim"]} | twin)
    unverified = [
        f"{record['id']} {record['attack']} {record['unverified']:,}"
        for record in records_of(frames.attacks.sort_values(["attack"], kind="stable"))
        if record["unverified"]
    ]
    return make_table(
        f"{experiment.name}-bench",
        f"{experiment.title}; the bench's own columns",
        [{field: row.get(field) for field in (*_BENCH, KIND)} for row in rows],
        (
            words("ID"),
            words("Attack"),
            whole("Images", terminal=False),
            whole("Correct", terminal=False),
            whole("Flipped"),
            real("Rate (%)", ("rate_percent", "rate_low_percent", "rate_high_percent"), 2),
            *([words("Audit", "audit_verdict")] if experiment.audited else []),
            real("Blank (%)", "blank_percent", 2),
            spread("L∞", "linf", 2, "_grey_levels"),
            real("Median L∞", "linf_median_censored_grey_levels", 2),
            spread("PASS", "pass", 4),
            spread("PASS (paper)", "pass_paper", 4, terminal=False),
            spread("SSIM unaligned", "ssim_unaligned", 4, terminal=False),
            Column("ECC failures (definition / paper)", _ECC, joined, terminal=False),
        ),
        (
            "Rate: flipped per correct image, with its 95 % Wilson interval. Blank: correct images that give the "
            "attack no direction; for FGS those whose float32 loss is exactly 0. L∞ in grey levels.",
            "L∞, PASS and SSIM: mean ± standard deviation over the flipped images. Median L∞: over all correct images, "
            "those never flipped counted as infinite (∞).",
            "PASS: the written definition. PASS (paper): matched empirically to the paper's Table 1, not the authors' "
            "code. ECC failures: pairs whose alignment failed and which are scored unaligned.",
            *(
                [f"Flips not confirmed by predicting the stored image again: {', '.join(unverified)}."]
                * bool(unverified)
            ),
            *audit_notes(experiment, experiment.attack_names),
        ),
    )


def _twin(model: ModelResults, attack: str) -> Values | None:
    """Return what the audit says of the unmasked twin of a masked attack, where the twin was not run itself."""
    twin = model.claim(f"{attack}{UNMASKED}") if model.is_masked(attack) else None
    if twin is None or model.audited is None or twin.claim in model.attacks:
        return None
    return claim_values(twin) | {"images": model.audited.images, "correct": model.audited.correct}


def rate_show(experiment: Experiment, places: int = 2) -> Show:
    """Return what shows (rate, ..., verdict): the verdict only where some model of the experiment is audited."""
    return value_and_verdict(places) if experiment.audited else decimals(places)


def masking_table(experiment: Experiment, frames: Frames) -> Table | None:
    """Return rate and L_inf of each attack beside its unmasked twin; None where no unmasked attack was run."""
    if not any(attack.endswith(UNMASKED) for attack in experiment.attack_names):
        return None
    attacks = [attack for stem in _stems(experiment.models) for attack in (stem, f"{stem}{UNMASKED}")]
    rows = []
    for model in experiment.attacked:
        names = {"id": model.id, "source": "measured", "model": model.name, "data": experiment.data.name}
        found = {name: measured(model, name) for name in attacks}
        rows.append(names | _beside(attacks, found) | {KIND: "measured"})
        twins = {f"{name}{UNMASKED}": twin for name in model.attacks if (twin := _twin(model, name)) is not None}
        if twins:
            rows.append(names | {"source": "audit"} | _beside(attacks, twins) | {KIND: "unmasked"})
    return make_table(
        f"{experiment.name}-masking",
        f"{experiment.title}; masked against unmasked",
        rows,
        (words("ID"), *(column for attack in attacks for column in _twin_columns(experiment, attack))),
        (
            "Rates in percent of the correct images; L∞ in grey levels, mean ± standard deviation over the "
            "flipped images. A second row: what the audit measured of twins that were not run.",
            *masking_sentences(experiment.models),
            *audit_notes(experiment, attacks),
        ),
    )


def _beside(attacks: Sequence[str], values: dict[str, Values]) -> Values:
    """Return rate, verdict and L_inf of each attack in fields of its own."""
    fields = ("rate_percent", "audit_verdict", "linf_mean_grey_levels", "linf_std_grey_levels")
    return {
        f"{attack.replace('-', '_')}_{field}": values.get(attack, {}).get(field)
        for attack in attacks
        for field in fields
    }


def _twin_columns(experiment: Experiment, attack: str) -> tuple[Column, Column]:
    title, field = attack_title(attack), attack.replace("-", "_")
    return (
        Column(f"{title} rate (%)", (f"{field}_rate_percent", f"{field}_audit_verdict"), rate_show(experiment)),
        spread(f"{title} L∞", f"{field}_linf", 2, "_grey_levels"),
    )


def _stems(models: Iterable[ModelResults]) -> list[str]:
    """Return the attacks to show beside their unmasked twins: the bench's own first, then others by name.

    The bench's own are shown where either of the two was run on some model, others where the twin was.
    """
    run = set(attacks_run(models))
    own = [stem for stem in _OWN if run & {stem, f"{stem}{UNMASKED}"}]
    return own + sorted({attack.removesuffix(UNMASKED) for attack in run if attack.endswith(UNMASKED)} - set(own))


_Pair = tuple[str, Values, Values]  # a model's name, what was measured under the attack and under its unmasked twin


def masking_sentences(models: Sequence[ModelResults]) -> tuple[str, ...]:
    """Return what the differences between the attacks and their unmasked twins mean."""
    sentences = []
    for stem in _stems(models):
        pairs = [(model.id, measured(model, stem), measured(model, f"{stem}{UNMASKED}")) for model in models]
        known = [pair for pair in pairs if all(values.get("correct") for values in pair[1:])]
        sentences += [_masking_sentence(stem, known)] if known else []
    return tuple(sentences)


def _masking_sentence(attack: str, pairs: Sequence[_Pair]) -> str:
    """Say what separates an attack from its twin: of FGS the underflow, of HC1 the sign of the true class's weight."""
    title, twin = (attack.upper() if attack in _OWN else attack), f"{attack}{UNMASKED}"
    apart = [pair for pair in pairs if _are_apart(attack, *pair[1:])]
    if not apart:
        also = ", and its median L∞ is not much larger" if attack == "hc1" else ""
        return f"{title} flips at most {RATE_GAP:g} points less than {twin}{also}: little separates the two."
    details = "; ".join(f"{pair[0]} {_beside_twin(pair, _RATE)} %{_detail(attack, pair)}" for pair in apart)
    meaning = {
        "fgs": f"what {twin} flips beyond FGS was hidden by vanished float32 gradients, not resisted",
        "hc1": "where the true logit is negative, HC1's weight pushes towards the true class; that sign makes the gap "
        "between the two, not robustness",
    }.get(attack, f"what {twin} flips beyond {attack} is not resisted")
    withstood = "".join(
        f"; {number(100.0 - unmasked[_RATE], 2)} % of {name}'s images withstand even {twin}"
        for name, _, unmasked in apart
        if unmasked[_RATE] < _NEARLY_ALL
    )
    return f"{title} against {twin} ({details}): {meaning}{withstood}."


def _are_apart(attack: str, masked: Values, unmasked: Values) -> bool:
    """Tell whether the twin flips many more or, of HC1, needs much less."""
    larger = attack == "hc1" and masked[_MEDIAN] > _MEDIAN_FACTOR * unmasked[_MEDIAN]
    return bool(unmasked[_RATE] - masked[_RATE] > RATE_GAP or larger)


def _beside_twin(pair: _Pair, field: str) -> str:
    return " against ".join(number(values[field], 2) for values in pair[1:])


def _detail(attack: str, pair: _Pair) -> str:
    if attack == "fgs":
        return f", {number(pair[1]['blank_percent'], 2)} % of gradients blank"
    return f", median L∞ {_beside_twin(pair, _MEDIAN)}" if attack == "hc1" else ""


#: Settings in which trainings of one recipe may differ (the seed, and what changes no step), and those as asked for.
_FREE = {"seed", "stages", "threads", "data", "input_scale", "mean", "std"}
#: What each model of a recipe has for itself.
_OWN_FIELDS = {"name", "seed", "weights_sha256", "behaviour"}
_SEED_NUMBERS = (
    ("accuracy", "accuracy_percent", "_percent"),
    ("rate", "rate_percent", "_percent"),
    ("linf", "linf_mean_grey_levels", "_grey_levels"),
    ("pass_paper", "pass_paper_mean", ""),
)


def seed_table(experiment: Experiment, frames: Frames) -> Table | None:
    """Return mean, standard deviation and t interval over seeds, per recipe and attack; None without two seeds."""
    rows, compared = [], []
    for alike in map(independent, recipes(experiment.models)):
        for attack in attacks_run(alike):
            having = [model for model in alike if attack in model.attacks]
            if len(having) > 1:
                compared.append((attack, having))
                rows.append(_seed_row(experiment, attack, having))
    fewest = min((len(models) for _, models in compared), default=0)
    two = (
        "With two seeds the t interval reaches 12.7 standard errors, which are 9 standard deviations, to both sides: "
        "it says little more than that two seeds are too few."
    )
    return make_table(
        f"{experiment.name}-seeds",
        f"{experiment.title}; the same recipe with several seeds",
        rows,
        (
            words("Models"),
            words("Attack"),
            *([words("Audit", "audit_verdict")] if experiment.audited else []),
            whole("Seeds"),
            _over_seeds("Accuracy (%)", "accuracy", "_percent", 2),
            _over_seeds("Rate (%)", "rate", "_percent", 2),
            _over_seeds("L∞", "linf", "_grey_levels", 2),
            _over_seeds("PASS (paper)", "pass_paper", "", 4),
        ),
        (
            "Mean ± standard deviation (n - 1) over seeds, n as in the column Seeds, and the mean's 95 % t interval in "
            "brackets. Each seed gives one number: its accuracy, its rate (percent of its correct images), its mean L∞ "
            "(grey levels) and mean PASS (paper) over its flipped images; empty where some seed has none, and without "
            "an interval where all seeds give the same number.",
            "One recipe: the same net, training images, method and settings of the training, as the model.json of each "
            "says, with different seeds and different weights; models without one are left out.",
            "The spread covers training with another seed on the same test images; an interval is not cut off at 0 or "
            "100 %.",
            *([two] if fewest == 2 else []),
            *audit_notes(
                experiment, (attack for attack, _ in compared), (model for _, models in compared for model in models)
            ),
        ),
    )


def recipes(models: Iterable[ModelResults]) -> list[list[ModelResults]]:
    """Return the models trained alike but for their seed, recipe by recipe; those of which that is known."""
    found: dict[str, list[ModelResults]] = defaultdict(list)
    for model in models:
        if model.card is not None:
            found[_recipe(model.card)].append(model)
    return list(found.values())


def independent(alike: Iterable[ModelResults]) -> list[ModelResults]:
    """Return those of one recipe that tell something new: the first of every seed and of every set of weights."""
    found: list[ModelResults] = []
    for model in alike:
        weights = {other.model.weights_sha256 for other in found} - {None}
        seeds = {other.model.seed for other in found}
        if model.model.seed not in seeds and model.model.weights_sha256 not in weights:
            found.append(model)
    return found


def _recipe(card: ModelCard) -> str:
    """Return what models trained alike have in common: all that their cards say but what is left to them."""
    settings = {name: value for name, value in card.spec.items() if name not in _FREE}
    return fingerprint_of(
        [settings, card.model.model_dump(mode="json", exclude=_OWN_FIELDS), card.train_data.fingerprint]
    )


def _seed_row(experiment: Experiment, attack: str, models: Sequence[ModelResults]) -> Values:
    verdicts = {model.id: model.verdict(attack) for model in models}
    audited = [f"{name} {verdict}" for name, verdict in verdicts.items() if verdict != NOT_AUDITED]
    if audited and len(audited) < len(models):
        audited.append(f"{len(models) - len(audited)} {NOT_AUDITED}")
    alike = set(verdicts.values())
    row: dict[str, Any] = {
        "models": ", ".join(verdicts),
        "data": experiment.data.name,
        "attack": attack,
        "audit_verdict": alike.pop() if len(alike) == 1 else ", ".join(audited),
        "seeds": len(models),
    }
    for stem, field, unit in _SEED_NUMBERS:
        found = [measured(model, attack)[field] for model in models]
        estimate = t_interval(np.array(found, dtype=np.float64)) if None not in found else None
        row |= dict(zip(_seed_fields(stem, unit), estimate or (None,) * 4, strict=True))
    return row


def _seed_fields(stem: str, unit: str) -> tuple[str, ...]:
    deviation = "_points" if unit == "_percent" else unit
    return f"{stem}_mean{unit}", f"{stem}_sd{deviation}", f"{stem}_low{unit}", f"{stem}_high{unit}"


def _over_seeds(header: str, stem: str, unit: str, places: int) -> Column:
    def show(cell: Cell) -> str:
        shown = mean_and_std(places)(cell[:2])
        return shown if None in cell else f"{shown} {interval_text((cell[2], cell[3]), places)}"

    return Column(header, _seed_fields(stem, unit), show, terminal=stem != "pass_paper")
