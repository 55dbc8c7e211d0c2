"""The wrapper from grey levels to logits, and predictions in batches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bangbench.nets import predict as predict_module
from bangbench.nets.catalogue import build_net, net_definition
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import accuracy_percent, logits_of, predict
from bangbench.store.records import Preprocessing


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


def test_accuracy_is_measured_without_dropout_and_training_goes_on_after_it():
    classifier = Classifier(nn.Sequential(brightest().net, nn.Dropout(1.0)), Preprocessing()).train()
    images = levels(8).to(torch.uint8)
    labels = images.double().mean((2, 3)).argmax(1)
    assert accuracy_percent(classifier, images, labels) == 100.0
    assert classifier.training
