"""Put records together that may stand in one table: one experiment on one and the same data."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import NamedTuple

import pandas as pd

from bangbench.reporting.collect import (
    Collected,
    FoundAttack,
    FoundAudit,
    FoundGrid,
    FoundNoise,
    Unfinished,
    card_of,
    folder_of,
    short_name,
)
from bangbench.store.audits import VERDICTS, AuditSummary, ClaimVerdict
from bangbench.store.examples import Examples
from bangbench.store.layout import AUDIT
from bangbench.store.records import AttackSummary, DataInfo, ModelCard, ModelInfo

MASKED = "masked"
NOT_AUDITED = "not audited"

#: The grey levels of the range 0 to 255.
LEVELS = 255

#: What ends the name of an attack's twin that nothing holds back.
UNMASKED = "-unmasked"

ATTACK_ORDER = ("fgs", "fgs-unmasked", "hc1", "hc1-unmasked")

_FAMILIES = {"R": 0, "B": 1}
_Key = tuple[str, str]  # folder and fingerprint of the data, which tell experiments apart


class ModelResults(NamedTuple):
    """What was measured of one model on one data set; `attacks` maps names such as ``fgs`` to what was found.

    card, log: the training that made its weights and the course of it, where that happened under the same root.
    audit: what tells whether its rates are robustness; often of fewer images of the same data set.
    """

    name: str
    model: ModelInfo
    attacks: Mapping[str, FoundAttack]
    card: ModelCard | None = None
    log: pd.DataFrame | None = None
    audit: FoundAudit | None = None

    @property
    def id(self) -> str:
        """Return the name without its folder: R0 for table1/R0."""
        return short_name(self.name)

    @property
    def attack_names(self) -> list[str]:
        """Return the attacks run: the bench's own in their order, then others by name."""
        known = [name for name in ATTACK_ORDER if name in self.attacks]
        return known + sorted(set(self.attacks) - set(known))

    def summary(self, attack: str) -> AttackSummary | None:
        """Return the numbers of one attack, or None where it was not run."""
        found = self.attacks.get(attack)
        return None if found is None else found.summary

    def images(self, attack: str) -> pd.DataFrame | None:
        """Return the single images of one attack, or None where they are not there."""
        found = self.attacks.get(attack)
        return None if found is None or found.images is None or found.images.empty else found.images

    def examples(self, attack: str) -> Examples | None:
        """Return the pictures kept of one attack, or None where there are none."""
        found = self.attacks.get(attack)
        return None if found is None else found.examples

    @property
    def accuracy(self) -> float:
        """Return the clean accuracy in percent, over the images of the attacks or else of the audit."""
        summaries: list[AttackSummary | AuditSummary] = [found.summary for found in self.attacks.values()]
        return [*summaries, *([self.audited] if self.audited else [])][0].accuracy

    @property
    def audited(self) -> AuditSummary | None:
        """Return what the audit found, or None where there is none."""
        return None if self.audit is None else self.audit.summary

    def claim(self, name: str) -> ClaimVerdict | None:
        """Return what the audit says of a claim, None where it says nothing."""
        return None if self.audited is None else self.audited.claim(name)

    def verdict(self, claim: str) -> str:
        """Return the audit's verdict on a claim; `NOT_AUDITED` where it did not look into it."""
        found = self.claim(claim)
        return NOT_AUDITED if found is None else found.verdict

    def is_masked(self, attack: str) -> bool:
        """Tell whether an attack was kept from working."""
        return self.verdict(attack) == MASKED


class Experiment(NamedTuple):
    """The models (in the order of a table) and noise evolutions of one experiment on one data set.

    `name` is the stem of its files: the folder of its models' names, such as table1. models: those attacked or audited;
    evolved: those of which only a noise evolution was measured; fewer: attacks that are left out, since the same model
    was attacked on more images of the same data; grid: whose cells are no models here, but summaries alone.
    """

    name: str
    data: DataInfo
    models: tuple[ModelResults, ...]
    noise: tuple[FoundNoise, ...]
    unfinished: tuple[Unfinished, ...]
    evolved: tuple[ModelResults, ...] = ()
    fewer: tuple[FoundAttack, ...] = ()
    grid: FoundGrid | None = None

    @property
    def everyone(self) -> tuple[ModelResults, ...]:
        """Return every model, those too of which only a noise evolution was measured."""
        return (*self.models, *self.evolved)

    @property
    def attacked(self) -> tuple[ModelResults, ...]:
        """Return the models that were attacked on the experiment's images, without those that were only audited."""
        return tuple(model for model in self.models if model.attacks)

    @property
    def audited(self) -> bool:
        """Tell whether any model has an audit."""
        return any(model.audit is not None for model in self.everyone)

    @property
    def audits(self) -> list[tuple[ModelResults, AuditSummary]]:
        """Return the audited models in their order, with what was found."""
        return [(model, model.audited) for model in self.models if model.audited is not None]

    @property
    def title(self) -> str:
        """Return what was measured: the experiment, its nets, the data and the number of images."""
        if self.grid is not None:
            return f"{self.name}: {self.grid.record.title}"
        nets = ", ".join(sorted({model.model.net for model in self.everyone}))
        return f"{self.name}: {nets} on {self.data.name}, {self.data.images:,} test images"

    @property
    def attack_names(self) -> list[str]:
        """Return the attacks run on any model, each once."""
        return attacks_run(self.models)

    def find(self, name: str) -> ModelResults | None:
        """Return the model of this whole name, or None."""
        return next((model for model in self.everyone if model.name == name), None)


class _Part(NamedTuple):
    """The records of one experiment, in the order they were found."""

    data: DataInfo
    attacks: list[FoundAttack]
    noise: list[FoundNoise]
    audits: list[FoundAudit]
    fewer: list[FoundAttack]

    def weights(self) -> dict[str, set[str | None]]:
        """Return the hashes of the weights that attacks and noise were measured on, by model."""
        found: dict[str, set[str | None]] = defaultdict(set)
        for attack in self.attacks:
            found[attack.name].add(attack.record.model.weights_sha256)
        for evolution in self.noise:
            for info in evolution.record.models:
                found[info.name].add(info.weights_sha256)
        return found

    def audit_of(self, name: str) -> FoundAudit | None:
        """Return the audit of the weights that were measured."""
        return next((audit for audit in self.audits if audit.name == name and self.is_about(audit)), None)

    def is_about(self, audit: FoundAudit) -> bool:
        """Tell whether an audit is of the weights that were measured."""
        own = {audit.record.model.weights_sha256}
        return self.weights().get(audit.name, own) == own


def group_records(collected: Collected) -> tuple[tuple[Experiment, ...], tuple[str, ...]]:
    """Return the experiments by name, and what is doubtful about them.

    Two data sets, or two choices of images from one, never share an experiment; of one model the attacks on most images
    count. An audit, or a noise evolution, may be of other images of the data than the experiment that it stands in: it
    is about the models.
    """
    parts: dict[_Key, _Part] = {}
    most: dict[Hashable, FoundAttack] = {}
    for attack in sorted(collected.attacks, key=lambda found: -found.record.data.images):
        data, largest = attack.record.data, most.setdefault(_subject(attack), attack).record.data
        part = _part(attack.name, largest if data.images < largest.images else data, parts)
        (part.fewer if data.images < largest.images else part.attacks).append(attack)
    for evolution in collected.noise:
        _part(evolution.name, _home_of(evolution, parts), parts).noise.append(evolution)
    for audit in sorted(collected.audits, key=lambda found: -found.record.data.images):
        _add_audit(audit, parts)
    names = _names({key: part.data for key, part in parts.items()})
    experiments = [_experiment(names[key], key, part, collected) for key, part in parts.items()]
    for grid in collected.grids:
        name = f"{grid.name}-grid" if grid.name in names.values() else grid.name
        experiments.append(Experiment(name, grid.data, (), (), (), grid=grid))
    problems = (*_mixed_weights(experiments), *_other_weights(parts.values()))
    ordered = tuple(sorted(experiments, key=lambda experiment: natural_key(experiment.name)))
    return ordered, tuple(dict.fromkeys(problems))


def attacks_run(models: Iterable[ModelResults]) -> list[str]:
    """Return the attacks run on any of the models, each once."""
    return list(dict.fromkeys(name for model in models for name in model.attack_names))


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key in which B2 comes before B10."""
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"([0-9]+)", name))


def worst_of(verdicts: Iterable[str]) -> str:
    """Return the worst verdict; one that is missing makes the whole `NOT_AUDITED`, unless another is bad."""
    order = (VERDICTS[0], NOT_AUDITED, *VERDICTS[1:])
    return max(verdicts, key=order.index, default=NOT_AUDITED)


def is_same_data(first: DataInfo, second: DataInfo) -> bool:
    """Tell whether two runs used one data set, though perhaps not as many images of it."""
    return (first.source, first.name) == (second.source, second.name)


def _part(name: str, info: DataInfo, parts: dict[_Key, _Part]) -> _Part:
    """Return the records that those called `name`, measured on this data, belong to."""
    return parts.setdefault((folder_of(name), info.fingerprint), _Part(info, [], [], [], []))


def _subject(found: FoundAttack) -> Hashable:
    """Return what was attacked: a folder's model, under whatever name, on a data set."""
    model, data = found.record.model, found.record.data
    weights = model.weights_sha256 or found.name
    return folder_of(found.name), data.source, data.name, weights, model.code_sha256, model.preprocessing


def _home_of(evolution: FoundNoise, parts: Mapping[_Key, _Part]) -> DataInfo:
    """Return the data of the experiment of a noise evolution: those its models were attacked on, or its own."""
    data, folder = evolution.record.data, folder_of(evolution.name)
    measured = [(info.name, {info.weights_sha256}) for info in evolution.record.models]
    homes = [
        part.data
        for key, part in parts.items()
        if key[0] == folder and is_same_data(part.data, data)
        if any(part.weights().get(name) == weights for name, weights in measured)
    ]
    return max(homes, key=lambda home: home.images, default=data)


def _add_audit(audit: FoundAudit, parts: dict[_Key, _Part]) -> None:
    """Put an audit into every experiment that its model was measured in, and into one under its own folder."""
    data, folder = audit.record.data, folder_of(audit.name)
    alike = {key: part for key, part in parts.items() if is_same_data(part.data, data)}
    homes = {key: part for key, part in alike.items() if audit.name in part.weights()}
    if not any(key[0] == folder for key in homes):
        beside = [key for key in alike if key[0] == folder]
        key = max(beside, key=lambda key: parts[key].data.images, default=(folder, data.fingerprint))
        homes[key] = _part(audit.name, data, parts) if key not in parts else parts[key]
    for part in homes.values():
        part.audits.append(audit)


def _experiment(name: str, key: _Key, part: _Part, collected: Collected) -> Experiment:
    attacks: dict[str, dict[str, FoundAttack]] = defaultdict(dict)
    for item in part.attacks:
        attacks[item.name][item.record.attack] = item
    for audit in part.audits:
        if part.is_about(audit) and folder_of(audit.name) == key[0]:
            attacks.setdefault(audit.name, {})
    infos = {info.name: info for found in part.noise for info in found.record.models if info.name not in attacks}
    return Experiment(
        name=name,
        data=part.data,
        models=tuple(
            _model(model, None, attacks[model], part.audit_of(model), collected)
            for model in sorted(attacks, key=_row_order)
        ),
        noise=tuple(sorted(part.noise, key=lambda found: natural_key(short_name(found.name)))),
        unfinished=tuple(item for item in collected.unfinished if _is_of(item, key, part.data)),
        evolved=tuple(_model(model, info, {}, part.audit_of(model), collected) for model, info in infos.items()),
        fewer=tuple(part.fewer),
    )


def _model(
    name: str,
    info: ModelInfo | None,
    attacks: Mapping[str, FoundAttack],
    audit: FoundAudit | None,
    collected: Collected,
) -> ModelResults:
    measured = [each.record.model for each in attacks.values()] + ([audit.record.model] if audit else [])
    found = info or measured[0]
    card = card_of(collected.cards, name, found)
    log = None if card is None else collected.logs.get(name)
    return ModelResults(name, found, attacks, card=card, log=log, audit=audit)


def _row_order(name: str) -> tuple[int, tuple[tuple[int, int, str], ...]]:
    """Order rows as the paper does: R0, R1, B0, B1 ..., then every other name."""
    row = short_name(name)
    family = _FAMILIES[row[0]] if re.fullmatch(r"[RB][0-9]+", row) else len(_FAMILIES)
    return family, natural_key(row)


def _is_of(item: Unfinished, key: _Key, data: DataInfo) -> bool:
    same = item.data.fingerprint == key[1] or (item.run == AUDIT and is_same_data(item.data, data))
    return folder_of(item.name) == key[0] and same


def _names(data: Mapping[_Key, DataInfo]) -> dict[_Key, str]:
    """Name each experiment: its folder, and as much about its data as keeps the names apart."""
    candidates = {key: _candidate_names(key[0], info) for key, info in data.items()}
    names: dict[_Key, str] = {}
    for key, own in candidates.items():
        others = [other for other_key, other in candidates.items() if other_key != key]
        names[key] = next((name for name in own if all(name not in other for other in others)), own[-1])
    return names


def _candidate_names(folder: str, data: DataInfo) -> list[str]:
    """Return names for an experiment, from the short to the certain."""
    base = f"{folder or 'models'}-{data.name}"
    longer = [base, f"{base}-{data.images}", f"{base}-{data.images}-{data.fingerprint[:8]}"]
    return [re.sub(r"[^A-Za-z0-9_.+-]+", "-", name) for name in ([folder, *longer] if folder else longer)]


def _other_weights(parts: Iterable[_Part]) -> Iterator[str]:
    """Name the audits that say nothing about what was measured: of the same model with other weights."""
    for part in parts:
        for audit in part.audits:
            if not part.is_about(audit):
                yield (
                    f"{audit.path}: the audit is of other weights of {audit.name} than its results, so it is left out; "
                    f"audit it again: bangbench audit {audit.name}"
                )


def _mixed_weights(experiments: Iterable[Experiment]) -> Iterator[str]:
    """Name the models whose attacks were run on different weights: their row would mix two models."""
    for experiment in experiments:
        for model in experiment.models:
            if len({found.record.model.weights_sha256 for found in model.attacks.values()}) > 1:
                attacks = ", ".join(sorted(model.attacks))
                yield f"{model.name}: its results ({attacks}) belong to different weights; run the older again"
