"""The peers do what they are said to do: each once, on a few images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from bangbench.data.sources import open_source
from benchmarks import attack_search, inputs, pass_scores, per_sample_gradients, training_loop

pytestmark = pytest.mark.filterwarnings("default")  # what the peers' own imports warn of is not ours to mend


@pytest.fixture(autouse=True)
def without_data_files(tmp_path, monkeypatch):
    """Let every benchmark fall back on the digits and an untrained net."""
    monkeypatch.setenv("BANGBENCH_DATA", str(tmp_path))


def test_the_stand_ins_are_named():
    name, data = inputs.grey_images()
    assert (name, data.images.shape[1:]) == ("digits", (1, 28, 28))
    found = inputs.subject(5)
    assert (found.name, len(found.images)) == ("untrained LeNet, digits", 5)


SETTINGS = [("opacus", *one) for one in per_sample_gradients.OPACUS_SETTINGS]
SETTINGS += [("torch.func", *one) for one in per_sample_gradients.FUNCTIONAL_SETTINGS]


@pytest.mark.parametrize(("library", "channels_last", "setting"), SETTINGS)
def test_per_sample_gradients_add_up_to_the_gradient_of_the_batch(library, channels_last, setting):
    run = inputs.training_run("lenet", inputs.grey_images()[1], "regular", channels_last)
    run.classifier.net.dropout.p = 0.0  # not eval mode, in which Opacus looks at no sample
    if library == "opacus":
        pytest.importorskip("opacus")
        compute = per_sample_gradients.opacus_gradients(run, setting)
    else:
        compute = per_sample_gradients.functional_gradients(run, setting)
    images, labels = (part[:6] for part in run.batches.at(0))
    compute(images, labels, torch.arange(6.0))
    found = {name: value.grad.clone() for name, value in run.classifier.named_parameters()}
    run.solver.clear_gradients()
    losses = cross_entropy(run.classifier(images), labels, reduction="none")
    (losses * torch.arange(6.0)).mean().backward()
    for name, value in run.classifier.named_parameters():
        torch.testing.assert_close(found[name], value.grad, rtol=1e-4, atol=1e-6)


def test_the_tutorials_loop_trains():
    data = open_source("digits", None).load("train")
    torch.manual_seed(0)
    image, label = training_loop.Images(data)[3]
    assert (image.dtype, image.shape, label) == (torch.float32, (1, 28, 28), int(data.labels[3]))
    assert float(image.max()) == pytest.approx(data.images[3].max() / 255)
    training_loop.tutorial_steps(data, 0, 2)()


@pytest.mark.parametrize("peer", ["plain", "art", "foolbox"])
def test_every_search_finds_the_same_flips(peer):
    if peer != "plain":
        pytest.importorskip(peer)
    found = attack_search.usable(inputs.subject(6))
    search = {
        "plain": attack_search.plain,
        "art": attack_search.art_search(4),
        "foolbox": attack_search.foolbox_search,
    }[peer]
    assert attack_search.differing(found, search).startswith(f"0 of {len(found.images)} images differ")
    assert search(found).isfinite().any()


def test_a_search_that_is_one_step_off_is_noticed():
    found = attack_search.usable(inputs.subject(6))
    flips = int(attack_search.own_flips(found).found.sum())
    assert flips > 0
    note = attack_search.differing(found, lambda one: attack_search.plain(one) + 1)
    assert note.startswith(f"{flips} of {len(found.images)} images differ")


def test_the_last_step_that_changes_a_pixel():
    images = torch.tensor([[10.0, 200.0, 90.0], [5.0, 250.0, 0.0]]).view(2, 1, 1, 3)
    step = torch.tensor([[-1.0, 1.0, 0.0], [-1.0, 1.0, 1.0]]).view(2, 1, 1, 3)
    assert attack_search.last_useful(images, step).tolist() == [55.0, 255.0]


def test_pass_of_the_loop_and_over_processes():
    pytest.importorskip("joblib")
    from joblib import parallel_config

    name, adversarial, original = pass_scores.fgs_pairs(4)
    assert name == "untrained LeNet, digits"
    assert adversarial.dtype == original.dtype == np.uint8
    assert not np.array_equal(adversarial, original)
    assert "status in 0 pairs" in pass_scores.difference(adversarial, original)
    with parallel_config("threading"):
        parts = pass_scores.processes(adversarial, original, 1)()
    assert [score for part in parts for score in part] == pass_scores.loop(adversarial, original)
