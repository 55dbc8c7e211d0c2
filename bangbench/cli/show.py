"""`bangbench show`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer
from pydantic import Field

from bangbench.cli.options import command
from bangbench.cli.output import Output
from bangbench.core.errors import BenchError, UsageError, unknown_name
from bangbench.core.spec import Spec
from bangbench.nets.references import Given, is_own_net, results_name
from bangbench.store.layout import results_folder

if TYPE_CHECKING:
    from PIL.Image import Image

    from bangbench.cli.sheet import Pair
    from bangbench.store.examples import Examples
    from bangbench.store.records import AttackRecord


class ShowSpec(Spec):
    """Images of one attack on one model."""

    circumstances: ClassVar[frozenset[str]] = Spec.circumstances | {"out"}

    model: str = Field(description="A model's name, as under results/, or FILE.py:FACTORY@WEIGHTS.")
    attack: str = Field(description="An attack that was run on it.")
    count: Annotated[int, Field(ge=1)] = Field(12, description="So many images, from small changes to large ones.")
    index: tuple[int, ...] = Field((), description="The test image of this index; may be given several times.")
    out: Path | None = Field(None, description="Directory to write to (default: ROOT/results/MODEL/ATTACK-images).")


def run_show(specs: list[ShowSpec], output: Output) -> None:
    """Write original, adversarial image and their difference as PNG files, and a contact sheet of them.

    The images are some of each class, easy, typical and hard ones, or all of them after --save-images. In the
    difference 128 is no change, and the largest change of an image is stretched to black or white.
    """
    from bangbench.cli.sheet import contact_sheet

    spec = specs[0]
    if is_own_net(spec.model):
        spec = spec.model_copy(update={"model": results_name(spec.model, spec.root, Given())})
    pairs = _pairs(spec)
    folder = spec.out or results_folder(spec.root, spec.model) / f"{spec.attack}-images"
    files = []
    for index, pair in pairs.items():
        for name, picture in pair.pictures().items():
            files.append(_write(folder / f"{index:05d}-{name}.png", picture))
    sheet = _write(folder / "contact-sheet.png", contact_sheet(list(pairs.values())))
    if output.json:
        written = [path.as_posix() for path in (sheet, *files)]
        captions = {index: pair.caption for index, pair in pairs.items()}
        output.print_json({"schema": 1, "sheet": sheet.as_posix(), "files": written, "images": captions})
    output.say(f"the contact sheet: {sheet}")
    output.say(f"{len(files)} images of {len(pairs)} pairs in {folder}")


def _pairs(spec: ShowSpec) -> dict[int, Pair]:
    """Return the pairs to show by the index of the test image, the smallest change first."""
    from bangbench.cli.sheet import Pair

    record, examples = _examples(spec)
    names, pairs = record.data.class_names, {}
    for place in _chosen(spec, examples):
        label, found = (names[int(which[place])] for which in (examples.labels, examples.predictions))
        index, distance = int(examples.indices[place]), int(examples.linf()[place])
        caption = f"{index}: {label} -> {found}, L_inf {distance}"
        pairs[index] = Pair(examples.original[place], examples.adversarial[place], caption)
    return pairs


def _examples(spec: ShowSpec) -> tuple[AttackRecord, Examples]:
    from bangbench.store.examples import examples_file, read_examples, read_saved
    from bangbench.store.records import AttackRecord, read_record

    folder = results_folder(spec.root, spec.model)
    if not folder.is_dir():
        known = [path.parent.relative_to(spec.root / "results").as_posix() for path in _records(spec.root / "results")]
        raise unknown_name("model with results", spec.model, set(known))
    path = folder / f"{spec.attack}.json"
    if not path.is_file():
        measured = [file.name.removesuffix("-examples.npz") for file in sorted(folder.glob("*-examples.npz"))]
        raise unknown_name(f"attack with results on {spec.model}", spec.attack, measured)
    record = read_record(path, AttackRecord)
    examples = read_saved(path.with_suffix(".npz")) or read_examples(examples_file(path))
    if examples is None:
        raise BenchError(
            f"{examples_file(path)} does not exist; run the attack again: bangbench attack {spec.model} --attack "
            f"{spec.attack} --overwrite"
        )
    return record, examples


def _records(results: Path) -> list[Path]:
    return [*results.glob("*/*-examples.npz"), *results.glob("*/*/*-examples.npz")]


def _chosen(spec: ShowSpec, examples: Examples) -> list[int]:
    """Return where the images asked for are among the examples, or some spread over all that were flipped."""
    flipped = [int(place) for place in examples.ranked(0, 1 << 62)]
    if spec.index:
        places = [examples.place(index) for index in spec.index]
        kept = ", ".join(str(examples.indices[place]) for place in sorted(flipped)) or "none"
        for index, place in zip(spec.index, places, strict=True):
            if place is None or place not in flipped:
                raise UsageError(f"--index {index}: expected a flipped image that is kept: {kept}")
        return [place for place in places if place is not None]
    if not flipped:
        raise BenchError(f"{spec.attack} flipped no image of {spec.model}: there is nothing to show")
    count = min(spec.count, len(flipped))
    return [flipped[round(step * (len(flipped) - 1) / max(count - 1, 1))] for step in range(count)]


def _write(path: Path, picture: Image) -> Path:
    from bangbench.store.files import write_bytes

    stream = io.BytesIO()
    picture.save(stream, "PNG")
    write_bytes(path, stream.getvalue())
    return path


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "show",
        ShowSpec,
        run_show,
        arguments=("model", "attack"),
        without=("data_dir", "device", "overwrite", "wait"),
        example="bangbench show table1/B1 fgs --count 6",
    )
