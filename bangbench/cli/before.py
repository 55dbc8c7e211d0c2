"""What is refused before torch is imported, which takes seconds, and before anything is opened or computed."""

from __future__ import annotations

from collections.abc import Sequence

from bangbench.attacks.registry import ATTACKS
from bangbench.attacks.spec import AttackSpec, ModelSpec, models_in
from bangbench.core.errors import UsageError
from bangbench.core.spec import Spec
from bangbench.nets.references import check_model, check_own, given_by, is_own_net, results_name
from bangbench.nets.registry import NETS
from bangbench.nets.spec import ImportSpec
from bangbench.noise.spec import NoiseSpec
from bangbench.store.audits import AuditRecord
from bangbench.store.layout import AUDIT, CARD, NOISE, model_folder, results_folder, versus_name
from bangbench.store.records import AttackRecord, ModelCard, NoiseRecord
from bangbench.store.reuse import check_in_the_way
from bangbench.training.methods.registry import METHODS
from bangbench.training.registry import SOLVERS
from bangbench.training.spec import TrainSpec


def check_models(specs: Sequence[ModelSpec]) -> None:
    """Refuse a model, an option or data that is wrong, and results of other settings in the way, of any spec."""
    if len(specs) > 1 and specs[0].name is not None:
        raise UsageError("--name goes with one model: leave it out, and the results are named after the models")
    for spec in specs:
        _check_words(spec, models_in(spec))
    for spec in specs:
        folder = results_folder(spec.root, results_name(spec.model, spec.root, given_by(spec)))
        if isinstance(spec, AttackSpec):
            for attack in dict.fromkeys(spec.attack):
                ATTACKS.check(attack)
                check_in_the_way(folder / f"{attack}.json", AttackRecord, spec)
        else:
            check_in_the_way(folder / f"{AUDIT}.json", AuditRecord, spec)
    for spec in specs:
        if isinstance(spec, AttackSpec):
            from bangbench.attacks.asked import check_attacks  # imports torch, but nothing that opens models or data

            check_attacks(spec)


def check_noise(spec: NoiseSpec) -> None:
    """Refuse models, options or data that are wrong, and results of other settings in the way."""
    _check_words(spec, spec.models)
    name = versus_name([results_name(model, spec.root, given_by(spec)) for model in spec.models])
    check_in_the_way(results_folder(spec.root, name) / f"{NOISE}.json", NoiseRecord, spec)


def check_card(spec: TrainSpec | ImportSpec) -> None:
    """Refuse a net, weights or data that are not there, and a model of other settings in the way."""
    if not is_own_net(spec.net):
        NETS.check(spec.net)
    elif isinstance(spec, ImportSpec):
        check_model(spec.net, spec.root, given_by(spec), spec.data)
    if isinstance(spec, TrainSpec):
        METHODS.check(spec.method)
        SOLVERS.check(spec.solver)
    _check_data(spec.data, spec)
    check_in_the_way(model_folder(spec.root, spec.name) / CARD, ModelCard, spec)


def _check_words(spec: ModelSpec | NoiseSpec, references: Sequence[str]) -> None:
    given = given_by(spec)
    check_own(given, references, spec.root)
    check_model(references[0], spec.root, given, spec.data)
    for other in references[1:]:
        check_model(other, spec.root, given._replace(weights=None), spec.data)
    _check_data(spec.data, spec)


def _check_data(data: str | None, spec: Spec) -> None:
    if data is not None:
        from bangbench.data.sources import open_source  # imports what reads images

        open_source(data, spec.data_dir)
