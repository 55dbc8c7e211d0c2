"""The lines that the README shows, as they stand there."""

from __future__ import annotations

import numpy as np
import pytest

import bangbench as bb
from bangbench.store.audits import AuditRecord
from bangbench.store.records import read_record


def test_an_audit_in_one_line(model, images, labels, tmp_path):
    found = bb.audit(model, images, labels, budget=("4/255", "8/255"), strength="quick")
    assert found.verdict == found.summary.verdict
    assert found.claims["worst-case"].reasons == found.summary.claim("worst-case").reasons
    value, low, high, n = found.robust_accuracy("8/255")
    assert low <= value <= high
    assert n == len(images)
    assert len(found.checks) == len(found.summary.checks)
    assert len(found.images) == len(images)
    assert value == pytest.approx(100 * (found.summary.correct - found.summary.budgets[-1].worst_case) / n)
    assert found.plot().axes[0].get_xlabel().endswith("(grey levels)")
    for name in ("mine", "group/mine"):
        assert read_record(found.save(tmp_path / "results" / name), AuditRecord).model.name == name


def test_an_attack_in_one_line(model, images, labels):
    result = bb.attack(model, images, labels, "apgd-t", budget="8/255", restarts=3)
    assert result.adversarial.shape == images.shape
    assert result.success.shape == result.linf.shape == result.l2.shape == (len(images),)
    frame = result.to_pandas()
    assert frame["flipped"].tolist() == result.success.tolist()
    assert (frame["linf"].dropna() <= 8).all()


def test_noise_in_one_line(steady, other, images, labels):
    noise = bb.noise_eval({"regular": steady, "bang": other}, images, labels, sigma=[10, 50, 100])
    frame = noise.to_pandas()
    assert list(zip(frame["model"], frame["sigma"], strict=True)) == [
        (name, sigma) for name in ("regular", "bang") for sigma in (10.0, 50.0, 100.0)
    ]
    flips = frame[frame["flipped_percent"] > 0]
    assert flips["flipped_percent"].between(flips["low"], flips["high"]).all()
    assert set(flips["model"]) == {"regular", "bang"}
    assert noise.plot().axes[0].get_legend_handles_labels()[1] == ["regular", "bang"]


def test_pass_in_one_line(images):
    adversarial = (images + 0.2).clamp(0, 1)
    score = bb.pass_score(adversarial, images)
    assert score.score.shape == (len(images),)
    assert (bb.pass_score(images, images).score == 1.0).all()
    assert np.all(score.score < 1.0)


def test_training_in_one_line():
    model = bb.train("lenet", data="digits", method="bang", epsilon=0.815, iterations=2)
    assert model.card.model.method_settings["epsilon"] == 0.815
    assert model.log["iteration"].tolist() == [2]
    assert not model.classifier.training


def test_a_model_by_its_name(tmp_path):
    bb.train("lenet", data="digits", name="mine/R0", root=tmp_path, iterations=2)
    model = bb.load_model("mine/R0", root=tmp_path)
    assert (model.name, model.card.status) == ("mine/R0", "done")


def test_results_as_frames(found, tmp_path):
    found.save(tmp_path / "results/mine")
    frames = bb.read(tmp_path / "results/")
    assert frames.problems == ()
    assert frames.models["model"].tolist() == ["mine"]
    worst = frames.audits.query("claim == 'worst-case' and budget_grey_levels == 8")
    assert worst["robust_accuracy_percent"].tolist() == [found.robust_accuracy("8/255").value]
    assert len(frames.checks) == len(found.checks)
    for frame in (frames.attacks, frames.images, frames.noise):
        assert len(frame) == 0


def test_what_there_is():
    assert {"bang", "regular"} <= set(bb.METHODS)
    assert {"fgs", "apgd-t"} <= set(bb.ATTACKS)
    assert {"lenet", "cifar10-quick"} <= set(bb.NETS)
    assert {"digits", "mnist", "cifar10"} <= set(bb.DATASETS)
    assert "apgd-t" in repr(bb.ATTACKS)


def test_an_audit_tells_its_answer_first(found):
    first, *others = repr(found).splitlines()
    assert first == found.headline
    assert first.startswith(f"brittle: robust accuracy {found.robust_accuracy()} within 8/255 (clean ")
    assert [line.split()[0] for line in others] == list(found.claims)
    card = found._repr_html_()
    assert "brittle: robust accuracy" in card
    assert all(name in card for name in found.claims)
