"""The long parts of an audit, each of which is kept as soon as it is done and may run in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bangbench.audit.battery import BallRun, run_ball
from bangbench.audit.claims import GRADIENT_BALL_ATTACKS, LINE_ATTACKS, OTHER_BALL_ATTACKS, TWINS
from bangbench.audit.masking import LineRun, line_run
from bangbench.audit.subject import Subject

Arrays = dict[str, NDArray[Any]]


class Part(NamedTuple):
    """One attack on one model: within `budget` grey levels, or along a line where it is None.

    variant: with the gradients of a changed model, a code of `VARIANTS`; of_regular: on the regular model instead of
    the audited one, to stand beside it.
    """

    attack: str
    budget: int | None = None
    variant: str | None = None
    of_regular: bool = False


class Subjects(NamedTuple):
    """The audited model, and the regular one on the same images where there is one."""

    audited: Subject
    regular: Subject | None


#: The attack whose distances on the regular model stand beside the audited one's.
BESIDE = "fgs-unmasked"


def parts_of(
    budgets: Sequence[int], has_gradient: bool, has_regular: bool, variants: Sequence[str]
) -> tuple[tuple[Part, ...], ...]:
    """Return the parts of an audit in groups, one for each process in turn, the longest first.

    variants: codes of the changes that the model can be given. Without a gradient that reaches the image, only the
    attacks that need none are left.
    """
    others = [name for name in OTHER_BALL_ATTACKS if name != "transfer" or has_regular]
    free = tuple(Part("square", budget) for budget in budgets)
    rest = tuple(Part(name, budget) for name in others if name != "square" for budget in budgets)
    if not has_gradient:
        return free, rest
    climbing = (tuple(Part(name, budget) for budget in budgets) for name in GRADIENT_BALL_ATTACKS)
    lines = tuple(Part(name, variant=variant) for variant in (None, *variants) for name in LINE_ATTACKS)
    beside = (Part(BESIDE, of_regular=True),) if has_regular else ()
    return free, *climbing, (*lines, *beside, *rest)


def has_twin(part: Part) -> bool:
    """Return whether the part directly before this one is its masked twin, whose result spares this one work."""
    return part.attack in TWINS and not part.of_regular


def compute(part: Part, subjects: Subjects, twin: Arrays | None = None) -> Arrays:
    """Return what a part finds, as arrays; twin: what its masked twin found."""
    regular = subjects.regular
    if part.of_regular and regular is not None:
        return _arrays(line_run(regular, part.attack))
    if part.budget is None:
        return _arrays(line_run(subjects.audited, part.attack, part.variant, line_of(twin) if twin else None))
    return _arrays(run_ball(subjects.audited, part.attack, part.budget, regular.classifier if regular else None))


def line_of(arrays: Arrays) -> LineRun:
    """Return an attack along a line from its arrays."""
    return LineRun(arrays["flipped"], arrays["linf"], int(arrays["blank"]), int(arrays["forwards"]))


def ball_of(arrays: Arrays) -> BallRun:
    """Return an attack inside a ball from its arrays."""
    return BallRun(arrays["flipped"], arrays["lost"], arrays["outside"], int(arrays["forwards"]))


def _arrays(run: LineRun | BallRun) -> Arrays:
    return {name: np.asarray(value) for name, value in run._asdict().items()}
