"""Figure 1: images of each class as an attack on two models left them; and each model's easiest and hardest images."""

from __future__ import annotations

import textwrap
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from bangbench.reporting.bench_rows import attack_names, attack_title
from bangbench.reporting.figures import style
from bangbench.reporting.groups import Group, ModelResults, short_name
from bangbench.reporting.per_image import AttackRows
from bangbench.reporting.plot import Plot
from bangbench.reporting.verdicts import audit_mark
from bangbench.store.examples import Examples
from bangbench.store.records import AttackSummary

#: The attacks that two models are compared under; the first is that of the paper's Figure 1.
COMPARED = ("hc1", "fgs")
#: Classes beside each other in a comparison, images beside each other in a gallery.
MOST_CLASSES, MOST_IMAGES = 10, 8

#: Of several models that were not trained regularly, the paper's own choice.
_PREFERRED = "B1"

#: Inches: room for the names of the lines, for the scale, between pictures; the largest picture; lines of text.
_LEFT, _RIGHT, _GAP, _LARGEST, _TEXT_LINE, _TITLE_LINE = 1.1, 0.75, 0.06, 1.05, 0.13, 0.16
_SMALLEST, _SMALL, _TEXT = 4.0, 7.5, 9.0  # points
_GREY = "#666666"


class Panel(NamedTuple):
    """A picture, grey levels (H, W) or (H, W, 3), and the text beneath it; without a picture the text takes its place.

    Pictures of images are uint8, those of changes int16, -255..255.
    """

    pixels: NDArray[Any] | None
    text: str = ""


class Line(NamedTuple):
    """Pictures of one kind beside each other, and what stands to their left."""

    label: str
    kind: Literal["image", "change"]
    panels: tuple[Panel, ...]


class Sheet(NamedTuple):
    """Lines of pictures under each other; titles stand above the columns, `largest` (grey levels) ends the scale."""

    titles: tuple[str, ...]
    lines: tuple[Line, ...]
    largest: int


class Shown(NamedTuple):
    """One attack on one model, with its pictures; name: the model's in figures; audit: its verdict."""

    name: str
    method: str | None
    attack: str
    examples: Examples
    summary: AttackSummary
    rows: AttackRows | None
    audit: str


def example_plots(group: Group) -> list[Plot]:
    """Return the paper's Figure 1 for HC1 and FGS, and a gallery of each of two models, as far as examples were kept.

    The models are the first regular one and, of the others, B1 or else the first.
    """
    compared = [_comparison(group, _chosen(group, attack)) for attack in COMPARED]
    galleries = [_gallery(group, shown) for shown in _chosen(group, None)]
    return [plot for plot in (*compared, *galleries) if plot is not None]


def _chosen(group: Group, attack: str | None) -> list[Shown]:
    """Return at most two models with examples of an attack (None: of any, HC1 before the others)."""
    found = [_shown(model, ("hc1", *attack_names(model)) if attack is None else (attack,)) for model in group.models]
    usable = [shown for shown in found if shown is not None]
    regular = [shown for shown in usable if shown.method == "regular"]
    others = [shown for shown in usable if shown.method != "regular"]
    return [*regular[:1], *sorted(others, key=lambda shown: shown.name != _PREFERRED)[:1]]


def _shown(model: ModelResults, attacks: tuple[str, ...]) -> Shown | None:
    """Return the first of the attacks that has examples of a model."""
    for attack in attacks:
        examples, summary = model.examples(attack), model.summary(attack)
        if examples is not None and summary is not None and len(examples.indices):
            name, method = short_name(model.name), model.model.method
            return Shown(name, method, attack, examples, summary, model.rows(attack), audit_mark(model, attack))
    return None


def _comparison(group: Group, shown: list[Shown]) -> Plot | None:
    """Return one column per class: the image, and what an attack made of it against each model."""
    labels = sorted({int(label) for item in shown for label in item.examples.labels})
    indices = [_index_of_class(shown, label) for label in labels[:MOST_CLASSES]]
    lines = [line for item in shown for line in _lines(item, indices)]
    changes = [panel.pixels for line in lines if line.kind == "change" for panel in line.panels]
    if not changes:
        return None
    sheet = Sheet(
        titles=tuple(_class_name(group, label) for label in labels[:MOST_CLASSES]),
        lines=(Line("original", "image", tuple(_original(shown, index) for index in indices)), *lines),
        largest=max(1, *(int(np.abs(pixels).max()) for pixels in changes if pixels is not None)),
    )
    models = " and ".join(item.name for item in shown)
    return Plot(
        name=f"{group.name}-examples-{shown[0].attack}",
        section="examples",
        title=f"{attack_title(shown[0].attack)} against {models}: an image of each class",
        caption=" ".join(_comparison_caption(group, shown, sheet, len(labels))),
        alternative=f"Small pictures, one column per class ({len(indices)} class{'' if len(indices) == 1 else 'es'}): "
        f"the image, its adversarial image and the perturbation. {' '.join(_spread(item, indices) for item in shown)}",
        draw=partial(draw_sheet, sheet),
    )


def _index_of_class(shown: list[Shown], label: int) -> int:
    """Return the test image to show of a class: one that all models have, flipped if possible, the first of these."""
    candidates = {int(index) for item in shown for index in item.examples.indices[item.examples.labels == label]}

    def order(index: int) -> tuple[int, int, int]:
        places = [(item.examples, item.examples.place(index)) for item in shown]
        flipped = [bool(examples.flipped[place]) for examples, place in places if place is not None]
        return -len(flipped), -sum(flipped), index

    return min(candidates, key=order)


def _original(shown: list[Shown], index: int) -> Panel:
    examples = next(item.examples for item in shown if item.examples.place(index) is not None)
    return Panel(_flat(examples.original[examples.indices == index][0]))


def _lines(shown: Shown, indices: list[int]) -> list[Line]:
    """Return a model's adversarial images and, where there are any, their perturbations."""
    lines = [
        Line(f"{shown.name}\n{attack_title(shown.attack)}", "image", tuple(_adversarial(shown, i) for i in indices))
    ]
    changes = tuple(_change(shown, index) for index in indices)
    if any(panel.pixels is not None for panel in changes):
        lines.append(Line(f"{shown.name}\nperturbation", "change", changes))
    return lines


def _adversarial(shown: Shown, index: int) -> Panel:
    place = shown.examples.place(index)
    if place is None:  # either it is not among the first of its class for this model, or it never was attacked
        wrong = shown.rows is not None and not shown.rows.attacked[shown.rows.indices == index].any()
        return Panel(None, "mis-\nclassified" if wrong else "not\nkept")
    if not shown.examples.flipped[place]:
        return Panel(None, "never\nflipped")
    score = _pass(shown, index)
    linf = f"L∞ {shown.examples.linf()[place]}"
    return Panel(_flat(shown.examples.adversarial[place]), linf if score is None else f"PASS {score:.3f}\n{linf}")


def _change(shown: Shown, index: int) -> Panel:
    place = shown.examples.place(index)
    if place is None or not shown.examples.flipped[place]:
        return Panel(None)
    pair = shown.examples.adversarial[place], shown.examples.original[place]
    return Panel(_flat(np.subtract(*pair, dtype=np.int16)))


def _pass(shown: Shown, index: int) -> float | None:
    """Return PASS by its written definition, or None where it is not known."""
    if shown.rows is None:
        return None
    found = shown.rows.pass_definition[shown.rows.indices == index]
    return float(found[0]) if len(found) and np.isfinite(found[0]) else None


def _comparison_caption(group: Group, shown: list[Shown], sheet: Sheet, classes: int) -> list[str]:
    choice = "of both models (one that both were fooled by," if len(shown) > 1 else "(one that was flipped,"
    scored = any("PASS" in panel.text for line in sheet.lines for panel in line.panels)
    models = " and ".join(map(_described, shown))
    counts = "; ".join(f"{item.name} {_flipped(item)}{item.audit}" for item in shown)
    sentences = [
        f"For each class of {group.data.name} the first example {choice} if there is one), its adversarial image under "
        f"{attack_title(shown[0].attack)} against {models}, and the perturbation: adversarial minus original, on one "
        f"scale for all, from -{sheet.largest} to {sheet.largest} grey levels with no change in the middle.",
        f"Flipped of the images attacked: {counts}.",
        f"Beneath: {'PASS to the original (the written definition) and ' if scored else ''}L∞ in grey levels.",
    ]
    if _in_colour(sheet):
        sentences.append(f"Perturbations of colour images: 127.5 + 127.5 change / {sheet.largest} in each channel.")
    if classes > MOST_CLASSES:
        sentences.append(f"The first {MOST_CLASSES} of {classes} classes with examples.")
    if classes < len(group.data.class_names):
        sentences.append(f"Classes without an example: {len(group.data.class_names) - classes}.")
    return sentences


def _spread(shown: Shown, indices: list[int]) -> str:
    """Return a sentence with the numbers beneath one model's pictures."""
    examples = shown.examples
    places = {index: place for index in indices if (place := examples.place(index)) is not None}
    flipped = {index: place for index, place in places.items() if examples.flipped[place]}
    if not flipped:
        return f"{shown.name}: none of these images was flipped."
    linf = examples.linf()[list(flipped.values())]
    text = f"{shown.name}: {len(linf)} flipped, L∞ {linf.min()} to {linf.max()} grey levels"
    scores = [score for index in flipped if (score := _pass(shown, index)) is not None]
    if not scores:
        return f"{text}."
    some = "" if len(scores) == len(linf) else f" of {len(scores)} of them"
    return f"{text}, PASS{some} {min(scores):.3f} to {max(scores):.3f}."


def _gallery(group: Group, shown: Shown) -> Plot:
    """Return lines of the easiest, typical and hardest images of one attack, and of its failures."""
    parts = _parts(shown)
    absent = [name for name, places in parts.items() if not len(places)]
    lines = tuple(
        Line(name, "image", tuple(_gallery_panel(group, shown, place) for place in places.tolist()))
        for name, places in parts.items()
        if name not in absent
    )
    linf = {name: shown.examples.linf()[places] for name, places in parts.items() if name not in (*absent, "failures")}
    spread = ", ".join(f"{name} {values.min()} to {values.max()}" for name, values in linf.items())
    return Plot(
        name=f"{group.name}-gallery-{shown.name}-{shown.attack}",
        section="examples",
        title=f"{attack_title(shown.attack)} against {shown.name}: the easiest and the hardest images",
        caption=" ".join(_gallery_caption(group, shown, absent)),
        alternative=f"Small pictures in lines: {', '.join(line.label for line in lines)}. {_flipped(shown)} attacked "
        f"images were flipped.{f' L∞ in grey levels: {spread}.' if spread else ''}",
        draw=partial(draw_sheet, Sheet((), lines, 0)),
    )


def _parts(shown: Shown) -> dict[str, NDArray[np.intp]]:
    """Return which examples belong in each line of a gallery; none in two of them."""
    examples, count, most = shown.examples, shown.summary.flipped, MOST_IMAGES
    middle = max(0, (count - most) // 2)
    return {
        "easiest": examples.ranked(0, most),
        "median": examples.ranked(max(middle, most), min(middle + most, count - most)),
        "hardest": examples.ranked(max(most, count - most), count),
        "failures": np.flatnonzero(~examples.flipped)[:most],
    }


def _gallery_panel(group: Group, shown: Shown, place: int) -> Panel:
    examples = shown.examples
    label, seen = (_class_name(group, int(of[place])) for of in (examples.labels, examples.predictions))
    if not examples.flipped[place]:
        return Panel(_flat(examples.original[place]), f"{shortened(label, 16, 1)}\nnot flipped")
    together = len(label + seen) <= 10
    classes = f"{label} → {seen}" if together else f"{shortened(label, 14, 1)} →\n{shortened(seen, 16, 1)}"
    return Panel(_flat(examples.adversarial[place]), f"L∞ {examples.linf()[place]}\n{classes}")


def _gallery_caption(group: Group, shown: Shown, absent: list[str]) -> list[str]:
    """Return the sentences beneath a gallery; `absent` are the lines it does not have."""
    sentences = [
        f"{attack_title(shown.attack)} against {_described(shown)} on {group.data.name}: {_flipped(shown)} attacked "
        f"images were flipped{shown.audit}.",
        "Adversarial images with the smallest L∞ (easiest), around its median and with the largest (hardest), and the "
        "originals of the first failures; no image twice.",
        "Beneath: L∞ in grey levels, true class → class seen.",
    ]
    if "failures" in absent:
        sentences.append("Every attacked image was flipped: there are no failures.")
    if scarce := [name for name in absent if name != "failures"]:
        sentences.append(f"Too few were flipped for these lines: {', '.join(scarce)}.")
    return sentences


def draw_sheet(sheet: Sheet) -> Figure:
    """Draw lines of pictures in one pair of axes measured in inches, with a scale where grey images were changed."""
    changed = [number for number, line in enumerate(sheet.lines) if line.kind == "change" and not _in_colour(sheet)]
    columns, right = max(len(line.panels) for line in sheet.lines), _RIGHT if changed else _GAP
    side = min(_LARGEST, (style.PAGE - _LEFT - right) / columns - _GAP)
    height = side * _height_to_width(sheet)
    titles = [shortened(title, 10, 2) for title in sheet.titles]
    tops = [_GAP + _TITLE_LINE * max((title.count("\n") + 1 for title in titles), default=0)]
    for line in sheet.lines:
        tops.append(tops[-1] + height + _GAP + _TEXT_LINE * _text_lines(line))
    figure = style.new_figure(_LEFT + columns * (side + _GAP) + right, tops[-1])
    figure.set_layout_engine("none")
    axes = _axes_in_inches(figure)
    for column, title in enumerate(titles):
        _write(axes, (_LEFT + column * (side + _GAP) + side / 2, tops[0] - 0.07), title, _TEXT, side, va="baseline")
    for line, top in zip(sheet.lines, tops[:-1], strict=True):
        _draw_line(axes, line, top, (side, height), sheet.largest)
    if changed:
        _draw_scale(figure, tops[changed[0]], tops[changed[-1]] + height, sheet.largest)
    return figure


def _axes_in_inches(figure: Figure) -> Axes:
    """Return axes over a whole figure, in inches from its upper left corner."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return axes


def _draw_line(axes: Axes, line: Line, top: float, size: tuple[float, float], largest: int) -> None:
    side, height = size
    label = shortened(line.label, 13, 4)
    _write(axes, (_LEFT - 0.1, top + height / 2), label, _TEXT, _LEFT - 0.15, ha="right", va="center")
    for column, panel in enumerate(line.panels):
        left = _LEFT + column * (side + _GAP)
        if panel.pixels is None:
            place = left + side / 2, top + height / 2
            _write(axes, place, panel.text, _SMALL, side, va="center", color=_GREY)
            continue
        _draw_picture(axes, panel.pixels, line.kind, (left, left + side, top + height, top), largest)
        axes.add_patch(Rectangle((left, top), side, height, fill=False, edgecolor=_GREY, linewidth=0.4))
        _write(axes, (left + side / 2, top + height + 0.03), panel.text, _SMALL, side, va="top")


def _draw_picture(
    axes: Axes, pixels: NDArray[Any], kind: str, extent: tuple[float, float, float, float], largest: int
) -> None:
    options: dict[str, Any] = {"extent": extent, "aspect": "auto", "interpolation": "nearest"}
    if kind == "image":
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, **options)
    elif pixels.ndim == 3:
        axes.imshow(np.rint(127.5 + 127.5 * pixels / largest).astype(np.uint8), **options)
    else:
        axes.imshow(pixels, cmap=style.DIVERGING, vmin=-largest, vmax=largest, **options)


def _draw_scale(figure: Figure, top: float, bottom: float, largest: int) -> None:
    """Draw the scale of the perturbations at the right edge, between two heights in inches."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes(((width - 0.68) / width, 1 - bottom / height, 0.12 / width, (bottom - top) / height))
    colours = ScalarMappable(Normalize(-largest, largest), style.DIVERGING)
    bar = figure.colorbar(colours, cax=axes, ticks=[-largest, 0, largest])
    axes.tick_params(labelsize=_SMALL, length=2, pad=2)
    bar.set_label("grey levels", fontsize=_SMALL, labelpad=-6)


def _write(axes: Axes, place: tuple[float, float], text: str, size: float, room: float, **options: Any) -> None:
    """Write text (points) at a place, smaller where it would be wider than `room` (inches)."""
    options = {"ha": "center"} | options
    written = axes.text(*place, text, fontsize=size, linespacing=1.1, parse_math=False, **options)
    inches = axes.transData.inverted()
    while size > _SMALLEST and written.get_window_extent().transformed(inches).width > room:
        size -= 0.5  # step by step, since hinted letters do not shrink evenly
        written.set_fontsize(size)


def shortened(text: str, width: int, most: int) -> str:
    """Return text broken into lines of so many characters; an ellipsis ends it where there would be too many lines."""
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width)]
    return "\n".join(lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1][: width - 1]}…"])


def _text_lines(line: Line) -> int:
    return max(panel.text.count("\n") + 1 if panel.pixels is not None and panel.text else 0 for panel in line.panels)


def _height_to_width(sheet: Sheet) -> float:
    height, width = next(panel.pixels.shape[:2] for panel in sheet.lines[0].panels if panel.pixels is not None)
    return float(height / width)


def _in_colour(sheet: Sheet) -> bool:
    return any(panel.pixels is not None and panel.pixels.ndim == 3 for panel in sheet.lines[0].panels)


def _flat(image: NDArray[Any]) -> NDArray[Any]:
    """Return a picture (H, W, 3) of three channels, else (H, W), the mean of all channels."""
    if len(image) == 3:
        return np.moveaxis(image, 0, -1)
    mean: NDArray[Any] = np.rint(image.mean(axis=0)).astype(image.dtype)
    return mean


def _described(shown: Shown) -> str:
    return shown.name if shown.method is None else f"{shown.name} ({shown.method.replace('bang', 'BANG')})"


def _flipped(shown: Shown) -> str:
    return f"{shown.summary.flipped:,} of {shown.summary.correct:,}"


def _class_name(group: Group, label: int) -> str:
    names = group.data.class_names
    return names[label] if 0 <= label < len(names) else str(label)
