"""What an audit has run, as its checks are given it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bangbench.auditing.battery import Battery, Flags
from bangbench.auditing.masking import LineRun
from bangbench.auditing.subject import Subject


class Evidence(NamedTuple):
    """Everything that was run: attacks along lines, attacks in balls, and the two runs that test them.

    lines, battery: without what could not be run; doubled: places flipped by doubled steps, by budget, empty where
    there was nothing to double; surviving: how many images survive everything within a budget, of which the first ones
    were tried with doubled steps; unbounded: places that survive the whole range, out of `unbounded_tried`;
    no_transfer: why there was no transfer, empty where there was one.
    """

    lines: Mapping[str, LineRun]
    battery: Battery
    budgets: Sequence[int]
    doubled: dict[int, Tensor]
    surviving: dict[int, int]
    unbounded: Tensor
    unbounded_tried: int
    classes: int
    no_transfer: str

    def within(self, names: Sequence[str], budget: int) -> list[Flags]:
        """Return what each attack that was run flips within exactly this budget."""
        return [self.battery[name, budget].flipped for name in names if (name, budget) in self.battery]

    def from_scratch(self, names: Sequence[str], budget: int) -> bool:
        """Return whether those that were run within exactly this budget tried every image."""
        return all(self.battery[name, budget].from_scratch for name in names if (name, budget) in self.battery)


def places(subject: Subject, flags: Flags) -> Tensor:
    """Return the places of some of the correct images, bool (M,), in the test split."""
    return subject.rows.cpu()[torch.from_numpy(flags)]
