"""Where things lie under a root: one folder for a model, one for its results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bangbench.core.errors import UsageError, unknown_name

WEIGHTS = "weights.safetensors"
PREPROCESSING = "preprocessing.safetensors"
CARD = "model.json"
LOG = "log.csv"
RESUME = "resume.safetensors"
AUDIT = "audit"
NOISE = "noise"
CELL = "cell.json"
GRID = "grid.json"
REPORT = "report"
REPORT_DOCUMENT = "report.json"

#: Folders under results/ that belong to no model, and what they hold.
RESERVED = {REPORT: "the tables", "benchmarks": "the benchmarks"}

#: Endings of files that torch.save writes.
PICKLES = frozenset({".pt", ".pth", ".ckpt", ".bin", ".tar"})

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)?")


def check_name(name: str) -> str:
    """Return `name` if it can be a model's name (``R0`` or ``table1/R0``); raise `UsageError` otherwise."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot be a name: use letters, digits, . _ + - and at most one folder (table1/R0)")
    folder = name.partition("/")[0]
    if folder in RESERVED:
        raise UsageError(f"'{name}' cannot be a name: results/{folder} holds {RESERVED[folder]}; choose another")
    return name


def model_folder(root: Path, name: str) -> Path:
    """Return the folder of a trained model."""
    return root / "models" / check_name(name)


def stage_file(folder: Path, iteration: int) -> Path:
    """Return the snapshot of a model at one iteration."""
    return folder / "stages" / f"{iteration:06d}.safetensors"


def results_folder(root: Path, name: str) -> Path:
    """Return the folder of a model's (or of models beside each other) results."""
    return root / "results" / check_name(name)


def versus_name(names: Sequence[str]) -> str:
    """Return the name of the results of models beside each other: ``table1/R0-vs-B1`` for ``table1/R0``, ``table1/B1``.

    It lies in the folder of the first, the reference; a model of another folder is named with it.
    """
    folder = names[0].rpartition("/")[0]
    parts = [name.rpartition("/")[2] if name.rpartition("/")[0] == folder else name.replace("/", "-") for name in names]
    return f"{folder}/{'-vs-'.join(parts)}" if folder else "-vs-".join(parts)


def trained_models(root: Path) -> list[str]:
    """Return the names of the models under `root`, sorted."""
    base = root / "models"
    cards = [*base.glob(f"*/{CARD}"), *base.glob(f"*/*/{CARD}")]
    return sorted(card.parent.relative_to(base).as_posix() for card in cards)


def find_model(reference: str, root: Path) -> Path:
    """Return the folder of a model that a name under ROOT/models, or a path, names; `UsageError` where none is."""
    for folder in (root / "models" / reference, Path(reference)):
        if (folder / CARD).is_file():
            return folder
    path = Path(reference)
    if path.suffix in {*PICKLES, ".safetensors"} and path.is_file():
        raise UsageError(
            f"'{reference}' holds weights and no net: name the net that they belong to, as FILE.py:FACTORY --weights "
            f"{reference}, or make a model of both with bangbench import"
        )
    raise unknown_name("model", reference, trained_models(root))
