"""The audit of Python beside that of the command line, interrupted, in processes, and on disk."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import bangbench as bb
from bangbench.attacks.apgd import Apgd
from bangbench.attacks.ball import BallAttack, Found
from bangbench.attacks.square import Square
from bangbench.auditing import parts
from bangbench.auditing.spec import AuditSpec
from bangbench.cli.main import app
from bangbench.core.errors import UsageError
from bangbench.interface import audit as audit_module
from bangbench.store.audits import AuditRecord
from bangbench.store.records import read_record
from bangbench.store.tables import read_table

QUICK = {"budget": "8/255", "strength": "quick", "progress": False}


def comparable(summary):
    """Leave out the time it took, and the one sentence that names an option."""
    checks = tuple(check for check in summary.checks if check.code != "transfer-beats-direct")
    return summary.model_copy(update={"seconds": 0.0, "checks": checks})


@pytest.fixture
def on_disk(model, tmp_path):
    """The same net for the command line: its file, weights and images."""
    factory = "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    (tmp_path / "net.py").write_text(factory)
    save_file(model.state_dict(), tmp_path / "mine.safetensors")
    return (f"{tmp_path}/net.py:make", "--weights", f"{tmp_path}/mine.safetensors", "--data", "digits")


def test_the_command_line_finds_the_same(model, digits, on_disk, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    options = ("--root", str(tmp_path), "--budget", "8/255", "--strength", "quick", "--limit", "60")
    result = CliRunner().invoke(app, ["audit", *on_disk, *options, "--workers", "1", "--device", "cpu", "--json"])
    assert result.exit_code == 0, result.output
    found = bb.audit(model, digits.images, digits.labels, limit=60, name="mine", **QUICK)
    record = read_record(tmp_path / "results/mine/audit.json", AuditRecord)
    assert comparable(found.summary) == comparable(record.summary)
    table = read_table(tmp_path / "results/mine/audit.parquet")
    assert found.table.equals(table)
    saved = read_record(found.save(tmp_path / "results/python"), AuditRecord)
    assert read_table(tmp_path / "results/python/audit.parquet").equals(table)
    assert saved.data.fingerprint == record.data.fingerprint
    assert (saved.model.weights_sha256 is None, saved.model.behaviour) == (False, record.model.behaviour)


def test_settings_have_the_names_and_defaults_of_the_command(model):
    import inspect

    shared = {
        name: parameter.default
        for name, parameter in inspect.signature(bb.audit).parameters.items()
        if name in AuditSpec.model_fields and name != "model"
    }
    assert len(shared) > 7
    assert shared == {name: AuditSpec.model_fields[name].default for name in shared}
    for name in ("strength", "seed", "limit"):
        assert AuditSpec.model_fields[name].description.split()[0] in bb.audit.__doc__


@pytest.mark.parametrize("folder", ["audits/mine", "HERE/results/mine"])
def test_the_report_reads_what_is_saved(found, tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    path = found.save(folder.replace("HERE", str(tmp_path)))
    assert path.is_file()
    result = CliRunner().invoke(app, ["report", "--format", "csv"])
    assert result.exit_code == 0, result.output
    rows = [line for path in (tmp_path / "results/report").glob("*.csv") for line in path.read_text().splitlines()]
    assert any("mine" in row and "worst-case" in row for row in rows)


@pytest.mark.parametrize("folder", ["../mine", "a/b/mine", "report/mine"])
def test_a_name_that_no_report_would_read_is_refused(found, tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="cannot be a name"):
        found.save(folder)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("given", [{"strength": "strong"}, {"limit": 0}, {"seed": -1}, {"workers": 0}])
def test_a_setting_out_of_range_is_refused_by_name(model, images, labels, given):
    (name,) = given
    with pytest.raises(UsageError, match=f"audit: {name}: "):
        bb.audit(model, images, labels, **QUICK | given)


@pytest.mark.parametrize("budget", [8, "8", 0.0001, "nothing", ("8/255", 2)])
def test_a_budget_that_is_no_share_of_the_range_is_refused(model, images, labels, budget):
    with pytest.raises(UsageError, match="expected a budget as a share of the grey-level range"):
        bb.audit(model, images, labels, **QUICK | {"budget": budget})


def test_a_budget_is_a_text_or_a_number_and_only_those_audited_have_an_accuracy(found):
    assert found.robust_accuracy(8 / 255) == found.robust_accuracy("8/255") == found.robust_accuracy()
    with pytest.raises(UsageError, match=r"a budget that was audited \(8/255\), found 16/255"):
        found.robust_accuracy("16/255")


def test_the_frames_hold_what_the_record_does(found):
    assert found.images["attacked"].sum() == found.summary.correct
    fallen = (found.images.filter(like="_within_8").fillna(False).any(axis=1) & found.images["attacked"]).sum()
    along = (found.images.filter(like="_linf") <= 8).any(axis=1) & found.images["attacked"]
    within = found.images.filter(like="_within_8").fillna(False).any(axis=1) | along
    assert fallen <= within.sum() == found.summary.budgets[-1].worst_case
    assert found.checks["code"].tolist() == [check.code for check in found.summary.checks]
    assert isinstance(found.checks, pd.DataFrame)


def test_rounding_is_told(model, images, labels):
    images = images.clone()
    images[:7, 0, 0, 0] = 0.5003
    found = bb.audit(model, images, labels, **QUICK)
    assert "7 of 60 images were on no whole grey level, and were rounded" in repr(found)


def test_another_model_s_images_are_tried(model, other, images, labels):
    found = bb.audit(model, images, labels, against=other, **QUICK)
    assert found.record.against is not None
    assert "transfer" in found.summary.budgets[-1].flipped
    assert bb.audit(model, images, labels, against=model, **QUICK).record.against is None


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "IMAGES", 8)
    monkeypatch.setattr("bangbench.auditing.examine.IMAGES", 8)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(("done", "correct"), [(1, 8), (2, 16)])
def test_interrupted_it_concludes_from_the_images_that_are_done(model, digits, monkeypatch, done, correct):
    images, labels = digits.images[:60], digits.labels[:60]
    whole = bb.audit(model, images, labels, **QUICK)
    computed, calls = audit_module.computed, []

    def interrupted(*given):
        if len(calls) == done:
            raise KeyboardInterrupt
        calls.append(given)
        return computed(*given)

    monkeypatch.setattr(audit_module, "computed", interrupted)
    found = bb.audit(model, images, labels, **QUICK)
    assert found.summary.correct == correct
    assert found.summary.images < 60
    assert f"stopped after {found.summary.images} of 60 images" in repr(found)
    few = found.images
    expected = whole.images.iloc[: len(few)]
    pd.testing.assert_frame_equal(few, expected)


def test_interrupted_before_anything_is_done_it_is_an_interruption(model, images, labels, monkeypatch):
    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(audit_module, "computed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bb.audit(model, images, labels, **QUICK)


def test_interrupted_after_the_attacks_what_was_not_tried_is_said_to_be_so(model, images, labels, monkeypatch):
    computed = audit_module.computed

    def interrupted(inquiry, part):
        if part.kind == "changed":
            raise KeyboardInterrupt
        return computed(inquiry, part)

    monkeypatch.setattr(audit_module, "computed", interrupted)
    found = bb.audit(model, images, labels, **QUICK)
    assert found.summary.images == 60
    offset = found.checks.set_index("code").loc["logit-offset"]
    assert (offset["outcome"], offset["evidence"]) == ("not-run", "The audit was stopped before this was tried.")


class Blanker(BallAttack):
    """Registered below as a notebook would: makes the first pixel black."""

    needs = frozenset()

    def find(self, classifier, ball, means):
        return Found(ball.images, torch.zeros(len(ball.images), dtype=torch.bool), 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_processes_find_the_same_with_nets_and_attacks_that_only_this_one_knows(images, labels, model, monkeypatch):
    monkeypatch.setattr(Apgd, "strengths", {"quick": {"iterations": 50}})  # as the other processes have it
    monkeypatch.setattr(Square, "strengths", {})

    class Local(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model

        def forward(self, images):
            return self.net(images)

    local = type("Here", (Blanker,), {"__module__": "__main__"})
    bb.ATTACKS.register("blanker")(local)
    try:
        alone = bb.audit(Local(), images, labels, **QUICK)
        together = bb.audit(Local(), images, labels, workers=2, **QUICK)
    finally:
        del bb.ATTACKS._targets["blanker"], bb.ATTACKS._objects["blanker"]
    assert "blanker" in together.claims
    assert comparable(together.summary) == comparable(alone.summary)


def test_no_image_right_is_an_answer_too(model, images, labels):
    found = bb.audit(model, images, (labels + 1) % 10, **QUICK)
    assert found.robust_accuracy().value <= found.summary.accuracy < 20.0
    assert np.isfinite(found.plot().axes[0].get_ylim()).all()
