"""The core of an audit on tensors: strengths, attacks of third parties, and the same result as from disk."""

from __future__ import annotations

import runpy
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from bangbench.attacks.ball import BallAttack, Found
from bangbench.attacks.fgs import Fgs
from bangbench.attacks.line import LineAttack, usable_direction
from bangbench.attacks.registry import ATTACKS
from bangbench.attacks.square import Square
from bangbench.auditing import battery as battery_module
from bangbench.auditing import masking as masking_module
from bangbench.auditing.battery import Orders, run_battery
from bangbench.auditing.examine import examine
from bangbench.auditing.hygiene import hygiene
from bangbench.auditing.masking import line_run
from bangbench.auditing.run import audit
from bangbench.auditing.spec import AuditSpec
from bangbench.auditing.subject import make_subject
from bangbench.core.errors import BenchError
from bangbench.data.sources import open_source
from bangbench.store.tables import read_table

FILE = Path(__file__).with_name("scenes.py")
SCENES = runpy.run_path(str(FILE))
Nearest, classifier_of, duels, write_images = (
    SCENES[name] for name in ("Nearest", "classifier_of", "duels", "write_images")
)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "digits.npz"
    write_images(path)
    return f"npz:{path}"


def subject_on(data, net=None, seed=0):
    """Return the subject that an audit of a net on the test images makes."""
    test = open_source(data, None).load("test")
    pixels, labels = torch.from_numpy(test.images), torch.from_numpy(test.labels)
    return make_subject(classifier_of(net or Nearest(), 256.0), pixels, labels, 256, seed)


# --- attacks of third parties -----------------------------------------------------------------------------------------


class Inverts(BallAttack):
    """Moves every pixel as far as it may towards the other end of the range."""

    needs = frozenset()
    cost = 1

    def find(self, classifier, ball, means):
        moved = ball.inside(torch.where(ball.images < 128.0, 255.0, 0.0))
        found = classifier(moved).argmax(1) != ball.labels
        return Found(torch.where(found[:, None, None, None], moved, ball.images), found, 2 * len(moved))


class Brightens(LineAttack):
    """Adds the same to every pixel."""

    needs = frozenset()
    grid = Fgs.grid

    def direction(self, classifier, images, labels):
        return usable_direction(torch.ones_like(images), torch.ones_like(images))


class Claims(Brightens):
    """Claims every image, and moves none by more than a grey level."""

    def along(self, classifier, images, labels, direction, batch_size=None):
        flips = super().along(classifier, images, labels, direction, batch_size)
        everything = torch.ones_like(flips.found)
        return flips._replace(adversarial=(images + 1).clamp(0, 255).to(torch.uint8), found=everything)


def test_an_attack_along_a_line_is_not_taken_at_its_word(monkeypatch, images):
    subject = subject_on(images)
    with monkeypatch.context() as patch:
        patch.setattr(masking_module, "make_attack", lambda name: Claims())
        run = line_run(subject, "brightens")
    honest = line_run(subject, "fgs")
    assert (run.flipped.sum(), run.lost.sum()) == (0, subject.correct)
    assert np.isinf(run.linf).all()
    check = next(check for check in hygiene(subject, {"theirs": run}, {}, None) if check.code == "success-lost")
    assert (check.outcome, check.claims, check.count) == ("suspect", ("theirs",), subject.correct)
    assert honest.flipped.any()
    assert not honest.lost.any()


@pytest.fixture
def theirs(monkeypatch):
    """Register two attacks of a third party for one test."""
    module = types.ModuleType("their_attacks")
    module.Inverts, module.Brightens = Inverts, Brightens
    monkeypatch.setitem(sys.modules, "their_attacks", module)
    for name in ("Inverts", "Brightens"):
        ATTACKS.register(name.lower(), f"their_attacks:{name}")
    yield
    for name in ("inverts", "brightens"):
        del ATTACKS._targets[name]


def test_attacks_of_third_parties_take_part(theirs, images, tmp_path):
    record = audit(
        AuditSpec(
            model=f"{FILE}:Nearest",
            data=images,
            budget=("0.1", "0.2"),
            workers=1,
            input_scale=256.0,
            strength="quick",
            random_weights=True,
            root=tmp_path,
        )
    )
    claims = [claim.claim for claim in record.summary.claims]
    assert claims.index("hc1-unmasked") < claims.index("brightens") < claims.index("pgd") < claims.index("inverts")
    assert all({"inverts", "brightens"} <= set(rates.flipped) for rates in record.summary.budgets)
    columns = read_table(tmp_path / "results/Nearest/audit.parquet").column_names
    assert {"brightens_linf", "inverts_within_25", "inverts_within_51"} <= set(columns)
    assert record.spec["attacks"]["inverts"] == Inverts.version
    flipped = record.summary.budgets[-1].flipped["inverts"]
    assert record.summary.claim("inverts").rate == pytest.approx(100.0 * flipped / record.summary.correct)


# --- strengths --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tried(monkeypatch):
    """What every attack inside a ball was given: (attack, budget, the leads of the images)."""
    calls, true_run = [], battery_module.run_ball

    def run(subject, name, budget, chosen, settings=None, source=None):
        calls.append((name, budget, np.flatnonzero(chosen).tolist()))
        return true_run(subject, name, budget, chosen, settings, source)

    monkeypatch.setattr(battery_module, "run_ball", run)
    return calls


class Idle(BallAttack):
    """Finds nothing, and tries only what the others leave."""

    on_survivors = frozenset({"standard", "extended"})
    needs = frozenset()
    cost = 10**6

    def find(self, classifier, ball, means):
        return Found(ball.images, torch.zeros(len(ball.images), dtype=torch.bool), 0)


#: Within s grey levels falls what leads by less than 2 s: all but the last within 12, the first two within 6.
LEADS = [8, 11, 13, 20, 30]


@pytest.fixture
def idle(monkeypatch):
    module = types.ModuleType("idle_attacks")
    module.Idle = Idle
    monkeypatch.setitem(sys.modules, "idle_attacks", module)
    ATTACKS.register("idle", "idle_attacks:Idle")
    monkeypatch.setattr(Square, "strengths", {})  # fewer queries, which do on two pixels
    yield
    del ATTACKS._targets["idle"]


def given_to(tried, name):
    return [(budget, rows) for attack, budget, rows in tried if attack == name]


def test_thorough_attacks_try_survivors_within_the_largest_budget_first(idle, tried):
    run_battery(duels(LEADS), {}, Orders((6, 12), "standard", has_gradient=True, has_source=False))
    # what was left within 12 is not tried within 6, where those that fell within 12 alone are
    assert given_to(tried, "idle") == [(12, [4]), (6, [2, 3])]
    assert given_to(tried, "pgd") == [(6, [0, 1, 2, 3, 4]), (12, [0, 1, 2, 3, 4])]
    assert [name for name, *_ in tried][-1] == "idle"


def test_extended_tries_every_survivor_within_every_budget(idle, tried):
    run_battery(duels(LEADS), {}, Orders((6, 12), "extended", has_gradient=True, has_source=False))
    assert given_to(tried, "idle") == [(12, [4]), (6, [2, 3, 4])]


def test_quick_tries_every_image_with_every_attack_but_the_most_expensive(tried):
    found = run_battery(duels(LEADS), {}, Orders((6,), "quick", has_gradient=True, has_source=False))
    assert {name for name, _ in found} == {"pgd", "apgd", "apgd-ce", "square", "uniform-noise", "gaussian-noise"}
    assert all(run.from_scratch for run in found.values())


# --- the same from tensors and from disk ------------------------------------------------------------------------------


def test_examine_finds_what_an_audit_on_disk_finds(images, tmp_path):
    spec = AuditSpec(
        model=f"{FILE}:Nearest",
        data=images,
        budget=("0.05", "0.1"),
        workers=1,
        input_scale=256.0,
        strength="quick",
        random_weights=True,
        root=tmp_path,
    )
    record = audit(spec)
    found = examine(subject_on(images), None, (12, 25), "quick", record.model.method)
    assert found.summary.model_copy(update={"seconds": 0.0}) == record.summary.model_copy(update={"seconds": 0.0})
    table = read_table(tmp_path / "results/Nearest/audit.parquet")
    assert table.schema.names == found.schema.names
    for name in table.column_names:
        assert table[name].to_pylist() == found.columns[name].tolist()


SOFTMAX = """
import runpy
from torch import nn

Nearest = runpy.run_path(SCENES)["Nearest"]


class Mine(Nearest):
    def forward(self, images):
        return super().forward(images).softmax(1)
"""


def test_an_edited_net_is_another_one(images, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(SOFTMAX.replace("SCENES", repr(str(FILE))))
    settings = {
        "data": images,
        "budget": ("0.1",),
        "workers": 1,
        "input_scale": 256.0,
        "strength": "quick",
        "random_weights": True,
        "root": tmp_path,
    }
    before = audit(AuditSpec(model=f"{file}:Mine", **settings)).summary
    assert "probabilities" in {check.code for check in before.checks if check.outcome != "passed"}
    file.write_text(file.read_text().replace(".softmax(1)", ""))
    with pytest.raises(BenchError, match=r"other settings \(net_code: .*--overwrite"):
        audit(AuditSpec(model=f"{file}:Mine", **settings))
    after = audit(AuditSpec(model=f"{file}:Mine", overwrite=True, **settings)).summary
    assert "probabilities" in {check.code for check in after.checks if check.outcome == "passed"}
