"""Tables of what attacks did: the bench's own columns, and masked against unmasked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bangbench.reporting.experiments import UNMASKED, Experiment, ModelResults, attacks_run
from bangbench.reporting.frames import Frames, Values, claim_values, measured, records_of
from bangbench.reporting.table import (
    KIND,
    RATE_GAP,
    Column,
    Show,
    Table,
    attack_title,
    audit_notes,
    joined,
    make_table,
    number,
    real,
    shown,
    spread,
    value_and_verdict,
    whole,
    words,
)

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
    return value_and_verdict(places) if experiment.audited else shown(places)


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
