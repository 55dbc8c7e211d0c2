"""Losses and their gradients, in float64, against the formulas of the papers written down plainly."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cross_entropy

from bangbench.nets.classifier import Classifier
from bangbench.store.records import Preprocessing
from bangbench.training.methods.base import make_method

CLASSES, SEED, BUDGET, STEP, STEPS = 4, 3, 0.12, 0.05, 3
RADIUS, LENGTH = 255.0 * BUDGET, 255.0 * STEP
#: Settings of every attack in steps.
ATTACK = {"budget": BUDGET, "step": STEP, "steps": STEPS}
Formula = Callable[[Classifier, Tensor, Tensor], Tensor]


@pytest.fixture(autouse=True)
def generator_is_restored() -> Iterator[None]:
    """Let tests seed torch's global generator, from which methods draw."""
    with torch.random.fork_rng(devices=[]):
        yield


def classifier_of(factor: float = 1.0, dropout: float = 0.0) -> Classifier:
    """Return a smooth net in float64 for images (N, 1, 5, 5), in training mode."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(27, 8),
        nn.Tanh(),
        nn.Linear(8, CLASSES),
    )
    with torch.no_grad():
        net[-1].weight.mul_(factor)
    return Classifier(net, Preprocessing()).double().train()


def batch() -> tuple[Tensor, Tensor]:
    """Return images of whole grey levels, some black and some white, and labels."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(-60, 316, (8, 1, 5, 5), generator=generator).clamp(0, 255).double()
    return images, torch.randint(CLASSES, (8,), generator=generator)


def assert_same_step(name: str, settings: dict[str, object], formula: Formula, **net: float) -> float:
    """Compare loss and weight gradients of a method with those of a formula; return the loss."""
    images, labels = batch()
    results = []
    for loss_of in (lambda *given: make_method(name, settings).objective(*given).loss, formula):
        classifier = classifier_of(**net)
        torch.manual_seed(SEED)
        loss = loss_of(classifier, images.clone(), labels)
        loss.backward()
        assert classifier.training
        results.append((loss.detach(), [value.grad for value in classifier.parameters()]))
    (loss, gradients), (wanted, wanted_gradients) = results
    torch.testing.assert_close(loss, wanted, rtol=1e-9, atol=1e-12)
    for one, other in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-12)
    assert max(float(value.abs().max()) for value in wanted_gradients) > 1e-3
    return float(loss)


def image_gradient(classifier: Classifier, images: Tensor, loss_of: Callable[[Tensor], Tensor]) -> Tensor:
    variable = images.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss_of(classifier(variable)), variable)
    return gradient


def climbed(
    classifier: Classifier, images: Tensor, start: Tensor, loss_of: Callable[[Tensor], Tensor], steps: int = STEPS
) -> Tensor:
    """Return images after steps along the sign, clipped to ball and range after each."""
    classifier.eval()
    moved = start
    for _ in range(steps):
        moved = moved + LENGTH * image_gradient(classifier, moved, loss_of).sign()
        moved = torch.minimum(torch.maximum(moved, images - RADIUS), images + RADIUS).clamp(0.0, 255.0)
    classifier.train()
    return moved


def noise(images: Tensor) -> Tensor:
    """Return images from which TRADES and MART start."""
    return (images + 0.001 * 255.0 * torch.randn_like(images)).clamp(0.0, 255.0)


def uniform(images: Tensor, radius: float) -> Tensor:
    return radius * (2.0 * torch.empty_like(images).uniform_() - 1.0)


def divergence(own: Tensor, others: Tensor) -> Tensor:
    """Return KL(p || p'), (N,), by torch."""
    return functional.kl_div(others.log_softmax(1), own.softmax(1), reduction="none").sum(1)


def trades(beta: float) -> Formula:
    def formula(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        start = noise(images)
        held = classifier(images).detach()
        moved = climbed(classifier, images, start, lambda logits: divergence(held, logits).sum())
        own = classifier(images)
        return cross_entropy(own, labels) + beta * divergence(own, classifier(moved)).mean()

    return formula


@pytest.mark.parametrize("beta", [0.0, 1.0, 6.0])
def test_trades(beta):
    loss = assert_same_step("trades", {**ATTACK, "beta": beta}, trades(beta))
    images, labels = batch()
    plain = float(cross_entropy(classifier_of()(images), labels).detach())
    assert loss == pytest.approx(plain) if beta == 0.0 else loss > plain + 1e-3


@pytest.mark.parametrize("step", [0.05, 0.15])
@pytest.mark.parametrize("clip_start", [False, True])
def test_rs_fgsm(step, clip_start):
    def formula(classifier, images, labels):
        delta = uniform(images, RADIUS)
        if clip_start:
            delta = (images + delta).clamp(0, 255) - images
        gradient = image_gradient(classifier, images + delta, lambda logits: cross_entropy(logits, labels))
        delta = (delta + 255 * step * gradient.sign()).clamp(-RADIUS, RADIUS)
        return cross_entropy(classifier((images + delta).clamp(0, 255)), labels)

    assert_same_step("rs-fgsm", {"budget": BUDGET, "step": step, "clip_start": clip_start}, formula)


@pytest.mark.parametrize("factor", [0.0, 1.0, 2.0])
def test_n_fgsm(factor):
    def formula(classifier, images, labels):
        start = (images + uniform(images, factor * RADIUS)).clamp(0, 255)
        gradient = image_gradient(classifier, start, lambda logits: cross_entropy(logits, labels))
        return cross_entropy(classifier((start + RADIUS * gradient.sign()).clamp(0, 255)), labels)

    assert_same_step("n-fgsm", {"budget": BUDGET, "noise": factor}, formula)


@pytest.mark.parametrize("name", ["rs-fgsm", "n-fgsm", "gradalign"])
def test_one_step_is_crafted_in_training_mode(name):
    classifier, modes = classifier_of(dropout=0.5), []
    classifier.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    make_method(name, {}).objective(classifier, *batch())
    assert len(modes) >= 2
    assert all(modes)


@pytest.mark.parametrize("q", [0.0, 0.1, 0.5])
def test_label_smoothing(q):
    def formula(classifier, images, labels):
        target = torch.full((len(labels), CLASSES), q / (CLASSES - 1), dtype=torch.float64)
        target[torch.arange(len(labels)), labels] = 1.0 - q
        return -(target * classifier(images).log_softmax(1)).sum(1).mean()

    assert_same_step("label-smoothing", {"smoothing": q}, formula)


@pytest.mark.parametrize("temperature", [1.0, 20.0])
@pytest.mark.parametrize("scale_loss", [False, True])
def test_temperature(temperature, scale_loss):
    def formula(classifier, images, labels):
        chances = (classifier(images) / temperature).exp()
        chances = chances / chances.sum(1, keepdim=True)
        return -chances[torch.arange(len(labels)), labels].log().mean() * (temperature if scale_loss else 1.0)

    assert_same_step("temperature", {"temperature": temperature, "scale_loss": scale_loss}, formula)


@pytest.mark.parametrize(("share", "noisy"), [(1.0, 8), (0.5, 4)])
def test_gaussian(share, noisy):
    def formula(classifier, images, labels):
        images[:noisy] = (images[:noisy] + 0.3 * 255 * torch.randn(noisy, 1, 5, 5, dtype=torch.float64)).clamp(0, 255)
        return cross_entropy(classifier(images), labels)

    assert_same_step("gaussian", {"sigma": 0.3, "share": share}, formula)


@pytest.mark.parametrize(("beta", "factor"), [(0.0, 1.0), (5.0, 1.0), (5.0, 6.0)])
def test_mart(beta, factor):
    def formula(classifier, images, labels):
        start = noise(images)
        moved = climbed(classifier, images, start, lambda logits: cross_entropy(logits, labels, reduction="sum"))
        own, others = classifier(images).softmax(1), classifier(moved).softmax(1)
        losses = []
        for chances, attacked, label in zip(own, others, labels, strict=True):
            rival = max(float(attacked[c].detach()) for c in range(CLASSES) if c != label)
            (place,) = (c for c in range(CLASSES) if c != label and float(attacked[c].detach()) == rival)
            boosted = -attacked[label].log() - (1.0001 - attacked[place] + 1e-12).log()
            apart = sum(p * (p.log() - (q + 1e-12).log()) for p, q in zip(chances, attacked, strict=True))
            losses.append(boosted + beta * apart * (1.0000001 - chances[label]))
        return sum(losses) / len(losses)

    assert_same_step("mart", {**ATTACK, "beta": beta}, formula, factor=factor)


@pytest.mark.parametrize("weight", [0.0, 0.2, 2.0])
def test_gradalign(weight):
    def formula(classifier, images, labels):
        def loss_of(logits):
            return cross_entropy(logits, labels, reduction="sum")

        own = image_gradient(classifier, images, loss_of)
        loss = cross_entropy(classifier((images + RADIUS * own.sign()).clamp(0, 255)), labels)
        if not weight:
            return loss
        variable = (images + uniform(images, RADIUS)).requires_grad_(True)
        (other,) = torch.autograd.grad(loss_of(classifier(variable)), variable, create_graph=True)
        cosines = [(a * b).sum() / a.norm() / b.norm() for a, b in zip(own, other, strict=True)]
        return loss + weight * (1.0 - sum(cosines) / len(cosines))

    assert_same_step("gradalign", {"budget": BUDGET, "weight": weight}, formula)


def test_gradalign_leaves_images_without_a_gradient_out():
    classifier, (images, labels) = classifier_of(), batch()
    with torch.no_grad():
        for value in classifier.net[-1].parameters():
            value.zero_()
    method = make_method("gradalign", {"weight": 1.0})
    objective = method.objective(classifier, images, labels)
    objective.loss.backward()
    assert float(objective.loss.detach()) == pytest.approx(float(cross_entropy(objective.logits, labels).detach()))
    assert all(bool(value.grad.isfinite().all()) for value in classifier.parameters())


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_iat(alpha):
    def mixed(classifier, images, labels):
        shares = torch.distributions.Beta(*torch.full((2,), alpha, dtype=torch.float64)).sample((len(images),))
        other = torch.randperm(len(images))
        rows = [share * images[i] + (1 - share) * images[other[i]] for i, share in enumerate(shares)]
        chances = classifier(torch.stack(rows)).log_softmax(1)
        losses = [
            -share * chances[i, labels[i]] - (1 - share) * chances[i, labels[other[i]]]
            for i, share in enumerate(shares)
        ]
        return sum(losses) / len(losses)

    def formula(classifier, images, labels):
        start = (images + uniform(images, RADIUS)).clamp(0.0, 255.0)
        moved = climbed(classifier, images, start, lambda logits: cross_entropy(logits, labels, reduction="sum"))
        return 0.5 * mixed(classifier, images, labels) + 0.5 * mixed(classifier, moved, labels)

    assert_same_step("iat", {**ATTACK, "alpha": alpha}, formula)


def pgd(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    start = (images + uniform(images, RADIUS)).clamp(0.0, 255.0)
    moved = climbed(classifier, images, start, lambda logits: cross_entropy(logits, labels, reduction="sum"))
    return cross_entropy(classifier(moved), labels)


@pytest.mark.parametrize("around", ["pgd-at", "trades"])
def test_awp_without_a_perturbation_is_the_method_it_is_around(around):
    formula = pgd if around == "pgd-at" else trades(2.0)
    assert_same_step("awp", {**ATTACK, "around": around, "gamma": 0.0, "beta": 2.0}, formula)


@pytest.mark.parametrize("gamma", [0.01, 0.5])
def test_awp_trains_at_weights_moved_up_and_puts_them_back(gamma):
    def formula(classifier, images, labels):
        start = (images + uniform(images, RADIUS)).clamp(0.0, 255.0)
        moved = climbed(classifier, images, start, lambda logits: cross_entropy(logits, labels, reduction="sum"))
        proxy = classifier_of()
        optimizer = torch.optim.SGD(proxy.parameters(), lr=0.01)
        (-cross_entropy(proxy(moved), labels)).backward()
        optimizer.step()
        with torch.no_grad():
            for weight, ahead in zip(classifier.parameters(), proxy.parameters(), strict=True):
                if weight.ndim > 1:
                    ascent = ahead - weight
                    weight.add_(gamma * weight.norm() / (ascent.norm() + 1e-20) * ascent)
        return cross_entropy(classifier(moved), labels)

    loss = assert_same_step("awp", {**ATTACK, "gamma": gamma}, formula)
    assert loss > assert_same_step("pgd-at", ATTACK, pgd)
    classifier, method = classifier_of(), make_method("awp", {**ATTACK, "gamma": gamma})
    before = [value.detach().clone() for value in classifier.parameters()]
    method.objective(classifier, *batch()).loss.backward()
    assert not torch.equal(classifier.net[0].weight, before[0])
    method.after_backward(classifier)
    assert all(map(torch.equal, classifier.parameters(), before))


def test_awp_begins_when_it_is_told_to():
    method, losses = make_method("awp", {**ATTACK, "begin": 2, "gamma": 0.5}), []
    for iteration in (1, 2):
        classifier = classifier_of()
        torch.manual_seed(SEED)
        method.begin_step(iteration)
        losses.append(float(method.objective(classifier, *batch()).loss.detach()))
    assert losses[0] == pytest.approx(assert_same_step("pgd-at", ATTACK, pgd))
    assert losses[1] > losses[0] + 1e-3


@pytest.mark.parametrize("name", ["trades", "mart", "iat", "awp", "rs-fgsm", "n-fgsm", "gradalign"])
def test_moved_images_stay_inside_their_ball_and_the_range(name):
    classifier, (images, labels), seen = classifier_of(), batch(), []
    classifier.net.register_forward_pre_hook(lambda _, inputs: seen.append(255.0 * inputs[0].detach()))
    method = make_method(name, {"budget": BUDGET, "warmup": 10} | ({"weight": 0.0} if name == "gradalign" else {}))
    reach = 3.0 if name == "n-fgsm" else 1.0
    for iteration, share in ((4, 0.5), (9, 1.0), (20, 1.0)):
        seen.clear()
        method.begin_step(iteration)
        method.objective(classifier, images, labels)
        method.after_backward(classifier)
        moved = seen[-1]
        assert 0.0 <= float(moved.min()) <= float(moved.max()) <= 255.0 + 1e-9
        if name != "iat":
            distance = float((moved - images).abs().max())
            assert 0.5 * reach * share * RADIUS < distance <= reach * share * RADIUS + 1e-9


def test_scaled_logits_are_those_of_a_regular_net_times_the_factor_and_only_where_deployed():
    method = make_method("logit-scale", {"scale": 50.0})
    classifier, plain = classifier_of(), classifier_of()
    images, _ = batch()
    assert method.transform(classifier.net, (1, 5, 5), CLASSES, torch.Generator()) is classifier.net
    assert list(classifier.state_dict()) == list(plain.state_dict())
    assert torch.equal(classifier(images), plain(images))
    assert torch.equal(classifier.eval()(images), 50.0 * plain.eval()(images))


def test_scaled_logits_need_no_training_of_their_own(spec_of, left_by, tmp_path):
    from bangbench.training.run import train

    for name, settings in (("S", {"method": "logit-scale"}), ("R", {})):
        train(spec_of(name=name, **settings))
    scaled, regular = (left_by(tmp_path / "models" / name) for name in ("S", "R"))
    assert scaled == regular
