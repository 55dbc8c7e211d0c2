"""rse: where noise enters a net, how much of it, and that it stays when the net predicts."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bangbench.core.errors import BenchError
from bangbench.nets.classifier import Classifier
from bangbench.store.records import Preprocessing
from bangbench.training.methods.base import RunView, make_method
from bangbench.training.methods.watching import watched

SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def net() -> nn.Sequential:
    torch.manual_seed(5)
    layers = OrderedDict(
        conv1=nn.Conv2d(1, 3, 3), relu=nn.ReLU(), inner=nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), flat=nn.Flatten()
    )
    return nn.Sequential(layers | OrderedDict(linear=nn.Linear(64, 4)))


def measured(images: Tensor, scale: float = 256.0, std: float | None = None, **settings) -> Classifier:
    """Return a classifier with layers of noise, whose sizes were measured on the images, in eval mode."""
    method = make_method("rse", settings)
    preprocessing = Preprocessing(input_scale=scale, std=None if std is None else (std,))
    noisy = method.transform(net(), SHAPE, 4, torch.Generator())
    classifier = Classifier(noisy, preprocessing, draws=method.draws).eval()
    labels = torch.zeros(len(images), dtype=torch.int64)
    for _ in range(2):  # as at the start, and again after an interruption
        method.begin_run(RunView(classifier, images.to(torch.uint8), labels, 0, 10, 4, lambda _: classifier))
    return classifier


def images_of(count: int) -> Tensor:
    return torch.randint(256, (count, *SHAPE), generator=torch.Generator().manual_seed(1)).float()


@pytest.mark.parametrize(("scale", "std"), [(256.0, None), (1.0, None), (255.0, 0.25)])
def test_the_noise_at_the_input_is_a_share_of_the_grey_levels(scale, std):
    images = images_of(400)
    classifier = measured(images, scale, std, input=0.2, inner=0.0, draws=1)
    first = classifier.net.conv1[1]
    with watched(first) as passes, torch.no_grad():
        classifier(images)
    noise = passes[-1].given - images / scale / (std or 1.0)
    expected = 0.2 * 255.0 / scale / (std or 1.0)
    assert float(noise.std()) == pytest.approx(expected, rel=0.02)
    assert abs(float(noise.mean())) < 0.02 * expected
    assert float(passes[-1].given.min()) < 0.0  # never clipped


def test_the_noise_of_inner_layers_is_relative_to_what_they_see_of_untouched_images():
    images = images_of(200)
    classifier = measured(images, input=0.3, inner=0.1, draws=1)
    clean = nn.Sequential(net().conv1, nn.ReLU())(images / 256.0)
    size = clean.detach().square().mean().sqrt()
    assert float(classifier.net.inner[0][0].size) == pytest.approx(float(size), rel=1e-5)
    with watched(classifier.net.inner[0][0]) as passes, torch.no_grad():
        classifier(images)
    noise = passes[-1].returned - passes[-1].given
    assert float(noise.std()) == pytest.approx(0.1 * float(size), rel=0.02)


@pytest.mark.parametrize("training", [True, False])
def test_two_passes_differ_in_and_outside_training(training):
    images = images_of(8)
    one = measured(images, draws=1).train(training)
    assert not torch.allclose(one(images), one(images), rtol=1e-3)


def test_without_noise_it_is_regular_training_and_draws_nothing():
    images, labels = images_of(8), torch.arange(8) % 4
    method = make_method("rse", {"input": 0.0, "inner": 0.0})
    classifier = measured(images, input=0.0, inner=0.0).train()
    before = torch.get_rng_state()
    objective = method.objective(classifier, images, labels)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(objective.loss, cross_entropy(net()(images / 256.0), labels))


def test_a_prediction_is_the_mean_of_as_many_passes_as_were_asked_for():
    images = images_of(8)
    many = measured(images, input=0.5, draws=200)
    one = many.with_draws(1)
    with torch.no_grad():
        mean = torch.stack([one(images).softmax(1) for _ in range(400)]).mean(0)
        torch.testing.assert_close(many(images).softmax(1), mean, rtol=0.0, atol=0.05)
    assert make_method("rse", {}).draws == 10


def test_a_net_without_convolutions_is_refused():
    with pytest.raises(BenchError, match="noise before every convolution"):
        make_method("rse", {}).transform(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), SHAPE, 2, torch.Generator())
