"""Weights as training scripts write them: what of a checkpoint is the state dict, and whose names it uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

#: Under which names checkpoints keep the weights of the net, the first of which counts.
_PLACES = ("state_dict", "model_state_dict", "model", "ema", "net", "network", "weights", "params")

#: Names that a message shows at most.
_SHOWN = 4


def state_in(content: Any) -> dict[str, Tensor] | None:
    """Return the state dict (name -> tensor) in what a file holds, looking into a checkpoint's entries, else None."""
    if not isinstance(content, Mapping):
        return None
    for place in _PLACES:
        inner = content.get(place)
        if isinstance(inner, Mapping):
            found = state_in(inner)
            if found:
                return found
    if all(isinstance(value, Tensor) for value in content.values()):
        return {str(name): tensor for name, tensor in content.items()}
    return None


def renamed(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state under the names that a net expects, where it holds all of them below one prefix; else as it is.

    Prefixes are those of wrappers: ``module.`` of DataParallel, ``_orig_mod.`` of compile, ``model.`` of Lightning, in
    any number; what stands outside the prefix is of other objects and left out. The counters of batches that old
    checkpoints lack are the net's own, which evaluation does not look at.
    """
    names = [name for name in expected if not name.endswith("num_batches_tracked")]
    found = {str(name): tensor for name, tensor in state.items()}
    if names and not all(name in found for name in names):
        inside = [name[: -len(names[0])] for name in found if name.endswith(f".{names[0]}")]
        prefix = next((each for each in inside if all(each + name in found for name in names)), None)
        shorter = next((each for each in _prefixes(names) if all(name[len(each) :] in found for name in names)), None)
        if prefix is not None:
            found = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
        elif shorter is not None:
            found = {shorter + name: value for name, value in found.items()}
    counters = {name: value for name, value in expected.items() if name.endswith("num_batches_tracked")}
    return {**counters, **found} if all(name in found for name in names) else found


def _prefixes(names: list[str]) -> list[str]:
    """Return what all names of a net begin with, up to each dot."""
    parts = names[0].split(".")
    prefixes = [".".join(parts[:depth]) + "." for depth in range(1, len(parts))]
    return [prefix for prefix in prefixes if all(name.startswith(prefix) for name in names)]


def misfits(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """Return which names are missing and which are foreign, and the likely cause; None where all names agree."""
    missing = [name for name in expected if name not in state]
    foreign = [name for name in state if name not in expected]
    if not missing and not foreign:
        return None
    parts = [f"missing: {_some(missing)}"] if missing else []
    parts += [f"not of this net: {_some(foreign)}"] if foreign else []
    return f"{'; '.join(parts)}; {_cause(missing, foreign, state, expected)}"


def _cause(missing: list[str], foreign: list[str], state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    if not state:
        return "the file holds no weights"
    if len(missing) == len(expected):
        shapes = sorted(map(_shape, state.values())) == sorted(map(_shape, expected.values()))
        if shapes:
            return "the same shapes under other names: the net's layers were renamed since the weights were saved"
        return "the file is of another architecture"
    if foreign and not missing:
        return "the file is of a net with more layers"
    if missing and not foreign:
        return "the file holds only a part of the net, or is of a smaller one"
    return "the file is of another version of the net"


def wrong_shapes(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], names: list[str]) -> str:
    """Return the likely cause of the tensors `names`, all there, being of other shapes than expected; maybe empty."""
    layers = list(expected)
    last = {name for name in layers[-2:] if state[name].shape[1:] == expected[name].shape[1:]}
    if set(names) <= last:
        trained, wanted = len(state[names[0]]), len(expected[names[0]])
        return f"trained for {trained} classes, the data has {wanted}: choose its own data with --data"
    if names == layers[:1] and state[names[0]].ndim > 1 and len(state[names[0]]) == len(expected[names[0]]):
        trained, wanted = state[names[0]].shape[1], expected[names[0]].shape[1]
        return f"trained on images of {trained} channels or values, these have {wanted}"
    return ""


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
