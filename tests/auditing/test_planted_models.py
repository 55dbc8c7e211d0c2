"""Whole audits, from the spec to the record, of models with a planted fault and of sound ones."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

SET = runpy.run_path(str(Path(__file__).with_name("planted_set.py")))
PAGE = Path(__file__).parents[2] / "docs/audit.md"
BROKEN, CLEAN, audited, alarms = (SET[name] for name in ("BROKEN", "CLEAN", "audited", "alarms"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    SET["write_weights"](folder)
    return folder


@pytest.mark.parametrize("model", BROKEN, ids=[model.what for model in BROKEN])
def test_a_planted_fault_is_found_and_named(model, weights, tmp_path):
    record = audited(model, weights, tmp_path)
    assert set(alarms(record)) >= set(model.codes)
    assert record.summary.verdict in ("suspect", "masked")
    assert set(record.summary.reasons) & set(model.codes)


@pytest.mark.parametrize("model", CLEAN, ids=[model.what for model in CLEAN])
def test_sound_nets_raise_no_alarm(model, weights, tmp_path):
    record = audited(model, weights, tmp_path)
    assert alarms(record) == ()
    assert record.summary.verdict == "sound"
    assert record.summary.reasons == ()


def test_true_robustness_is_told_from_masking(weights, tmp_path):
    wanted = [CLEAN[0], CLEAN[2], next(model for model in BROKEN if model.net == "LargeLogits")]
    regular, robust, masked = (audited(model, weights, tmp_path) for model in wanted)
    rates = [record.summary.budgets[-1].rate for record in (regular, robust, masked)]
    assert rates[1] < rates[0] - 20
    assert abs(rates[2] - rates[0]) < 10
    assert masked.summary.claim("fgs").verdict == "masked"
    assert masked.summary.claim("pgd").verdict == "sound"
    assert masked.summary.claim("fgs").rate < regular.summary.claim("fgs").rate - 50
    assert np.isfinite(robust.summary.seconds)


def test_the_page_lists_every_planted_model_as_it_should_be():
    page = PAGE.read_text(encoding="utf-8")
    for model in (*BROKEN, *CLEAN):
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {model.what} |")]
        for code in model.codes:
            assert f"[{code}](#{code})" in line
        assert ("sound" in line) == (model in CLEAN)
    assert f"{len(BROKEN)} of {len(BROKEN)} broken models caught, 0 false alarms on {len(CLEAN)} clean ones" in page
