"""Typed records on disk, and whether a result that is there is the one asked for."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from bangbench.core.errors import BenchError
from bangbench.core.locks import folder_lock, lock_holder
from bangbench.core.provenance import Provenance
from bangbench.core.spec import Overwrite
from bangbench.store.records import (
    AttackRecord,
    AttackSummary,
    DataInfo,
    LinfSummary,
    ModelCard,
    ModelInfo,
    Moments,
    NoiseRecord,
    NoiseSummary,
    Preprocessing,
    Record,
    find_record,
    read_record,
    write_record,
)
from bangbench.store.reuse import finished_record

PROVENANCE = Provenance(
    bangbench="0.1.0",
    commit=None,
    dirty=None,
    python="3.12.0",
    packages={"torch": "2.7"},
    system="Linux x86_64",
    processor="a processor",
    cores=2,
    device="cpu",
    command="bangbench attack R0",
)
MODEL = ModelInfo(
    name="R0", net="lenet", parameters=431080, classes=2, input_shape=(1, 28, 28), preprocessing=Preprocessing()
)
DATA = DataInfo(name="mnist", source="mnist", fingerprint="ab" * 32, images=10, class_names=("0", "1"))
SETTINGS = {"attack": "fgs", "limit": 10}
LEVELS: list[Overwrite] = [False, "unfinished", "differing", True]
MOMENTS = Moments(mean=0.4, std=0.1)
SUMMARY = AttackSummary(
    accuracy=90.0,
    images=10,
    correct=9,
    flipped=3,
    rate=100 / 3,
    rate_interval=(12.1, 64.6),
    blank=0.0,
    linf=LinfSummary(mean=40.5, std=15.7, median_censored=None),
    l2=MOMENTS,
    pass_definition=MOMENTS,
    pass_paper=Moments(mean=None, std=None),
    unaligned=MOMENTS,
    ecc_failures={"definition": 0, "paper": 1},
    unverified=0,
    forwards=100,
    seconds=1.5,
)
NOISE = NoiseSummary(
    stages=(500,),
    sigmas=(10.0, 20.0),
    draws=5,
    images=2,
    images_per_class=(1, 1),
    flipped_percent=(((1.0, 2.0),), ((0.0, 1.0),)),
    forwards=40,
    seconds=1.0,
)


def attack_record(**changes: Any) -> AttackRecord:
    values = {"schema": 1, "status": "done", "key": "k", "spec": SETTINGS, "provenance": PROVENANCE}
    return AttackRecord(**{**values, "attack": "fgs", "model": MODEL, "data": DATA, "summary": SUMMARY, **changes})


def all_kinds() -> list[Record]:
    shared = {"schema": 1, "status": "done", "key": "k", "spec": SETTINGS, "provenance": PROVENANCE}
    card = ModelCard(**shared, model=MODEL, train_data=DATA, stages=(500, 1000), accuracy=99.1, seconds=3.0)
    noise = NoiseRecord(**shared, models=(MODEL, MODEL), data=DATA, summary=NOISE)
    return [attack_record(), attack_record(status="started", summary=None), card, noise]


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "fgs.json"
    write_record(path, attack_record())
    return path


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("record", all_kinds(), ids=lambda record: f"{record.kind} {record.status}")
def test_a_record_is_read_back_as_it_was_written(record: Record, tmp_path: Path) -> None:
    write_record(tmp_path / "r.json", record)
    assert read_record(tmp_path / "r.json", type(record)) == record


def test_numbers_are_stored_as_numbers_under_the_names_of_the_design(stored: Path) -> None:
    value = json.loads(stored.read_text())
    assert value["schema"] == 1
    assert value["summary"]["linf"] == {"mean": 40.5, "std": 15.7, "median_censored": None}
    assert value["summary"]["pass"] == {"mean": 0.4, "std": 0.1}
    assert value["summary"]["rate_interval"] == [12.1, 64.6]


def test_what_is_not_a_number_is_never_written(tmp_path: Path) -> None:
    record = attack_record(summary=SUMMARY.model_copy(update={"rate": float("nan")}))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(tmp_path / "fgs.json", record)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("schema", [0, 2, None, "1"])
def test_a_record_of_another_schema_says_so_and_what_to_do(stored: Path, schema: Any) -> None:
    change(stored, schema=schema)
    with pytest.raises(BenchError, match=rf"fgs\.json: record of schema {schema}, this bangbench reads schema 1"):
        read_record(stored, AttackRecord)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"surprise": 1}, r"not a AttackRecord: surprise: is not known here"),
        ({"status": "nearly"}, r"status: expected 'started' or 'done'"),
        ({"kind": "noise"}, r"kind: expected 'attack'"),
        ({"model": {"name": "R0"}}, r"model\.net: is missing"),
    ],
)
def test_a_record_with_wrong_fields_names_file_and_field(stored: Path, values: dict[str, Any], message: str) -> None:
    change(stored, **values)
    with pytest.raises(BenchError, match=rf"fgs\.json: .*{message}"):
        read_record(stored, AttackRecord)


@pytest.mark.parametrize("content", [b"", b'{"schema": 1, "sta', b"\xff\xfe\x00", b"\x89PNG"])
def test_a_damaged_record_is_named(stored: Path, content: bytes) -> None:
    stored.write_bytes(content)
    with pytest.raises(BenchError, match=r"fgs\.json: cannot be read as JSON"):
        read_record(stored, AttackRecord)


def test_json_that_is_no_object_is_refused(stored: Path) -> None:
    stored.write_text("[1, 2]")
    with pytest.raises(BenchError, match=r"fgs\.json: expected a JSON object, found list"):
        read_record(stored, AttackRecord)


def test_there_may_be_no_record(tmp_path: Path) -> None:
    assert find_record(tmp_path / "none.json", AttackRecord) is None


def ask(path: Path, key: str = "k", overwrite: Overwrite = False, **settings: Any) -> AttackRecord | None:
    return finished_record(path, AttackRecord, key, SETTINGS | settings, overwrite)


@pytest.mark.parametrize("overwrite", [False, "unfinished", "differing"])
def test_a_finished_record_of_the_same_settings_is_used(stored: Path, overwrite: Overwrite) -> None:
    assert ask(stored, overwrite=overwrite) == attack_record()


def test_the_same_settings_are_computed_again_where_that_is_asked_for(stored: Path) -> None:
    assert ask(stored, overwrite=True) is None


@pytest.mark.parametrize("overwrite", LEVELS)
def test_a_started_record_of_the_same_settings_is_gone_on_with(stored: Path, overwrite: Overwrite) -> None:
    write_record(stored, attack_record(status="started", summary=None))
    assert ask(stored, overwrite=overwrite) is None


@pytest.mark.parametrize(
    ("status", "overwrite"), [("started", False), ("done", False), ("done", "unfinished")], ids=str
)
def test_a_record_of_other_settings_is_protected_and_the_difference_named(
    stored: Path, status: str, overwrite: Overwrite
) -> None:
    write_record(stored, attack_record(status=status))
    with pytest.raises(BenchError, match=r"made with other settings \(limit: 10 -> 20\); .* or pass --overwrite"):
        ask(stored, key="other", overwrite=overwrite, limit=20)


def test_a_training_that_diverged_before_its_first_snapshot_may_be_done_otherwise(tmp_path: Path) -> None:
    shared = {"schema": 1, "status": "started", "key": "k", "spec": SETTINGS, "provenance": PROVENANCE}
    write_record(tmp_path / "model.json", ModelCard(**shared, model=MODEL, train_data=DATA))
    assert finished_record(tmp_path / "model.json", ModelCard, "other", {}, False) is None
    (tmp_path / "resume.safetensors").touch()
    with pytest.raises(BenchError, match="other settings"):
        finished_record(tmp_path / "model.json", ModelCard, "other", {}, False)


def test_a_record_of_other_inputs_says_that_they_differ(stored: Path) -> None:
    with pytest.raises(BenchError, match="the data or the weights are not the same"):
        ask(stored, key="other")


def test_a_setting_that_only_one_of_them_has_is_named(stored: Path) -> None:
    with pytest.raises(BenchError, match=r"\(clip: None -> True\)"):
        ask(stored, key="other", clip=True)


def test_a_nested_setting_that_differs_is_named_alone(stored: Path) -> None:
    settings = {"method_settings": {"beta": 1.0, "ratio": 0.5}, "steps": {}}
    write_record(stored, attack_record(spec=SETTINGS | settings))
    with pytest.raises(BenchError, match=r"\(method_settings\.beta: 1\.0 -> 2\.0\)"):
        ask(stored, key="other", **settings | {"method_settings": {"beta": 2.0, "ratio": 0.5}})
    with pytest.raises(BenchError, match=r"\(steps: \{\} -> None\)"):
        ask(stored, key="other", **settings | {"steps": None})


@pytest.mark.parametrize(
    ("status", "overwrite"),
    [("done", True), ("done", "differing"), ("started", "differing"), ("started", "unfinished")],
)
def test_a_record_of_other_settings_is_replaced_where_that_is_asked_for(
    stored: Path, status: str, overwrite: Overwrite
) -> None:
    write_record(stored, attack_record(status=status))
    assert ask(stored, key="other", overwrite=overwrite, limit=20) is None


@pytest.mark.parametrize("overwrite", [False, "unfinished"])
def test_a_damaged_record_stands_in_the_way_unless_it_may_be_replaced(stored: Path, overwrite: Overwrite) -> None:
    stored.write_text("{")
    with pytest.raises(BenchError, match="cannot be read as JSON"):
        ask(stored, overwrite=overwrite)
    assert ask(stored, overwrite="differing") is None
    assert ask(stored, overwrite=True) is None


SETTINGS_OF_METHODS = {
    "seed": 3,
    "rate": 0.5,
    "whole": 2.0,
    "mode": "soft",
    "warm": True,
    "limit": None,
    "layers": ["conv1", 2],
}


def test_settings_of_a_method_keep_their_types(tmp_path: Path) -> None:
    path, model = tmp_path / "model.json", MODEL.model_copy(update={"method_settings": SETTINGS_OF_METHODS})
    shared = {"schema": 1, "status": "done", "key": "k", "spec": SETTINGS, "provenance": PROVENANCE}
    write_record(path, ModelCard(**shared, model=model, train_data=DATA))
    found = read_record(path, ModelCard).model
    assert found.method_settings == SETTINGS_OF_METHODS
    assert [type(value) for value in found.method_settings.values()] == [int, float, float, str, bool, type(None), list]


def test_settings_of_a_method_are_compared_shown_and_taken_as_numbers() -> None:
    model = MODEL.model_copy(update={"method_settings": SETTINGS_OF_METHODS})
    same = MODEL.model_copy(update={"method_settings": dict(reversed(SETTINGS_OF_METHODS.items()))})
    other = MODEL.model_copy(update={"method_settings": SETTINGS_OF_METHODS | {"layers": ["conv1", 3]}})
    assert len({model.method_identity(), same.method_identity(), other.method_identity()}) == 2
    assert [model.method_number(name) for name in ("seed", "rate", "mode", "warm", "limit", "missing")] == [
        *(3.0, 0.5),
        *[None] * 4,
    ]
    assert list(model.method_text().values()) == ["3", "0.5", "2", "soft", "true", "null", '["conv1", 2]']


def test_a_snapshot_of_a_finished_training_is_removed(tmp_path: Path) -> None:
    card = ModelCard(
        schema=1, status="done", key="k", spec={}, provenance=PROVENANCE, model=MODEL, train_data=DATA, accuracy=1.0
    )
    write_record(tmp_path / "model.json", card)
    (tmp_path / "resume.safetensors").touch()
    assert finished_record(tmp_path / "model.json", ModelCard, "k", {}, False) == card
    assert not (tmp_path / "resume.safetensors").exists()


def test_chunks_of_finished_work_are_removed_by_who_holds_the_lock(stored: Path) -> None:
    left = stored.with_name(f".chunks-{stored.stem}") / "000000-x.npz"
    left.parent.mkdir()
    left.touch()
    assert ask(stored) is not None
    assert left.exists()
    with folder_lock(stored.parent):
        assert ask(stored) is not None
    assert not left.parent.exists()


def test_the_lock_of_a_process_that_was_killed_after_its_record_is_removed(stored: Path) -> None:
    for name in (".lock", ".lock-holder"):
        stored.with_name(name).touch()
    assert ask(stored) is not None
    assert not list(stored.parent.glob(".lock*"))


def test_a_lock_that_another_thread_holds_stays_beside_finished_work(stored: Path) -> None:
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with folder_lock(stored.parent):
            taken.set()
            done.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    try:
        assert taken.wait(60)
        assert ask(stored) is not None
        assert stored.with_name(".lock-holder").read_text()
        assert lock_holder(stored.parent) is not None
    finally:
        done.set()
        other.join()
