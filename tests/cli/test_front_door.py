"""What a new user meets first: explained codes, shown images, completed names, numbers with commas."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from bangbench.auditing.reasons import REASONS, SOURCES
from bangbench.cli.completion import completer
from bangbench.cli.sheet import Pair, contact_sheet
from bangbench.store.examples import Examples, read_examples

Invoke = Callable[..., CompletedProcess[str]]


def flat(text: str) -> str:
    """Return a text with one blank wherever there is white space."""
    return " ".join(text.split())


def examples_of(attack: str) -> Examples:
    """Return what an attack on R0 kept."""
    kept = read_examples(Path(f"results/R0/{attack}-examples.npz"))
    assert kept is not None
    return kept


@pytest.mark.parametrize("code", ["input-scale", "FGS-masked"])
def test_a_code_is_explained_with_its_advice_and_its_papers(bangbench: Invoke, code: str) -> None:
    result = bangbench("explain", code)
    reason = REASONS[code.lower()]
    assert result.returncode == 0
    for text in (reason.check, reason.meaning, reason.advice, *(SOURCES[key] for key in reason.sources)):
        assert flat(text) in flat(result.stdout)


def test_all_codes_are_listed_without_one(bangbench: Invoke) -> None:
    listed = json.loads(bangbench("explain", "--json").stdout)["codes"]
    assert list(listed) == list(REASONS)
    assert all(code in bangbench("explain").stdout for code in REASONS)


def test_shown_images_are_those_of_the_attack_and_their_difference_is_stretched(here: Path, bangbench: Invoke) -> None:
    assert bangbench("attack", "R0", "--attack", "fgs-unmasked", "--limit", 9, "--quiet").returncode == 0
    result = bangbench("show", "R0", "fgs-unmasked", "--count", 3, "--json")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert (here / shown["sheet"]).is_file()
    assert len(shown["images"]) == 3
    assert len(shown["files"]) == 10
    with np.load("blobs.npz") as arrays:
        images = arrays["test_images"]
    kept = examples_of("fgs-unmasked")
    adversarial = dict(zip(kept.indices.tolist(), kept.adversarial, strict=True))
    for index in map(int, shown["images"]):
        original, attacked, difference = (
            np.asarray(Image.open(f"results/R0/fgs-unmasked-images/{index:05d}-{name}.png"))
            for name in ("original", "adversarial", "difference")
        )
        assert np.array_equal(original, images[index][0])
        assert np.array_equal(attacked, adversarial[index][0])
        change = attacked.astype(int) - original
        assert np.array_equal(np.sign(change), np.sign(difference.astype(int) - 128))
        assert max(abs(difference.astype(int) - 128).flat) == 127


def test_the_image_of_an_index_is_shown_and_a_missing_one_is_refused(here: Path, bangbench: Invoke) -> None:
    assert bangbench("attack", "R0", "--attack", "fgs-unmasked", "--limit", 9, "--quiet").returncode == 0
    kept = examples_of("fgs-unmasked")
    index = int(kept.indices[kept.flipped][0])
    shown = json.loads(bangbench("show", "R0", "fgs-unmasked", "--index", index, "--json").stdout)
    assert list(shown["images"]) == [str(index)]
    refused = bangbench("show", "R0", "fgs-unmasked", "--index", 5000)
    assert refused.returncode == 2
    assert "--index 5000: expected a flipped image that is kept: " in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("R00", "fgs-unmasked"), "unknown model with results 'R00': did you mean 'R0'?"),
        (("R0", "fgs-unmaskd"), "unknown attack with results on R0 'fgs-unmaskd': did you mean 'fgs-unmasked'?"),
    ],
)
def test_what_was_not_measured_is_not_shown(
    here: Path, bangbench: Invoke, arguments: tuple[str, ...], message: str
) -> None:
    assert bangbench("attack", "R0", "--attack", "fgs-unmasked", "--limit", 3, "--quiet").returncode == 0
    result = bangbench("show", *arguments)
    assert (result.returncode, result.stderr) == (2, f"bangbench: {message}\n")


def test_a_contact_sheet_shows_every_pixel_of_colour_and_grey_pairs() -> None:
    for channels in (1, 3):
        original = np.zeros((channels, 5, 7), np.uint8)
        adversarial = original.copy()
        adversarial[0, 2, 3] = 40
        pair = Pair(original, adversarial, "a caption that is longer than three small pictures would be beside")
        sheet = contact_sheet([pair, pair])
        colours = {colour for _, colour in sheet.getcolors(1 << 20) or []}
        assert ((40, 40, 40) if channels == 1 else (40, 0, 0)) in colours
        assert pair.linf == 40


@pytest.mark.parametrize(
    ("field", "incomplete", "completed"),
    [
        ("model", "R", ["R0"]),
        ("attack", "fgs-", ["fgs-unmasked"]),
        ("method", "bang", ["bang"]),
        ("net", "len", ["lenet"]),
        ("data", "mn", ["mnist"]),
        ("recipe", "table", ["table1", "table2"]),
        ("code", "fgs-", ["fgs-masked"]),
    ],
)
def test_names_are_completed(here: Path, field: str, incomplete: str, completed: list[str]) -> None:
    complete = completer(field)
    assert complete is not None

    class Context:
        params: ClassVar[dict[str, object]] = {}

    assert complete(Context(), [], incomplete) == completed  # type: ignore[arg-type]


def test_options_of_names_are_completed_by_the_shell(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from bangbench.cli.main import app

    words = {"_BANGBENCH_COMPLETE": "complete_bash", "COMP_WORDS": "bangbench attack R", "COMP_CWORD": "2"}
    result = CliRunner().invoke(app, [], env=words, prog_name="bangbench")
    assert result.stdout.split() == ["R0"]


def test_numbers_may_stand_in_one_word_with_commas(here: Path, bangbench: Invoke) -> None:
    for sigmas in (["--sigma", "10,20"], ["--sigma", "10", "--sigma", " 20"]):
        result = bangbench("noise-eval", "R0", "B1", *sigmas, "--draws", 2, "--per-class", 2, "--json")
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["summary"]["sigmas"] == [10.0, 20.0]


def test_an_attack_at_one_budget_tells_clean_and_robust_accuracy(here: Path, bangbench: Invoke) -> None:
    words = ("attack", "R0", "--attack", "fgsm", "--budget", "60/255", "--attack", "fgs")
    model = json.loads(bangbench(*words, "--json").stdout)["models"]["R0"]
    found = model["attacks"]["fgsm"]
    assert found["budget"] == [60]
    assert found["clean_accuracy"] == model["accuracy"]
    assert found["robust_accuracy"] == 100 * (model["correct"] - found["flipped"]) / model["images"]
    low, high = found["robust_accuracy_interval"]
    assert low < found["robust_accuracy"] < high
    assert "robust_accuracy" not in model["attacks"]["fgs"]
    shown = f"fgsm within 60/255: clean {model['accuracy']:.2f} %, robust accuracy {found['robust_accuracy']:.2f} % ["
    assert shown in bangbench(*words).stdout


def test_where_nothing_was_correct_a_dash_stands_for_rate_and_interval(here: Path, bangbench: Invoke) -> None:
    from rich.console import Console

    from bangbench.cli.attack import attack_table
    from bangbench.store.records import AttackRecord, read_record

    assert bangbench("attack", "R0", "--attack", "fgs", "--limit", 3, "--quiet").returncode == 0
    record = read_record(Path("results/R0/fgs.json"), AttackRecord)
    assert record.summary is not None
    nothing = {"rate": None, "rate_interval": None, "blank": None, "flipped": 0, "correct": 0, "accuracy": 0.0}
    empty = record.model_copy(update={"summary": record.summary.model_copy(update=nothing)})
    console = Console(width=160)
    with console.capture() as captured:
        console.print(attack_table([empty]))
    assert "nan" not in captured.get()
    assert next(line for line in captured.get().splitlines() if line.startswith(" fgs")).split()[1:4] == ["-"] * 3


def test_saved_images_say_where_they_are_and_any_of_them_can_be_shown(here: Path, bangbench: Invoke) -> None:
    words = ("attack", "R0", "--attack", "fgs-unmasked", "--save-images")
    assert "results/R0/fgs-unmasked.npz: index, original, adversarial" in bangbench(*words).stdout
    with np.load("results/R0/fgs-unmasked.npz") as saved:
        index, changes = saved["index"], np.abs(saved["adversarial"].astype(int) - saved["original"]).max((1, 2, 3))
    for place in (0, len(index) - 1):
        shown = json.loads(bangbench("show", "R0", "fgs-unmasked", "--index", index[place], "--json").stdout)
        assert shown["images"][str(index[place])].endswith(f"L_inf {changes[place]}")
    spread = json.loads(bangbench("show", "R0", "fgs-unmasked", "--count", 4, "--json").stdout)["images"].values()
    distances = [int(caption.rpartition(" ")[2]) for caption in spread]
    assert distances == sorted(distances)
    assert (distances[0], distances[-1]) == (changes.min(), changes.max())
