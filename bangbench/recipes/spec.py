"""What `bangbench reproduce` was asked to do."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bangbench.core.spec import Spec

Positive = Annotated[int, Field(ge=1)]


class ReproduceSpec(Spec):
    """One recipe, whole or in part. What is already done with the same settings is not done again."""

    recipe: str = Field(description="demo, table1, table2, or a recipe of your own (FILE.toml).")
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
