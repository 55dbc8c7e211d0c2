"""What `bangbench reproduce` was asked to do."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from bangbench.core.spec import Spec
from bangbench.store.layout import check_name

Positive = Annotated[int, Field(ge=1)]


class ReproduceSpec(Spec):
    """One recipe, whole or in part. What is already done with the same settings is not done again.

    `overwrite` replaces what was done with other settings; without it, such work is never touched.
    """

    recipe: str = Field(description="demo, table1, table2, or a recipe of your own (FILE.toml).")
    name: str | None = Field(
        None, description="Keep the run apart, in models/NAME and results/NAME (default: the recipe's name)."
    )
    only: tuple[str, ...] = Field((), description="Only the model with this id; may be given several times.")
    data: str | None = Field(None, description="Other data than the recipe's, such as folder:DIR.")
    iterations: Positive | None = Field(None, description="Fewer or more solver steps than the recipe's.")
    attack: tuple[str, ...] = Field((), description="Only this attack; may be given several times.")
    limit: Positive | None = Field(None, description="Attack and audit only the first so many test images.")
    draws: Positive | None = Field(None, description="Noisy copies of each image.")
    noise: bool = Field(True, description="Run the noise evolution.")
    audit: bool = Field(True, description="Audit the models.")
    jobs: Positive | None = Field(
        None, description="Models worked on at once, one CPU thread each (default: one per core; on a GPU 1)."
    )

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str | None) -> str | None:
        if value is not None and "/" in check_name(value):
            raise ValueError(f"expected a name without a folder, found '{value}'")
        return value
