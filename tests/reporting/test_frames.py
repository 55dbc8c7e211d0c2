"""The tidy frames: what stands in them, and that every column is explained."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from bangbench.core.errors import BenchError, UsageError
from bangbench.core.statistics import wilson_interval
from bangbench.reporting.frames import COLUMNS, read


@pytest.fixture
def frames(records):
    records.images("table1/R0", "fgs", [4.0, 9.0, math.inf], wrong=1)
    records.attack("table1/B1", "fgs")
    records.audit("table1/B1", strength="quick")
    records.noise("table1/R0", "table1/B1", stages=(500, 1000), sigmas=(10.0, 20.0))
    return read(records.root / "results")


def test_every_column_is_there_and_explained(frames):
    for name, columns in COLUMNS.items():
        frame = getattr(frames, name)
        assert list(frame.columns) == list(columns)
        assert len(frame) > 0
        assert {column: str(dtype) for column, dtype in frame.dtypes.items()} == {
            column: dtype for column, (dtype, _) in columns.items()
        }
        assert all(meaning for _, meaning in columns.values())


def test_attacks_have_one_row_each_with_the_audits_verdict(frames):
    attacks = frames.attacks.set_index("model")

    assert attacks.loc["table1/B1", "rate_percent"] == 1.683128
    assert attacks.loc["table1/B1", "linf_median_censored_grey_levels"] == math.inf
    assert attacks["audit_verdict"].to_dict() == {"table1/R0": "not audited", "table1/B1": "masked"}
    assert attacks.loc["table1/R0", "flipped"] == 2


def test_images_have_a_row_each(frames):
    images = frames.images

    assert images["linf"].tolist()[:2] == [4.0, 9.0]
    assert images.groupby(["model", "attack"], observed=True).size().to_dict() == {("table1/R0", "fgs"): 4}


def test_audits_have_verdicts_by_claim_and_rates_by_budget(frames):
    audits = frames.audits
    within = audits[audits["budget_grey_levels"] == 51].set_index("claim")

    assert audits[audits["claim"] == "overall"]["audit_verdict"].tolist() == ["masked"]
    assert set(audits["strength"]) == {"quick"}
    assert within.loc["pgd", "rate_percent"] == pytest.approx(100 * 950 / 990)
    assert within.loc["worst-case", "robust_accuracy_percent"] == pytest.approx(3.8)
    ends = within.loc["worst-case", ["robust_low_percent", "robust_high_percent"]].tolist()
    assert ends == pytest.approx(wilson_interval(38, 1000))


def test_noise_is_long_by_model_stage_and_sigma(frames):
    noise = frames.noise

    assert noise.groupby(["model", "stage", "sigma_grey_levels"]).size().tolist() == [1] * 8
    assert set(noise["reference"]) == {"table1/R0"}
    assert noise[noise["is_last"]]["stage"].tolist() == [1000] * 4
    assert noise["draws"].tolist() == [1000] * 8
    assert noise["low_percent"].isna().all()


def test_the_folder_or_what_holds_it_may_be_given_and_models_chosen(records, frames):
    pd.testing.assert_frame_equal(read(records.root).attacks, frames.attacks)
    assert read(records.root, ["table1/B1"]).attacks["model"].tolist() == ["table1/B1"]
    with pytest.raises(UsageError, match="did you mean 'table1/B1'"):
        read(records.root, ["table1/B11"])
    with pytest.raises(BenchError, match="expected a folder called results"):
        read(records.root / "models")


def test_what_cannot_be_read_is_named(records, frames):
    path = records.attack("table1/B1", "hc1")
    path.write_text("{")

    assert [problem.partition(":")[0] for problem in read(records.root).problems] == [str(path)]


def test_the_paper_of_a_method_is_what_the_card_says(records):
    records.attack("t/R0", "fgs")
    path = records.card("t/R0")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"paper": "Someone et al. 2021, arXiv 2102.00001"}))

    assert read(records.root).models[["paper", "year"]].values.tolist() == [
        ["Someone et al. 2021, arXiv 2102.00001", 2021]
    ]
