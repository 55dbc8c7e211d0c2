"""The attacks that a command asks for, and what is wrong with the asking; needs neither model nor data."""

from __future__ import annotations

from collections.abc import Mapping

from bangbench.attacks.base import Attack, make_attack
from bangbench.attacks.budgets import parse_budget
from bangbench.attacks.registry import ATTACKS
from bangbench.attacks.spec import AttackSpec
from bangbench.core.errors import UsageError


def check_attacks(spec: AttackSpec) -> None:
    """Raise `UsageError` for an attack, a setting or a budget that is none; neither model nor data need be there."""
    _check_used(spec, attacks_asked(spec))


def attacks_asked(spec: AttackSpec) -> dict[str, Attack]:
    """Return the attacks asked for, by name, with their settings; `UsageError` for one that no attack takes."""
    kinds = {name: ATTACKS.load(name) for name in dict.fromkeys(spec.attack)}
    for item in spec.option:
        setting = item.partition("=")[0]
        whose, _, own = setting.rpartition(".")
        taken = whose in kinds if whose else any(own in kind.Settings.model_fields for kind in kinds.values())
        if not taken:
            raise UsageError(f"--option {item}: none of {', '.join(kinds)} has the setting '{setting}'")
    return {name: make_attack(name, spec.options_of(name, kind.Settings.model_fields)) for name, kind in kinds.items()}


def _check_used(spec: AttackSpec, attacks: Mapping[str, Attack]) -> None:
    """Raise `UsageError` for what is no budget, a setting that no attack takes, and a model that one lacks."""
    for budget in spec.budget or ():
        parse_budget(budget)
    if spec.budget and not any(found.bounded for found in attacks.values()):
        inside = ", ".join(name for name in ATTACKS.names() if ATTACKS.load(name).bounded)
        raise UsageError(f"--budget goes with attacks inside a ball only: {inside}")
    needing = [name for name, found in attacks.items() if "source" in found.needs]
    if needing and not spec.against:
        raise UsageError(
            f"--attack {needing[0]} needs the model whose adversarial images it tries: add --against MODEL"
        )
    if spec.against and not needing:
        raise UsageError("--against goes with --attack transfer only")
