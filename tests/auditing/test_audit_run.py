"""Whole audits of a small linear net: the same whatever computes them, resumed, kept, and refused."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import bangbench.auditing.examine as examine_module
import bangbench.auditing.run as module
from bangbench.auditing.battery import Orders
from bangbench.auditing.claims import all_claims
from bangbench.auditing.parts import IMAGES, Part, parts_of
from bangbench.auditing.reasons import REASONS
from bangbench.auditing.run import audit
from bangbench.auditing.spec import AuditSpec
from bangbench.core.errors import BenchError, UsageError
from bangbench.core.executor import PER_JOB
from bangbench.core.progress import Silent
from bangbench.core.shares import Share, compute_share
from bangbench.store.audits import AuditRecord
from bangbench.store.chunks import Chunks
from bangbench.store.records import read_record
from bangbench.store.tables import read_table

FILE = Path(__file__).with_name("scenes.py")
SCENES = runpy.run_path(str(FILE))
COUNT, write_images = SCENES["COUNT"], SCENES["write_images"]
#: The nets of scenes.py bring their weights along.
USUAL = {"budget": ("0.1",), "workers": 1, "input_scale": 256.0, "strength": "quick", "random_weights": True}
#: Checks of differences so small that float32's rounding shows.
ROUNDED = ("wrong-gradient", "shattered-gradient", "rough-loss")
CODES = ("logit-offset", "logit-scale", "float64-differs")


class Recorder(Silent):
    """Keeps the notes, and the parts that were done before."""

    def __init__(self):
        self.notes, self.stretches = [], []

    def start(self, label, total, done=0, unit="it"):
        self.stretches.append((label, total, done, unit))

    def note(self, text):
        self.notes.append(text)


class Computed(list):
    """The parts computed so far; the audit is interrupted before the next one once there are `stop_after`."""

    stop_after = None


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "digits.npz"
    write_images(path)
    return f"npz:{path}"


@pytest.fixture
def spec(images, tmp_path):
    def make(net="Nearest", **settings):
        usual = {
            "budget": ("0.1",),
            "workers": 1,
            "input_scale": 256.0,
            "strength": "quick",
            "random_weights": True,
            "root": tmp_path,
        }
        return AuditSpec(model=f"{FILE}:{net}", data=images, **{**usual, **settings})

    return make


@pytest.fixture(scope="module")
def baseline(images, tmp_path_factory):
    """One audit that others are compared with: the record, and its folder."""
    root = tmp_path_factory.mktemp("baseline")
    settings = {
        "budget": ("0.1",),
        "workers": 1,
        "input_scale": 256.0,
        "strength": "quick",
        "random_weights": True,
        "root": root,
    }
    return audit(AuditSpec(model=f"{FILE}:Nearest", data=images, **settings)), root / "results/Nearest"


def found(record):
    """Return what an audit found, without what may differ between two runs of the same one."""
    assert record.status == "done"
    return record.key, record.spec, record.model, record.data, record.summary.model_copy(update={"seconds": 0.0})


@pytest.fixture
def computed(monkeypatch):
    """The parts that are computed from now on, in order."""
    true_compute, parts = examine_module.compute, Computed()

    def compute(part, subjects, orders):
        if len(parts) == parts.stop_after:
            raise KeyboardInterrupt
        parts.append(part)
        return true_compute(part, subjects, orders)

    monkeypatch.setattr(examine_module, "compute", compute)
    return parts


# --- what an audit leaves ---------------------------------------------------------------------------------------------


def test_a_record_and_a_table_are_left_and_nothing_else(baseline):
    record, folder = baseline
    assert sorted(path.name for path in folder.iterdir()) == ["audit.json", "audit.parquet"]
    assert read_record(folder / "audit.json", AuditRecord) == record
    assert record.summary.images == read_table(folder / "audit.parquet").num_rows == COUNT
    assert record.spec["budget"] == [25]
    assert record.against is None


def test_every_reason_is_checked_once_in_order(baseline):
    codes = [check.code for check in baseline[0].summary.checks]
    assert codes == list(REASONS)


def test_a_linear_net_is_sound(baseline):
    summary = baseline[0].summary
    assert (summary.verdict, summary.reasons) == ("sound", ())
    left_out = ("transfer", "apgd-t")  # there is no other model; quick leaves out what costs most
    assert [claim.claim for claim in summary.claims] == [claim for claim in all_claims() if claim not in left_out]
    assert summary.strength == "quick"
    assert 0 < summary.budgets[0].worst_case < summary.correct < COUNT


def test_the_table_of_a_whole_audit_gives_its_rates(baseline):
    record, folder = baseline
    columns = read_table(folder / "audit.parquet").to_pydict()
    for rates in record.summary.budgets:
        for attack, count in rates.flipped.items():
            distances, verdicts = columns.get(f"{attack}_linf"), columns.get(f"{attack}_within_{rates.budget}")
            assert count == (
                sum(value is not None and value <= rates.budget for value in distances)
                if verdicts is None
                else sum(value is True for value in verdicts)
            )


# --- the same result --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_processes_find_the_same_and_go_on_with_what_this_one_left(baseline, spec, computed, monkeypatch):
    computed.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        audit(spec())
    monkeypatch.setattr(module, "_IN_PROCESS_PIXELS", 0)
    recorder = Recorder()
    assert found(audit(spec(workers=2), recorder)) == found(baseline[0])
    assert len(computed) == 1  # nothing more in this process
    assert recorder.stretches[0][:2] == ("Nearest audit", 2 * PER_JOB)


def test_processes_attack_the_images_that_this_one_found_correct(spec, tmp_path):
    # a random model may be right about others in every process
    plan = module.make_plan(spec())
    attacked = np.zeros(COUNT, dtype=np.bool_)
    attacked[[0, 1, 5]] = True
    chunks, orders = Chunks(tmp_path / "chunks", plan.key), Orders((255,), "quick", True, False)
    parts = (*(Part("images", first) for first in (128, 256, 384, 512)), Part("images"))
    opening = module.Opening(plan.spec, parts, orders, 1, attacked, chunks)
    compute_share(Share(module.open_work, opening, plan.key, "Nearest", (4,)), Silent())
    assert chunks.read(4)["pgd@255/flipped"].tolist() == [True] * 3
    assert not chunks.done(0)


def test_the_batch_size_changes_nothing_but_the_cost_and_rounding(baseline, spec):
    usual, other = baseline[0].summary, audit(spec(batch_size=7)).summary
    assert [check.model_copy(update={"numbers": {}}) for check in other.checks if check.code not in ROUNDED] == [
        check.model_copy(update={"numbers": {}}) for check in usual.checks if check.code not in ROUNDED
    ]
    assert {check.outcome for check in other.checks if check.code in ROUNDED} == {"passed"}
    without = {"checks", "forwards", "seconds"}
    assert other.model_dump(exclude=without) == usual.model_dump(exclude=without)


def test_a_random_net_gets_the_same_audit_whatever_was_drawn_before(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(examine_module, "PASSES", 2)
    records = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            records.append(audit(spec("Noisy", root=tmp_path / str(seed), limit=6)))
    assert found(records[0]) == found(records[1])
    checks = {check.code: check for check in records[0].summary.checks}
    assert checks["random-outputs"].outcome == "suspect"
    assert "; the attacks that follow are on the mean of 2 passes" in checks["random-outputs"].evidence


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"batch_size": 3, "workers": 5, "strict": True, "device": "cpu", "overwrite": True}, True),
        ({"budget": ("25/255", "0.1")}, True),  # both are 25 grey levels
        ({"budget": ("0.05", "0.1")}, False),
        ({"seed": 1}, False),
        ({"strength": "standard"}, False),
        ({"limit": 9}, False),
        ({"input_scale": 255.0}, False),
        ({"against": f"{FILE}:Doubled"}, False),
        ({"net": "Doubled"}, False),  # the same weights
    ],
)
def test_an_audit_is_another_one_where_it_could_find_something_else(baseline, spec, settings, same):
    assert (module.make_plan(spec(**settings)).key == baseline[0].key) is same


# --- resuming ---------------------------------------------------------------------------------------------------------


def test_an_interrupted_audit_goes_on_where_it_stopped(baseline, spec, computed, tmp_path):
    computed.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        audit(spec())
    folder = tmp_path / "results/Nearest"
    assert read_record(folder / "audit.json", AuditRecord).status == "started"
    assert not (folder / "audit.parquet").exists()
    first, computed.stop_after, recorder = list(computed), None, Recorder()
    record = audit(spec(), recorder)
    assert found(record) == found(baseline[0])
    assert computed[:2] == first
    assert len(computed) == len(set(computed)) == 3
    assert "going on: 2 of 3 parts are done" in recorder.notes
    assert recorder.stretches == [("Nearest audit", 3, 2, "part")]
    assert sorted(path.name for path in folder.iterdir()) == ["audit.json", "audit.parquet"]


def test_what_was_left_of_other_settings_is_not_used(spec, computed):
    computed.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        audit(spec(limit=COUNT - 1))
    computed.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        audit(spec(overwrite=True))
    assert computed[1:] == computed[:1]


def test_a_finished_audit_is_returned_without_any_work(baseline, spec, computed, monkeypatch):
    root = baseline[1].parents[1]
    monkeypatch.setattr(examine_module, "preflight", lambda subject: pytest.fail("preflight was run again"))
    assert audit(spec(root=root)) == baseline[0]
    assert audit(spec(root=root, workers=3, batch_size=5, overwrite="differing", strict=True)) == baseline[0]
    assert computed == []


def test_an_audit_whose_table_is_gone_is_made_again(baseline, spec, computed, tmp_path):
    shutil.copytree(baseline[1].parents[1], tmp_path, dirs_exist_ok=True)
    table = tmp_path / "results/Nearest/audit.parquet"
    rows = table.read_bytes()
    table.unlink()
    assert found(audit(spec(workers=2))) == found(baseline[0])  # so few images are not worth processes
    assert table.read_bytes() == rows
    assert len(computed) == 3


def test_an_audit_with_other_settings_is_protected(baseline, spec, tmp_path):
    shutil.copytree(baseline[1].parents[1], tmp_path, dirs_exist_ok=True)
    with pytest.raises(BenchError, match=r"other settings \(limit: 1000 -> 5\); .* or pass --overwrite"):
        audit(spec(limit=5))
    assert read_record(tmp_path / "results/Nearest/audit.json", AuditRecord) == baseline[0]
    assert audit(spec(limit=5, overwrite=True)).summary.images == 5
    assert read_table(tmp_path / "results/Nearest/audit.parquet").num_rows == 5


# --- the regular model ------------------------------------------------------------------------------------------------


def test_against_itself_there_is_no_transfer(spec):
    record = audit(spec(against=f"{FILE}:Nearest", input_scale=None, limit=9))
    assert record.against is None
    assert record.summary.claim("transfer") is None
    check = next(check for check in record.summary.checks if check.code == "transfer-beats-direct")
    assert check.outcome == "not-run"
    assert check.evidence == "The regular model to compare with is this model itself."


def test_against_another_function_of_the_same_weights_there_is_transfer(spec):
    record = audit(spec(against=f"{FILE}:Doubled"))
    assert record.against.name == "Doubled"
    assert record.model.weights_sha256 == record.against.weights_sha256
    # twice the logits lead to the same images as a direct attack of a few steps
    assert record.summary.claim("transfer").rate > 0.0
    checks = {check.code: check for check in record.summary.checks}
    assert checks["transfer-beats-direct"].outcome == "passed"
    assert "; the regular model falls to the same attack at a mean L_inf of " in checks["fgs-masked"].evidence


# --- models that cannot be attacked -----------------------------------------------------------------------------------


def test_a_model_that_is_never_right_gets_an_audit_without_rates(spec, computed, tmp_path):
    record = audit(spec("Farthest"))
    assert computed == []
    assert (record.summary.correct, record.summary.accuracy) == (0, 0.0)
    assert [(rates.rate, rates.robust_accuracy) for rates in record.summary.budgets] == [(None, 0.0)]
    outcomes = {check.code: check.outcome for check in record.summary.checks}
    for code in ("wrong-gradient", "loss-underflow", "fgs-masked", *CODES, "one-step-beats-many", "not-converged"):
        assert outcomes[code] == "not-run"
    table = read_table(tmp_path / "results/Farthest/audit.parquet")
    assert table["attacked"].to_pylist() == [False] * COUNT


def test_a_model_that_float64_cannot_reach_is_audited_all_the_same(spec):
    record = audit(spec("KeptInAList"))
    checks = {check.code: check for check in record.summary.checks}
    assert checks["float64-differs"].outcome == "not-run"
    assert checks["logit-scale"].outcome == "passed"


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_an_unknown_model_is_refused(images, tmp_path):
    with pytest.raises(UsageError, match="unknown model 'nobody'"):
        audit(AuditSpec(model="nobody", data=images, root=tmp_path))
    assert not (tmp_path / "results").exists()


def test_an_unknown_regular_model_is_refused(spec, tmp_path):
    with pytest.raises(UsageError, match="unknown model 'nobody'"):
        audit(spec(against="nobody"))
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("budget", ["0", "8", "1/256", "much"])
def test_a_budget_that_is_no_share_of_the_range_is_refused(spec, tmp_path, budget):
    with pytest.raises(UsageError, match=rf"at least 1/255 and at most 1, found '{budget}'"):
        audit(spec(budget=("0.1", budget)))
    assert not (tmp_path / "results").exists()


def test_a_model_that_changes_meanwhile_is_refused_by_the_processes(spec, tmp_path):
    plan = module.make_plan(spec())
    attacked, orders = np.ones(COUNT, dtype=np.bool_), Orders((25,), "quick", True, False)
    opening = module.Opening(plan.spec, (), orders, 1, attacked, Chunks(tmp_path, ""))
    with pytest.raises(BenchError, match="Nearest or its data was changed meanwhile; run the command again"):
        compute_share(Share(module.open_work, opening, "another key", "Nearest", ()), Silent())


# --- parts ------------------------------------------------------------------------------------------------------------


def test_every_correct_image_is_in_one_part_and_every_change_is_one():
    parts = parts_of(2 * IMAGES + 1, Orders((5, 10), "quick", has_gradient=True, has_source=True), CODES)
    assert [part.first for part in parts if part.kind == "images"] == [0, IMAGES, 2 * IMAGES]
    assert [part.variant for part in parts if part.kind == "changed"] == list(CODES)
    assert len(parts) == len(set(parts)) == 3 + 3 + 1
    assert [part.kind for part in parts][-1] == "regular"


def test_without_a_gradient_nothing_is_changed_or_compared():
    parts = parts_of(5, Orders((5,), "quick", has_gradient=False, has_source=True), CODES)
    assert parts == (Part("images", 0),)


def test_changes_that_cannot_be_made_are_left_out():
    parts = parts_of(5, Orders((5,), "quick", has_gradient=True, has_source=False), CODES[:1])
    assert {part.variant for part in parts} == {None, "logit-offset"}
