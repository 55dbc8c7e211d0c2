"""What `bangbench noise-eval` was asked to do."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from bangbench.core.executor_choice import PlacedSpec
from bangbench.nets.norms import with_norm

Positive = Annotated[int, Field(ge=1)]
Points = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Arithmetic = Literal["float32", "tf32", "bfloat16"]

#: Levels of noise in grey levels: the largest ones are the paper's (figures 3 and 5), the steps chosen.
GREY_SIGMAS = tuple(10.0 * step for step in range(1, 11))
COLOUR_SIGMAS = tuple(4.0 * step for step in range(1, 11))


class NoiseSpec(PlacedSpec):
    """Models, trained alike, whose robustness to Gaussian noise is followed through training.

    The batch size is a circumstance: the draws do not depend on it, and predictions do only where two logits agree to
    float32 rounding. The number of processes changes nothing: on a CPU each computes with one thread.
    """

    circumstances: ClassVar[frozenset[str]] = PlacedSpec.circumstances | {
        *("batch_size", "workers", "norm", "random_weights", "trust_code")
    }
    #: Settings that older records lack: left out at their defaults, or those records would have other keys.
    left_out_at_default: ClassVar[tuple[str, ...]] = ("precision", "arithmetic", "input_scale", "mean", "std")

    filled_in: ClassVar[frozenset[str]] = frozenset({"data", "sigma"})

    models: tuple[str, ...] = Field(
        description="Two models or more, trained alike, the first the reference: names under models/, folders, files, "
        "or factory@WEIGHTS."
    )
    data: str | None = Field(
        None,
        description="digits, mnist, cifar10, npz:FILE, folder:DIR or folder:FILE.zip (default: what the models were "
        "trained on).",
    )
    sigma: tuple[float, ...] | None = Field(
        None,
        min_length=1,
        description="Standard deviation of the noise in grey levels (default: 10, 20, ..., 100; colour images 4, 8, "
        "..., 40).",
    )
    draws: Positive = Field(1000, description="Noisy copies of each image; with --precision, at most.")
    precision: Points | None = Field(
        None,
        description="Stop drawing for a model, stage and sigma once its interval is narrower than so many percentage "
        "points (default: take all draws).",
    )
    per_class: Positive = Field(
        100, description="Use the first so many test images of each class that are correct at all stages."
    )
    seed: int = Field(0, ge=0, description="Seed of the noise.")
    clip: bool = Field(True, description="Round noisy images to whole grey levels and clip them to 0..255.")
    arithmetic: Arithmetic = Field(
        "float32",
        description="Arithmetic of the predictions: float32, tf32 (CUDA only) or bfloat16; what a reduced one "
        "changes is counted.",
    )
    random_weights: bool = Field(False, description="Own nets: take the weights that their factories give them.")
    trust_code: bool = Field(False, description="Run the code of nets that model folders name.")
    norm: str | None = Field(None, description="Own nets: mean and std of imagenet, cifar10, mnist or half.")
    input_scale: float | None = Field(None, gt=0, description="Own nets: divide grey levels by this (default: 255).")
    mean: tuple[float, ...] | None = Field(None, description="Own nets: per-channel mean after scaling.")
    std: tuple[float, ...] | None = Field(None, description="Own nets: per-channel standard deviation after scaling.")
    batch_size: Positive | None = Field(None, description="Images per forward pass.")
    workers: Positive | None = Field(None, description="Processes that count (default: one per core; on a GPU 1).")

    _fill_in_norm = model_validator(mode="before")(with_norm)

    @field_validator("models")
    @classmethod
    def _several(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) < 2:
            raise ValueError(f"expected two models or more, the first the reference, found {len(value)}")
        return value

    @field_validator("sigma")
    @classmethod
    def _ascending(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        for sigma in value or ():
            if not (math.isfinite(sigma) and sigma > 0):
                raise ValueError(f"expected grey levels above 0, found {sigma}")
        return None if value is None else tuple(sorted(set(value)))

    def settings(self) -> dict[str, Any]:
        """Return what was asked for, as JSON values; later settings only where they are not at their defaults."""
        defaults = {name: type(self).model_fields[name].default for name in self.left_out_at_default}
        return {name: value for name, value in super().settings().items() if defaults.get(name, self) != value}

    def sigmas(self, channels: int) -> tuple[float, ...]:
        """Return the levels of noise, ascending, for images of so many channels."""
        if self.sigma is not None:
            return self.sigma
        return GREY_SIGMAS if channels == 1 else COLOUR_SIGMAS
