"""Finding and reading records: what is usable, what is not, and what the user asked for."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from bangbench.core.errors import BenchError, UsageError
from bangbench.reporting.collect import collect
from bangbench.store.records import NoiseRecord, read_record, write_record
from bangbench.store.tables import write_table


def test_attacks_and_noise_of_models_with_and_without_a_prefix_are_found(records):
    records.attack("R0", "fgs")
    records.attack("table1/R0", "hc1")
    records.noise("table1/R0", "table1/B1")

    found = collect(records.root, ())

    assert [(item.name, item.record.attack) for item in found.attacks] == [("R0", "fgs"), ("table1/R0", "hc1")]
    assert [item.name for item in found.noise] == ["table1/R0-vs-B1"]
    assert found.problems == ()


def test_the_parquet_file_lies_beside_the_path_that_is_returned(records):
    path = records.attack("table1/R0", "fgs")

    assert collect(records.root, ()).attacks[0].path == path


def test_the_report_the_benchmarks_and_hidden_folders_hold_no_records(records):
    records.attack("table1/R0", "fgs")
    for name in ("report", "benchmarks", "table1/.chunks-fgs", ".cache"):
        folder = records.root / "results" / name
        folder.mkdir(parents=True)
        (folder / "table1.json").write_text("not a record")

    assert collect(records.root, ()).problems == ()


def test_records_that_cannot_be_used_are_named_and_the_others_are_read(records):
    records.attack("table1/R0", "fgs")
    corrupt = records.attack("table1/R0", "hc1")
    corrupt.write_text('{"schema": 1, "sta')
    older = records.attack("table1/B1", "fgs")
    older.write_text(json.dumps({**json.loads(older.read_text()), "schema": 0}))
    incomplete = records.attack("table1/B1", "hc1")
    incomplete.write_text(json.dumps({"schema": 1, "kind": "attack"}))
    empty = records.attack("table1/B2", "fgs", status="done without numbers")
    empty.write_text(json.dumps({**json.loads(empty.read_text()), "status": "done"}))
    renamed = records.attack("table1/B2", "hc1")
    renamed.rename(renamed.with_name("fgs-unmasked.json"))

    found = collect(records.root, ())

    assert [item.name for item in found.attacks] == ["table1/R0"]
    for part in (
        f"{corrupt}: cannot be read as JSON",
        f"{older}: record of schema 0, this bangbench reads schema 1; measure it again",
        f"{incomplete}: not a AttackRecord",
        f"{empty}: the run is marked done but has no summary; measure it again",
        f"{renamed.with_name('fgs-unmasked.json')}: expected the record of fgs-unmasked, found hc1",
    ):
        assert sum(problem.startswith(part) for problem in found.problems) == 1, part
    assert len(found.problems) == 5


@pytest.mark.parametrize("surface", [(), ((1.0, 2.0),), ((1.0,), (2.0, 3.0))])
def test_a_noise_record_with_holes_in_its_surfaces_is_named(records, surface):
    percent = (((1.0,), (2.0,)), surface)
    path = records.noise("R0", "B1", stages=(500, 1000), sigmas=(10.0,), flipped_percent=percent)

    found = collect(records.root, ())

    assert found.noise == ()
    assert found.problems[0].startswith(f"{path}: expected percentages for 2 stages x 1 sigmas")


def test_any_number_of_models_may_stand_beside_each_other(records):
    path = records.noise("R0", "B1", stages=(500,), sigmas=(10.0,), draws=4, images=1, flipped_percent=2 * (((0.0,),),))
    record = read_record(path, NoiseRecord)
    models = (*record.models, record.models[1].model_copy(update={"name": "B2"}))
    percent = (((0.0,),), ((25.0,),), ((75.0,),))
    summary = record.summary.model_copy(update={"flipped_percent": percent})
    write_record(path, record.model_copy(update={"models": models, "summary": summary}))
    counts = {"flipped": np.array([0, 1, 3], dtype=np.int32)}
    write_table(path.with_suffix(".parquet"), counts, pa.schema([("flipped", pa.int32())]))

    (found,) = collect(records.root, ()).noise

    assert [info.name for info in found.record.models] == ["R0", "B1", "B2"]
    assert found.percent.ravel().tolist() == [0.0, 25.0, 75.0]


def test_single_images_that_do_not_belong_to_the_record_are_named(records):
    path = records.images("t/R0", "fgs", [4.0, 9.0, float("inf")], wrong=1)
    assert collect(records.root, ()).attacks[0].images["linf"].tolist()[:2] == [4.0, 9.0]

    records.attack("t/R0", "fgs", images=4, correct=3, flipped=3, rate=100.0)
    found = collect(records.root, ())

    assert found.attacks[0].images is None
    assert "expected (images, correct, flipped) (4, 3, 3)" in found.problems[0]
    assert str(path.with_suffix(".parquet")) in found.problems[0]


def test_counts_of_noise_that_do_not_belong_to_the_record_are_named(records):
    path = records.noise("R0", "B1", stages=(500,), sigmas=(10.0,), draws=4, images=1, flipped_percent=2 * (((0.0,),),))
    counts = {"flipped": np.array([0, 1], dtype=np.int32)}
    write_table(path.with_suffix(".parquet"), counts, pa.schema([("flipped", pa.int32())]))

    found = collect(records.root, ())

    assert found.noise[0].flipped is None
    assert "expected 0.0000 % flipped of model 2 at stage 500 and sigma 10, found 25.0000 %" in found.problems[0]


def test_a_started_run_is_mentioned_and_not_tabulated(records):
    records.attack("table1/R0", "fgs", status="started")
    records.noise("table1/R0", "table1/B1", status="started")

    found = collect(records.root, ())

    assert (found.attacks, found.noise, found.problems) == ((), (), ())
    assert [(item.name, item.run) for item in found.unfinished] == [
        ("table1/R0", "fgs"),
        ("table1/R0-vs-B1", "noise"),
    ]


def test_asking_for_models_brings_the_pairs_among_them_and_nothing_else(records):
    for name in ("table1/R0", "table1/B1", "table1/B2"):
        records.attack(name, "fgs")
    records.noise("table1/R0", "table1/B1")
    records.noise("table1/R0", "table1/B2")
    records.attack("table1/B2", "hc1").write_text("{")

    found = collect(records.root, ("table1/B1", "table1/R0"))

    assert {item.name for item in found.attacks} == {"table1/R0", "table1/B1"}
    assert [item.name for item in found.noise] == ["table1/R0-vs-B1"]
    assert found.problems == ()


def test_a_model_without_results_raises_with_the_closest_name(records):
    records.attack("table1/R0", "fgs")
    records.attack("demo/B1", "fgs")

    with pytest.raises(UsageError, match=r"unknown model with results 'tabel1/R0': did you mean 'table1/R0'\?"):
        collect(records.root, ("tabel1/R0",))


def test_no_results_at_all_says_how_to_get_some(tmp_path):
    with pytest.raises(BenchError, match=r"results: found no results; measure something first.*bangbench attack"):
        collect(tmp_path, ())


def test_audits_are_found_beside_the_attacks_and_finished_ones_only(records):
    records.attack("table1/R0", "fgs")
    path = records.audit("table1/R0")
    records.audit("lenet")
    records.audit("table1/B1", status="started")

    found = collect(records.root, ())

    assert [(item.name, item.summary.verdict) for item in found.audits] == [("lenet", "sound"), ("table1/R0", "sound")]
    assert found.audits[1].path == path
    assert [(item.name, item.run) for item in found.unfinished] == [("table1/B1", "audit")]
    assert [item.name for item in found.attacks] == ["table1/R0"]
    assert found.problems == ()


def test_audits_that_cannot_be_used_are_named(records):
    records.attack("table1/R0", "fgs")
    damaged = records.audit("table1/R0")
    damaged.write_text(damaged.read_text().replace('"worst_case"', '"worst"'))
    empty = records.audit("table1/B1", status="started")
    empty.write_text(empty.read_text().replace("started", "done"))

    found = collect(records.root, ())

    assert found.audits == ()
    assert [problem.partition(": ")[0] for problem in found.problems] == [str(empty), str(damaged)]
    assert "has no summary" not in found.problems[1]


def test_a_model_with_nothing_but_an_audit_can_be_asked_for(records):
    records.audit("table1/R0")

    assert [item.name for item in collect(records.root, ("table1/R0",)).audits] == ["table1/R0"]


def test_an_audit_with_more_flipped_than_correct_images_is_named(records):
    records.attack("table1/R0", "fgs")
    path = records.audit("table1/R0", correct=900)

    assert collect(records.root, ()).problems == (
        f"{path}: expected at most 900 flipped of 1,000 images, of which so many are correct, found 985; audit it "
        "again",
    )
