"""What is refused before torch is imported, which takes seconds, and before anything is opened or computed."""

from __future__ import annotations

from collections.abc import Sequence

from bangbench.attacks.spec import AttackSpec, ModelSpec, models_in
from bangbench.core.errors import UsageError
from bangbench.nets.references import check_model, check_own, given_by, results_name
from bangbench.noise.spec import NoiseSpec
from bangbench.store.audits import AuditRecord
from bangbench.store.layout import AUDIT, NOISE, results_folder, versus_name
from bangbench.store.records import AttackRecord, NoiseRecord
from bangbench.store.reuse import check_in_the_way


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
                check_in_the_way(folder / f"{attack}.json", AttackRecord, spec)
        else:
            check_in_the_way(folder / f"{AUDIT}.json", AuditRecord, spec)


def check_noise(spec: NoiseSpec) -> None:
    """Refuse models, options or data that are wrong, and results of other settings in the way."""
    _check_words(spec, spec.models)
    name = versus_name([results_name(model, spec.root, given_by(spec)) for model in spec.models])
    check_in_the_way(results_folder(spec.root, name) / f"{NOISE}.json", NoiseRecord, spec)


def _check_words(spec: ModelSpec | NoiseSpec, references: Sequence[str]) -> None:
    given = given_by(spec)
    check_own(given, references)
    check_model(references[0], spec.root, given, spec.data)
    for other in references[1:]:
        check_model(other, spec.root, given._replace(weights=None), spec.data)
    if spec.data is not None:
        from bangbench.data.sources import open_source

        open_source(spec.data, spec.data_dir)
