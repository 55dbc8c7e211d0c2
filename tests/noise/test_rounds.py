"""A noise evolution that stops where it is precise enough: the same draws, fewer of them, whatever interrupts it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bangbench.core.errors import BenchError, UsageError
from bangbench.noise import rounds
from bangbench.noise.precision import cell_intervals, plan_looks
from bangbench.noise.run import evolve
from bangbench.noise.spec import NoiseSpec
from bangbench.store.records import NoiseRecord, read_record
from bangbench.store.tables import read_table

PAIR = Path("results/demo/R0-vs-B1")
SHAPE = (2, 2, 2, 30)  # models, stages, sigmas, images
CELLS, IMAGES, DRAWS, PRECISION = 8, 30, 40, 8.0
ENDS = (4, 6, 9, 14, 21, 32, 40)

pytestmark = pytest.mark.usefixtures("models")


def spec_of(root: Path, **settings) -> NoiseSpec:
    small = {"sigma": (60.0, 240.0), "draws": DRAWS, "per_class": 3, "precision": PRECISION}
    return NoiseSpec(**{"models": ("demo/R0", "demo/B1"), "root": root, "device": "cpu", **small, **settings})


@pytest.fixture
def small_chunks(monkeypatch) -> None:
    """Ten images per chunk in every round, so three chunks."""
    monkeypatch.setattr(rounds, "_CHUNK_COPIES", 1)


def counts_of(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return flipped and draws of the table, each in SHAPE."""
    table = read_table(root / PAIR / "noise.parquet")
    flipped, draws = (table.column(name).to_numpy().reshape(SHAPE) for name in ("flipped", "draws"))
    return flipped, draws


def used(record: NoiseRecord) -> np.ndarray:
    return np.array(record.summary.draws_used)


def test_a_stopped_cell_has_the_first_draws_of_a_full_run(tmp_path):
    record = evolve(spec_of(tmp_path / "stopped"))
    flipped, draws = counts_of(tmp_path / "stopped")
    assert (draws == used(record)[..., None]).all()
    taken = sorted({*draws.ravel().tolist()})
    assert len(taken) > 2
    assert set(taken) <= set(ENDS) == set(plan_looks(IMAGES, CELLS, PRECISION, DRAWS).ends)
    for end in taken:
        evolve(spec_of(tmp_path / str(end), precision=None, draws=end))
        full, _ = counts_of(tmp_path / str(end))
        np.testing.assert_array_equal(flipped[draws == end], full[draws == end])


@pytest.mark.parametrize("precision", [4.0, 8.0, 20.0])
def test_every_cell_is_narrower_than_asked_for_or_has_all_draws_and_was_not_before(tmp_path, precision):
    summary = evolve(spec_of(tmp_path, precision=precision)).summary
    flipped, draws = counts_of(tmp_path)
    ends, error, _ = plan_looks(summary.images, 2 * len(summary.stages) * len(summary.sigmas), precision, summary.draws)
    for model, (counted, taken) in enumerate(zip(flipped, draws[..., 0], strict=True)):
        for stage, sigma in np.ndindex(2, 2):
            total, last = int(counted[stage, sigma].sum()), int(taken[stage, sigma])
            low, high = summary.flipped_interval[model][stage][sigma]
            assert [low, high] == cell_intervals(np.array(total), last * IMAGES, error).tolist()
            assert high - low < precision or last == DRAWS
            assert low <= summary.flipped_percent[model][stage][sigma] <= high
            assert summary.flipped_percent[model][stage][sigma] == pytest.approx(100 * total / (last * IMAGES))
            before = ends.index(last) - 1
            if before >= 0:
                evolve(spec_of(tmp_path / "before", precision=None, draws=ends[before], overwrite=True))
                earlier = int(counts_of(tmp_path / "before")[0][model, stage, sigma].sum())
                low, high = cell_intervals(np.array(earlier), ends[before] * IMAGES, error)
                assert high - low >= precision


def test_the_summary_counts_the_forward_passes_that_were_made(tmp_path, recorder):
    progress = recorder()
    record = evolve(spec_of(tmp_path), progress)
    assert record.summary.forwards == used(record).sum() * IMAGES == progress.forwards
    assert record.summary.forwards < CELLS * IMAGES * DRAWS
    assert (record.summary.draws, record.summary.precision, record.spec["precision"]) == (DRAWS, PRECISION, PRECISION)
    assert record == read_record(tmp_path / PAIR / "noise.json", NoiseRecord)


def test_there_is_one_bar_per_round_that_says_what_is_left(tmp_path, recorder):
    labels = []

    class Labels(recorder):
        def start(self, label: str, total: int, done: int = 0, unit: str = "it") -> None:
            labels.append((label, total))

    evolve(spec_of(tmp_path), Labels())
    assert labels[1] == ("demo/R0-vs-B1, draws 1 to 4, 8 of 8 cells", CELLS * IMAGES * 4)
    assert labels[2][0].startswith("demo/R0-vs-B1, draws 5 to 6, ")
    assert len(labels) > 3


def test_the_batch_size_and_the_chunks_do_not_change_a_byte_of_the_table(tmp_path, monkeypatch):
    contents = []
    for name, batch_size, copies in (("a", 1, 500), ("b", 64, 1), ("c", 1000, 45)):
        monkeypatch.setattr(rounds, "_CHUNK_COPIES", copies)
        evolve(spec_of(tmp_path / name, batch_size=batch_size))
        contents.append((tmp_path / name / PAIR / "noise.parquet").read_bytes())
    assert contents[0] == contents[1] == contents[2]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("chunks_done", [0, 1, 3, 4, 7])
def test_an_interrupted_run_goes_on_within_and_between_rounds(tmp_path, recorder, monkeypatch, chunks_done):
    whole = evolve(spec_of(tmp_path / "whole"))
    counted = rounds.count_flips
    calls = []

    def interrupted(*given):
        if len(calls) == chunks_done:
            raise KeyboardInterrupt
        calls.append(given)
        return counted(*given)

    monkeypatch.setattr(rounds, "count_flips", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evolve(spec_of(tmp_path / "broken"))
    monkeypatch.setattr(rounds, "count_flips", counted)
    folder = tmp_path / "broken" / PAIR
    assert read_record(folder / "noise.json", NoiseRecord).status == "started"
    assert len(list((folder / ".chunks-noise").glob("*.npz"))) == chunks_done
    progress = recorder()
    record = evolve(spec_of(tmp_path / "broken"), progress)
    inside = chunks_done % 3
    assert progress.notes == ([f"going on: {10 * inside} of 30 images are done"] if inside else [])
    assert (folder / "noise.parquet").read_bytes() == (tmp_path / "whole" / PAIR / "noise.parquet").read_bytes()
    assert record.summary.model_copy(update={"seconds": whole.summary.seconds}) == whole.summary
    done_before = sum(len(given[1].indices) * given[2].draws * int(given[5].sum()) for given in calls)
    assert progress.forwards == whole.summary.forwards - done_before
    assert sorted(path.name for path in folder.iterdir()) == ["noise.json", "noise.parquet"]


def test_chunks_of_another_precision_are_not_gone_on_with(tmp_path, recorder):
    whole = evolve(spec_of(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        evolve(spec_of(tmp_path, precision=20.0), recorder(limit=CELLS * IMAGES))
    assert evolve(spec_of(tmp_path, overwrite=True)).summary.draws_used == whole.summary.draws_used
    assert (tmp_path / PAIR / "noise.parquet").read_bytes() == (
        tmp_path / "whole" / PAIR / "noise.parquet"
    ).read_bytes()


def test_chunks_of_other_sizes_are_not_gone_on_with(tmp_path, recorder, monkeypatch):
    evolve(spec_of(tmp_path / "whole"))
    monkeypatch.setattr(rounds, "_CHUNK_COPIES", 45)
    with pytest.raises(KeyboardInterrupt):
        evolve(spec_of(tmp_path), recorder(limit=CELLS * IMAGES * 3 + 1))
    assert list((tmp_path / PAIR / ".chunks-noise").glob("*.npz"))
    monkeypatch.setattr(rounds, "_CHUNK_COPIES", 1)
    evolve(spec_of(tmp_path))
    table = (tmp_path / PAIR / "noise.parquet").read_bytes()
    assert table == (tmp_path / "whole" / PAIR / "noise.parquet").read_bytes()


def test_a_precision_is_another_measurement_than_none(tmp_path):
    evolve(spec_of(tmp_path, precision=None, draws=4))
    with pytest.raises(BenchError, match=r"made with other settings \(precision: None -> 8\.0\)"):
        evolve(spec_of(tmp_path, draws=4))


def test_a_short_round_takes_more_images_per_chunk(tmp_path, monkeypatch):
    sizes = []
    counted = rounds.count_flips
    monkeypatch.setattr(rounds, "count_flips", lambda *given: sizes.append(len(given[1].indices)) or counted(*given))
    monkeypatch.setattr(rounds, "_CHUNK_COPIES", 50)
    evolve(spec_of(tmp_path))
    assert sizes[:5] == [13, 13, 4, 25, 5]


def test_bfloat16_counts_what_it_changes_over_all_rounds(tmp_path, recorder):
    progress = recorder()
    record = evolve(spec_of(tmp_path, arithmetic="bfloat16"), progress)
    summary = record.summary
    assert (summary.arithmetic, record.spec["arithmetic"]) == ("bfloat16", "bfloat16")
    assert summary.compared == np.minimum(used(record), 10).sum() * IMAGES
    assert 0 <= summary.differing < summary.compared
    assert summary.forwards == progress.forwards + summary.compared
    assert record == read_record(tmp_path / PAIR / "noise.json", NoiseRecord)


def test_tf32_is_refused_on_a_cpu_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match="tf32 needs a CUDA device, found cpu"):
        evolve(spec_of(tmp_path, arithmetic="tf32"))
    assert list(tmp_path.iterdir()) == []
