"""What `bangbench data` was asked to do."""

from __future__ import annotations

from pydantic import Field

from bangbench.core.spec import Spec


class DataSpec(Spec):
    """A look at the data directory."""


class FileSpec(Spec):
    """One downloadable data set."""

    name: str = Field(description="mnist or cifar10.")
