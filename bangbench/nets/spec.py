"""What `bangbench import` was asked to make a model of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from bangbench.core.spec import Spec
from bangbench.nets.norms import with_norm
from bangbench.store.layout import check_name


class ImportSpec(Spec):
    """A net trained elsewhere, to be kept under a name with its weights and all that is needed to open it."""

    circumstances: ClassVar[frozenset[str]] = Spec.circumstances | {"name", "norm", "random_weights", "trust_code"}

    name: str = Field(description="Name of the model: its folder under models/, such as mine or table1/mine.")
    net: str = Field(
        description="FILE.py:FACTORY, package.module:FACTORY, a registered net, timm:NAME, torchvision:NAME, hf:REPO, "
        "robustbench:ID/DATASET/NORM, or a file of TorchScript or torch.export."
    )
    data: str = Field(description="The images it takes: digits, mnist, cifar10, npz:FILE, folder:DIR.")
    weights: Path | None = Field(None, description="Its weights (.safetensors, .pt or .ckpt).")
    random_weights: bool = Field(False, description="Take the weights that the factory gives it.")
    trust_code: bool = Field(False, description="Run the code that a file of TorchScript or torch.export holds.")
    input_scale: float | None = Field(None, gt=0, description="Divide grey levels by this (default: 255).")
    mean: tuple[float, ...] | None = Field(None, description="Per-channel mean after scaling: 0.49,0.48,0.45.")
    std: tuple[float, ...] | None = Field(None, description="Per-channel standard deviation after scaling.")
    norm: str | None = Field(None, description="Mean and std of imagenet, cifar10, mnist or half.")

    _check_name = field_validator("name")(check_name)
    _fill_in_norm = model_validator(mode="before")(with_norm)

    def beside(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a card as they are asked for now, as far as that is known without net and weights."""
        return super().beside(before) | {name: before.get(name) for name in ("net", "weights")}
