"""What `bangbench audit` was asked to look into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from bangbench.attacks.budgets import budgets_in_grey_levels
from bangbench.attacks.spec import ModelSpec, Positive, Strength


class AuditSpec(ModelSpec):
    """An audit of one model, which tells whether it is robust or its gradients are gone."""

    circumstances: ClassVar[frozenset[str]] = ModelSpec.circumstances | {"strict"}

    filled_in: ClassVar[frozenset[str]] = ModelSpec.filled_in | {"budget"}

    against: str | None = Field(
        None, description="The regular model: its adversarial images are transferred, its rates stand beside."
    )
    limit: Positive | None = Field(1000, description="Use the first so many test images.")
    budget: tuple[str, ...] | None = Field(
        None, description="L_inf budget as a share of the range, 0.3 or 8/255 (default: 0.1 0.2 0.3; colour 2 4 8/255)."
    )
    seed: int = Field(0, ge=0, description="Seed of random starts, squares and noise.")
    strength: Strength = Field(
        "standard",
        description="How hard to try: quick leaves out what costs most; standard is at least AutoAttack's standard; "
        "extended restarts five times.",
    )
    strict: bool = Field(False, description="Exit with status 1 unless every verdict is sound.")
    workers: Positive | None = Field(None, description="Processes on the CPU, one thread each (default: one per core).")

    def beside(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a record as they are asked for now, as far as that is known without model and data."""
        now = super().beside(before)
        if self.budget:
            now["budget"] = list(budgets_in_grey_levels(self.budget, channels=1))
        return now | {"against": None if self.against is None else before.get("against")}
