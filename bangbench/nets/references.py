"""What the word MODEL on the command line means, and where its results lie: from words and files, without torch."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel

from bangbench.core.errors import BenchError, UsageError
from bangbench.core.registry import Registry
from bangbench.store.layout import CARD, find_model, model_folder
from bangbench.store.records import ModelCard, Preprocessing, read_record

if TYPE_CHECKING:
    from bangbench.nets.loaders import Loader

LOADERS: Registry[Loader] = Registry(
    "loader of models",
    "bangbench.loaders",
    {
        "timm": "bangbench.nets.loaders:from_timm",
        "torchvision": "bangbench.nets.loaders:from_torchvision",
        "hf": "bangbench.nets.loaders:from_transformers",
        "robustbench": "bangbench.nets.loaders:from_robustbench",
        "torchscript": "bangbench.nets.loaders:from_torchscript",
        "export": "bangbench.nets.loaders:from_export",
    },
)

#: Loaders of files that are code: they run only where a user says that the file may.
PROGRAMS = frozenset({"torchscript", "export"})


def loader_of(reference: str) -> str | None:
    """Return the name of the loader that a reference begins with, or None for a factory, a name or a file."""
    prefix, colon, _ = reference.partition(":")
    return prefix if colon and prefix in LOADERS else None


def library_of(reference: str) -> tuple[str, str]:
    """Return the loader and the name in ``library:NAME``; `UsageError` where there is no name."""
    prefix, _, name = reference.partition(":")
    if not name:
        raise UsageError(f"'{reference}' names no model: write {prefix}:NAME")
    return prefix, name


def program_in(path: Path) -> str | None:
    """Return which loader a file is for that holds a net as code, or None for any other file; nothing is run."""
    try:
        if not path.is_file() or not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as archive:
            inside = {name.partition("/")[2] for name in archive.namelist()}
    except Exception:  # whatever a damaged archive raises: who reads it as weights will say what it is
        return None
    if "constants.pkl" in inside and any(name.startswith("code/") for name in inside):
        return "torchscript"
    return "export" if any(name.startswith("models/") and name.endswith(".json") for name in inside) else None


#: What training scripts call every checkpoint: results are named after its folder, too.
_COMMON_STEMS = frozenset({"best", "last", "final", "model", "checkpoint", "ckpt", "weights", "pytorch_model"})


class Given(NamedTuple):
    """What a user says of a net of their own, beside its factory.

    random_weights: that the weights which the factory itself gives the net are those that are meant; trust_code: that
    a model folder may run the code which it names, and a file the code that it holds; name: that of its results.
    """

    weights: Path | None = None
    preprocessing: Preprocessing = Preprocessing()
    random_weights: bool = False
    trust_code: bool = False
    name: str | None = None


def is_own_net(reference: str) -> bool:
    """Return whether a reference is a user's own net: a factory, another library's model, or a file that is a net."""
    return ":" in reference or program_in(Path(reference)) is not None


def check_model(reference: str, root: Path, given: Given, data: str | None) -> None:
    """Raise `UsageError` or `BenchError` for a model that is not there, before anything is imported or computed."""
    if reference.endswith(".h5"):
        files = [Path(reference)]
    elif is_own_net(reference):
        net, given = with_own_weights(reference, given)
        own_data(reference, data)
        place = net.rpartition(":")[0]
        files = [Path(place)] if place.endswith(".py") else []
        files += [given.weights] if given.weights else []
    else:
        find_model(reference, root)
        return
    for file in files:
        if not file.is_file():
            raise BenchError(f"model '{reference}': {file} does not exist; check the path")


def own_data(reference: str, data: str | None) -> str:
    """Return what images a user's own net takes; `UsageError` where nothing says so."""
    if data is None:
        raise UsageError(f"model '{reference}' does not say what images it takes: add --data")
    return data


def with_own_weights(reference: str, given: Given) -> tuple[str, Given]:
    """Return the factory of ``factory@FILE`` and what is given for it, FILE among it."""
    program = program_in(Path(reference))
    own = re.fullmatch(r"(.+?:[\w./-]+)@(.+)", reference)
    if program is not None or own is None:
        return f"{program}:{reference}" if program else reference, given
    if given.weights is not None:
        raise UsageError(f"model '{reference}' names its weights; leave --weights {given.weights} out")
    return own[1], given._replace(weights=Path(own[2]))


def own_name(reference: str, given: Given) -> str:
    """Return a name for the results of a user's own net: that of its weights, its factory, or its library's."""
    weights = given.weights
    if given.name is not None:
        return given.name
    if weights is not None:
        stem = weights.name.split(".")[0]
        name = f"{weights.resolve().parent.name}-{stem}" if stem in _COMMON_STEMS else stem
    elif loader_of(reference) in PROGRAMS:
        name = Path(reference.partition(":")[2]).name.split(".")[0]
    else:
        name = library_of(reference)[1] if loader_of(reference) else reference.rpartition(":")[2]
    return re.sub(r"[^A-Za-z0-9_.+-]", "-", name)


def results_name(reference: str, root: Path, given: Given) -> str:
    """Return what the results of a model are called; `UsageError` or `BenchError` where there is no such model."""
    if reference.endswith(".h5"):
        return Path(reference).name.split(".")[0]
    if is_own_net(reference):
        return own_name(*with_own_weights(reference, given))
    folder = find_model(reference, root)
    return read_record(folder / CARD, ModelCard).model.name if folder.is_relative_to(root / "models") else folder.name


def given_by(spec: BaseModel) -> Given:
    """Return what the settings of a command say of a user's own net."""
    own = {name: getattr(spec, name) for name in Given._fields if name in type(spec).model_fields}
    stated = spec.model_dump(include={"input_scale", "mean", "std"}, exclude_none=True)
    return Given(**own, preprocessing=Preprocessing(**stated))


def check_own(given: Given, references: Sequence[str], root: Path) -> None:
    """Raise `UsageError` for what is said of a user's own net where the first, or none, of the models is one."""
    own_nets = [is_own_net(reference) for reference in references]
    if (given.weights and not own_nets[0]) or (given.preprocessing.model_fields_set and not any(own_nets)):
        raise UsageError("--weights, --input-scale, --mean and --std go with a module:factory model only")
    if given.name is not None and not own_nets[0]:
        raise UsageError(f"--name goes with a net of your own; the results of '{references[0]}' have its name")
    if given.name is not None and model_folder(root, given.name).joinpath(CARD).is_file():
        raise UsageError(f"--name {given.name}: a model of this name is there already; choose another")
