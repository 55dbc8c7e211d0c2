"""Put records together that may stand in one table: one experiment on one and the same data."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bangbench.reporting.collect import Collected, FoundAttack, FoundAudit, FoundNoise, Unfinished, card_of
from bangbench.reporting.per_image import AttackRows
from bangbench.reporting.training_log import TrainingLog
from bangbench.store.examples import Examples
from bangbench.store.layout import AUDIT
from bangbench.store.records import AttackSummary, DataInfo, ModelCard, ModelInfo

_NO_PREFIX = "models"
_FAMILIES = {"R": 0, "B": 1}


_Key = tuple[str, str]  # prefix and fingerprint, which tell groups apart


class _Part(NamedTuple):
    """The records of one group, in the order they were found."""

    data: DataInfo
    attacks: list[FoundAttack]
    noise: list[FoundNoise]
    audits: list[FoundAudit]


class ModelResults(NamedTuple):
    """What was measured of one model on one data set; `attacks` maps names such as ``fgs`` to what was found.

    card, log: the training that made its weights and the course of it, where that happened under the same root.
    audit: what tells whether its rates are robustness; often of fewer images of the same data set.
    """

    name: str
    model: ModelInfo
    attacks: Mapping[str, FoundAttack]
    card: ModelCard | None = None
    log: TrainingLog | None = None
    audit: FoundAudit | None = None

    def summary(self, attack: str) -> AttackSummary | None:
        """Return the numbers of one attack, or None where it was not run."""
        found = self.attacks.get(attack)
        return None if found is None else found.summary

    def rows(self, attack: str) -> AttackRows | None:
        """Return the single images of one attack, or None where they are not there."""
        found = self.attacks.get(attack)
        return None if found is None else found.rows

    def examples(self, attack: str) -> Examples | None:
        """Return the pictures kept of one attack, or None where there are none."""
        found = self.attacks.get(attack)
        return None if found is None else found.examples

    @property
    def accuracy(self) -> float:
        """Return the clean accuracy in percent, over the images of the attacks or else of the audit."""
        return _found(self.attacks, self.audit)[0].summary.accuracy


class Group(NamedTuple):
    """The models (in the order of a table) and noise evolutions of one experiment on one data set.

    `name` is the stem of the group's files: the prefix of its models' names, such as table1. `audits` are those of its
    models, by name, and of models of which only a noise evolution was measured.
    """

    name: str
    data: DataInfo
    models: tuple[ModelResults, ...]
    noise: tuple[FoundNoise, ...]
    unfinished: tuple[Unfinished, ...]
    audits: Mapping[str, FoundAudit] = {}

    @property
    def attacked(self) -> tuple[ModelResults, ...]:
        """Return the models that were attacked on the group's images, without those of which there is only an audit."""
        return tuple(model for model in self.models if model.attacks)


class Grouped(NamedTuple):
    """All groups, by name, and what is doubtful about them."""

    groups: tuple[Group, ...]
    problems: tuple[str, ...]


def group_records(collected: Collected) -> Grouped:
    """Return the groups; two data sets, or two choices of images from one, never share a group.

    An audit alone may be of fewer images than the group that it stands in: it is a verdict on the model.
    """
    parts: dict[_Key, _Part] = {}
    for attack in collected.attacks:
        _part(attack.name, attack.record.data, parts).attacks.append(attack)
    for evolution in collected.noise:
        _part(evolution.name, evolution.record.data, parts).noise.append(evolution)
    for audit in sorted(collected.audits, key=lambda found: -found.record.data.images):
        _add_audit(audit, parts)
    names = _group_names({key: part.data for key, part in parts.items()})
    groups = [
        Group(
            name=names[key],
            data=part.data,
            models=_models(key[0], part, collected),
            noise=tuple(sorted(part.noise, key=lambda found: natural_key(short_name(found.name)))),
            unfinished=tuple(item for item in collected.unfinished if _is_of(item, key, part.data)),
            audits={found.name: found for found in part.audits if _is_of_these_weights(found, part)},
        )
        for key, part in parts.items()
    ]
    problems = (*_mixed_weights(groups), *_other_weights(parts.values()))
    return Grouped(tuple(sorted(groups, key=lambda group: natural_key(group.name))), tuple(dict.fromkeys(problems)))


def _part(name: str, info: DataInfo, parts: dict[_Key, _Part]) -> _Part:
    """Return the records that those called `name`, measured on this data, belong to."""
    return parts.setdefault((prefix_of(name), info.fingerprint), _Part(info, [], [], []))


def _add_audit(audit: FoundAudit, parts: dict[_Key, _Part]) -> None:
    """Put an audit into every group that its model was measured in, and into one under its own prefix."""
    data, prefix = audit.record.data, prefix_of(audit.name)
    alike = {key: part for key, part in parts.items() if is_same_data(part.data, data)}
    homes = {key: part for key, part in alike.items() if audit.name in _weights(part)}
    if not any(key[0] == prefix for key in homes):
        beside = [key for key in alike if key[0] == prefix]
        key = max(beside, key=lambda key: parts[key].data.images, default=(prefix, data.fingerprint))
        homes[key] = _part(audit.name, data, parts) if key not in parts else parts[key]
    for part in homes.values():
        part.audits.append(audit)


def is_same_data(first: DataInfo, second: DataInfo) -> bool:
    """Tell whether two runs used one data set, though perhaps not as many images of it."""
    return (first.source, first.name) == (second.source, second.name)


def _is_of(item: Unfinished, key: _Key, data: DataInfo) -> bool:
    same = item.data.fingerprint == key[1] or (item.run == AUDIT and is_same_data(item.data, data))
    return prefix_of(item.name) == key[0] and same


def _weights(part: _Part) -> dict[str, set[str | None]]:
    """Return the hashes of the weights that each model's attacks and noise evolutions were measured on, by name."""
    found: dict[str, set[str | None]] = defaultdict(set)
    for attack in part.attacks:
        found[attack.name].add(attack.record.model.weights_sha256)
    for evolution in part.noise:
        for info in evolution.record.models:
            found[info.name].add(info.weights_sha256)
    return found


def _is_of_these_weights(audit: FoundAudit, part: _Part) -> bool:
    return _weights(part).get(audit.name, {audit.record.model.weights_sha256}) == {audit.record.model.weights_sha256}


def prefix_of(name: str) -> str:
    """Return the folder part of a name: table1 for table1/R0, nothing for R0."""
    return name.rpartition("/")[0]


def short_name(name: str) -> str:
    """Return a name without its folder: R0 for table1/R0."""
    return name.rpartition("/")[2]


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key in which B2 comes before B10."""
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"([0-9]+)", name))


def _row_order(name: str) -> tuple[int, tuple[tuple[int, int, str], ...]]:
    """Order rows as the paper does: R0, R1, B0, B1 ..., then every other name."""
    row_id = short_name(name)
    family = _FAMILIES[row_id[0]] if re.fullmatch(r"[RB][0-9]+", row_id) else len(_FAMILIES)
    return family, natural_key(row_id)


def _models(prefix: str, part: _Part, collected: Collected) -> tuple[ModelResults, ...]:
    by_name: dict[str, dict[str, FoundAttack]] = defaultdict(dict)
    for item in part.attacks:
        by_name[item.name][item.record.attack] = item
    audits = {found.name: found for found in part.audits if _is_of_these_weights(found, part)}
    for name in audits:
        if prefix_of(name) == prefix:
            by_name.setdefault(name, {})
    return tuple(
        _model(name, attacks, audits.get(name), collected)
        for name, attacks in sorted(by_name.items(), key=lambda entry: _row_order(entry[0]))
    )


def _found(attacks: Mapping[str, FoundAttack], audit: FoundAudit | None) -> list[FoundAttack | FoundAudit]:
    """Return everything that was found of one model, of which there is something."""
    return [*attacks.values(), *([] if audit is None else [audit])]


def _model(
    name: str, attacks: Mapping[str, FoundAttack], audit: FoundAudit | None, collected: Collected
) -> ModelResults:
    info = _found(attacks, audit)[0].record.model
    card = card_of(collected.cards, name, info)
    log = None if card is None else collected.logs.get(name)
    return ModelResults(name, info, attacks, card=card, log=log, audit=audit)


def _group_names(data: Mapping[_Key, DataInfo]) -> dict[_Key, str]:
    """Name each group: its prefix, and as much about its data as keeps the names apart."""
    candidates = {key: _candidate_names(key[0], info) for key, info in data.items()}
    names: dict[_Key, str] = {}
    for key, own in candidates.items():
        others = [other for other_key, other in candidates.items() if other_key != key]
        unique = [name for name in own if all(name not in other for other in others)]
        names[key] = unique[0] if unique else own[-1]
    return names


def _candidate_names(prefix: str, data: DataInfo) -> list[str]:
    """Return names for a group, from the short to the certain."""
    base = f"{prefix or _NO_PREFIX}-{data.name}"
    longer = [base, f"{base}-{data.images}", f"{base}-{data.images}-{data.fingerprint[:8]}"]
    return [re.sub(r"[^A-Za-z0-9_.+-]+", "-", name) for name in ([prefix, *longer] if prefix else longer)]


def _other_weights(parts: Iterable[_Part]) -> Iterable[str]:
    """Name the audits that say nothing about what was measured: of the same model with other weights."""
    for part in parts:
        for audit in part.audits:
            if not _is_of_these_weights(audit, part):
                yield (
                    f"{audit.path}: the audit is of other weights of {audit.name} than its results, so it is left out; "
                    f"audit it again: bangbench audit {audit.name}"
                )


def _mixed_weights(groups: Iterable[Group]) -> Iterable[str]:
    """Name the models whose attacks were run on different weights: their row would mix two models."""
    for group in groups:
        for model in group.models:
            weights = {found.record.model.weights_sha256 for found in model.attacks.values()}
            if len(weights) > 1:
                attacks = ", ".join(sorted(model.attacks))
                yield f"{model.name}: its results ({attacks}) belong to different weights; run the older again"
