"""A model folder runs no code that its user has not asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from bangbench.attacks.opened import open_with_images
from bangbench.attacks.spec import AttackSpec
from bangbench.core.errors import BenchError
from bangbench.nets.models import open_model
from bangbench.nets.trust import code_file
from bangbench.training.run import train
from bangbench.training.spec import TrainSpec

CPU = torch.device("cpu")
NET = """
from pathlib import Path

from torch import nn

Path({trace!r}).touch()


def make(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
"""


@pytest.fixture
def trace(tmp_path, monkeypatch):
    """Return the file that the net's module makes when it is run; a model of that net is trained in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    trace = tmp_path / "trace"
    Path("net.py").write_text(NET.format(trace=str(trace)))
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
    labels = np.array([0, 1, 0, 1, 0, 1])
    np.savez("d.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    train(TrainSpec(name="R0", net="net.py:make", data="npz:d.npz", iterations=2, batch_size=2))
    trace.unlink()
    return trace


def test_a_model_trained_here_opens_and_its_net_may_be_edited(trace):
    Path("net.py").write_text(Path("net.py").read_text() + "\n# edited\n")
    assert open_model("R0", Path(), CPU).info.net == "net.py:make"
    assert trace.exists()


@pytest.mark.parametrize("net", ["evil/net.py:make", "evil.net:make", "net.py:other", "./evil/../evil/net.py:make"])
def test_a_folder_that_names_other_code_runs_none_of_it_and_says_which(trace, net):
    shutil.copytree("models/R0", "evil")
    shutil.copy("net.py", "evil/net.py")
    card = json.loads(Path("evil/model.json").read_text())
    card["model"]["net"] = net
    Path("evil/model.json").write_text(json.dumps(card))
    file = Path("net.py" if net == "net.py:other" else "evil/net.py").resolve()
    with pytest.raises(BenchError, match=rf"evil/model\.json names a net .* run {file}, .* --trust-code"):
        open_model("./evil", Path(), CPU)
    assert not trace.exists()


def test_what_is_asked_for_is_run(trace):
    shutil.copytree("models/R0", "other/models/R0")
    shutil.copy("net.py", "other/net.py")
    card = Path("other/models/R0/model.json")
    card.write_text(card.read_text().replace('"net.py:make"', '"other/net.py:make"'))
    spec = AttackSpec(model="R0", root=Path("other"), device="cpu")
    with pytest.raises(BenchError, match="--trust-code"):
        open_with_images(spec)
    assert not trace.exists()
    assert len(open_with_images(spec.model_copy(update={"trust_code": True})).data.labels) == 6
    assert trace.exists()


def test_a_configuration_that_cannot_be_written_is_said_and_stops_no_training(trace, monkeypatch):
    Path("file").write_text("in the way")
    monkeypatch.setenv("XDG_CONFIG_HOME", "file")
    notes = []

    class Notes:
        def note(self, text):
            notes.append(text)

        def start(self, *_, **__): ...
        def advance(self, *_): ...
        def finish(self): ...

    train(TrainSpec(name="R1", net="net.py:make", data="npz:d.npz", iterations=1, batch_size=2), Notes())
    assert any("--trust-code" in note for note in notes)


def test_the_file_of_a_module_is_found_without_importing_it(trace):
    Path("package/inner").mkdir(parents=True)
    for name in ("package/__init__.py", "package/inner/__init__.py", "package/inner/net.py"):
        Path(name).write_text("raise SystemExit")
    assert code_file("package.inner.net:make") == str(Path("package/inner/net.py").resolve())
    assert code_file("package.inner:make") == str(Path("package/inner/__init__.py").resolve())
    assert code_file("nowhere.at.all:make") == "the module nowhere.at.all"
