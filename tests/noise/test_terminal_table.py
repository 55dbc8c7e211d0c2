"""What `bangbench noise-eval` prints of a record."""

from __future__ import annotations

import io

from rich.console import Console

from bangbench.cli.noise_eval import noise_summary
from bangbench.noise.run import evolve
from bangbench.noise.spec import NoiseSpec


def printed(record) -> str:
    file = io.StringIO()
    Console(width=200, file=file).print(noise_summary(record))
    return file.getvalue()


def record_of(root, **settings):
    small = {"sigma": (60.0, 240.0), "draws": 12, "per_class": 3, "root": root, "device": "cpu"}
    return evolve(NoiseSpec(models=("demo/R0", "demo/B1"), **small, **settings))


def words(text: str) -> str:
    return " ".join(text.split())


def rows_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


def test_without_a_precision_there_are_draws_in_the_title_and_no_intervals(models, tmp_path):
    text = printed(record_of(tmp_path))
    assert "30 images, 12 draws each" in words(text)
    assert "interval" not in text
    assert "predictions in" not in text
    assert [len(row) for row in rows_of(text)] == [4, 4]


def test_the_last_column_tells_how_much_less_than_the_first_model_is_flipped(models, tmp_path):
    record = record_of(tmp_path)
    shown = [float(row[-1]) for row in rows_of(printed(record))]
    first, other = (surface[-1] for surface in record.summary.flipped_percent)
    assert shown == [round(one - another, 2) for one, another in zip(first, other, strict=True)]
    assert any(shown)


def test_with_a_precision_the_interval_and_the_draws_stand_beside_each_value(models, tmp_path):
    record = record_of(tmp_path, precision=12.0)
    summary, text = record.summary, printed(record)
    assert "30 images, up to 12 draws each, stopped at intervals narrower than 12 points" in words(text)
    for place, row in enumerate(rows_of(text)):
        expected = [f"{summary.sigmas[place]:g}"]
        for model in range(2):
            low, high = summary.flipped_interval[model][-1][place]
            percent, draws = summary.flipped_percent[model][-1][place], summary.draws_used[model][-1][place]
            expected += [f"{percent:.2f}", f"[{low:.2f}, {high:.2f}]", str(draws)]
        assert row[:-1] == expected
    assert len({draws for lines in summary.draws_used for line in lines for draws in line}) > 1


def test_what_a_reduced_arithmetic_changed_stands_below(models, tmp_path):
    record = record_of(tmp_path, arithmetic="bfloat16")
    changed = record.summary.model_copy(update={"compared": 2400, "differing": 3})
    assert record.summary.compared == 8 * 30 * 10
    text = words(printed(record.model_copy(update={"summary": changed})))
    assert "predictions in bfloat16; 3 of 2400 copies (0.125 %) are flipped there or in float32, not in both" in text
