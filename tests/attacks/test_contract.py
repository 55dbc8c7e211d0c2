"""What every registered attack keeps to, those of third parties included."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

from bangbench.attacks.ball import Ball, BallAttack
from bangbench.attacks.base import ATTACKS, Means, make_attack
from bangbench.attacks.grids import Grid
from bangbench.attacks.line import LineAttack
from bangbench.attacks.run import attack
from bangbench.attacks.spec import STANDARD_ATTACKS, AttackSpec
from bangbench.core.errors import BenchError, UsageError

pytestmark = pytest.mark.exact

KINDS = {name: make_attack(name) for name in ATTACKS.names()}
LINES = [name for name, kind in KINDS.items() if isinstance(kind, LineAttack)]
BALLS = [name for name, kind in KINDS.items() if isinstance(kind, BallAttack)]
SHAPES = [(1, 8, 8), (3, 5, 7), (2, 1, 9)]
COUNT = 12


class Scene:
    """A random net, images it takes, and the labels it gives them."""

    def __init__(self, tools, shape, count=COUNT):
        with torch.random.fork_rng():
            torch.manual_seed(11)
            inputs = shape[0] * shape[1] * shape[2]
            net = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 20), nn.Tanh(), nn.Dropout(), nn.Linear(20, 3))
            self.images = torch.randint(0, 256, (count, *shape)).float()
        self.classifier = tools.wrap(net, input_scale=255.0).requires_grad_(True)
        self.labels = self.classifier(self.images).argmax(1)


@pytest.fixture(params=LINES)
def any_attack(request):
    return KINDS[request.param]


@pytest.fixture(params=SHAPES, ids=str)
def scene(request, tools):
    return Scene(tools, request.param)


def find(any_attack, scene):
    direction = any_attack.direction(scene.classifier, scene.images, scene.labels)
    return direction, any_attack.along(scene.classifier, scene.images, scene.labels, direction, 250)


def test_every_registered_attack_runs_along_a_line_or_inside_a_ball():
    assert {*LINES, *BALLS} == set(ATTACKS.names())
    assert set(STANDARD_ATTACKS) <= set(LINES)
    assert {"pgd", "apgd", "apgd-ce", "apgd-t", "square", "transfer", "uniform-noise", "gaussian-noise"} <= set(BALLS)


# --- along a line ---------------------------------------------------------------------------------------------------


def test_it_is_a_direction_and_an_increasing_grid(any_attack):
    assert isinstance(any_attack.grid, Grid)
    scales = any_attack.grid.scales
    assert scales[0] > 0
    assert all(low < high for low, high in itertools.pairwise(scales))


def test_the_direction_has_the_images_shape_and_one_flag_per_image(any_attack, scene):
    direction, _ = find(any_attack, scene)
    assert (direction.tensor.shape, direction.tensor.dtype) == (scene.images.shape, torch.float32)
    assert (direction.blank.shape, direction.blank.dtype) == ((COUNT,), torch.bool)
    assert (direction.gradient_max.shape, direction.gradient_max.dtype) == ((COUNT,), torch.float32)
    assert direction.tensor[~direction.blank].isfinite().all()
    assert (direction.gradient_max[~direction.blank] > 0).all()
    assert not any(part.requires_grad for part in direction)


def test_adversarial_images_are_whole_grey_levels_that_change_the_prediction(any_attack, scene):
    direction, flips = find(any_attack, scene)
    assert flips.found.any()
    assert (flips.adversarial.dtype, flips.adversarial.shape) == (torch.uint8, scene.images.shape)
    predictions = scene.classifier(flips.adversarial.float()).argmax(1)
    assert (predictions != scene.labels).equal(flips.found)
    assert flips.adversarial[~flips.found].equal(scene.images[~flips.found].to(torch.uint8))
    assert (flips.scale > 0).equal(flips.found)
    assert flips.scale.isnan().equal(~flips.found)
    assert not (flips.found & direction.blank).any()


def test_adversarial_images_lie_on_the_line_in_the_box(any_attack, scene):
    direction, flips = find(any_attack, scene)
    line = scene.images + flips.scale.view(-1, 1, 1, 1) * direction.tensor
    off = (flips.adversarial.float() - line.clamp(0, 255))[flips.found].abs()
    assert off.max() <= 0.5 + 1e-3


def test_the_direction_depends_on_the_label(any_attack, scene):
    other = any_attack.direction(scene.classifier, scene.images, (scene.labels + 1) % 3)
    direction, _ = find(any_attack, scene)
    assert not other.tensor.equal(direction.tensor)


def test_it_leaves_its_inputs_the_net_and_the_global_state_alone(any_attack, scene):
    before = copy.deepcopy((scene.images, scene.labels, scene.classifier.state_dict()))
    random_state, threads = torch.get_rng_state(), torch.get_num_threads()
    find(any_attack, scene)
    assert scene.images.equal(before[0])
    assert not scene.images.requires_grad
    assert scene.images.grad is None
    assert scene.labels.equal(before[1])
    for name, value in scene.classifier.state_dict().items():
        assert value.equal(before[2][name])
    assert not any(module.training for module in scene.classifier.modules())
    for parameter in scene.classifier.parameters():
        assert parameter.grad is None
        assert parameter.requires_grad
    assert torch.get_rng_state().equal(random_state)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()


def test_it_finds_the_same_twice(any_attack, scene):
    first, second = find(any_attack, scene)[1], find(any_attack, scene)[1]
    assert first.adversarial.equal(second.adversarial)
    assert first.scale.nan_to_num(-1).equal(second.scale.nan_to_num(-1))
    assert first.forwards == second.forwards


def test_it_works_where_gradients_are_switched_off(any_attack, scene):
    with torch.no_grad():
        direction, _ = find(any_attack, scene)
    assert direction.tensor.equal(find(any_attack, scene)[0].tensor)


def test_an_image_s_direction_does_not_depend_on_its_neighbours(any_attack, scene):
    direction, _ = find(any_attack, scene)
    alone = any_attack.direction(scene.classifier, scene.images[3:4], scene.labels[3:4])
    largest = direction.tensor[3].abs().max()
    different = (alone.tensor[0] - direction.tensor[3]).abs() > 1e-4 * largest
    assert different.float().mean() <= 0.02  # a last bit can turn the sign of an entry that is nearly 0
    assert alone.blank[0] == direction.blank[3]


def test_no_image_at_all_is_no_error(any_attack, tools):
    _, flips = find(any_attack, Scene(tools, SHAPES[0], count=0))
    assert flips.adversarial.shape == (0, *SHAPES[0])
    assert flips.forwards == 0


# --- inside a ball --------------------------------------------------------------------------------------------------

BUDGET = 6


class BallScene(Scene):
    """Images with black and white pixels, half of them next to a boundary and half far from one; another net."""

    def __init__(self, tools, shape, count=COUNT):
        super().__init__(tools, shape, 300)
        self.images = (self.images * 2.0 - 128.0).clamp(0.0, 255.0)
        highest = self.classifier(self.images).detach().topk(2).values
        order = (highest[:, 0] - highest[:, 1]).argsort()
        self.images = torch.cat([self.images[order[: count // 2]], self.images[order[300 - count // 2 :]]])
        self.labels = self.classifier(self.images).argmax(1)
        self.source = copy.deepcopy(self.classifier)
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(12)
            for parameter in self.source.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))

    def ball(self):
        return Ball(self.images, self.labels, BUDGET)

    def means(self, batch_size=5):
        return Means(torch.Generator().manual_seed(1), batch_size, self.source)


@pytest.fixture(params=BALLS)
def ball_attack(request):
    return KINDS[request.param]


@pytest.fixture
def ball_scene(tools):
    return BallScene(tools, SHAPES[1])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_ball_attack_finds_whole_grey_levels_inside_ball_and_range(ball_attack, tools, shape):
    scene = BallScene(tools, shape)
    adversarial, found, _ = ball_attack.find(scene.classifier, scene.ball(), scene.means())
    assert (adversarial.shape, adversarial.dtype) == (scene.images.shape, torch.float32)
    assert (found.shape, found.dtype) == ((COUNT,), torch.bool)
    assert 0 < found.sum() < COUNT
    assert adversarial.equal(adversarial.to(torch.uint8).float())
    assert (adversarial - scene.images).abs().max() <= BUDGET
    assert not adversarial.requires_grad


def test_a_ball_attack_has_found_an_image_exactly_where_its_prediction_is_another(ball_attack, ball_scene):
    adversarial, found, _ = ball_attack.find(ball_scene.classifier, ball_scene.ball(), ball_scene.means())
    predictions = ball_scene.classifier(adversarial.to(torch.uint8).float()).argmax(1)
    assert (predictions != ball_scene.labels).equal(found)
    assert adversarial[~found].equal(ball_scene.images[~found])


def test_a_ball_attack_finds_the_same_twice_and_where_gradients_are_switched_off(ball_attack, ball_scene):
    first = ball_attack.find(ball_scene.classifier, ball_scene.ball(), ball_scene.means())
    with torch.no_grad():
        second = ball_attack.find(ball_scene.classifier, ball_scene.ball(), ball_scene.means())
    assert first.adversarial.equal(second.adversarial)
    assert first.found.equal(second.found)
    assert first.forwards == second.forwards


def test_the_batch_size_changes_nothing_in_a_ball(ball_attack, tools, five_classes):
    # logits without any rounding: nothing but the attack itself could depend on the batches
    classifier = tools.linear(five_classes.weight, five_classes.bias)
    source = tools.linear(five_classes.weight[[1, 2, 3, 4, 0]] + 3 * five_classes.weight, five_classes.bias)
    images, labels = torch.from_numpy(five_classes.images).float(), torch.from_numpy(five_classes.labels)
    results = [
        ball_attack.find(classifier, Ball(images, labels, 20), Means(torch.Generator().manual_seed(2), size, source))
        for size in (len(images), 1, 3)
    ]
    assert results[0].found.any()
    for other in results[1:]:
        assert other.adversarial.equal(results[0].adversarial)
        assert other.found.equal(results[0].found)
        assert other.forwards == results[0].forwards


def test_a_ball_attack_leaves_its_inputs_the_nets_and_the_global_state_alone(ball_attack, ball_scene):
    nets = (ball_scene.classifier, ball_scene.source)
    before = copy.deepcopy((ball_scene.images, ball_scene.labels, [net.state_dict() for net in nets]))
    random_state, threads = torch.get_rng_state(), torch.get_num_threads()
    adversarial, _, _ = ball_attack.find(ball_scene.classifier, ball_scene.ball(), ball_scene.means())
    adversarial.zero_()
    assert ball_scene.images.equal(before[0])
    assert not ball_scene.images.requires_grad
    assert ball_scene.labels.equal(before[1])
    for net, state in zip(nets, before[2], strict=True):
        assert all(value.equal(state[name]) for name, value in net.state_dict().items())
        assert not any(module.training for module in net.modules())
        assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert torch.get_rng_state().equal(random_state)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()


def test_a_ball_attack_counts_every_image_that_passes_a_net_in_no_larger_batches(ball_attack, ball_scene):
    sizes = []
    for net in (ball_scene.classifier, ball_scene.source):
        net.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    result = ball_attack.find(ball_scene.classifier, ball_scene.ball(), ball_scene.means(batch_size=5))
    assert result.forwards == sum(sizes) > 0
    assert max(sizes) <= 5


def test_no_image_at_all_is_no_error_in_a_ball(ball_attack, tools):
    scene = BallScene(tools, SHAPES[0], count=0)
    adversarial, found, forwards = ball_attack.find(scene.classifier, scene.ball(), scene.means())
    assert (adversarial.shape, found.shape, found.dtype, forwards) == ((0, *SHAPES[0]), (0,), torch.bool, 0)


def test_only_an_attack_that_says_so_needs_a_source(ball_attack, ball_scene):
    means = ball_scene.means()._replace(source=None)
    if "source" in ball_attack.needs:
        with pytest.raises(UsageError, match="was given none; name that model with --against MODEL"):
            ball_attack.find(ball_scene.classifier, ball_scene.ball(), means)
        return
    alone = ball_attack.find(ball_scene.classifier, ball_scene.ball(), means)
    assert alone.adversarial.equal(
        ball_attack.find(ball_scene.classifier, ball_scene.ball(), ball_scene.means()).adversarial
    )


# --- of third parties -----------------------------------------------------------------------------------------------

MODULE = """
import torch

from bangbench.attacks.ball import BallAttack, Found
from bangbench.attacks.base import Direction
from bangbench.attacks.grids import grey_level_steps
from bangbench.attacks.line import LineAttack


class Darken(LineAttack):
    \"\"\"Make every pixel darker, whatever the net says.\"\"\"

    grid = grey_level_steps()

    def direction(self, classifier, images, labels):
        some = torch.ones(len(images))
        return Direction(-torch.ones_like(images), some == 0, some)


class Black(BallAttack):
    \"\"\"Try one image in the darkest corner of the ball.\"\"\"

    def find(self, classifier, ball, means):
        images = ball.project(ball.images - 300.0)
        found = classifier(images).argmax(1) != ball.labels
        images[~found] = ball.images[~found]
        return Found(images, found, len(images))


class Liar(BallAttack):
    \"\"\"Claim that inverted images lie inside the ball.\"\"\"

    def find(self, classifier, ball, means):
        return Found(255.0 - ball.images, torch.ones_like(ball.labels, dtype=torch.bool), 0)


class Shy(BallAttack):
    \"\"\"Claim the images as they are, as flips.\"\"\"

    def find(self, classifier, ball, means):
        return Found(ball.images.clone(), torch.ones_like(ball.labels, dtype=torch.bool), 0)


class Odd(BallAttack):
    \"\"\"Return something else.\"\"\"

    def run(self, classifier, images, labels, means):
        return images

    def find(self, classifier, ball, means):
        raise NotImplementedError


def function(classifier, images, labels):
    return images
"""


@pytest.fixture
def registry(monkeypatch):
    """Let names be added for one test."""
    monkeypatch.setitem(ATTACKS.__dict__, "_targets", {name: ATTACKS._targets[name] for name in ATTACKS.names()})
    return ATTACKS


def test_a_third_party_attack_runs_by_its_name(registry, trained, tmp_path, monkeypatch):
    (tmp_path / "third_party_attack.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    registry.register("darken", "third_party_attack:Darken")
    assert "darken" in registry.names()
    model = str(trained.root / "models/tiny")
    (record,) = attack(AttackSpec(model=model, root=tmp_path, attack=("darken",), limit=6, device="cpu", workers=1))
    assert (record.attack, record.status, record.summary.blank) == ("darken", "done", 0.0)
    assert (tmp_path / "results/tiny/darken.parquet").is_file()
    registry.register("black", "third_party_attack:Black")
    inside = {"attack": ("black",), "budget": ("0.5", "1"), "limit": 6}
    (record,) = attack(AttackSpec(model=model, root=tmp_path, device="cpu", workers=1, **inside))
    assert (record.attack, record.status, record.spec["budget"]) == ("black", "done", [127, 255])
    assert record.summary.flipped > 0


def test_a_name_that_is_taken_is_refused(registry):
    with pytest.raises(BenchError) as caught:
        registry.register("fgs", "third_party_attack:Darken")
    assert str(caught.value) == (
        "attack 'fgs' is registered twice: as bangbench.attacks.fgs:Fgs and as third_party_attack:Darken"
    )


def test_an_attack_that_cannot_be_imported_is_named(registry):
    registry.register("lost", "no_such_module_anywhere:ATTACK")
    with pytest.raises(BenchError, match="attack 'lost': 'no_such_module_anywhere:ATTACK' cannot be loaded"):
        registry.load("lost")


@pytest.fixture
def own(registry, trained, tmp_path, monkeypatch):
    """Attack eight digits with one of the module's classes."""
    (tmp_path / "third_party_attack.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def run(name):
        registry.register("own", f"third_party_attack:{name}")
        model = str(trained.root / "models/tiny")
        spec = {"attack": ("own",), "budget": ("0.1",), "limit": 8, "device": "cpu", "workers": 1}
        (record,) = attack(AttackSpec(model=model, root=tmp_path, **spec))
        return record.summary

    return run


@pytest.mark.parametrize("name", ["Liar", "Shy"])
def test_images_outside_the_ball_and_images_that_are_no_flips_do_not_count(own, name):
    summary = own(name)
    assert summary.correct == summary.unverified > 0
    assert summary.flipped == 0


def test_a_result_of_another_kind_is_refused_with_the_attack_and_the_contract(own):
    with pytest.raises(BenchError, match=r"attack 'own': Attack\.run must return .*Flips, found Tensor"):
        own("Odd")


def test_what_is_no_attack_is_refused_with_the_contract(own):
    with pytest.raises(BenchError, match=r"attack 'own' .*: expected a subclass of .*Attack .*, found .* function"):
        own("function")
