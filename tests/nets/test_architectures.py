"""LeNet and CIFAR-10 quick: their layers, their pooling against an explicit loop, their initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from bangbench.core.errors import BenchError, UsageError
from bangbench.nets.catalogue import build_net, net_definition
from bangbench.nets.registry import NETS

SHAPES = {"lenet": (1, 28, 28), "cifar10-quick": (3, 32, 32)}


def built(name: str, seed: int = 0, shape: tuple[int, int, int] | None = None, classes: int = 10) -> nn.Sequential:
    net = build_net(net_definition(name), shape or SHAPES[name], classes, seed)
    assert isinstance(net, nn.Sequential)
    return net


def test_both_nets_are_registered_and_others_are_suggested():
    assert set(SHAPES) < set(NETS.names())
    with pytest.raises(UsageError, match="unknown net 'lenett': did you mean 'lenet'"):
        net_definition("lenett")


@pytest.mark.parametrize(("name", "parameters"), [("lenet", 431_080), ("cifar10-quick", 145_578)])
def test_parameter_counts_are_the_papers(name, parameters):
    assert sum(value.numel() for value in built(name).parameters()) == parameters


def test_lenet_has_no_relu_after_its_convolutions():
    expected = ["Conv2d", "MaxPool2d", "Conv2d", "MaxPool2d", "Flatten", "Linear", "ReLU", "Dropout", "Linear"]
    net = built("lenet")
    assert [type(layer).__name__ for layer in net] == expected
    assert net.dropout.p == 0.5
    assert [(layer.kernel_size, layer.padding, layer.stride) for layer in (net.conv1, net.conv2)] == [
        ((5, 5), (0, 0), (1, 1))
    ] * 2
    assert (net.linear1.in_features, net.linear1.out_features) == (800, 500)


def test_cifar10_quick_pools_before_the_first_relu_and_has_none_after_linear1():
    expected = ["Conv2d", "MaxPool2d", "ReLU", "Conv2d", "ReLU", "AvgPool2d", "Conv2d", "ReLU", "AvgPool2d"]
    net = built("cifar10-quick")
    assert [type(layer).__name__ for layer in net] == [*expected, "Flatten", "Linear", "Dropout", "Linear"]
    assert net.dropout.p == 0.5
    assert [layer.padding for layer in (net.conv1, net.conv2, net.conv3)] == [(2, 2)] * 3
    assert (net.linear1.in_features, net.linear1.out_features) == (64 * 4 * 4, 64)


def test_the_solver_settings_are_those_of_the_released_code():
    lenet, quick = net_definition("lenet").solver, net_definition("cifar10-quick").solver
    assert tuple(lenet) == (64, 10_000, 0.01, "inv(0.0001, 0.75)", 0.0005, 500)
    assert tuple(quick) == (100, 20_000, 0.001, "steps(18000, 19000)", 0.004, 1000)
    assert net_definition("cifar10-quick").method_defaults == {"bang": {"ratio": 0.5}}


def pooled(image: np.ndarray, window: int, stride: int, reduce: Callable[[np.ndarray], float]) -> np.ndarray:
    """Return what Caffe pools from (H, W): sizes rounded up, windows clipped to the image."""
    height, width = (math.ceil((size - window) / stride) + 1 for size in image.shape)
    result = np.empty((height, width))
    for row in range(height):
        for column in range(width):
            top, left = row * stride, column * stride
            result[row, column] = reduce(image[top : top + window, left : left + window])
    return result


@pytest.mark.parametrize("size", [(32, 32), (13, 8), (7, 10)])
@pytest.mark.parametrize(
    ("name", "layer", "window", "reduce"),
    [
        ("lenet", "pool1", 2, np.max),
        ("lenet", "pool2", 2, np.max),
        ("cifar10-quick", "pool1", 3, np.max),
        ("cifar10-quick", "pool2", 3, np.mean),
        ("cifar10-quick", "pool3", 3, np.mean),
    ],
)
def test_pooling_rounds_up_and_clips_its_windows(name, layer, window, reduce, size):
    image = np.random.default_rng(1).normal(size=size)
    found = getattr(built(name), layer)(torch.from_numpy(image)[None, None])[0, 0]
    np.testing.assert_allclose(found.numpy(), pooled(image, window, 2, reduce), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("lenet", (3, 32, 32)), ("lenet", (1, 16, 23)), ("cifar10-quick", (1, 28, 28)), ("cifar10-quick", (3, 9, 17))],
)
def test_other_image_sizes_and_numbers_of_classes_fit(name, shape):
    assert built(name, shape=shape, classes=7).eval()(torch.zeros(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize(("name", "least"), [("lenet", 16), ("cifar10-quick", 8)])
def test_images_that_are_too_small_are_refused(name, least):
    built(name, shape=(1, least, least))
    with pytest.raises(
        BenchError, match=f"{name} needs images of at least {least}x{least} pixels, found 40x{least - 1}"
    ):
        built(name, shape=(1, 40, least - 1))


@pytest.mark.parametrize(("layer", "fan_in"), [("conv1", 25), ("conv2", 500), ("linear1", 800), ("linear2", 500)])
def test_lenets_weights_are_uniform_up_to_the_xavier_bound(layer, fan_in):
    weight = getattr(built("lenet"), layer).weight.detach().double()
    bound = math.sqrt(3 / fan_in)
    assert float(weight.abs().max()) <= bound * (1 + 1e-6)
    assert float(weight.max()) > 0.97 * bound
    assert float(weight.min()) < -0.97 * bound
    assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize(
    ("layer", "std"), [("conv1", 0.0001), ("conv2", 0.01), ("conv3", 0.01), ("linear1", 0.1), ("linear2", 0.1)]
)
def test_cifar10_quicks_weights_are_normal(layer, std):
    weight = getattr(built("cifar10-quick"), layer).weight.detach().double()
    assert float(weight.std()) == pytest.approx(std, rel=0.06)
    assert abs(float(weight.mean())) < 0.1 * std
    assert float((weight.abs() < std).double().mean()) == pytest.approx(0.683, abs=0.05)


@pytest.mark.parametrize("name", SHAPES)
def test_biases_begin_at_zero(name):
    biases = [value for key, value in built(name).named_parameters() if key.endswith("bias")]
    assert len(biases) == len([layer for layer in built(name) if isinstance(layer, nn.Conv2d | nn.Linear)])
    assert not any(bool(value.any()) for value in biases)


@pytest.mark.parametrize("name", SHAPES)
def test_weights_depend_on_the_seed_and_on_nothing_else(name):
    first = built(name, seed=5).state_dict()
    torch.manual_seed(99)
    again, other = built(name, seed=5).state_dict(), built(name, seed=6).state_dict()
    for key, value in first.items():
        assert torch.equal(value, again[key])
        assert key.endswith("bias") or not torch.equal(value, other[key])


@pytest.mark.parametrize("name", SHAPES)
def test_building_leaves_the_global_generator_untouched(name):
    before = torch.get_rng_state()
    built(name)
    assert torch.equal(torch.get_rng_state(), before)
