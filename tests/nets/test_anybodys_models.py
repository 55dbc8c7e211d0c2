"""Models as the world writes them: checkpoints, wrapped names, other outputs, other libraries, programs, imports."""

from __future__ import annotations

import re
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bangbench.attacks.run import attack
from bangbench.attacks.spec import AttackSpec
from bangbench.core.errors import BenchError, UsageError
from bangbench.nets.checkpoints import renamed
from bangbench.nets.classifier import Classifier
from bangbench.nets.imported import import_model
from bangbench.nets.loaders import load
from bangbench.nets.models import open_model
from bangbench.nets.norms import NORMS, doubtful, twice
from bangbench.nets.outputs import logits_in
from bangbench.nets.references import Given, program_in
from bangbench.nets.spec import ImportSpec
from bangbench.nets.weights import apply_state, load_state
from bangbench.store.records import Preprocessing

CPU = torch.device("cpu")
SOURCE = """
from torch import nn


def build(classes):
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, classes))
"""


def small_net(seed: int = 0, classes: int = 3) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, classes)]
        return nn.Sequential(*layers).eval()


def same(first: Any, second: Any) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working directory with a net, its weights, and images uint8 (N, 1, 8, 8) of three classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    generator = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "test"):
        arrays[f"{split}_images"] = generator.integers(0, 256, (12, 1, 8, 8), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(12) % 3
    np.savez(tmp_path / "images.npz", **arrays)  # type: ignore[arg-type]  # the stub checks allow_pickle against them
    (tmp_path / "mine.py").write_text(SOURCE)
    torch.save(small_net().state_dict(), tmp_path / "best.pt")
    return tmp_path


def opened(reference: str, **given: Any) -> Any:
    return open_model(reference, Path(), CPU, data="npz:images.npz", given=Given(**given))


@pytest.mark.parametrize("place", ["state_dict", "model_state_dict", "model", "ema", "net"])
@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".pth.tar"])
def test_the_weights_of_a_checkpoint_are_found_among_its_other_entries(tmp_path, place, suffix):
    state, optimizer = small_net().state_dict(), torch.optim.Adam(small_net().parameters())
    entries = {"epoch": 3, place: state, "optimizer": optimizer.state_dict(), "args": {"lr": 0.1}, "best": 93.1}
    torch.save(entries, tmp_path / f"w{suffix}")
    assert same(load_state(tmp_path / f"w{suffix}"), state)


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "net.backbone."])
def test_a_prefix_of_a_wrapper_is_taken_off_and_what_stands_outside_it_left_out(prefix):
    net, other = small_net(0), small_net(1)
    state = {f"{prefix}{name}": value for name, value in other.state_dict().items()}
    apply_state(net, state | {"n_averaged": torch.tensor(3), "loss.weight": torch.ones(3)}, "here")
    assert same(net.state_dict(), other.state_dict())


def test_a_wrapped_net_takes_weights_without_its_prefix():
    net, other = nn.Sequential(small_net(0)), small_net(1)
    apply_state(net, other.state_dict(), "here")
    assert same(net[0].state_dict(), other.state_dict())


def test_counters_that_old_checkpoints_lack_are_the_net_s_own():
    net, state = small_net(0), small_net(1).state_dict()
    del state["1.num_batches_tracked"]
    apply_state(net, state, "here")
    assert torch.equal(net[1].running_var, state["1.running_var"])


def test_weights_below_a_prefix_that_lack_one_are_not_renamed():
    state = {f"module.{name}": value for name, value in small_net().state_dict().items() if name != "4.bias"}
    assert set(renamed(state, small_net().state_dict())) == set(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {}, "the file holds no weights"),
        (
            lambda state: {k: v for k, v in state.items() if k != "4.bias"},
            "missing: 4.bias; the file holds only a part",
        ),
        (lambda state: state | {"6.bias": torch.ones(1)}, "not of this net: 6.bias; the file is of a net with more"),
        (lambda state: {f"layer{k}": v for k, v in state.items()}, "layers were renamed since"),
        (lambda state: {"conv.weight": torch.ones(3)}, "another architecture"),
        (lambda state: small_net(0, 10).state_dict(), "trained for 10 classes, the data has 3"),
        (lambda state: state | {"0.weight": torch.ones(2, 3, 3, 3)}, "trained on images of 3 channels"),
    ],
)
def test_weights_that_do_not_fit_come_with_the_likely_cause(change, message):
    with pytest.raises(BenchError, match=f"here: the weights do not fit: .*{message}"):
        apply_state(small_net(), change(small_net(1).state_dict()), "here")


class Answer(NamedTuple):
    """What some libraries return."""

    logits: Tensor
    loss: None = None


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (lambda z: z, "the output"),
        (lambda z: types.SimpleNamespace(logits=z), "output.logits"),
        (lambda z: {"loss": None, "logits": z}, 'output["logits"]'),
        (lambda z: (z, None), "output[0]"),
    ],
)
def test_logits_are_found_in_what_nets_return(wrap: Callable[[Tensor], Any], name: str) -> None:
    class Wrapped(nn.Module):
        def forward(self, images: Tensor) -> Any:
            return wrap(images.flatten(1)[:, :3])

    images, classifier = torch.rand(4, 1, 8, 8) * 255, Classifier(Wrapped(), Preprocessing()).eval()
    torch.testing.assert_close(classifier(images), images.flatten(1)[:, :3] / 255)
    assert classifier.output == name


@pytest.mark.parametrize("shape", [(5, 1), (5,)])
def test_one_logit_becomes_two_classes_and_it_is_said(shape):
    z = torch.linspace(-3, 3, 5)
    logits, name = logits_in(z.reshape(shape))
    torch.testing.assert_close(logits.softmax(1)[:, 1], z.sigmoid())
    assert name == "the output, one logit: above 0 is class 1, the rest class 0"


def test_a_binary_net_is_attacked_and_the_reading_of_its_logit_is_noted(here):
    (here / "one.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1))\n"
    )
    images = np.random.default_rng(1).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    arrays = {
        f"{split}_{kind}": v
        for split in ("train", "test")
        for kind, v in (("images", images), ("labels", np.arange(12) % 2))
    }
    np.savez(here / "two.npz", **arrays)
    notes: list[str] = []

    class Notes:
        def start(self, *_: object, **__: object) -> None: ...
        def advance(self, *_: object) -> None: ...
        def finish(self) -> None: ...
        def note(self, text: str) -> None:
            notes.append(text)

    spec = AttackSpec(
        model="one.py:build", data="npz:two.npz", random_weights=True, attack=("fgs-unmasked",), root=here
    )
    (record,) = attack(spec, Notes())
    assert record.model.classes == 2
    assert record.summary.flipped > 0
    assert "build: its logits are the output, one logit: above 0 is class 1, the rest class 0" in notes


def test_two_files_of_one_name_have_results_of_their_own(here):
    for folder in ("first", "second"):
        (here / folder).mkdir()
        torch.save(small_net().state_dict(), here / folder / "best.pt")
    names = [opened("mine.py:build", weights=Path(f"{folder}/best.pt")).name for folder in ("first", "second")]
    assert names == ["first-best", "second-best"]
    assert opened("mine.py:build", weights=Path("best.pt"), name="runs/mine").name == "runs/mine"


def imported(**settings: Any) -> Any:
    return import_model(ImportSpec(**{"name": "mine", "net": "mine.py:build", "data": "npz:images.npz"} | settings))


def test_an_imported_model_opens_by_its_name_with_the_same_answers(here):
    card = imported(weights="best.pt", norm="mnist")
    own = Preprocessing(mean=(0.1307,), std=(0.3081,))
    before, after = opened("mine.py:build", weights=Path("best.pt"), preprocessing=own), open_model("mine", Path(), CPU)
    images = torch.randint(256, (6, 1, 8, 8)).float()
    assert torch.equal(before.classifier(images), after.classifier(images))
    assert after.info == card.model
    assert after.data == "npz:images.npz"
    with np.load("images.npz") as arrays:
        found = before.classifier(torch.from_numpy(arrays["test_images"]).float()).argmax(1).numpy()
        assert card.accuracy == pytest.approx(100 * (found == arrays["test_labels"]).mean())


def test_an_import_is_done_once_and_protects_what_is_there(here):
    first = imported(weights="best.pt")
    assert imported(weights="best.pt") == first
    torch.save(small_net(1).state_dict(), here / "other.pt")
    with pytest.raises(BenchError, match="was made with other settings"):
        imported(weights="other.pt")
    assert imported(weights="other.pt", overwrite=True).model.weights_sha256 != first.model.weights_sha256


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "given without weights"),
        ({"weights": "none.pt"}, "none.pt do not exist"),
        ({"net": "lenett", "weights": "best.pt"}, "unknown net 'lenett'"),
        ({"net": "mine.py:make", "weights": "best.pt"}, "has no function or class 'make'"),
    ],
)
def test_what_cannot_be_imported_leaves_nothing_behind(here, settings, message):
    with pytest.raises(BenchError, match=message):
        imported(**settings)
    assert not (here / "models/mine/model.json").exists()


@pytest.fixture
def program(here: Path) -> Callable[[str], str]:
    """Return the function that writes the small net as a program and returns its file."""

    def write(kind: str) -> str:
        example = torch.rand(8, 1, 8, 8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind == "torchscript":
                torch.jit.trace(small_net(), example).save("net.pt")
                return "net.pt"
            shapes = ({0: torch.export.Dim("count", min=1, max=1024)},)
            torch.export.save(torch.export.export(small_net(), (example,), dynamic_shapes=shapes), "net.pt2")
            return "net.pt2"

    return write


@pytest.mark.parametrize("kind", ["torchscript", "export"])
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_a_program_is_a_model_by_itself_where_its_code_is_trusted(program, kind):
    file = program(kind)
    assert program_in(Path(file)) == kind
    with pytest.raises(BenchError, match="code of its own, which opening it would run: pass --trust-code"):
        opened(file)
    model, images = opened(file, trust_code=True), torch.randint(256, (5, 1, 8, 8)).float()
    torch.testing.assert_close(model.classifier(images), small_net()(images / 255), rtol=1e-4, atol=1e-5)
    assert model.name == "net"


def test_a_program_given_as_weights_is_refused_with_what_to_do(program):
    with pytest.raises(BenchError, match=r"net\.pt: .*TorchScript"):
        load_state(Path(program("torchscript")))


def test_a_file_of_weights_as_a_model_points_to_its_net(here):
    with pytest.raises(UsageError, match=r"'best\.pt' holds weights and no net: .* --weights best\.pt"):
        opened("best.pt")


def fake(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: Any) -> None:
    """Put a module in the place of a library, with what of it the loader uses."""
    module = types.ModuleType(name)
    for attribute, value in attributes.items():
        setattr(module, attribute, value)
    monkeypatch.setitem(sys.modules, name, module)


def made(pretrained: bool) -> nn.Sequential:
    return small_net(7 if pretrained else 8)


def from_timm(monkeypatch: pytest.MonkeyPatch) -> str:
    config = types.SimpleNamespace(resolve_model_data_config=lambda net: {"mean": (0.4,), "std": (0.2,)})
    fake(monkeypatch, "timm", create_model=lambda name, pretrained: made(pretrained), data=config)
    return "timm:tiny.a1_in1k"


def from_torchvision(monkeypatch: pytest.MonkeyPatch) -> str:
    transforms = types.SimpleNamespace(mean=[0.4], std=[0.2])
    default = types.SimpleNamespace(transforms=lambda: transforms, meta={"categories": ["0", "1", "2"]})
    weights = types.SimpleNamespace(DEFAULT=default)
    fake(
        monkeypatch,
        "torchvision.models",
        get_model_weights=lambda name: weights,
        get_model=lambda name, weights: made(weights is not None),
    )
    fake(monkeypatch, "torchvision")
    return "torchvision:tiny"


class Answering(nn.Module):
    """A net that answers as those of transformers do."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Any:
        return types.SimpleNamespace(logits=self.net(images))


def from_transformers(monkeypatch: pytest.MonkeyPatch) -> str:
    config = types.SimpleNamespace(id2label={0: "0", 1: "1", 2: "2"})
    processor = {"image_mean": [0.4], "image_std": [0.2], "do_rescale": True, "size": {"height": 8}}
    fake(
        monkeypatch,
        "transformers",
        AutoConfig=types.SimpleNamespace(from_pretrained=lambda name, trust_remote_code: config),
        AutoModelForImageClassification=types.SimpleNamespace(
            from_pretrained=lambda name, trust_remote_code: Answering(made(True)),
            from_config=lambda config: Answering(made(False)),
        ),
        ImageProcessingMixin=types.SimpleNamespace(get_image_processor_dict=lambda name: (processor, {})),
    )
    return "hf:someone/tiny"


@pytest.mark.parametrize("library", [from_timm, from_torchvision, from_transformers])
def test_models_of_other_libraries_come_with_their_weights_mean_and_std(here, monkeypatch, library):
    reference = library(monkeypatch)
    model, images = opened(reference), torch.randint(256, (5, 1, 8, 8)).float()
    expected = small_net(7)((images / 255 - 0.4) / 0.2)
    torch.testing.assert_close(model.classifier(images), expected, rtol=1e-4, atol=1e-5)
    assert model.info.preprocessing == Preprocessing(mean=(0.4,), std=(0.2,))
    card = imported(net=reference, name="kept")
    again = open_model("kept", Path(), CPU)
    assert torch.equal(again.classifier(images), model.classifier(images))
    assert card.model.preprocessing == model.info.preprocessing


def test_a_model_of_robustbench_is_asked_for_by_id_data_and_norm(here, monkeypatch):
    asked: list[dict[str, str]] = []

    def load_model(**given: str) -> nn.Module:
        asked.append(given)
        return small_net(7)

    fake(monkeypatch, "robustbench.utils", load_model=load_model)
    fake(monkeypatch, "robustbench")
    images = torch.randint(256, (5, 1, 8, 8)).float()
    model = opened("robustbench:Standard/cifar10/Linf")
    torch.testing.assert_close(model.classifier(images), small_net(7)(images / 255), rtol=1e-4, atol=1e-5)
    assert asked[0] == {"model_name": "Standard", "dataset": "cifar10", "threat_model": "Linf"}
    with pytest.raises(UsageError, match="expected robustbench:ID/DATASET/NORM"):
        load("robustbench:Standard")


def test_a_library_that_is_missing_or_without_network_says_what_to_do(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"pip install 'bangbench\[timm\]'"):
        opened("timm:tiny")

    def fail(name: str, pretrained: bool) -> None:
        raise OSError("no route to host\nand much more")

    fake(monkeypatch, "timm", create_model=fail)
    with pytest.raises(BenchError, match=r"model 'timm:tiny' cannot be loaded: OSError: no route to host; .* cache"):
        opened("timm:tiny")


def test_classes_of_another_order_are_refused(here, monkeypatch):
    reference = from_torchvision(monkeypatch)
    weights = sys.modules["torchvision.models"].get_model_weights("tiny")
    weights.DEFAULT.meta["categories"] = ["1", "0", "2"]
    with pytest.raises(BenchError, match="the data's classes in another order"):
        opened(reference)


@pytest.mark.parametrize(
    ("preprocessing", "message"),
    [
        ({"mean": (125.3,), "std": (63.0,)}, "--mean 125.3 is beyond the scale: images span 0 to 1 "),
        ({"std": (63.0,)}, "--std 63 is beyond the scale"),
        ({"input_scale": 1.0, "mean": (0.49,)}, "looks like one of images in .0, 1., but they span 0 to 255"),
        ({"mean": (0.49, 0.48, 0.45), "std": (0.25, 0.24, 0.26)}, None),
        ({"input_scale": 1.0, "mean": (125.3,), "std": (63.0,)}, None),
        ({}, None),
    ],
)
def test_a_mean_and_a_std_that_do_not_fit_the_scale_are_noticed(preprocessing, message):
    found = doubtful(Preprocessing(**preprocessing))
    assert (found is None) if message is None else re.search(message, found)


class Normalize(nn.Module):
    """What people put before a net."""

    def forward(self, images: Tensor) -> Tensor:
        return images - 0.5


class Scaled(nn.Module):
    """A net that keeps its own mean and std."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("std", torch.ones(1))


@pytest.mark.parametrize("own", [nn.Sequential(Normalize(), small_net()), nn.Sequential(Scaled(), small_net())])
def test_a_mean_beside_a_normalisation_of_the_net_s_own_is_noticed(own):
    given = Preprocessing(mean=(0.5,))
    assert "normalised twice" in twice(given, own)
    assert twice(Preprocessing(), own) is None
    assert twice(given, small_net()) is None


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_stands_for_mean_and_std_in_record_and_key(name):
    mean, std = NORMS[name]
    spec = AttackSpec(model="m", norm=name)
    assert (spec.mean, spec.std) == (mean, std)
    assert spec.key() == AttackSpec(model="m", mean=mean, std=std).key()
