"""BANG against a loop of single-sample backward passes in float64: slow, and obviously right."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.store.records import Preprocessing
from bangbench.training.methods.bang import Bang, BangSettings, balance
from bangbench.training.methods.scaled_layers import scalable_layers

pytestmark = pytest.mark.exact

CLASSES = 3


def classifier_of(net: nn.Module) -> Classifier:
    return Classifier(net.double(), Preprocessing(input_scale=1.0))


def bang_gradients(net: nn.Module, images: Tensor, labels: Tensor, options: BangSettings) -> dict[str, Tensor]:
    """The gradients that the method leaves in the net."""
    classifier, method = classifier_of(net), Bang(options)
    net.zero_grad()
    method.prepare(classifier)
    method.objective(classifier, images, labels).loss.backward()
    method.after_backward(classifier)
    method.release(classifier)
    return {
        name: value.grad / method.gradient_scale for name, value in net.named_parameters() if value.grad is not None
    }


def kappas_and_gradients(net: nn.Module, image: Tensor, label: Tensor) -> tuple[list[tuple[str, Tensor]], dict]:
    """kappa of every use of every layer for one sample, and the sample's plain gradients by use."""
    uses: list[tuple[str, nn.Module, Tensor, Tensor]] = []
    hooks = []
    for name, layer in scalable_layers(net):

        def remember(module, inputs, output, name=name):
            output.retain_grad()
            uses.append((name, module, inputs[0].detach(), output))

        hooks.append(layer.register_forward_hook(remember))
    net.zero_grad()
    logits = net(image[None])
    cross_entropy(logits, label[None], reduction="sum").backward()
    for hook in hooks:
        hook.remove()
    plain = {name: value.grad.clone() for name, value in net.named_parameters() if value.grad is not None}
    return [(name, module, inputs, output.grad.clone()) for name, module, inputs, output in uses], plain


def layer_gradient(layer: nn.Module, inputs: Tensor, kappa: Tensor) -> dict[str, Tensor]:
    """The gradient of one use of one layer, for one sample, by autograd through that layer alone."""
    for value in layer.parameters():
        value.grad = None
    layer(inputs).backward(kappa)
    return {name: value.grad.clone() for name, value in layer.named_parameters() if value.grad is not None}


def twin_gradients(net: nn.Module, images: Tensor, labels: Tensor, options: BangSettings) -> dict[str, Tensor]:
    """Eq. 2-6, sample by sample and layer use by layer use."""
    count = len(images)
    samples = [kappas_and_gradients(net, image, label) for image, label in zip(images, labels, strict=True)]
    with torch.no_grad():
        correct = net(images).argmax(1) == labels
    names = {name for name, _ in scalable_layers(net)}
    total: dict[str, Tensor] = {}
    for _, plain in samples:
        for name, gradient in plain.items():
            if name.rpartition(".")[0] not in names:
                total[name] = total.get(name, 0) + gradient / count
    for use in range(len(samples[0][0])):
        norms = [float((uses[use][3] ** 2).sum()) ** 0.5 for uses, _ in samples]
        for index, (uses, _) in enumerate(samples):
            name, layer, inputs, kappa = uses[use]
            epsilon = options.epsilon if correct[index] else options.ratio * options.epsilon
            rho = epsilon * (1 - norms[index] / max(norms)) if max(norms) else 0.0
            eta = (max(norms) / norms[index]) ** rho if norms[index] else 1.0
            for part, gradient in layer_gradient(layer, inputs, kappa).items():
                key = f"{name}.{part}"
                total[key] = total.get(key, 0) + options.beta * eta * gradient / count
    return total


def assert_same(net: nn.Module, images: Tensor, labels: Tensor, options: BangSettings) -> None:
    found = bang_gradients(net, images, labels, options)
    expected = twin_gradients(net, images, labels, options)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)


def data(samples: int, channels: int, size: int = 9) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(samples * 100 + channels)
    images = torch.randn(samples, channels, size, size, generator=generator, dtype=torch.float64)
    # samples of very different gradient sizes, so that eta is far from 1
    images *= torch.logspace(-1, 1, samples, dtype=torch.float64).view(-1, 1, 1, 1)
    return images, torch.randint(CLASSES, (samples,), generator=generator)


OPTIONS = BangSettings(beta=1.3, epsilon=0.8, ratio=0.5)


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(1, 6),
    groups=st.sampled_from([1, 2]),
    stride=st.integers(1, 3),
    padding=st.sampled_from([0, 1, 2, "same"]),
    dilation=st.integers(1, 2),
    mode=st.sampled_from(["zeros", "reflect", "circular"]),
    bias=st.booleans(),
    options=st.builds(
        BangSettings, beta=st.floats(0.2, 2), epsilon=st.floats(0, 1), ratio=st.sampled_from([0.0, 0.5, 1.0, 2.0])
    ),
)
def test_convolution_and_linear_layers(samples, groups, stride, padding, dilation, mode, bias, options):
    stride = 1 if padding == "same" else stride
    torch.manual_seed(0)
    convolution = nn.Conv2d(2, 4, 3, stride, padding, dilation, groups, bias, mode)
    net = nn.Sequential(
        convolution, nn.Tanh(), nn.Flatten(), nn.LazyLinear(5), nn.Linear(5, CLASSES, bias=bias)
    ).double()
    images, labels = data(samples, 2)
    net(images)
    assert_same(net, images, labels, options)


def test_layers_that_are_not_scaled_train_regularly():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.PReLU(), nn.Flatten(), nn.LayerNorm(196), nn.Linear(196, CLASSES)
    ).double()
    assert_same(net, *data(5, 2), OPTIONS)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(162, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.shared(torch.tanh(self.shared(images))).flatten(1))


def test_a_layer_used_twice_balances_each_use_on_its_own():
    torch.manual_seed(0)
    assert_same(Twice().double(), *data(5, 2), OPTIONS)


class Tokens(nn.Module):
    """A linear layer over the last of three dimensions: the norm is over the whole output of a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.head = nn.Linear(9, 4), nn.Linear(72, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.tanh(self.each(images.flatten(1, 2))).flatten(1))


def test_a_linear_layer_over_several_positions():
    torch.manual_seed(0)
    assert_same(Tokens().double(), *data(5, 2), OPTIONS)


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(147, CLASSES)).double()


def test_all_samples_misclassified_use_the_ratio():
    net, (images, _) = small_net(), data(5, 1)
    with torch.no_grad():
        wrong = (net(images).argmax(1) + 1) % CLASSES
    assert_same(net, images, wrong, OPTIONS)
    halved = bang_gradients(net, images, wrong, OPTIONS)
    full = bang_gradients(net, images, wrong, BangSettings(beta=1.3, epsilon=0.8, ratio=1.0))
    assert not torch.allclose(halved["0.weight"], full["0.weight"])


def test_a_batch_of_one_is_trained_regularly_up_to_beta():
    net, (images, labels) = small_net(), data(1, 1)
    found = bang_gradients(net, images, labels, OPTIONS)
    net.zero_grad()
    cross_entropy(net(images), labels).backward()
    for name, value in net.named_parameters():
        torch.testing.assert_close(found[name], 1.3 * value.grad)


def test_a_sample_without_gradient_adds_nothing_and_breaks_nothing():
    class Saturated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(81, CLASSES)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(images.flatten(1)) * 1e6

    torch.manual_seed(0)
    net, (images, _) = Saturated().double(), data(4, 1)
    images[2] *= 1e-9
    with torch.no_grad():
        labels = net(images).argmax(1)
    labels[2] = (labels[2] + 1) % CLASSES
    found = bang_gradients(net, images, labels, OPTIONS)
    assert all(bool(value.isfinite().all()) for value in found.values())
    assert_same(net, images, labels, OPTIONS)


def test_frozen_layers_stay_without_gradient():
    net, (images, labels) = small_net(), data(4, 1)
    net[0].weight.requires_grad_(False)
    found = bang_gradients(net, images, labels, OPTIONS)
    assert "0.weight" not in found
    assert "0.bias" in found


def test_the_net_is_plain_again_afterwards():
    net, (images, labels) = small_net(), data(4, 1)
    keys = list(net.state_dict())
    bang_gradients(net, images, labels, OPTIONS)
    assert list(net.state_dict()) == keys
    assert all("forward" not in layer.__dict__ for layer in net.modules())


def test_the_largest_sample_keeps_its_gradient_and_zero_norm_gets_one():
    norms = torch.tensor([0.0, 0.5, 2.0])
    eta = balance(norms, torch.tensor([0.5, 0.5, 0.0]))
    assert eta.tolist() == pytest.approx([1.0, 4.0 ** (0.5 * 0.75), 1.0])


def test_all_gradients_zero_leaves_every_factor_at_one():
    assert balance(torch.zeros(3), torch.tensor(0.8)).tolist() == [1.0, 1.0, 1.0]


def test_norms_whose_squares_underflow_in_float32_count_as_nothing():
    """n_i = 0 is what float32 says: the largest norm with a square of 0 gets 1, the next larger one a factor."""
    smallest = torch.tensor(2.0**-75)
    norms = torch.stack([smallest, smallest.nextafter(torch.tensor(1.0)), torch.tensor(1.0)])
    assert (norms * norms == 0.0).tolist() == [True, False, False]
    method = Bang(BangSettings(epsilon=0.5, beta=1.0))
    method._epsilons = torch.tensor(0.5)
    factors = method._factors(norms * method.gradient_scale)
    assert factors.tolist() == pytest.approx([1.0, 2.0**37.5, 1.0])
