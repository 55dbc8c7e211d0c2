"""`import_model`: a net trained elsewhere becomes a model under models/, which every command takes by its name."""

from __future__ import annotations

from bangbench.core.device import choose_device, describe_device
from bangbench.core.locks import folder_lock
from bangbench.core.progress import SILENT, Progress
from bangbench.core.provenance import collect_provenance
from bangbench.data.dataset import data_info
from bangbench.data.sources import open_source
from bangbench.nets.models import Model, Place, open_own_net
from bangbench.nets.norms import doubtful, twice
from bangbench.nets.outputs import PLAIN
from bangbench.nets.predict import accuracy_percent, to_device
from bangbench.nets.references import given_by
from bangbench.nets.spec import ImportSpec
from bangbench.nets.trust import remember_code
from bangbench.nets.weights import save_state
from bangbench.store.files import check_writable, sha256_of
from bangbench.store.layout import CARD, WEIGHTS, model_folder
from bangbench.store.records import ModelCard, write_record
from bangbench.store.reuse import finished_record


def import_model(spec: ImportSpec, progress: Progress = SILENT) -> ModelCard:
    """Keep a net with its weights and its card under models/NAME, and return the card.

    The card tells its accuracy on the test images of `spec.data`, by which a forgotten mean or another order of the
    classes shows. Raises `UsageError` for a net without weights, `BenchError` for one that does not fit its images,
    and for another model under that name.
    """
    model = _opened(spec)
    folder = model_folder(spec.root, spec.name)
    settings = {**spec.settings(), "net": model.info.net, "weights": model.info.weights_sha256}
    key = spec.key(**model.identity(), net=model.info.net)
    with folder_lock(folder, spec.patience, progress):
        finished = finished_record(folder / CARD, ModelCard, key, settings, spec.overwrite)
        if finished is not None:
            return finished
        check_writable(folder)
        save_state(folder / WEIGHTS, model.classifier.net.state_dict())
        card = _card(spec, model, key, settings)
        write_record(folder / CARD, card)
    for note in card.notes:
        progress.note(f"{spec.name}: {note}")
    return card


def _opened(spec: ImportSpec) -> Model:
    """Open the net as if its images were about to be attacked, which checks that both fit each other."""
    place = Place(spec.root, choose_device(spec.device), spec.data_dir, spec.data)
    return open_own_net(spec.net, given_by(spec), place)


def _card(spec: ImportSpec, model: Model, key: str, settings: dict[str, object]) -> ModelCard:
    source = open_source(spec.data, spec.data_dir)
    test, device = source.load("test"), choose_device(spec.device)
    accuracy = accuracy_percent(model.classifier, to_device(test.images, device), to_device(test.labels, device))
    output = model.classifier.output
    notes = [
        "trained elsewhere",
        None if output == PLAIN else f"its logits are {output}",
        doubtful(model.info.preprocessing) or twice(model.info.preprocessing, model.classifier.net),
        remember_code(model.info.net),
    ]
    weights = sha256_of(model_folder(spec.root, spec.name) / WEIGHTS)
    return ModelCard(
        schema=1,
        status="done",
        key=key,
        spec=settings,
        provenance=collect_provenance(describe_device(device)),
        model=model.info.model_copy(update={"weights_sha256": weights, "data": source.name}),
        train_data=data_info(test, source.name, spec.data),
        accuracy=accuracy,
        notes=tuple(note for note in notes if note is not None),
    )
