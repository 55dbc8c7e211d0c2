"""`train`: a net trained by any of the bench's methods, from Python."""

from __future__ import annotations

import difflib
import tempfile
from pathlib import Path
from typing import Any

from bangbench.core.errors import UsageError
from bangbench.core.spec import make_settings
from bangbench.interface.models import Model, load_model
from bangbench.interface.progress import bar
from bangbench.training.methods.registry import METHODS
from bangbench.training.run import train as train_spec
from bangbench.training.spec import TrainSpec


def train(
    net: str = "lenet",
    *,
    data: str = "mnist",
    method: str = "regular",
    name: str | None = None,
    root: str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> Model:
    """Train a net and return the model: `.classifier`, `.card`, `.log`.

    With a `name` it is kept under ROOT/models/NAME (root: the working directory), and returned from there if it is
    trained already; interrupted, the same call goes on. Without one, nothing is kept on disk. settings: those of
    `bangbench train`, such as ``iterations=``, ``seed=``, ``device=``, and those of the method, such as ``epsilon=``.

    Raises `UsageError` for unknown names and settings, `BenchError` for data or nets that cannot be trained with.
    """
    own = {key: value for key, value in settings.items() if key in TrainSpec.model_fields}
    others = tuple(f"{key}={value}" for key, value in settings.items() if key not in own)
    for key in settings.keys() - own.keys() - METHODS.load(method).Settings.model_fields.keys():
        if close := difflib.get_close_matches(key, TrainSpec.model_fields, n=1, cutoff=0.8):
            raise UsageError(f"train has no setting '{key}'; did you mean '{close[0]}'?")
    given = {"net": net, "data": data, "method": method, **own, "option": (*own.get("option", ()), *others)}
    if name is not None:
        return _trained(Path(root or "."), name, given, progress)
    with tempfile.TemporaryDirectory() as folder:
        return _trained(Path(folder), f"{net.rpartition(':')[2]}-{method}", given, progress)


def _trained(root: Path, name: str, given: dict[str, Any], progress: bool) -> Model:
    spec = make_settings("train", TrainSpec, {**given, "name": name, "root": root})
    train_spec(spec, bar(progress))
    return load_model(name, root=root, data_dir=spec.data_dir, device=spec.device)
