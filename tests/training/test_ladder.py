"""ladder: the boundaries and the way back to images, on latents that are known, and its loss."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bangbench.core.errors import BenchError
from bangbench.nets.classifier import Classifier
from bangbench.store.records import Preprocessing
from bangbench.training.methods.base import RunView, make_method
from bangbench.training.methods.ladder import class_directions, latents, least_squares


def begun(classifier, images, labels, **settings):
    method = make_method("ladder", {"pool": 1000, "refresh": 3} | settings)
    method.begin_run(RunView(classifier, images.to(torch.uint8), labels, 0, 1, 1, None))
    return method


def test_directions_lead_from_the_first_class_towards_the_second():
    torch.manual_seed(0)
    centres = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]])
    labels = torch.arange(600) % 3
    known = centres[labels] + 0.1 * torch.randn(600, 3)
    directions = class_directions(known, labels, 4)
    assert directions.shape == (4, 4, 3)
    for one, other in ((0, 1), (1, 0), (2, 1)):
        wanted = (centres[other] - centres[one]).double() / 32**0.5
        torch.testing.assert_close(directions[one, other], wanted, rtol=0.0, atol=0.1)
        assert float(directions[one, other].norm()) == pytest.approx(1.0)
    assert not directions[3].any()
    assert not directions[:, 3].any()


def test_least_squares_finds_a_linear_map_with_its_offset():
    torch.manual_seed(0)
    known, matrix = torch.randn(50, 6), torch.randn(6, 9)
    found = least_squares(known, known @ matrix - 5.0)
    torch.testing.assert_close(found[:-1].float(), matrix, rtol=0.02, atol=0.02)
    torch.testing.assert_close(found[-1].float(), torch.full((9,), -5.0), rtol=0.02, atol=0.02)


def test_latents_are_what_the_last_linear_layer_sees_without_dropout(smooth, few):
    classifier, images = smooth(dropout=nn.Dropout(0.5), head=nn.Linear(20, 4)), few[0]
    found = latents(classifier, images)
    assert classifier.training
    torch.testing.assert_close(found, classifier.net[:5](images / 255.0))
    assert not found.requires_grad
    assert not classifier.net.head._forward_pre_hooks


def test_before_the_first_look_it_is_regular_training(smooth, few):
    classifier, (images, labels) = smooth(), few
    method = begun(classifier, images, labels)
    for iteration in (0, 2):
        method.begin_step(iteration)
        loss = method.objective(classifier, images, labels).loss
        assert torch.equal(loss, cross_entropy(classifier(images), labels))
    assert method.state() == {}


@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_the_latent_is_moved_towards_another_class_and_decoded(few, shown, same_gradients, epsilon):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 36), nn.Linear(36, 4))
    classifier, images, labels = Classifier(net, Preprocessing()).train(), few[0].repeat(8, 1, 1, 1), few[1].repeat(8)
    images = (images + torch.randint(-9, 10, images.shape)).clamp(0.0, 255.0).float()
    method = begun(classifier, images, labels, epsilon=epsilon)
    passes = shown(classifier)
    method.begin_step(3)
    found = method.objective(classifier, images, labels)
    clean, decoded = passes
    assert torch.equal(clean, images)
    assert torch.equal(found.logits, classifier(images))
    losses = [cross_entropy(classifier(each), labels) for each in (images, decoded)]
    same_gradients(classifier, found.loss, (losses[0] + losses[1]) / 2.0)

    known, state = latents(classifier, images), method.state()
    towards = torch.stack([state["directions"][labels, other] for other in range(4)])
    moved = known + epsilon * known.norm(dim=1, keepdim=True) * towards
    expected = (moved @ state["back"][:-1] + state["back"][-1]).clamp(0.0, 255.0).view(4, *images.shape)
    distance = (expected - decoded).abs().amax((2, 3, 4))
    distance[labels, torch.arange(len(labels))] = torch.inf
    assert float(distance.amin(0).max()) < 1e-2
    assert epsilon == 0.0 or len(distance.argmin(0).unique()) == 4


def test_it_goes_on_with_its_state(smooth, few):
    classifier, (images, labels) = smooth().float(), (few[0].float(), few[1])
    method, other = (begun(classifier, images, labels) for _ in range(2))
    method.begin_step(3)
    method.objective(classifier, images, labels)
    other.load_state(method.state())
    losses = []
    for each in (method, other):
        torch.manual_seed(1)
        each.begin_step(4)
        losses.append(each.objective(classifier, images, labels).loss)
    assert torch.equal(*losses)
    assert not torch.equal(losses[0], cross_entropy(classifier(images), labels))


def test_a_net_without_a_linear_layer_is_refused(few):
    classifier = Classifier(nn.Sequential(nn.Conv2d(1, 4, 6), nn.Flatten()), Preprocessing())
    with pytest.raises(BenchError, match=r"method 'ladder' needs a net with a torch.nn.Linear"):
        begun(classifier, *few)
