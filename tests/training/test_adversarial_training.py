"""pgd-at and fgs-at: the batches they train on, against plain loops, and what they do to a small net."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from typer.testing import CliRunner

from bangbench.cli.main import app
from bangbench.core.errors import UsageError
from bangbench.data.digits import Digits
from bangbench.nets.classifier import Classifier
from bangbench.nets.models import open_model
from bangbench.store.records import Preprocessing
from bangbench.training.methods.base import Method, make_method
from bangbench.training.run import train

CLASSES = 4
SEED = 3
METHODS = ("pgd-at", "fgs-at")


@pytest.fixture(autouse=True)
def generator_is_restored() -> Iterator[None]:
    """Let tests seed torch's global generator, which random starts and dropout draw from."""
    with torch.random.fork_rng(devices=[]):
        yield


def classifier_of(*last: nn.Module, factor: float = 1.0) -> Classifier:
    """Return a smooth net for images (N, 1, 6, 6), `last` before its output, in training mode."""
    torch.manual_seed(0)
    head = nn.Linear(20, CLASSES)
    with torch.no_grad():
        head.weight.mul_(factor)
    layers = (nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 20), nn.Tanh(), *last, head)
    return Classifier(nn.Sequential(*layers), Preprocessing()).train()


def batch(low: int = 0, high: int = 256) -> tuple[Tensor, Tensor]:
    """Return images of whole grey levels in [low, high), some of them at both ends of it, and labels."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(low, high, (10, 1, 6, 6), generator=generator).float()
    images[0, 0, :2], images[1, 0, :2] = low, high - 1
    return images, torch.randint(CLASSES, (10,), generator=generator)


class Passes:
    """What went through a classifier: the images of every forward pass, and whether its layers were in training."""

    def __init__(self, classifier: Classifier) -> None:
        self.images: list[Tensor] = []
        self.modes: list[set[bool]] = []
        classifier.register_forward_pre_hook(self._remember)

    def _remember(self, classifier: nn.Module, inputs: tuple[Tensor]) -> None:
        self.images.append(inputs[0].detach().clone())
        self.modes.append({module.training for module in classifier.modules()})


def trained_on(method: Method, classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """Return the batch that the method's last forward pass in training mode sees."""
    passes = Passes(classifier)
    torch.manual_seed(SEED)
    method.objective(classifier, images, labels)
    assert passes.modes[-1] == {True}
    return passes.images[-1]


def plain_pgd(
    classifier: Classifier, images: Tensor, labels: Tensor, radius: float, step: float, steps: int, at_once: int = 1
) -> Tensor:
    """Madry's attack as one would write it down: the plain cross-entropy, image by image, dropout off."""
    torch.manual_seed(SEED)
    start = (images + radius * (2.0 * torch.rand(images.shape) - 1.0)).clamp(0.0, 255.0)
    classifier.eval()
    attacked = []
    for rows in torch.split(torch.arange(len(images)), at_once):
        moved = start[rows]
        for _ in range(steps):
            moved = moved.clone().requires_grad_(True)
            loss = cross_entropy(classifier(moved), labels[rows], reduction="sum")
            (gradient,) = torch.autograd.grad(loss, moved)
            moved = moved.detach() + step * gradient.sign()
            moved = torch.minimum(torch.maximum(moved, images[rows] - radius), images[rows] + radius).clamp(0.0, 255.0)
        attacked.append(moved)
    classifier.train()
    return torch.cat(attacked)


def share_of_unequal_pixels(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).abs() > 1e-3).double().mean())


#: A last bit can turn the sign of a gradient that is nearly 0, and with it the way a pixel goes.
TURNED = 0.005


@pytest.mark.parametrize(("budget", "step", "steps"), [(0.3, 0.01, 40), (0.1, 0.03, 7), (0.02, 0.5, 1), (1.0, 0.2, 3)])
def test_pgd_trains_on_what_a_plain_loop_finds(budget, step, steps):
    classifier, (images, labels) = classifier_of(nn.Dropout(0.5)), batch()
    method = make_method("pgd-at", {"budget": budget, "step": step, "steps": steps})
    found = trained_on(method, classifier, images, labels)
    expected = plain_pgd(classifier, images, labels, 255 * budget, 255 * step, steps)
    assert share_of_unequal_pixels(found, expected) <= TURNED
    assert share_of_unequal_pixels(found, images) > 0.9


def test_the_defaults_are_madrys_recipe_for_mnist():
    assert make_method("pgd-at", {}).settings.model_dump() == {"budget": 0.3, "step": 0.01, "steps": 40, "warmup": 0}
    assert make_method("fgs-at", {}).settings.model_dump() == {"budget": 0.3, "clean": 0.5}


@pytest.mark.parametrize(("iteration", "share"), [(0, 0.25), (1, 0.5), (2, 0.75), (3, 1.0), (4, 1.0), (10_000, 1.0)])
def test_budget_and_step_grow_over_the_warm_up(iteration, share):
    classifier, (images, labels) = classifier_of(), batch(100, 150)
    # a step twice the budget ends in a corner of the ball, wherever it starts
    method = make_method("pgd-at", {"budget": 0.2, "step": 0.4, "steps": 1, "warmup": 4})
    method.begin_step(iteration)
    distance = (trained_on(method, classifier, images, labels) - images).abs()
    assert torch.equal(distance, torch.full_like(distance, 51.0 * share))

    method = make_method("pgd-at", {"budget": 0.2, "step": 0.04, "steps": 3, "warmup": 4})
    method.begin_step(iteration)
    found = trained_on(method, classifier, images, labels)
    expected = plain_pgd(classifier, images, labels, 51.0 * share, 10.2 * share, 3)
    assert share_of_unequal_pixels(found, expected) <= TURNED


def test_without_a_warm_up_the_first_step_has_the_whole_budget():
    classifier, (images, labels) = classifier_of(), batch(100, 150)
    method = make_method("pgd-at", {"budget": 0.2, "step": 0.4, "steps": 1})
    method.begin_step(0)
    distance = (trained_on(method, classifier, images, labels) - images).abs()
    assert torch.equal(distance, torch.full_like(distance, 51.0))


@pytest.mark.parametrize(
    ("name", "settings", "modes"),
    [
        ("pgd-at", {"steps": 3}, [{False}, {False}, {False}, {True}]),
        ("fgs-at", {}, [{False}, {True}, {True}]),
        ("fgs-at", {"clean": 0.0}, [{False}, {True}]),
    ],
)
def test_the_attack_sees_no_dropout_and_the_training_pass_does(name, settings, modes):
    classifier, (images, labels) = classifier_of(nn.Dropout(0.5)), batch()
    passes = Passes(classifier)
    make_method(name, settings).objective(classifier, images, labels)
    assert passes.modes == modes
    assert {module.training for module in classifier.modules()} == {True}


@pytest.mark.parametrize(("name", "updates"), [("pgd-at", 1), ("fgs-at", 2)])
def test_the_attack_leaves_the_statistics_of_normalisation_layers_alone(name, updates):
    classifier, (images, labels) = classifier_of(nn.BatchNorm1d(20)), batch()
    make_method(name, {}).objective(classifier, images, labels)
    assert int(classifier.net[5].num_batches_tracked) == updates


class Raising(nn.Module):
    """The identity, which fails in eval mode."""

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            raise ArithmeticError("no forward pass today")
        return images


@pytest.mark.parametrize("name", METHODS)
def test_a_net_that_raises_during_the_attack_is_left_in_training_mode(name):
    classifier, (images, labels) = classifier_of(Raising(), nn.Dropout(0.5)), batch()
    with pytest.raises(ArithmeticError, match="no forward pass today"):
        make_method(name, {}).objective(classifier, images, labels)
    assert {module.training for module in classifier.modules()} == {True}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("budget", [0.004, 0.123, 0.3, 1.0])
def test_images_stay_inside_ball_and_range(name, budget):
    classifier, (images, labels) = classifier_of(), batch()
    before = images.clone()
    settings = {"steps": 5, "step": 0.2} if name == "pgd-at" else {"clean": 0.0}
    found = trained_on(make_method(name, {"budget": budget} | settings), classifier, images, labels)
    assert torch.equal(images, before)
    assert (found.dtype, found.shape) == (images.dtype, images.shape)
    assert 0.0 <= float(found.min()) <= float(found.max()) <= 255.0
    assert float((found - images).abs().max()) == pytest.approx(255 * budget, rel=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_the_weights_gradients_come_from_the_training_pass_alone(name):
    classifier, (images, labels) = classifier_of(), batch()
    clean = {"fgs-at": 0.25, "pgd-at": 0.0}[name]
    method = make_method(name, {"clean": clean} if clean else {"steps": 3})
    passes = Passes(classifier)
    objective = method.objective(classifier, images, labels)
    assert all(value.grad is None for value in classifier.parameters())
    objective.loss.backward()
    attacked = passes.images[1 if clean else -1]
    assert not torch.equal(attacked, images)
    loss = (1.0 - clean) * cross_entropy(classifier(attacked), labels)
    loss = loss + clean * cross_entropy(classifier(images), labels)
    parameters = tuple(classifier.parameters())
    for value, expected in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(value.grad, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_the_logits_are_those_of_the_attacked_images(name):
    classifier, (images, labels) = classifier_of(), batch()
    passes = Passes(classifier)
    logits = make_method(name, {}).objective(classifier, images, labels).logits
    attacked = passes.images[-1 if name == "pgd-at" else 1]
    assert torch.equal(logits, classifier(attacked))
    assert not torch.allclose(logits, classifier(images), rtol=1e-3)


@pytest.mark.parametrize("clean", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("budget", [0.1, 0.3])
def test_fgs_minimises_the_weighted_mean_of_both_losses(budget, clean):
    classifier, (images, labels) = classifier_of(), batch()
    method = make_method("fgs-at", {"budget": budget, "clean": clean})
    found = method.objective(classifier, images, labels).loss.item()
    classifier.double()
    pixels = images.double().requires_grad_(True)
    loss = cross_entropy(classifier(pixels), labels)
    (gradient,) = torch.autograd.grad(loss, pixels)
    moved = (pixels.detach() + 255 * budget * gradient.sign()).clamp(0, 255)
    expected = clean * loss.item() + (1 - clean) * cross_entropy(classifier(moved), labels).item()
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_the_attack_works_where_the_loss_is_exactly_zero(name):
    classifier, (images, _) = classifier_of(factor=1e6), batch(100, 150)
    with torch.no_grad():
        labels = classifier(images).argmax(1)
    assert cross_entropy(classifier(images), labels).item() == 0.0
    settings = {"budget": 0.1} | ({"step": 0.2, "steps": 1} if name == "pgd-at" else {"clean": 0.0})
    distance = (trained_on(make_method(name, settings), classifier, images, labels) - images).abs()
    torch.testing.assert_close(distance, torch.full_like(distance, 25.5))


@pytest.mark.parametrize(
    ("name", "options"), [("pgd-at", ("budget=0.1", "step=0.05", "steps=2", "warmup=9")), ("fgs-at", ("clean=0.25",))]
)
def test_interrupted_it_ends_with_the_same_bytes(spec_of, stop_after, left_by, tmp_path, name, options):
    settings = {"method": name, "option": options, "seed": 5}
    train(spec_of(name="whole", **settings))
    for iterations in (2, 6):  # before the first snapshot, and in the middle of the warm-up
        with pytest.raises(KeyboardInterrupt):
            train(spec_of(name="parts", **settings), stop_after(iterations))
    last = stop_after(1000)
    train(spec_of(name="parts", **settings), last)
    assert sum("going on from iteration 4" in note for note in last.notes) == 1
    assert left_by(tmp_path / "models/parts") == left_by(tmp_path / "models/whole")


def test_options_reach_the_method_and_its_record(spec_of, tmp_path):
    one = train(spec_of(name="A", method="pgd-at", option=("budget=0.2", "steps=1", "warmup=3"), iterations=2))
    assert one.model.method_settings == {"budget": 0.2, "step": 0.01, "steps": 1, "warmup": 3}
    assert one.model.method == "pgd-at"
    two = train(spec_of(name="B", method="fgs-at", option=("budget=0.1",), iterations=2))
    assert two.model.method_settings == {"budget": 0.1, "clean": 0.5}
    arguments = ["--method", "pgd-at", "--option", "budget=0.2", "--option", "steps=1", "--option", "warmup=3"]
    result = in_the_terminal(spec_of, "C", *arguments)
    assert result.exit_code == 0, result.stderr
    weights = [(tmp_path / "models" / name / "weights.safetensors").read_bytes() for name in "ABC"]
    assert weights[2] == weights[0] != weights[1]


def in_the_terminal(spec_of: Callable, name: str, *arguments: str):
    """Run `bangbench train` with the settings of a short training."""
    spec = spec_of(name=name, iterations=2)
    fields = ("net", "data", "train_images", "iterations", "batch_size", "stages", "learning_rate", "root", "device")
    given = [f"--{field.replace('_', '-')}={getattr(spec, field)}" for field in fields]
    return CliRunner().invoke(app, ["train", name, *given, "--quiet", *arguments])


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("pgd-at", "budget=0", "method 'pgd-at': budget: expected more than 0"),
        ("pgd-at", "budget=76", "method 'pgd-at': budget: expected at most 1"),
        ("pgd-at", "budget=nan", "method 'pgd-at': budget: expected"),
        ("pgd-at", "budget=a lot", "method 'pgd-at': budget: expected a number"),
        ("pgd-at", "step=-0.01", "method 'pgd-at': step: expected more than 0"),
        ("pgd-at", "steps=0", "method 'pgd-at': steps: expected at least 1"),
        ("pgd-at", "steps=2.5", "method 'pgd-at': steps: expected a whole number"),
        ("pgd-at", "warmup=-1", "method 'pgd-at': warmup: expected at least 0"),
        ("pgd-at", "clean=0.5", "method 'pgd-at' has no setting 'clean' (it has: budget, warmup, step, steps)"),
        ("fgs-at", "budget=1.5", "method 'fgs-at': budget: expected at most 1"),
        ("fgs-at", "clean=1", "method 'fgs-at': clean: expected less than 1"),
        ("fgs-at", "clean=-0.5", "method 'fgs-at': clean: expected at least 0"),
        ("fgs-at", "steps=3", "method 'fgs-at' has no setting 'steps' (it has: budget, clean)"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_written(spec_of, tmp_path, name, option, message):
    with pytest.raises(UsageError) as caught:
        train(spec_of(method=name, option=(option,)))
    assert str(caught.value).startswith(message)
    result = in_the_terminal(spec_of, "C", "--method", name, "--option", option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"bangbench: {message}")
    assert not (tmp_path / "models").exists()


def test_infinite_and_missing_numbers_are_refused():
    for value in (math.nan, math.inf, -math.inf, None):
        with pytest.raises(UsageError, match="method 'pgd-at': budget"):
            make_method("pgd-at", {"budget": value})


PERCEPTRON = """
from torch import nn


def make(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, classes))
"""
LEARN = {"iterations": 400, "stages": 400, "batch_size": 32, "learning_rate": 0.03, "train_images": 1297}
HARDENED = {"pgd-at": ("budget=0.1", "step=0.05", "steps=3", "warmup=100"), "fgs-at": ("budget=0.1",)}


@pytest.mark.slow
def test_fewer_digits_are_flipped_within_a_budget_than_of_a_regular_net(spec_of, tmp_path):
    (tmp_path / "perceptron.py").write_text(PERCEPTRON, encoding="utf-8")
    learn = LEARN | {"net": f"{tmp_path / 'perceptron.py'}:make"}
    regular = train(spec_of(name="regular", **learn))
    assert regular.accuracy > 90.0
    rate = flipped_percent("regular", tmp_path)
    for method, options in HARDENED.items():
        card = train(spec_of(name=method, method=method, option=options, **learn))
        assert card.accuracy > 85.0, method
        assert flipped_percent(method, tmp_path) < 0.75 * rate, method


def flipped_percent(model: str, root) -> float:
    """Return how many of the correctly classified test digits the plain attack flips within 0.06, in percent."""
    classifier = open_model(model, root, torch.device("cpu")).classifier
    digits = Digits(root).load("test").first(300)
    images, labels = torch.from_numpy(digits.images).float(), torch.from_numpy(digits.labels)
    with torch.no_grad():
        right = classifier(images).argmax(1) == labels
    images, labels = images[right], labels[right]
    attacked = plain_pgd(classifier, images, labels, 15.3, 5.0, 6, at_once=100)
    with torch.no_grad():
        return 100.0 * float((classifier(attacked).argmax(1) != labels).double().mean())
