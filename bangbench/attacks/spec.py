"""What `bangbench attack` was asked to do to one model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from bangbench.attacks.budgets import budgets_in_grey_levels
from bangbench.core.executor_choice import PlacedSpec
from bangbench.core.spec import numbers_given
from bangbench.data.spec import with_shape
from bangbench.nets.norms import with_norm
from bangbench.store.layout import check_name

#: How hard an audit tries.
Strength = Literal["quick", "standard", "extended"]

Positive = Annotated[int, Field(ge=1)]

#: The attacks of the paper, each with its unmasked twin.
STANDARD_ATTACKS = ("fgs", "fgs-unmasked", "hc1", "hc1-unmasked")


class ModelSpec(PlacedSpec):
    """Base of the specs that look at one model on test images."""

    circumstances: ClassVar[frozenset[str]] = PlacedSpec.circumstances | {
        *("model", "name", "norm", "resize", "crop", "batch_size", "workers", "random_weights", "trust_code")
    }

    filled_in: ClassVar[frozenset[str]] = frozenset({"data"})

    model: str = Field(
        description="A trained model's name, a model folder, a .caffemodel.h5 file, FILE.py:FACTORY, timm:NAME, "
        "torchvision:NAME, hf:REPO, or robustbench:ID/DATASET/NORM."
    )
    data: str | None = Field(None, description="Images to use (default: the test images of the model's data set).")
    resize: Positive | None = Field(None, description="folder: resize each image's shorter side to so many pixels.")
    crop: Positive | None = Field(None, description="folder: then take so many pixels from its middle (default: all).")
    limit: Positive | None = Field(None, description="Use only the first so many test images.")
    weights: Path | None = Field(None, description="Weights of your own net (.safetensors, .pt or .ckpt).")
    name: str | None = Field(None, description="Own net: what its results are called (default: as its weights).")
    random_weights: bool = Field(False, description="Own net: take the weights that its factory gives it.")
    trust_code: bool = Field(False, description="Run the code of a net that a model folder names.")
    input_scale: float | None = Field(None, gt=0, description="Own net: divide grey levels by this (default: 255).")
    mean: tuple[float, ...] | None = Field(None, description="Own net: per-channel mean after scaling.")
    std: tuple[float, ...] | None = Field(None, description="Own net: per-channel standard deviation after scaling.")
    norm: str | None = Field(None, description="Own net: mean and std of imagenet, cifar10, mnist or half.")
    batch_size: Positive | None = Field(None, description="Images per forward pass (default: by device).")

    _check_name = field_validator("name")(lambda name: name if name is None else check_name(name))

    @model_validator(mode="before")
    @classmethod
    def _fill_in_norm(cls, values: Any) -> Any:
        """Replace the name of a mean and a standard deviation by both, and put sizes where the data are named."""
        if not isinstance(values, dict):
            return values
        shaped = with_shape(values.get("data"), values.get("resize"), values.get("crop"))
        return with_norm({**values, "data": shaped} if shaped is not None else values)


def models_in(spec: ModelSpec) -> list[str]:
    """Return the model of a spec and, where it has one, the other one that it is looked at against."""
    against = getattr(spec, "against", None)
    return [spec.model] if against is None else [spec.model, against]


class AttackSpec(ModelSpec):
    """Attacks on the test images that a model classifies correctly."""

    #: budget, against and options are settings of those attacks that take them, and of no others.
    circumstances: ClassVar[frozenset[str]] = ModelSpec.circumstances | {"attack", "budget", "against", "option"}

    attack: tuple[str, ...] = Field(STANDARD_ATTACKS, description="Attack to run; may be given several times.")
    budget: tuple[str, ...] | None = Field(
        None,
        description="L_inf budget of the attacks inside a ball, as a share of the range: 0.3 or 8/255 (default: "
        "0.1 0.2 0.3; colour images 2/255 4/255 8/255).",
    )
    option: tuple[str, ...] = Field(
        (), description="SETTING=VALUE of the attacks that have it, or ATTACK.SETTING=VALUE of one of them."
    )
    against: str | None = Field(None, description="transfer: the model whose adversarial images are tried.")
    seed: int = Field(0, ge=0, description="Seed of everything random, a net's own layers included.")
    save_images: bool = Field(False, description="Keep all flipped images, before and after (ATTACK.npz).")
    workers: Positive | None = Field(
        None,
        description="Processes that attack many images on the CPU or a cluster, else threads (default: one per core).",
    )

    @field_validator("option")
    @classmethod
    def _check_option(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            if "=" not in item:
                raise ValueError(f"expected SETTING=VALUE or ATTACK.SETTING=VALUE, found '{item}'")
        return value

    def beside(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of the record of one attack as they are asked for now, as far as that is known."""
        now = super().beside(before)
        if self.budget and "budget" in before:
            now["budget"] = list(budgets_in_grey_levels(self.budget, channels=1))
        if own := before.get("attack_settings"):
            now["attack_settings"] = numbers_given(self.options_of(before["attack"], own), own)
        return now

    def options_of(self, attack: str, known: Collection[str]) -> dict[str, str]:
        """Return the options that concern `attack`, which has the `known` settings; the more specific one counts."""
        pairs = [item.split("=", 1) for item in self.option]
        general = {name: value for name, value in pairs if name in known}
        return general | {
            name.removeprefix(f"{attack}."): value for name, value in pairs if name.startswith(f"{attack}.")
        }
