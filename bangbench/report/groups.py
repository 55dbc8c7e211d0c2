"""Put records together that may stand in one table: one experiment on one and the same data."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bangbench.report.collect import Collected, FoundAttack, FoundNoise, Unfinished
from bangbench.report.per_image import AttackRows
from bangbench.report.training_log import TrainingLog
from bangbench.store.examples import Examples
from bangbench.store.records import AttackSummary, DataInfo, ModelCard, ModelInfo

_NO_PREFIX = "models"
_FAMILIES = {"R": 0, "B": 1}


class ModelResults(NamedTuple):
    """What was measured of one model on one data set; `attacks` maps names such as ``fgs`` to what was found.

    card, log: the training that made its weights and the course of it, where that happened under the same root.
    """

    name: str
    model: ModelInfo
    attacks: Mapping[str, FoundAttack]
    card: ModelCard | None = None
    log: TrainingLog | None = None

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
        """Return the clean accuracy in percent."""
        return next(iter(self.attacks.values())).summary.accuracy


class Group(NamedTuple):
    """The models (in the order of a table) and noise evolutions of one experiment on one data set.

    `name` is the stem of the group's files: the prefix of its models' names, such as table1.
    """

    name: str
    data: DataInfo
    models: tuple[ModelResults, ...]
    noise: tuple[FoundNoise, ...]
    unfinished: tuple[Unfinished, ...]


class Grouped(NamedTuple):
    """All groups, by name, and what is doubtful about them."""

    groups: tuple[Group, ...]
    problems: tuple[str, ...]


def group_records(collected: Collected) -> Grouped:
    """Return the groups; two data sets, or two choices of images from one, never share a group."""
    attacks: dict[tuple[str, str], list[FoundAttack]] = defaultdict(list)
    noise: dict[tuple[str, str], list[FoundNoise]] = defaultdict(list)
    data: dict[tuple[str, str], DataInfo] = {}
    for attack in collected.attacks:
        attacks[_key(attack.name, attack.record.data, data)].append(attack)
    for evolution in collected.noise:
        noise[_key(evolution.name, evolution.record.data, data)].append(evolution)
    names = _group_names(data)
    groups = [
        Group(
            name=names[key],
            data=data[key],
            models=_models(attacks[key], collected),
            noise=tuple(sorted(noise[key], key=lambda found: natural_key(short_name(found.name)))),
            unfinished=tuple(item for item in collected.unfinished if (prefix_of(item.name), item.fingerprint) == key),
        )
        for key in data
    ]
    return Grouped(tuple(sorted(groups, key=lambda group: natural_key(group.name))), tuple(_mixed_weights(groups)))


def _key(name: str, info: DataInfo, data: dict[tuple[str, str], DataInfo]) -> tuple[str, str]:
    """Return what a group is told by, prefix and fingerprint, and note which data that fingerprint belongs to."""
    key = (prefix_of(name), info.fingerprint)
    data.setdefault(key, info)
    return key


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


def _models(found: Iterable[FoundAttack], collected: Collected) -> tuple[ModelResults, ...]:
    by_name: dict[str, dict[str, FoundAttack]] = defaultdict(dict)
    for item in found:
        by_name[item.name][item.record.attack] = item
    return tuple(
        _model(name, attacks, collected)
        for name, attacks in sorted(by_name.items(), key=lambda entry: _row_order(entry[0]))
    )


def _model(name: str, attacks: Mapping[str, FoundAttack], collected: Collected) -> ModelResults:
    info = next(iter(attacks.values())).record.model
    card = collected.cards.get(name)
    if card is None or card.status != "done" or card.model.weights_sha256 != info.weights_sha256:
        return ModelResults(name, info, attacks)  # what was measured was made elsewhere, or trained again since
    return ModelResults(name, info, attacks, card, collected.logs.get(name))


def _group_names(data: Mapping[tuple[str, str], DataInfo]) -> dict[tuple[str, str], str]:
    """Name each group: its prefix, and as much about its data as keeps the names apart."""
    candidates = {key: _candidate_names(key[0], info) for key, info in data.items()}
    names: dict[tuple[str, str], str] = {}
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


def _mixed_weights(groups: Iterable[Group]) -> Iterable[str]:
    """Name the models whose attacks were run on different weights: their row would mix two models."""
    for group in groups:
        for model in group.models:
            weights = {found.record.model.weights_sha256 for found in model.attacks.values()}
            if len(weights) > 1:
                attacks = ", ".join(sorted(model.attacks))
                yield f"{model.name}: its results ({attacks}) belong to different weights; run the older again"
