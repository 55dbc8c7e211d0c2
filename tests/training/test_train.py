"""Training from a spec to a model on disk: what is written, and what is protected or refused."""

from __future__ import annotations

import csv
import json
import os
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bangbench.core.errors import BenchError, UsageError
from bangbench.core.progress import Silent
from bangbench.data.digits import Digits
from bangbench.nets.catalogue import build_net, net_definition
from bangbench.nets.models import open_model
from bangbench.nets.predict import accuracy_percent
from bangbench.nets.weights import load_state, save_state
from bangbench.store.files import sha256_of
from bangbench.training.loop import train_steps
from bangbench.training.run import train

CPU = torch.device("cpu")


class Counting(Silent):
    def __init__(self) -> None:
        self.steps, self.started, self.finished = 0, [], 0

    def start(self, label: str, total: int, done: int = 0, unit: str = "it") -> None:
        self.started.append((label, total, done))

    def advance(self, count: int = 1) -> None:
        self.steps += count

    def finish(self) -> None:
        self.finished += 1


def test_a_model_is_written_as_designed(spec_of, tmp_path):
    progress = Counting()
    card = train(spec_of(name="mine/T", net="lenet", seed=3), progress)
    assert (progress.started, progress.steps, progress.finished) == ([("mine/T", 14, 0)], 14, 1)
    folder = tmp_path / "models/mine/T"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    stages = {f"stages/{stage:06d}.safetensors" for stage in (4, 8, 12, 14)}
    assert files == {"model.json", "log.csv", "weights.safetensors"} | stages
    assert (folder / "stages/000014.safetensors").read_bytes() == (folder / "weights.safetensors").read_bytes()
    written = json.loads((folder / "model.json").read_text())
    assert written == card.model_dump(mode="json", by_alias=True)
    assert (written["schema"], written["kind"], written["status"], written["stages"]) == (
        1,
        "model",
        "done",
        [4, 8, 12, 14],
    )
    model = written["model"]
    assert (model["name"], model["net"], model["parameters"], model["classes"]) == ("mine/T", "lenet", 431_080, 10)
    assert (model["method"], model["seed"], model["iterations"], model["data"]) == ("regular", 3, 14, "digits")
    assert model["preprocessing"]["input_scale"] == 256.0
    assert model["weights_sha256"] == sha256_of(folder / "weights.safetensors")
    assert written["train_data"]["images"] == 100
    assert (
        written["spec"] | {"batch_size": 16, "weight_decay": 0.0005, "rate_policy": "inv(0.0001, 0.75)"}
        == written["spec"]
    )
    assert {"device", "root", "name"}.isdisjoint(written["spec"])


def test_the_log_has_one_line_per_stage(spec_of, tmp_path):
    card = train(spec_of(rate_policy="steps(7)"))
    with (tmp_path / "models/T/log.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["iteration", "loss", "rate", "training_accuracy", "test_accuracy", "seconds"]
    assert [int(row["iteration"]) for row in rows] == [4, 8, 12, 14]
    assert [float(row["rate"]) for row in rows] == pytest.approx([0.02, 0.002, 0.002, 0.002])
    assert float(rows[-1]["training_accuracy"]) == card.train_accuracy
    assert float(rows[-1]["test_accuracy"]) == card.accuracy
    assert float(rows[-1]["seconds"]) == card.seconds
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)


def test_the_accuracy_is_that_of_the_last_iteration_on_the_test_images(spec_of, tmp_path):
    card = train(spec_of(net="lenet", learning_rate=0.01))
    digits = Digits(tmp_path).load("test")
    images, labels = torch.from_numpy(digits.images), torch.from_numpy(digits.labels)
    model = open_model("T", tmp_path, CPU)
    assert accuracy_percent(model.classifier, images, labels) == card.accuracy
    assert card.accuracy > 20
    with (tmp_path / "models/T/log.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            stage = model.stage_classifier(int(row["iteration"]))
            assert accuracy_percent(stage, images, labels) == float(row["test_accuracy"])


PLAIN_NET = """
from torch import nn


def make():
    return nn.Sequential(nn.Conv2d(1, 3, 5, stride=4), nn.Tanh(), nn.Flatten(), nn.Linear(108, 10))
"""


def test_training_equals_a_loop_written_out(spec_of, tmp_path):
    (tmp_path / "plain.py").write_text(PLAIN_NET)
    reference = f"{tmp_path / 'plain.py'}:make"
    settings = {"rate_policy": "inv(0.5, 0.75)", "weight_decay": 0.01, "momentum": 0.8, "input_scale": 128.0}
    train(spec_of(net=reference, iterations=12, train_images=40, **settings))
    digits = Digits(tmp_path).load("train").first(40)
    images, labels = torch.from_numpy(digits.images).float() / 128, torch.from_numpy(digits.labels)
    net = build_net(net_definition(reference), (1, 28, 28), 10, seed=0)
    velocity, losses = {name: torch.zeros_like(value) for name, value in net.named_parameters()}, []
    for step in range(12):
        rows = [position % 40 for position in range(16 * step, 16 * step + 16)]
        net.zero_grad()
        loss = cross_entropy(net(images[rows]), labels[rows])
        loss.backward()
        losses.append(loss.item())
        rate = 0.02 * (1 + 0.5 * step) ** -0.75
        with torch.no_grad():
            for name, value in net.named_parameters():
                factor = rate * (2 if name.endswith("bias") else 1)
                velocity[name] = 0.8 * velocity[name] + factor * (value.grad + 0.01 * value)
                value.sub_(velocity[name])
    for name, value in load_state(tmp_path / "models/T/weights.safetensors").items():
        torch.testing.assert_close(value, net.state_dict()[name], rtol=1e-4, atol=1e-6)
    with (tmp_path / "models/T/log.csv").open(newline="") as stream:
        logged = [float(row["loss"]) for row in csv.DictReader(stream)]
    assert logged == pytest.approx(np.reshape(losses, (3, 4)).mean(1).tolist(), rel=1e-5)


@pytest.fixture
def no_more_training(monkeypatch):
    """Return a function after whose call any training fails the test."""

    def forbid() -> None:
        def refuse(*_: object) -> None:
            pytest.fail("trained although the model is finished")

        monkeypatch.setattr("bangbench.training.run.train_steps", refuse)

    return forbid


def test_a_finished_model_is_returned_without_training(spec_of, no_more_training, left_by, tmp_path):
    card = train(spec_of())
    before = left_by(tmp_path / "models/T")
    no_more_training()
    assert train(spec_of()) == card
    assert train(spec_of(overwrite="differing")) == card
    assert left_by(tmp_path / "models/T") == before


def test_a_finished_model_is_trained_again_where_that_is_asked_for(spec_of, left_by, tmp_path):
    train(spec_of())
    before, progress = left_by(tmp_path / "models/T"), Counting()
    train(spec_of(overwrite=True), progress)
    assert progress.steps == 14
    assert left_by(tmp_path / "models/T") == before


def test_a_model_that_another_command_trains_is_refused_where_nobody_wants_to_wait(spec_of):
    refused: list[str] = []

    def ask() -> None:
        try:
            train(spec_of(wait=False))
        except BenchError as error:
            refused.append(str(error))

    class First(Silent):
        def advance(self, count: int = 1) -> None:
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()

    card = train(spec_of(), First())
    assert len(refused) == 14
    assert all(f"models/T is being written by PID {os.getpid()} " in message for message in refused)
    assert train(spec_of(wait=False)) == card


def test_a_model_that_was_trained_while_waiting_is_used_as_it_is(spec_of):
    found: list[object] = []
    notes: list[str] = []

    class Waiting(Silent):
        def note(self, text: str) -> None:
            notes.append(text)
            wanted.set()

    class First(Silent):
        def advance(self, count: int = 1) -> None:
            if not found and not second.is_alive():
                second.start()
                assert wanted.wait(60)

    wanted = threading.Event()
    second = threading.Thread(target=lambda: found.append(train(spec_of(), Waiting())))
    card = train(spec_of(), First())
    second.join()
    assert found == [card]
    assert len(notes) == 1
    assert "models/T is being written by PID" in notes[0]


def test_another_model_is_not_overwritten_unless_asked_for(spec_of, no_more_training, left_by, tmp_path):
    train(spec_of())
    before = left_by(tmp_path / "models/T")
    no_more_training()
    with pytest.raises(
        BenchError, match=r"learning_rate: 0\.02 -> 0\.03\); choose another name or root, or pass --over"
    ):
        train(spec_of(learning_rate=0.03))
    with pytest.raises(BenchError, match=r"method: regular -> bang.*epsilon: None -> 0\.8"):
        train(spec_of(method="bang"))
    assert left_by(tmp_path / "models/T") == before


def test_other_data_of_the_same_name_are_another_model(spec_of, tmp_path):
    arrays = {"train_images": np.eye(20, dtype=np.uint8)[None].repeat(4, 0) * 9, "train_labels": np.arange(4)}
    arrays |= {"test_images": arrays["train_images"], "test_labels": np.arange(4)}
    (tmp_path / "flat.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(400, 4))\n"
    )
    settings = {"net": f"{tmp_path / 'flat.py'}:make", "data": f"npz:{tmp_path / 'd.npz'}", "iterations": 1}
    np.savez(tmp_path / "d.npz", **arrays)
    train(spec_of(**settings))
    arrays["train_images"][0, 0, 0] += 1
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(BenchError, match="the data or the weights are not the same"):
        train(spec_of(**settings))


def test_overwriting_leaves_nothing_of_the_model_before(spec_of, left_by, tmp_path):
    train(spec_of())
    train(spec_of(stages=5, overwrite=True))
    train(spec_of(name="fresh", stages=5))
    assert left_by(tmp_path / "models/T") == left_by(tmp_path / "models/fresh")


def test_weights_that_are_gone_are_trained_again(spec_of, left_by, tmp_path):
    train(spec_of())
    before = left_by(tmp_path / "models/T")
    (tmp_path / "models/T/weights.safetensors").unlink()
    train(spec_of())
    assert left_by(tmp_path / "models/T") == before


def test_weights_that_changed_are_not_taken_for_the_models(spec_of, left_by, tmp_path):
    train(spec_of())
    before = left_by(tmp_path / "models/T")
    weights = tmp_path / "models/T/weights.safetensors"
    save_state(weights, {key: value + 1 for key, value in load_state(weights).items()})
    with pytest.raises(
        BenchError, match=r"weights\.safetensors is not the file that model\.json describes .*--overwrite"
    ):
        train(spec_of())
    train(spec_of(overwrite=True))
    assert left_by(tmp_path / "models/T") == before


def test_a_diverging_training_ends_with_a_message(spec_of, tmp_path):
    with pytest.raises(
        BenchError, match=r"training diverged before iteration 4 \(loss (nan|inf)\); lower the learning"
    ):
        train(spec_of(learning_rate=1e30, rate_policy="constant()"))
    with pytest.raises(BenchError, match="model 'T' is not finished"):
        open_model("T", tmp_path, CPU)
    assert not (tmp_path / "models/T/weights.safetensors").exists()


def test_seeds_give_different_weights_and_the_same_seed_the_same(spec_of, left_by, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(spec_of(name=name, seed=seed, method="bang", iterations=6))
    first, second, other = (left_by(tmp_path / "models" / name)["weights.safetensors"] for name in "abc")
    assert first == second != other


def test_a_setting_of_the_method_is_the_same_however_it_is_given(spec_of, no_more_training):
    card = train(spec_of(method="bang", beta=1.0, iterations=1))
    no_more_training()
    for same in ({}, {"beta": 1.0, "ratio": 1.0}, {"option": ("beta=1",)}):
        assert train(spec_of(method="bang", iterations=1, **same)) == card
    for other in ({"beta": 0.5}, {"epsilon": 0.5}, {"ratio": 0.5}, {"option": ("ratio=0.5",)}):
        with pytest.raises(BenchError, match=r"made with other settings \(method_settings\.\w+: .* -> 0\.5\)"):
            train(spec_of(method="bang", iterations=1, **other))


@pytest.mark.parametrize("method", ["regular", "bang"])
def test_torchs_global_generator_and_threads_are_left_as_they_were(spec_of, stop_after, method):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(spec_of(method=method, threads=2, iterations=3))
    with pytest.raises(KeyboardInterrupt):
        train(spec_of(name="U", method=method), stop_after(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_bang_models_weights_load_into_a_plain_lenet(spec_of, tmp_path):
    train(spec_of(net="lenet", method="bang", iterations=2))
    net = build_net(net_definition("lenet"), (1, 28, 28), 10, seed=0)
    net.load_state_dict(load_state(tmp_path / "models/T/weights.safetensors"), strict=True)
    digits = Digits(tmp_path).load("test")
    images = torch.from_numpy(digits.images[:20]).float()
    torch.testing.assert_close(open_model("T", tmp_path, CPU).classifier(images), net.eval()(images / 256))


def test_the_net_is_plain_again_after_an_interruption(spec_of, stop_after, monkeypatch):
    seen = []

    def watch(run, *rest):
        seen.append(run.classifier)
        return train_steps(run, *rest)

    monkeypatch.setattr("bangbench.training.run.train_steps", watch)
    with pytest.raises(KeyboardInterrupt):
        train(spec_of(method="bang"), stop_after(3))
    assert not any("forward" in vars(layer) for layer in seen[0].modules())


def test_a_net_with_a_layer_of_two_names_is_trained(spec_of, tmp_path):
    (tmp_path / "tied.py").write_text(
        "from torch import nn\n\ndef make():\n    same = nn.Linear(784, 784)\n"
        "    return nn.Sequential(nn.Flatten(), same, nn.Tanh(), same, nn.Linear(784, 10))\n"
    )
    train(spec_of(net=f"{tmp_path / 'tied.py'}:make", method="bang", iterations=2))
    state = open_model("T", tmp_path, CPU).classifier.net.state_dict()
    assert torch.equal(state["1.weight"], state["3.weight"])


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            "nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).requires_grad_(False)",
            "cannot be trained: it has no parameters",
        ),
        ("nn.Sequential(nn.AdaptiveMaxPool2d((1, 10)), nn.Flatten())", "cannot be trained: it has no parameters"),
        (
            "nn.Sequential(nn.Flatten(), nn.Linear(784, 7))",
            r"expected logits of shape \(3, 10\) for 3 images, found \(3, 7\)",
        ),
    ],
)
def test_a_net_that_cannot_be_trained_is_refused_before_anything_is_written(spec_of, tmp_path, net, message):
    (tmp_path / "bad.py").write_text(f"from torch import nn\n\ndef make():\n    return {net}\n")
    with pytest.raises(BenchError, match=message):
        train(spec_of(net=f"{tmp_path / 'bad.py'}:make"))
    assert not (tmp_path / "models/T/model.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"net": "lenett"}, "unknown net 'lenett': did you mean 'lenet'"),
        ({"data": "digit"}, "unknown data source 'digit': did you mean 'digits'"),
        ({"method": "bangs"}, "unknown method 'bangs': did you mean 'bang'"),
        ({"rate_policy": "steps()"}, r"rate policy 'steps\(\)'"),
        ({"mean": (0.1, 0.2)}, "mean: expected 1 value, for grey images, found 2"),
        ({"std": (0.0,)}, "std: expected numbers above 0, found 0.0"),
        ({"device": "gpu"}, "device 'gpu'"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_written(spec_of, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        train(spec_of(**changes))
    assert not (tmp_path / "models").exists()


def test_a_users_preprocessing_is_kept_on_the_card(spec_of, tmp_path):
    train(spec_of(iterations=1, input_scale=2.0, mean=(3.0,), std=(4.0,)))
    classifier = open_model("T", tmp_path, CPU).classifier
    classifier.net = nn.Identity()
    assert torch.equal(classifier(torch.full((1, 1, 2, 2), 10.0)), torch.full((1, 1, 2, 2), 0.5))
