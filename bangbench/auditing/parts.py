"""The long parts of an audit, each of which is kept as soon as it is done and may run in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bangbench.attacks.line import LineAttack
from bangbench.attacks.registry import ATTACKS
from bangbench.auditing.battery import BallRun, Orders, joined, run_battery
from bangbench.auditing.claims import line_attacks, twins
from bangbench.auditing.masking import LineRun, Lines, line_run
from bangbench.auditing.subject import Subject

Arrays = dict[str, NDArray[Any]]

#: Correct images of one part: small enough to be shared among processes, large enough to fill batches.
IMAGES = 128

#: The attack whose distances on the regular model stand beside the audited one's.
BESIDE = "fgs-unmasked"


class Part(NamedTuple):
    """A piece of work.

    kind: `images`, the whole battery on `IMAGES` of the correct images from the `first` on; `changed`, the attacks
    along a line with the gradients of a changed model, `variant` of `VARIANTS`; `regular`, `BESIDE` on the regular
    model.
    """

    kind: Literal["images", "changed", "regular"]
    first: int = 0
    variant: str | None = None


class Subjects(NamedTuple):
    """The audited model, and the regular one on the same images where there is one."""

    audited: Subject
    regular: Subject | None


def parts_of(correct: int, orders: Orders, variants: Sequence[str]) -> tuple[Part, ...]:
    """Return the parts of an audit of so many correct images, the longest first.

    variants: codes of the changes that the model can be given. Without a gradient that reaches the image there are no
    attacks along lines.
    """
    images = tuple(Part("images", first) for first in range(0, correct, IMAGES))
    if not orders.has_gradient:
        return images
    beside = (Part("regular"),) if orders.has_source else ()
    return (*images, *(Part("changed", variant=variant) for variant in variants), *beside)


def compute(part: Part, subjects: Subjects, orders: Orders) -> Arrays:
    """Return what a part finds, as arrays named ``what/field``."""
    audited, regular = subjects
    if part.kind == "regular" and regular is not None:
        return _arrays({BESIDE: line_run(regular, BESIDE)})
    if part.kind == "changed":
        return _arrays(_lines(audited, part.variant))
    some = audited.some_correct(part.first, IMAGES)
    lines = _lines(some) if orders.has_gradient else {}
    battery = run_battery(some, lines, orders, regular.classifier if regular else None)
    return _arrays({**lines, **{f"{name}@{budget}": run for (name, budget), run in battery.items()}})


def _lines(subject: Subject, variant: str | None = None) -> dict[str, LineRun]:
    """Run every attack along a line; an unmasked one searches only where its direction is not its twin's."""
    runs: dict[str, LineRun] = {}
    for name in line_attacks():
        if variant is not None and not issubclass(ATTACKS.load(name), LineAttack):
            continue
        runs[name] = line_run(subject, name, variant, runs.get(twins().get(name, "")))
    return runs


def gathered(found: Mapping[Part, Arrays]) -> tuple[Lines, dict[tuple[str, int], BallRun], int]:
    """Return what all parts found about the correct images, in their order, and the forward passes it took."""
    own = [runs_of(arrays) for part, arrays in found.items() if part.kind == "images"]
    changed = {part.variant: runs_of(arrays)[0] for part, arrays in found.items() if part.kind == "changed"}
    regular = next((runs_of(arrays)[0][BESIDE] for part, arrays in found.items() if part.kind == "regular"), None)
    lines = Lines(
        {name: LineRun.joined([runs[name] for runs, _ in own]) for name in (own[0][0] if own else {})},
        {(name, code): run for code, runs in changed.items() if code for name, run in runs.items()},
        regular,
    )
    forwards = sum(int(values) for arrays in found.values() for name, values in arrays.items() if "/forwards" in name)
    return lines, joined([battery for _, battery in own]), forwards


def runs_of(arrays: Mapping[str, NDArray[Any]]) -> tuple[dict[str, LineRun], dict[tuple[str, int], BallRun]]:
    """Return the attacks along lines and inside balls that the arrays of a part hold."""
    lines: dict[str, LineRun] = {}
    battery: dict[tuple[str, int], BallRun] = {}
    for what in dict.fromkeys(name.rpartition("/")[0] for name in arrays):
        name, _, budget = what.partition("@")
        if budget:
            flipped, lost, outside, tried = (
                arrays[f"{what}/{field}"] for field in ("flipped", "lost", "outside", "tried")
            )
            battery[name, int(budget)] = BallRun(flipped, lost, outside, tried, int(arrays[f"{what}/forwards"]))
        else:
            counts = (int(arrays[f"{what}/{field}"]) for field in ("blank", "forwards"))
            flipped, linf, lost = (arrays[f"{what}/{field}"] for field in ("flipped", "linf", "lost"))
            lines[name] = LineRun(flipped, linf, lost, *counts)
    return lines, battery


def _arrays(runs: Mapping[str, LineRun | BallRun]) -> Arrays:
    return {
        f"{what}/{field}": np.asarray(value) for what, run in runs.items() for field, value in run._asdict().items()
    }
