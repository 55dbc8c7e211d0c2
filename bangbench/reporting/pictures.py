"""Figure 1: images of each class as an attack on two models left them; each model's easiest and hardest images."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bangbench.reporting.experiments import Experiment, ModelResults
from bangbench.reporting.figure import DIVERGING, PAGE, Figure
from bangbench.reporting.table import attack_title, audit_mark
from bangbench.store.examples import Examples

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

#: The attacks that two models are compared under; the first is that of the paper's Figure 1.
_COMPARED = ("hc1", "fgs")
#: Classes beside each other.
_MOST_CLASSES = 10
#: Of several models that were not trained regularly, the paper's own choice.
_PREFERRED = "B1"
#: Inches: room for the names of the lines, for the scale, between pictures; the largest picture; lines of text.
_LEFT, _RIGHT, _GAP, _LARGEST, _TEXT_LINE, _TITLE_LINE = 1.1, 0.75, 0.06, 1.05, 0.13, 0.16
_SMALLEST, _SMALL, _TEXT = 4.0, 7.5, 9.0  # points
_GREY = "#666666"


class Picture(NamedTuple):
    """An image, uint8, or a change, int16 -255..255: (H, W) or (H, W, 3), and the text beneath; None: only the text."""

    pixels: NDArray[Any] | None
    text: str = ""


class Line(NamedTuple):
    """Pictures of one kind beside each other, and what stands to their left."""

    label: str
    kind: Literal["image", "change"]
    pictures: tuple[Picture, ...]


class Sheet(NamedTuple):
    """Lines of pictures under each other; titles stand above the columns, `largest` (grey levels) ends the scale."""

    titles: tuple[str, ...]
    lines: tuple[Line, ...]
    largest: int

    @property
    def in_colour(self) -> bool:
        """Tell whether the pictures have three channels."""
        return any(each.pixels is not None and each.pixels.ndim == 3 for each in self.lines[0].pictures)

    @property
    def in_words(self) -> str:
        """Return what stands beneath the pictures, line by line, for a reader who cannot see them."""
        told = [(line.label, "; ".join(each.text for each in line.pictures if each.text)) for line in self.lines]
        return f"Small pictures. {'. '.join(' '.join(f'{label}: {texts}'.split()) for label, texts in told if texts)}."


class Shown(NamedTuple):
    """One attack on one model, with its pictures."""

    model: ModelResults
    attack: str
    examples: Examples

    @property
    def described(self) -> str:
        """Return the model with its method: B1 (BANG)."""
        method = self.model.model.method
        return self.model.id if method is None else f"{self.model.id} ({method.replace('bang', 'BANG')})"

    @property
    def flipped(self) -> str:
        """Return how many of the attacked images were flipped."""
        summary = self.model.attacks[self.attack].summary
        return f"{summary.flipped:,} of {summary.correct:,}"

    def score(self, index: int) -> float | None:
        """Return PASS by its written definition, or None where it is not known."""
        images = self.model.images(self.attack)
        found = [] if images is None else images.loc[images["index"] == index, "pass"].to_numpy(np.float64)
        return float(found[0]) if len(found) and np.isfinite(found[0]) else None


def example_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield an image of each class under HC1 and FGS against two models, as far as images were kept.

    The models are the first regular one and, of the others, B1 or else the first.
    """
    for attack in _COMPARED:
        figure = _comparison(experiment, _chosen(experiment, (attack,)))
        if figure is not None:
            yield figure


def _chosen(experiment: Experiment, attacks: Sequence[str]) -> list[Shown]:
    """Return at most two models with examples of one of the attacks."""
    usable = []
    for model in experiment.models:
        kept = [(name, found) for name in attacks if (found := model.examples(name)) is not None and len(found.indices)]
        usable += [Shown(model, *kept[0])] if kept else []
    regular = [shown for shown in usable if shown.model.model.method == "regular"]
    others = [shown for shown in usable if shown.model.model.method != "regular"]
    return [*regular[:1], *sorted(others, key=lambda shown: shown.model.id != _PREFERRED)[:1]]


def _comparison(experiment: Experiment, shown: list[Shown]) -> Figure | None:
    """Return one column per class: the image, and what an attack made of it against each model."""
    labels = sorted({int(label) for item in shown for label in item.examples.labels})
    indices = [_index_of_class(shown, label) for label in labels[:_MOST_CLASSES]]
    lines = [line for item in shown for line in _lines(item, indices)]
    changes = [each.pixels for line in lines if line.kind == "change" for each in line.pictures]
    if not changes:
        return None
    largest = max(1, *(int(np.abs(pixels).max()) for pixels in changes if pixels is not None))
    titles = tuple(_class_name(experiment, label) for label in labels[:_MOST_CLASSES])
    originals = Line("original", "image", tuple(_original(shown, index) for index in indices))
    sheet, title = Sheet(titles, (originals, *lines), largest), attack_title(shown[0].attack)
    return Figure(
        name=f"{experiment.name}-examples-{shown[0].attack}",
        section="examples",
        title=f"{title} against {' and '.join(item.model.id for item in shown)}: an image of each class",
        caption=" ".join(_comparison_caption(experiment, shown, sheet, len(labels))),
        alternative=sheet.in_words,
        content=sheet,
        draw="bangbench.reporting.pictures:draw_sheet",
    )


def _index_of_class(shown: list[Shown], label: int) -> int:
    """Return the test image to show of a class: one that all models have, flipped if possible, the first of these."""
    candidates = {int(index) for item in shown for index in item.examples.indices[item.examples.labels == label]}

    def order(index: int) -> tuple[int, int, int]:
        places = [(item.examples, item.examples.place(index)) for item in shown]
        flipped = [bool(examples.flipped[place]) for examples, place in places if place is not None]
        return -len(flipped), -sum(flipped), index

    return min(candidates, key=order)


def _original(shown: list[Shown], index: int) -> Picture:
    examples = next(item.examples for item in shown if item.examples.place(index) is not None)
    return Picture(_flat(examples.original[examples.indices == index][0]))


def _lines(shown: Shown, indices: list[int]) -> list[Line]:
    """Return a model's adversarial images and, where there are any, their perturbations."""
    pairs = [_adversarial(shown, index) for index in indices]
    lines = [Line(f"{shown.model.id}\n{attack_title(shown.attack)}", "image", tuple(pair[0] for pair in pairs))]
    if any(change.pixels is not None for _, change in pairs):
        lines.append(Line(f"{shown.model.id}\nperturbation", "change", tuple(pair[1] for pair in pairs)))
    return lines


def _adversarial(shown: Shown, index: int) -> tuple[Picture, Picture]:
    """Return the adversarial image and the change, or why there is none."""
    examples, place = shown.examples, shown.examples.place(index)
    if place is None:  # either it is not among the first of its class for this model, or it never was attacked
        images = shown.model.images(shown.attack)
        wrong = images is not None and not images.loc[images["index"] == index, "attacked"].any()
        return Picture(None, "mis-\nclassified" if wrong else "not\nkept"), Picture(None)
    if not examples.flipped[place]:
        return Picture(None, "never\nflipped"), Picture(None)
    score, linf = shown.score(index), f"L∞ {examples.linf()[place]}"
    change = np.subtract(examples.adversarial[place], examples.original[place], dtype=np.int16)
    text = linf if score is None else f"PASS {score:.3f}\n{linf}"
    return Picture(_flat(examples.adversarial[place]), text), Picture(_flat(change))


def _comparison_caption(experiment: Experiment, shown: list[Shown], sheet: Sheet, classes: int) -> Iterator[str]:
    choice = "of both models (one that both were fooled by," if len(shown) > 1 else "(one that was flipped,"
    scored = any("PASS" in each.text for line in sheet.lines for each in line.pictures)
    yield (
        f"For each class of {experiment.data.name} the first example {choice} if there is one), its adversarial image "
        f"under {attack_title(shown[0].attack)} against {' and '.join(item.described for item in shown)}, and the "
        f"perturbation: adversarial minus original, on one scale for all, from -{sheet.largest} to {sheet.largest} "
        "grey levels with no change in the middle."
    )
    counts = "; ".join(f"{item.model.id} {item.flipped}{audit_mark(item.model, item.attack)}" for item in shown)
    yield f"Flipped of the images attacked: {counts}."
    yield f"Beneath: {'PASS to the original (the written definition) and ' if scored else ''}L∞ in grey levels."
    if sheet.in_colour:
        yield f"Perturbations of colour images: 127.5 + 127.5 change / {sheet.largest} in each channel."
    if classes > _MOST_CLASSES:
        yield f"The first {_MOST_CLASSES} of {classes} classes with examples."
    if classes < len(experiment.data.class_names):
        yield f"Classes without an example: {len(experiment.data.class_names) - classes}."


def _class_name(experiment: Experiment, label: int) -> str:
    names = experiment.data.class_names
    return names[label] if 0 <= label < len(names) else str(label)


def _flat(image: NDArray[Any]) -> NDArray[Any]:
    """Return a picture (H, W, 3) of three channels, else (H, W), the mean of all channels."""
    if len(image) == 3:
        return np.moveaxis(image, 0, -1)
    mean: NDArray[Any] = np.rint(image.mean(axis=0)).astype(image.dtype)
    return mean


def shortened(text: str, width: int, most: int) -> str:
    """Return text broken into lines of so many characters; an ellipsis ends it where there would be too many lines."""
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width)]
    return "\n".join(lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1][: width - 1]}…"])


def draw_sheet(sheet: Sheet) -> Drawing:
    """Draw lines of pictures in one pair of axes measured in inches, with a scale where grey images were changed."""
    from bangbench.reporting.draw import new_drawing

    changed = [number for number, line in enumerate(sheet.lines) if line.kind == "change" and not sheet.in_colour]
    columns, right = max(len(line.pictures) for line in sheet.lines), _RIGHT if changed else _GAP
    side = min(_LARGEST, (PAGE - _LEFT - right) / columns - _GAP)
    rows, across = next(each.pixels.shape[:2] for each in sheet.lines[0].pictures if each.pixels is not None)
    height = side * rows / across
    titles = [shortened(title, 10, 2) for title in sheet.titles]
    tops = [_GAP + _TITLE_LINE * max((title.count("\n") + 1 for title in titles), default=0)]
    for line in sheet.lines:
        beneath = max(
            each.text.count("\n") + 1 if each.pixels is not None and each.text else 0 for each in line.pictures
        )
        tops.append(tops[-1] + height + _GAP + _TEXT_LINE * beneath)
    drawing = new_drawing(_LEFT + columns * (side + _GAP) + right, tops[-1])
    drawing.set_layout_engine("none")
    axes = drawing.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, drawing.get_figwidth()), ylim=(tops[-1], 0), autoscale_on=False)
    axes.set_axis_off()
    for column, title in enumerate(titles):
        _write(axes, (_LEFT + column * (side + _GAP) + side / 2, tops[0] - 0.07), title, _TEXT, side, va="baseline")
    for line, top in zip(sheet.lines, tops[:-1], strict=True):
        _draw_line(axes, line, top, (side, height), sheet.largest)
    if changed:
        _draw_scale(drawing, tops[changed[0]], tops[changed[-1]] + height, sheet.largest)
    return drawing


def _draw_line(axes: Axes, line: Line, top: float, size: tuple[float, float], largest: int) -> None:
    from matplotlib.patches import Rectangle

    side, height = size
    label = shortened(line.label, 13, 4)
    _write(axes, (_LEFT - 0.1, top + height / 2), label, _TEXT, _LEFT - 0.15, ha="right", va="center")
    for column, picture in enumerate(line.pictures):
        left = _LEFT + column * (side + _GAP)
        if picture.pixels is None:
            place = left + side / 2, top + height / 2
            _write(axes, place, picture.text, _SMALL, side, va="center", color=_GREY)
            continue
        extent = (left, left + side, top + height, top)
        pixels = picture.pixels
        look: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255}
        if line.kind == "change" and pixels.ndim == 3:
            pixels = np.rint(127.5 + 127.5 * pixels / largest).astype(np.uint8)
        elif line.kind == "change":
            look = {"cmap": DIVERGING, "vmin": -largest, "vmax": largest}
        axes.imshow(pixels, extent=extent, aspect="auto", interpolation="nearest", **look)
        axes.add_patch(Rectangle((left, top), side, height, fill=False, edgecolor=_GREY, linewidth=0.4))
        _write(axes, (left + side / 2, top + height + 0.03), picture.text, _SMALL, side, va="top")


def _draw_scale(drawing: Drawing, top: float, bottom: float, largest: int) -> None:
    """Draw the scale of the perturbations at the right edge, between two heights in inches."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    width, height = drawing.get_size_inches()
    axes = drawing.add_axes(((width - 0.68) / width, 1 - bottom / height, 0.12 / width, (bottom - top) / height))
    colours = ScalarMappable(Normalize(-largest, largest), DIVERGING)
    bar = drawing.colorbar(colours, cax=axes, ticks=[-largest, 0, largest])
    axes.tick_params(labelsize=_SMALL, length=2, pad=2)
    bar.set_label("grey levels", fontsize=_SMALL, labelpad=-6)


def _write(axes: Axes, place: tuple[float, float], text: str, size: float, room: float, **options: Any) -> None:
    """Write text (points) at a place, smaller where it would be wider than `room` (inches)."""
    written = axes.text(*place, text, fontsize=size, linespacing=1.1, parse_math=False, **({"ha": "center"} | options))
    inches = axes.transData.inverted()
    while size > _SMALLEST and written.get_window_extent().transformed(inches).width > room:
        size -= 0.5  # step by step, since hinted letters do not shrink evenly
        written.set_fontsize(size)
