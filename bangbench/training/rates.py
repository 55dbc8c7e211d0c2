"""Rate policies: Caffe's "inv" and "multistep", and a constant rate."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from bangbench.core.errors import UsageError

_POLICY = re.compile(r"(inv|steps|constant)\(([^()]*)\)")
_FORMS = "inv(GAMMA, POWER), steps(ITERATION, ...) or constant()"


def rate_policy(text: str, learning_rate: float) -> Callable[[int], float]:
    """Return iteration -> learning rate for a policy written as text.

    ``inv(gamma, power)``: rate (1 + gamma i)^-power with gamma >= 0; ``steps(a, b, ...)``: the rate times 0.1 from
    each of those iterations on; ``constant()``. Raises `UsageError` for anything else.
    """
    match = _POLICY.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"rate policy '{text}': expected {_FORMS}")
    numbers = _numbers(match[2], text)
    if match[1] == "inv" and len(numbers) == 2 and numbers[0] >= 0:
        gamma, power = numbers
        return lambda iteration: float(learning_rate * (1.0 + gamma * iteration) ** -power)
    if match[1] == "steps" and numbers:
        return lambda iteration: learning_rate * 0.1 ** sum(iteration >= number for number in numbers)
    if match[1] == "constant" and not numbers:
        return lambda iteration: learning_rate
    raise UsageError(f"rate policy '{text}': expected {_FORMS}")


def _numbers(text: str, policy: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")] if text.strip() else []
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise UsageError(f"rate policy '{policy}': '{text}' is not a list of numbers; expected {_FORMS}")
    return numbers
