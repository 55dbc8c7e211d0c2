"""The logits in what a net returns: a tensor, an object or a mapping that holds them, one logit for two classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bangbench.core.errors import UsageError

#: What output to take of a model that returns a mapping.
_NAMES = ("logits", "out", "output", "scores")

WRAP = "wrap it in a Module whose forward returns the logits"

#: What `logits_in` calls a tensor that is the logits already.
PLAIN = "the output"


def logits_in(output: Any) -> tuple[Tensor, str]:
    """Return the logits (N, K) in what a model returns, and how they are called there.

    A tensor; `.logits` or ``["logits"]``; the first of a tuple or of a mapping's known names. One logit z, (N, 1) or
    (N,), becomes the two of a binary classifier, -z/2 and z/2, whose softmax is 1 - sigmoid(z) and sigmoid(z).
    `UsageError` for others.
    """
    logits, name = _found(output)
    if logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1):
        half = logits.reshape(-1, 1) / 2.0
        return torch.cat([-half, half], 1), f"{name}, one logit: above 0 is class 1, the rest class 0"
    return logits, name


def _found(output: Any) -> tuple[Tensor, str]:
    if isinstance(output, Tensor):
        return output, PLAIN
    if isinstance(output, Mapping):
        name = next((name for name in _NAMES if isinstance(output.get(name), Tensor)), None)
        if name is not None:
            return output[name], f'output["{name}"]'
        raise UsageError(f"model: expected logits, found a mapping of {', '.join(map(str, output))}; {WRAP}")
    if isinstance(getattr(output, "logits", None), Tensor):
        return output.logits, "output.logits"
    if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
        return output[0], "output[0]"
    raise UsageError(f"model: expected logits (N, K), found {type(output).__name__}; {WRAP}")
