"""What `bangbench reproduce` was asked to do."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from bangbench.core.executor_choice import PlacedSpec
from bangbench.store.layout import check_name

Positive = Annotated[int, Field(ge=1)]


class ReproduceSpec(PlacedSpec):
    """One recipe, whole or in part. What is already done with the same settings is not done again.

    `overwrite` replaces what was done with other settings; without it, such work is never touched.
    """

    recipe: str = Field(
        description="demo, table1, table2, figure2, figure4, defences-digits, defences, or a recipe of your own "
        "(FILE.toml)."
    )
    name: str | None = Field(
        None, description="Keep the run apart, in models/NAME and results/NAME (default: the recipe's name)."
    )
    only: tuple[str, ...] = Field((), description="Only the model with this id; may be given several times.")
    level: Literal[1, 2, 3] | None = Field(
        None, description="Of a grid: 1 coarse, 2 finer, 3 whole (default: all, the coarse ones first)."
    )
    seeds: Positive | None = Field(None, description="Only the first so many seeds of each model.")
    keep_weights: bool = Field(False, description="Of a grid: keep the models as well as their summaries.")
    data: str | None = Field(None, description="Other data than the recipe's, such as folder:DIR.")
    iterations: Positive | None = Field(None, description="Fewer or more solver steps than the recipe's.")
    attack: tuple[str, ...] = Field((), description="Only this attack; may be given several times.")
    limit: Positive | None = Field(None, description="Attack and audit only the first so many test images.")
    draws: Positive | None = Field(None, description="Noisy copies of each image.")
    noise: bool = Field(True, description="Run the noise evolution.")
    audit: bool = Field(True, description="Audit the models.")
    jobs: Positive | None = Field(
        None,
        description="Models worked on at once, one CPU thread each (default: one per core; one per GPU; all that a "
        "cluster has room for).",
    )

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str | None) -> str | None:
        if value is not None and "/" in check_name(value):
            raise ValueError(f"expected a name without a folder, found '{value}'")
        return value
