"""distillation: its loss against the formula, image by image, and what it reads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bangbench.core.errors import BenchError, UsageError
from bangbench.training.methods.base import RunView, make_method
from bangbench.training.run import train


def begun(teacher, few, **settings):
    method = make_method("distillation", {"teacher": "soft"} | settings)
    asked = []

    def opened(name):
        asked.append(name)
        return teacher.eval()

    method.begin_run(RunView(None, *few, 0, 1, 1, opened))
    assert asked == list(method.models) == ["soft"]
    return method


@pytest.mark.parametrize(("temperature", "scale_loss"), [(1.0, True), (20.0, True), (100.0, False)])
def test_the_loss_is_the_cross_entropy_at_the_temperature(smooth, few, same_gradients, temperature, scale_loss):
    (images, labels), classifier = few, smooth()
    teacher = smooth(wide=nn.Linear(20, 30), dropout=nn.Dropout(0.5), head=nn.Linear(30, 4))
    with torch.no_grad():
        teacher.net.head.weight.mul_(40.0)
        classifier.net.head.weight.mul_(10.0)
    method = begun(teacher, few, temperature=temperature, scale_loss=scale_loss)
    found = method.objective(classifier, images, labels)
    expected = torch.zeros((), dtype=torch.float64)
    for image in images:
        soft = torch.softmax(teacher(image[None])[0].detach() / temperature, 0)
        expected = expected - (soft * torch.log_softmax(classifier(image[None])[0] / temperature, 0)).sum()
    same_gradients(classifier, found.loss, expected / len(images) * (temperature if scale_loss else 1.0))
    assert torch.equal(found.logits, classifier(images))
    assert all(value.grad is None for value in teacher.parameters())


def test_without_a_teacher_it_is_refused(spec_of, tmp_path):
    with pytest.raises(UsageError, match="method 'distillation': teacher"):
        make_method("distillation", {})
    with pytest.raises(BenchError, match="absent"):
        train(spec_of(method="distillation", option=("teacher=absent",)))
    assert not (tmp_path / "models").exists()
