"""The summary of a noise evolution on disk, with and without a precision."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bangbench.core.provenance import collect_provenance
from bangbench.store.records import DataInfo, ModelInfo, NoiseRecord, NoiseSummary, Preprocessing

PLAIN = {
    "stages": [500, 1000],
    "sigmas": [10.0],
    "draws": 9,
    "images": 4,
    "images_per_class": [2, 2],
    "flipped_percent": [[[1.0], [2.0]], [[0.0], [1.0]]],
    "forwards": 40,
    "seconds": 1.0,
}
STOPPED = {
    "precision": 0.5,
    "draws_used": [[[3], [9]], [[3], [5]]],
    "flipped_interval": [[[[0.5, 1.5]], [[1.0, 3.0]]], [[[0.0, 0.4]], [[0.5, 1.5]]]],
}
REDUCED = {"arithmetic": "bfloat16", "compared": 80, "differing": 2}


@pytest.mark.parametrize("value", [PLAIN, PLAIN | STOPPED, PLAIN | REDUCED, PLAIN | STOPPED | REDUCED])
def test_a_summary_is_written_as_it_was_read_and_nothing_is_added(value):
    summary = NoiseSummary.model_validate(value)
    assert summary.model_dump(mode="json") == value
    assert NoiseSummary.model_validate_json(summary.model_dump_json()) == summary


@pytest.mark.parametrize("name", [*STOPPED, *REDUCED])
def test_a_part_of_what_belongs_together_is_refused(name):
    value = PLAIN | STOPPED | REDUCED
    with pytest.raises(ValidationError, match=f"together, found no {name}"):
        NoiseSummary.model_validate({key: part for key, part in value.items() if key != name})


@pytest.mark.parametrize(
    "change",
    [
        {"draws_used": [[[3], [9]]]},
        {"draws_used": [[[3], [9]], [[3]]]},
        {"flipped_interval": [[[], []], [[], []]]},
    ],
)
def test_draws_and_intervals_of_other_stages_and_sigmas_are_refused(change):
    with pytest.raises(ValidationError, match="for every model, stage and sigma"):
        NoiseSummary.model_validate(PLAIN | STOPPED | change)


def test_percentages_of_another_number_of_models_are_refused():
    model = ModelInfo(
        name="R0", net="lenet", parameters=1, classes=2, input_shape=(1, 2, 2), preprocessing=Preprocessing()
    )
    given = {"schema": 1, "status": "done", "key": "k", "spec": {}, "provenance": collect_provenance("cpu")}
    given |= {
        "data": DataInfo(name="x", source="x", fingerprint="x", images=4, class_names=("0", "1")),
        "summary": PLAIN,
    }
    assert NoiseRecord(**given, models=(model, model)).summary is not None
    with pytest.raises(ValidationError, match="expected percentages of 1 models, found 2"):
        NoiseRecord(**given, models=(model,))


@pytest.mark.parametrize("draws", [0, 10])
def test_draws_that_no_cell_can_have_taken_are_refused(draws):
    with pytest.raises(ValidationError, match="expected 1 to 9 draws in every cell"):
        NoiseSummary.model_validate(PLAIN | STOPPED | {"draws_used": [[[3], [9]], [[3], [draws]]]})
