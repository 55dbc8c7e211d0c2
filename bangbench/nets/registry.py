"""The nets of the bench by name; names are known without importing torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bangbench.core.registry import Registry

if TYPE_CHECKING:
    from bangbench.nets.definition import NetDefinition

NETS: Registry[NetDefinition] = Registry(
    "net",
    "bangbench.nets",
    {
        "lenet": "bangbench.nets.lenet:LENET",
        "cifar10-quick": "bangbench.nets.cifar10_quick:CIFAR10_QUICK",
        "odenet": "bangbench.nets.ode:ODENET",
        "odenet-cnn": "bangbench.nets.ode:ODENET_CNN",
        "zerosnet": "bangbench.nets.zerosnet:ZEROSNET",
    },
)
