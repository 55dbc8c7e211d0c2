"""The attacks by name; names are known without importing torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bangbench.core.registry import Registry

if TYPE_CHECKING:
    from bangbench.attacks.base import Attack


def _is_attack(found: Any) -> str | None:
    from bangbench.attacks.base import Attack

    if isinstance(found, type) and issubclass(found, Attack):
        return None
    what = f"the class {found.__name__}" if isinstance(found, type) else f"an object of type {type(found).__name__}"
    return (
        f"expected a subclass of bangbench.attacks.base.Attack with run(classifier, images, labels, means) -> Flips, "
        f"found {what}"
    )


ATTACKS: Registry[type[Attack]] = Registry(
    "attack",
    "bangbench.attacks",
    {
        "fgs": "bangbench.attacks.fgs:Fgs",
        "fgs-unmasked": "bangbench.attacks.fgs:FgsUnmasked",
        "hc1": "bangbench.attacks.hot_cold:HotCold",
        "hc1-unmasked": "bangbench.attacks.hot_cold:HotColdUnmasked",
        "fgsm": "bangbench.attacks.fgsm:Fgsm",
        "pgd": "bangbench.attacks.pgd:Pgd",
        "apgd": "bangbench.attacks.apgd:Apgd",
        "apgd-ce": "bangbench.attacks.apgd:ApgdCrossEntropy",
        "apgd-t": "bangbench.attacks.apgd:ApgdTargeted",
        "square": "bangbench.attacks.square:Square",
        "transfer": "bangbench.attacks.transfer:Transfer",
        "uniform-noise": "bangbench.attacks.random_noise:UniformNoise",
        "gaussian-noise": "bangbench.attacks.random_noise:GaussianNoise",
    },
    check=_is_attack,
)
