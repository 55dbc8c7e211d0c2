"""The wrapper from grey levels to logits, and predictions in batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from bangbench.nets import predict as predict_module
from bangbench.nets.catalogue import build_net, net_definition
from bangbench.nets.classifier import BATCH_MULTIPLE, Classifier
from bangbench.nets.gradients import image_gradient, unmasked_margin
from bangbench.nets.predict import accuracy_percent, logits_of, predict
from bangbench.nets.weights import load_state
from bangbench.store.records import Preprocessing

B1 = Path(__file__).parents[2] / "models/table1/B1"


def levels(count: int = 4, channels: int = 3, size: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(256, (count, channels, size, size), generator=generator).float()


def seen_by_the_net(images: torch.Tensor, **settings: object) -> torch.Tensor:
    return Classifier(nn.Identity(), Preprocessing(**settings))(images)


def test_grey_levels_are_divided_by_255_unless_told_otherwise():
    torch.testing.assert_close(seen_by_the_net(levels()), levels() / 255, rtol=0, atol=0)


def test_lenet_sees_grey_levels_divided_by_256():
    classifier = Classifier(nn.Identity(), net_definition("lenet").preprocessing)
    assert torch.equal(classifier(levels(channels=1)), levels(channels=1) / 256)


def test_cifar10_quick_sees_grey_levels_minus_the_mean_image():
    preprocessing, mean = net_definition("cifar10-quick").preprocessing, levels(1)[0] / 3
    assert preprocessing.mean_image
    assert torch.equal(Classifier(nn.Identity(), preprocessing, mean)(levels()), levels() - mean)


def test_mean_and_deviation_are_per_channel_and_follow_the_scaling():
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    found = seen_by_the_net(levels(), input_scale=100.0, mean=mean, std=std)
    for channel in range(3):
        expected = (levels()[:, channel] / 100 - mean[channel]) / std[channel]
        torch.testing.assert_close(found[:, channel], expected)


def test_one_mean_serves_all_channels():
    torch.testing.assert_close(seen_by_the_net(levels(), input_scale=1.0, mean=(7.0,)), levels() - 7)


@pytest.mark.parametrize("name", ["lenet", "cifar10-quick"])
def test_channels_last_gives_the_same_logits(name):
    definition, shape = net_definition(name), (3, 20, 20)
    plain, changed = (build_net(definition, shape, 10, seed=0) for _ in range(2))
    for net in (plain, changed):
        nn.init.normal_(net.conv1.weight, 0, 0.1, generator=torch.Generator().manual_seed(0))
    images = levels(5, 3, 20)
    contiguous = Classifier(plain, Preprocessing()).eval()
    channels_last = Classifier(changed, Preprocessing(), channels_last=True).eval()
    assert changed.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    assert not changed.conv2.weight.is_contiguous()
    torch.testing.assert_close(channels_last(images), contiguous(images), rtol=1e-4, atol=1e-5)


def brightest() -> Classifier:
    """Return a classifier that names the brightest channel."""
    return Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), Preprocessing())


def test_predictions_and_accuracy_over_many_batches(monkeypatch):
    monkeypatch.setitem(predict_module.BATCH_SIZE, "cpu", 3)
    images = levels(10).to(torch.uint8)
    expected = images.double().mean((2, 3)).argmax(1)
    assert torch.equal(predict(brightest(), images), expected)
    assert logits_of(brightest(), images).shape == (10, 3)
    labels = expected.clone()
    labels[:3] = (labels[:3] + 1) % 3
    assert accuracy_percent(brightest(), images, labels) == 70.0


def test_no_batch_is_larger_than_asked_for():
    classifier, sizes = watched()
    images, labels = levels(10).to(torch.uint8), torch.zeros(10, dtype=torch.int64)
    logits_of(classifier.train(), images, 4)
    predict(classifier, images, 6)
    assert sizes == [4, 4, 2, 6, 4]
    sizes.clear()
    accuracy_percent(classifier, images, labels, 8)
    assert sizes == [8, 8]


def test_accuracy_is_measured_without_dropout_and_training_goes_on_after_it():
    classifier = Classifier(nn.Sequential(brightest().net, nn.Dropout(1.0)), Preprocessing()).train()
    images = levels(8).to(torch.uint8)
    labels = images.double().mean((2, 3)).argmax(1)
    assert accuracy_percent(classifier, images, labels) == 100.0
    assert classifier.training


# --- batches --------------------------------------------------------------------------------------------------------


@pytest.fixture
def one_thread() -> Iterator[None]:
    """In more threads a matrix product is shared out otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained_lenet() -> Classifier:
    """A LeNet as it is used, with weights that were trained."""
    if not B1.is_dir():
        pytest.skip("the reference models are not there")
    definition = net_definition("lenet")
    net = build_net(definition, (1, 28, 28), 10, seed=0)
    net.load_state_dict(load_state(B1 / "weights.safetensors"))
    return Classifier(net, definition.preprocessing, None, definition.channels_last).eval().requires_grad_(False)


@pytest.mark.exact
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8, 13, 24])
def test_an_image_has_the_same_logits_and_gradient_to_the_last_bit_in_a_batch_of_any_size(trained_lenet, size):
    images = levels(64, 1, 28)
    labels = torch.arange(64) % 10

    def gradients_and_logits(some: slice) -> tuple[torch.Tensor, torch.Tensor]:
        return image_gradient(trained_lenet, images[some], lambda logits: unmasked_margin(logits, labels[some]))

    gradient, logits = gradients_and_logits(slice(None))
    for first in range(0, 64, size):
        some = slice(first, first + size)
        found, own = gradients_and_logits(some)
        assert torch.equal(own, logits[some])
        assert torch.equal(found, gradient[some])


def watched() -> tuple[Classifier, list[int]]:
    """Return a classifier that names the brightest channel, and the sizes of the batches that its net has seen."""
    sizes: list[int] = []
    classifier = brightest()
    classifier.net.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    return classifier, sizes


def test_batches_are_filled_up_with_the_last_image_and_what_is_added_comes_not_back():
    classifier, sizes = watched()
    for count in (1, 7, 8, 9, 16):
        images = levels(count)
        torch.testing.assert_close(classifier.eval()(images), images.mean((2, 3)) / 255)
    assert sizes == [8, 8, 8, 16, 16]
    assert BATCH_MULTIPLE == 8
    assert classifier(levels(0)).shape == (0, 3)
    images = levels(3).requires_grad_(True)
    classifier(images).sum().backward()
    # what fills the batch up counts for nothing in the last image's gradient
    torch.testing.assert_close(images.grad, torch.full_like(images, 1 / 255 / 36))


def test_in_training_a_batch_is_what_it_is():
    classifier, sizes = watched()
    for count in (1, 7, 8):
        assert len(classifier.train()(levels(count))) == count
    assert sizes == [1, 7, 8]


class InPlace(nn.Module):
    """Normalises its input in place, as many a script does."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images -= 3.0
        return images.flatten(1)[:, :4]


def test_a_net_that_changes_its_input_does_not_change_the_caller_s_images():
    images = levels(count=BATCH_MULTIPLE)
    logits = Classifier(InPlace(), Preprocessing(input_scale=1.0)).eval()(images)
    assert torch.equal(images, levels(count=BATCH_MULTIPLE))
    assert torch.equal(logits, images.flatten(1)[:, :4] - 3.0)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_logits_of_float32_images_are_float32(kind: torch.dtype):
    class Other(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)[:, :4].to(kind)

    classifier = Classifier(Other(), Preprocessing()).eval()
    assert classifier(levels()).dtype == torch.float32
    assert classifier(levels().double()).dtype == kind


def test_averaged_logits_lie_where_those_of_the_single_passes_do():
    class Shifted(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)[:, :4] + 0.1 * torch.randn(len(images), 4) + 30.0

    classifier = Classifier(Shifted(), Preprocessing(), draws=8).eval()
    single = classifier.with_draws(1)(levels())
    assert torch.allclose(classifier(levels()), single, atol=0.6)
    assert bool((single > 29.0).all())
