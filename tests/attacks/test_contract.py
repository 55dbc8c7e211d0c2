"""What every registered attack keeps to, those of third parties included."""

from __future__ import annotations

import copy
import itertools
import json

import pytest
import torch
from torch import nn

from bangbench.attacks.ball import Ball, BallAttack
from bangbench.attacks.base import Attack, AttackSettings, Means, checked, make_attack
from bangbench.attacks.grids import Grid
from bangbench.attacks.line import LineAttack
from bangbench.attacks.registry import ATTACKS
from bangbench.attacks.run import attack
from bangbench.attacks.spec import STANDARD_ATTACKS, AttackSpec
from bangbench.core.errors import BenchError, UsageError

#: Enough for what is tested here.
SMALLER = {"iterations": 20, "queries": 100, "largest_steps": 20}


def small(name):
    known = ATTACKS.load(name).Settings.model_fields
    return make_attack(name, {setting: value for setting, value in SMALLER.items() if setting in known})


KINDS = {name: small(name) for name in ATTACKS.names()}
LINES = [name for name, kind in KINDS.items() if isinstance(kind, LineAttack)]
BALLS = [name for name, kind in KINDS.items() if isinstance(kind, BallAttack)]
SHAPES = [(1, 8, 8), (3, 5, 7), (2, 1, 9)]
COUNT, BUDGET = 12, 6


class Scene:
    """A random net with dropout; images with black and white pixels, half of them next to a boundary; another net."""

    def __init__(self, tools, shape, count=COUNT):
        with torch.random.fork_rng():
            torch.manual_seed(11)
            inputs = shape[0] * shape[1] * shape[2]
            net = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 20), nn.Tanh(), nn.Dropout(), nn.Linear(20, 3))
            images = (torch.randint(0, 256, (300, *shape)).float() * 2.0 - 128.0).clamp(0.0, 255.0)
            self.classifier = tools.wrap(net, input_scale=255.0).requires_grad_(True)
            self.source = copy.deepcopy(self.classifier)
            with torch.no_grad():
                for parameter in self.source.parameters():
                    parameter.add_(0.01 * torch.randn_like(parameter))
        highest = self.classifier(images).detach().topk(2).values
        order = (highest[:, 0] - highest[:, 1]).argsort()
        self.images = torch.cat([images[order[: count // 2]], images[order[300 - count // 2 :]]])
        self.labels = self.classifier(self.images).argmax(1)

    def means(self, batch_size=5):
        return Means(torch.Generator().manual_seed(1), batch_size, self.source, BUDGET)

    def run(self, kind, batch_size=5):
        return kind.run(self.classifier, self.images, self.labels, self.means(batch_size))


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture
def scene(tools):
    return Scene(tools, SHAPES[0])


def test_every_registered_attack_runs_along_a_line_or_inside_a_ball():
    assert {*LINES, *BALLS} == set(ATTACKS.names())
    assert set(STANDARD_ATTACKS) <= set(LINES)
    assert {"pgd", "apgd", "apgd-ce", "apgd-t", "square", "transfer", "uniform-noise", "gaussian-noise"} <= set(BALLS)


def test_an_attack_says_what_it_needs_and_what_it_is(kind):
    assert isinstance(kind, Attack)
    assert type(kind.version) is int
    assert kind.version >= 1
    assert kind.bounded == isinstance(kind, BallAttack)
    assert kind.needs <= {"gradients", "source"}
    assert kind.norm == "linf"
    assert kind.cost > 0
    if kind.unmasked_twin is not None:
        twin = ATTACKS.load(kind.unmasked_twin)
        assert twin.unmasked_twin is None
        assert twin.bounded == kind.bounded


@pytest.mark.parametrize("name", KINDS)
def test_its_settings_at_every_strength_are_settings_that_it_has_and_can_be_kept_in_a_record(name):
    strengths = ATTACKS.load(name).strengths
    assert set(strengths) <= {"quick", "standard", "extended"}
    for given in ({}, *(settings for settings in strengths.values() if settings is not None)):
        settings = make_attack(name, given).settings
        assert isinstance(settings, AttackSettings)
        kept = json.loads(json.dumps(settings.model_dump(mode="json")))
        assert make_attack(name, kept).settings == settings
    with pytest.raises(UsageError, match=rf"attack '{name}' has no setting 'no_such_thing' \(it has: "):
        make_attack(name, {"no_such_thing": 1})


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_it_returns_is_flipped_whole_grey_levels_where_it_says_so_and_the_image_elsewhere(kind, tools, shape):
    scene = Scene(tools, shape)
    flips = checked(scene.run(kind), "any", scene.images)
    predictions = scene.classifier(flips.adversarial.float()).argmax(1)
    assert (predictions != scene.labels).equal(flips.found)
    assert flips.found.any()
    assert not (flips.found & flips.blank).any()
    assert flips.adversarial[~flips.found].equal(scene.images[~flips.found].to(torch.uint8))
    assert flips.scale.isnan().equal(~flips.found)
    assert (flips.scale[flips.found] > 0).all()
    if kind.bounded:
        assert not flips.found.all()
        assert set(flips.scale[flips.found].tolist()) == {BUDGET}
        assert (flips.adversarial.float() - scene.images).abs().max() <= BUDGET
    assert not any(part.requires_grad for part in flips if isinstance(part, torch.Tensor))


def test_it_finds_the_same_twice_and_where_gradients_are_switched_off(kind, scene):
    first = scene.run(kind)
    with torch.no_grad():
        second = scene.run(kind)
    assert first.adversarial.equal(second.adversarial)
    assert first.scale.nan_to_num(-1).equal(second.scale.nan_to_num(-1))
    assert first.forwards == second.forwards


def test_it_leaves_its_inputs_the_nets_and_the_global_state_alone(kind, scene):
    nets = (scene.classifier, scene.source)
    before = copy.deepcopy((scene.images, scene.labels, [net.state_dict() for net in nets]))
    random_state, threads = torch.get_rng_state(), torch.get_num_threads()
    scene.run(kind).adversarial.zero_()
    assert scene.images.equal(before[0])
    assert not scene.images.requires_grad
    assert scene.images.grad is None
    assert scene.labels.equal(before[1])
    for net, state in zip(nets, before[2], strict=True):
        assert all(value.equal(state[name]) for name, value in net.state_dict().items())
        assert not any(module.training for module in net.modules())
        assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert torch.get_rng_state().equal(random_state)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()


def test_it_counts_every_image_that_passes_a_net_in_no_larger_batches(kind, scene):
    sizes = []
    for net in (scene.classifier, scene.source):
        net.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    flips = scene.run(kind, batch_size=5)
    assert flips.forwards == sum(sizes) > 0
    assert max(sizes) <= 5


def test_no_image_at_all_is_no_error(kind, tools):
    flips = Scene(tools, SHAPES[1], count=0).run(kind)
    assert (flips.adversarial.shape, flips.found.shape, flips.found.dtype) == ((0, *SHAPES[1]), (0,), torch.bool)
    assert flips.forwards == 0


def test_only_an_attack_that_says_so_needs_a_source(kind, scene):
    means = scene.means()._replace(source=None)
    if "source" in kind.needs:
        with pytest.raises(UsageError, match="was given none; name that model with --against MODEL"):
            kind.run(scene.classifier, scene.images, scene.labels, means)
        return
    alone = kind.run(scene.classifier, scene.images, scene.labels, means)
    assert alone.adversarial.equal(scene.run(kind).adversarial)


@pytest.mark.exact
@pytest.mark.parametrize("name", KINDS)
def test_the_batch_size_changes_nothing(name, tools, five_classes):
    # logits without any rounding: nothing but the attack itself could depend on the batches
    classifier = tools.linear(five_classes.weight, five_classes.bias)
    source = tools.linear(five_classes.weight[[1, 2, 3, 4, 0]] + 3 * five_classes.weight, five_classes.bias)
    images, labels = torch.from_numpy(five_classes.images).float(), torch.from_numpy(five_classes.labels)
    results = [
        KINDS[name].run(classifier, images, labels, Means(torch.Generator().manual_seed(2), size, source, 20))
        for size in (len(images), 1, 5)
    ]
    assert results[0].found.any()
    for other in results[1:]:
        assert other.adversarial.equal(results[0].adversarial)
        assert other.found.equal(results[0].found)
        assert other.forwards == results[0].forwards or name in LINES


# --- along a line ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=LINES)
def line(request):
    return KINDS[request.param]


def test_its_grid_is_increasing(line):
    assert isinstance(line.grid, Grid)
    assert line.grid.scales[0] > 0
    assert all(low < high for low, high in itertools.pairwise(line.grid.scales))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_direction_has_the_images_shape_and_one_flag_per_image(line, tools, shape):
    scene = Scene(tools, shape)
    direction = line.direction(scene.classifier, scene.images, scene.labels)
    assert (direction.tensor.shape, direction.tensor.dtype) == (scene.images.shape, torch.float32)
    assert (direction.blank.shape, direction.blank.dtype) == ((COUNT,), torch.bool)
    assert (direction.gradient_max.shape, direction.gradient_max.dtype) == ((COUNT,), torch.float32)
    assert direction.tensor[~direction.blank].isfinite().all()
    assert (direction.gradient_max[~direction.blank] > 0).all()
    assert not any(part.requires_grad for part in direction)


def test_adversarial_images_lie_on_the_line_in_the_box(line, scene):
    flips, direction = scene.run(line), line.directions(scene.classifier, scene.images, scene.labels, 5)
    place = scene.images + flips.scale.view(-1, 1, 1, 1) * direction.tensor
    off = (flips.adversarial.float() - place.clamp(0, 255))[flips.found].abs()
    assert off.max() <= 0.5 + 1e-3
    assert flips.blank.equal(direction.blank)
    assert flips.gradient_max.equal(direction.gradient_max)


def test_the_direction_depends_on_the_label(line, scene):
    direction = line.direction(scene.classifier, scene.images, scene.labels)
    other = line.direction(scene.classifier, scene.images, (scene.labels + 1) % 3)
    assert not other.tensor.equal(direction.tensor)


@pytest.mark.exact
def test_an_image_s_direction_does_not_depend_on_its_neighbours(line, scene):
    direction = line.direction(scene.classifier, scene.images, scene.labels)
    alone = line.direction(scene.classifier, scene.images[3:4], scene.labels[3:4])
    assert alone.tensor[0].equal(direction.tensor[3])
    assert alone.blank[0] == direction.blank[3]


# --- inside a ball --------------------------------------------------------------------------------------------------


@pytest.fixture(params=BALLS)
def inside(request):
    return KINDS[request.param]


def test_it_asks_for_a_budget(inside, scene):
    with pytest.raises(UsageError, match="an attack inside a ball needs a budget; give it one with --budget"):
        inside.run(scene.classifier, scene.images, scene.labels, scene.means()._replace(budget=None))


def test_what_is_found_lies_inside_a_ball_of_any_size(inside, scene):
    found = []
    for budget in (1, 255):
        result = inside.find(scene.classifier, Ball(scene.images, scene.labels, budget), scene.means())
        assert (result.adversarial - scene.images).abs().max() <= budget
        found.append(int(result.found.sum()))
    assert found[0] < found[1]


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
