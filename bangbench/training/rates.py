"""Rate policies: Caffe's "inv" and "multistep", and those of newer recipes.

A user writes a policy as its name with numbers in brackets; others are added in files of one's own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bangbench.core.errors import UsageError
from bangbench.core.registry import Registry

#: iteration -> learning rate
Rate = Callable[[int], float]


class Policy(NamedTuple):
    """form: how a user writes it; make: rate, iterations of the run, numbers -> policy, None for other numbers."""

    form: str
    make: Callable[[float, int, Sequence[float]], Rate | None]


POLICIES: Registry[Policy] = Registry(
    "rate policy",
    "bangbench.rate_policies",
    {name: f"bangbench.training.rates:{name.upper()}" for name in ("inv", "steps", "constant", "cosine", "triangle")},
)

_POLICY = re.compile(r"([\w-]+)\(([^()]*)\)")


def rate_policy(text: str, learning_rate: float, iterations: int) -> Rate:
    """Return iteration -> learning rate for a policy written as text, such as ``inv(0.0001, 0.75)``.

    iterations: the length of the run, over which some policies stretch. Raises `UsageError` for anything else.
    """
    match = _POLICY.fullmatch(text.strip())
    policy = POLICIES.load(match[1]) if match is not None and match[1] in POLICIES.names() else None
    if match is None or policy is None:
        raise UsageError(f"rate policy '{text}': expected {_forms()}")
    rate = policy.make(learning_rate, iterations, _numbers(match[2], text))
    if rate is None:
        raise UsageError(f"rate policy '{text}': expected {policy.form}")
    return rate


def _inv(learning_rate: float, iterations: int, numbers: Sequence[float]) -> Rate | None:
    if len(numbers) != 2 or numbers[0] < 0:
        return None
    gamma, power = numbers
    return lambda iteration: float(learning_rate * (1.0 + gamma * iteration) ** -power)


def _steps(learning_rate: float, iterations: int, numbers: Sequence[float]) -> Rate | None:
    if not numbers:
        return None
    return lambda iteration: learning_rate * 0.1 ** sum(iteration >= number for number in numbers)


def _constant(learning_rate: float, iterations: int, numbers: Sequence[float]) -> Rate | None:
    return None if numbers else lambda iteration: learning_rate


def _cosine(learning_rate: float, iterations: int, numbers: Sequence[float]) -> Rate | None:
    if numbers:
        return None
    return lambda iteration: 0.5 * learning_rate * (1.0 + math.cos(math.pi * iteration / iterations))


def _triangle(learning_rate: float, iterations: int, numbers: Sequence[float]) -> Rate | None:
    if len(numbers) != 1 or not 0.0 < numbers[0] < 1.0:
        return None
    (peak,) = numbers

    def rate(iteration: int) -> float:
        # the rate at the end of the step, as in the recipes that use it: the first step is not lost
        passed = (iteration + 1) / iterations
        return learning_rate * max(0.0, min(passed / peak, (1.0 - passed) / (1.0 - peak)))

    return rate


#: The rate times (1 + gamma i)^-power, gamma >= 0.
INV = Policy("inv(GAMMA, POWER)", _inv)
#: The rate times 0.1 from each of those iterations on.
STEPS = Policy("steps(ITERATION, ...)", _steps)
CONSTANT = Policy("constant()", _constant)
#: Half a cosine, from the rate down to 0 at the end.
COSINE = Policy("cosine()", _cosine)
#: A line from 0 up to the rate at this share of the run, and one down to 0 at its end.
TRIANGLE = Policy("triangle(PEAK_AT)", _triangle)


def _forms() -> str:
    forms = [POLICIES.load(name).form for name in POLICIES.names()]
    return f"{', '.join(forms[:-1])} or {forms[-1]}"


def _numbers(text: str, policy: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")] if text.strip() else []
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise UsageError(f"rate policy '{policy}': '{text}' is not a list of numbers; expected {_forms()}")
    return numbers
