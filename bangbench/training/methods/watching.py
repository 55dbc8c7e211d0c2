"""Looking at what passes through a layer inside a net."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn


class Passed(NamedTuple):
    """What a layer was given, and what it returned."""

    given: Tensor
    returned: Tensor


@contextmanager
def watched(layer: nn.Module) -> Iterator[deque[Passed]]:
    """Keep the last pass through a layer, graph and all, inside the block."""
    last: deque[Passed] = deque(maxlen=1)

    def remember(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        last.append(Passed(inputs[0], output))

    hook = layer.register_forward_hook(remember)
    try:
        yield last
    finally:
        hook.remove()
