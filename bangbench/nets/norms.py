"""Mean and standard deviation as they are commonly subtracted and divided by, of images in [0, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bangbench.core.errors import UsageError
from bangbench.store.records import Preprocessing

if TYPE_CHECKING:
    from torch.nn import Module

#: By name: mean and standard deviation of each channel.
NORMS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "mnist": ((0.1307,), (0.3081,)),
    "half": ((0.5,), (0.5,)),
}


def with_norm(values: Any) -> Any:
    """Return the settings of a command with mean and std in place of what `norm` names; `ValueError` for no such."""
    if not isinstance(values, dict):
        return values
    name = values.get("norm")
    if name is None:
        return values
    if values.get("mean") is not None or values.get("std") is not None:
        raise ValueError("--norm stands for --mean and --std: leave these out")
    if str(name).casefold() not in NORMS:
        raise ValueError(f"--norm: expected {', '.join(NORMS)}, found '{name}'")
    mean, std = NORMS[str(name).casefold()]
    return {**values, "norm": None, "mean": mean, "std": std}


def check_preprocessing(preprocessing: Preprocessing, channels: int) -> None:
    """Raise `UsageError` unless mean and std have one value or one for each channel, and scale and std are above 0."""
    for name in ("mean", "std"):
        values = getattr(preprocessing, name)
        if values is not None and len(values) not in {1, channels}:
            wanted = f"1 or {channels} values, one for each channel" if channels > 1 else "1 value, for grey images"
            raise UsageError(f"{name}: expected {wanted}, found {len(values)}")
    if preprocessing.std is not None and min(preprocessing.std) <= 0.0:
        raise UsageError(f"std: expected numbers above 0, found {', '.join(map(str, preprocessing.std))}")
    if not preprocessing.input_scale > 0.0:
        raise UsageError(f"input_scale: expected a number above 0, found {preprocessing.input_scale}")


def twice(preprocessing: Preprocessing, net: Module) -> str | None:
    """Return that images may be normalised twice: mean or std is given, and the net has a normalisation of its own."""
    if preprocessing.mean is None and preprocessing.std is None:
        return None
    buffers = {name.rpartition(".")[2] for name, _ in net.named_buffers()}
    own = [type(module).__name__ for module in net.modules() if type(module).__name__.lower().startswith("normaliz")]
    if not own and not {"mean", "std"} <= buffers:
        return None
    what = own[0] if own else "buffers 'mean' and 'std'"
    return f"the net has a normalisation of its own ({what}): with --mean and --std images are normalised twice"


def doubtful(preprocessing: Preprocessing) -> str | None:
    """Return what looks wrong about mean and std, beside the scale that they are applied after."""
    largest = 255.0 / preprocessing.input_scale
    for name in ("mean", "std"):
        values = getattr(preprocessing, name)
        if values is None:
            continue
        shown = ", ".join(f"{value:g}" for value in values)
        if max(values) > largest:
            return (
                f"--{name} {shown} is beyond the scale: images span 0 to {largest:g} after --input-scale "
                f"{preprocessing.input_scale:g}; give it in those units, or --input-scale 1 for grey levels"
            )
        if largest > 2.0 and max(values) <= 1.0:
            return (
                f"--{name} {shown} looks like one of images in [0, 1], but they span 0 to {largest:g} after "
                f"--input-scale {preprocessing.input_scale:g}; leave --input-scale out for [0, 1]"
            )
    return None
