"""What `bangbench data` was asked to do."""

from __future__ import annotations

from pydantic import Field

from bangbench.core.spec import Spec


class DataSpec(Spec):
    """A look at the data directory."""


class FileSpec(Spec):
    """One downloadable data set."""

    name: str = Field(description="mnist or cifar10.")


class CacheSpec(Spec):
    """A look at the decoded images that are kept."""

    clear: bool = Field(False, description="Remove them all; they are decoded again when they are needed.")


def with_shape(data: str | None, resize: int | None, crop: int | None) -> str | None:
    """Return the text of a source that is resized and cropped, as `open_source` reads it; `ValueError` without one."""
    if resize is None and crop is None:
        return data
    if resize is None or data is None:
        raise ValueError("--crop goes with --resize, and --resize with --data folder:DIR")
    return f"{data},resize={resize}" + (f",crop={crop}" if crop is not None else "")
