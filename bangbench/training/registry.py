"""The solvers by name; names are known without importing torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bangbench.core.registry import Registry

if TYPE_CHECKING:
    from bangbench.training.solver import Solver

SOLVERS: Registry[type[Solver]] = Registry(
    "solver",
    "bangbench.solvers",
    {
        "caffe": "bangbench.training.solver:CaffeSgd",
        "sgd": "bangbench.training.solver:Sgd",
        "adam": "bangbench.training.solver:Adam",
        "adamw": "bangbench.training.solver:AdamW",
    },
)
