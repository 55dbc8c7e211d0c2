"""What `bangbench pass` was asked to do."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from bangbench.core.spec import Spec


class PassSpec(Spec):
    """Two image files, or two stacks of images of the same shape."""

    original: Path = Field(description="The original: an image file, or a stack as .npy or .npz.")
    adversarial: Path = Field(description="The adversarial one, of the same size.")
    device: str = Field("cpu", description="cpu, or cuda for stacks of many thousand pairs.")
    workers: int | None = Field(None, ge=1, description="Threads (default: one per core; on a GPU unused).")
