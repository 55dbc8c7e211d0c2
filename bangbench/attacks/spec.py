"""What `bangbench attack` was asked to do to one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from bangbench.core.spec import Spec

Positive = Annotated[int, Field(ge=1)]

#: The attacks of the paper, each with its unmasked twin.
STANDARD_ATTACKS = ("fgs", "fgs-unmasked", "hc1", "hc1-unmasked")


class AttackSpec(Spec):
    """Attacks on the test images that a model classifies correctly."""

    circumstances: ClassVar[frozenset[str]] = Spec.circumstances | {"model", "attack", "batch_size", "workers"}

    model: str = Field(
        description="A trained model's name, a model folder, a .caffemodel.h5 file, or package.module:factory."
    )
    attack: tuple[str, ...] = Field(STANDARD_ATTACKS, description="Attack to run; may be given several times.")
    data: str | None = Field(None, description="Images to attack (default: the test images of the model's data set).")
    limit: Positive | None = Field(None, description="Use only the first so many test images.")
    save_images: bool = Field(False, description="Keep the adversarial images (ATTACK.npz).")
    weights: Path | None = Field(None, description="Weights of your own net (.safetensors or .pt).")
    input_scale: float | None = Field(None, gt=0, description="Own net: divide grey levels by this (default: 255).")
    mean: tuple[float, ...] | None = Field(None, description="Own net: per-channel mean after scaling.")
    std: tuple[float, ...] | None = Field(None, description="Own net: per-channel standard deviation after scaling.")
    batch_size: Positive | None = Field(None, description="Images per forward pass (default: by device).")
    workers: Positive | None = Field(None, description="Processes that compute PASS (default: one per core).")
