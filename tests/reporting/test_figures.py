"""The figures: what they show of which records, that they are drawn, and drawn once."""

from __future__ import annotations

import io
import json
import math
import pickle

import numpy as np
import pytest
from PIL import Image

from bangbench.core.progress import SILENT
from bangbench.core.statistics import wilson_interval
from bangbench.paper.figures import draw_settings, draw_surfaces, settings_figures
from bangbench.paper.figures import noise_figures as surface_figures
from bangbench.reporting import draw as drawing
from bangbench.reporting.curves import (
    audit_figures,
    margin_figures,
    robustness_figures,
    similarity_figures,
    training_figures,
)
from bangbench.reporting.draw import draw, palette_png, write_figures
from bangbench.reporting.figure import Chart, Figure, Panel, Series
from bangbench.reporting.noise import chosen_sigmas, noise_figures
from bangbench.reporting.pictures import example_figures, shortened
from bangbench.store.examples import Examples, examples_file, write_examples

NEVER = math.inf


def only(figures):
    (found,) = figures
    return found


def panels(figure):
    return figure.content.panels


def series(figure, label, panel=0):
    return next(line for line in panels(figure)[panel].series if line.label == label)


def keep_examples(records, name, attack, flipped=(True, True, False), channels=1):
    """Write an attack and pictures of its first images, one of each class."""
    path = records.attack(name, attack, correct=3, flipped=sum(flipped), images=3, rate=66.7, rate_interval=None)
    count = len(flipped)
    original = np.full((count, channels, 6, 6), 100, dtype=np.uint8)
    adversarial = np.where(np.array(flipped)[:, None, None, None], original + 9, 0).astype(np.uint8)
    ranks = np.where(flipped, np.arange(count), -1)
    predictions = np.where(flipped, 7, -1)
    found = Examples(np.arange(count), original, adversarial, np.array(flipped), np.arange(count), predictions, ranks)
    write_examples(examples_file(path), found)


def test_audited_models_fall_from_their_accuracy_with_intervals(records):
    records.audit("t/R0")
    figure = only(audit_figures(records.experiment()))
    worst = series(figure, "worst case")

    assert worst.x == (0.0, 26.0, 51.0, 76.0)
    assert worst.y[:2] == (99.0, pytest.approx(41.4))
    assert worst.low[1] == pytest.approx(wilson_interval(414, 1000)[0])
    assert {line.label for line in panels(figure)[0].series} == {"fgs", "pgd", "square", "worst case"}
    assert "worst case: 99 at 0, 41.4 at 26" in figure.alternative


def test_an_attack_that_tried_only_what_others_left_has_no_line(records):
    path = records.audit("t/R0")
    record = json.loads(path.read_text())
    for rates in record["summary"]["budgets"]:
        rates["tried"] = {"square": 30}
    path.write_text(json.dumps(record))
    figure = only(audit_figures(records.experiment()))
    assert {line.label for line in panels(figure)[0].series} == {"fgs", "pgd", "worst case"}


def test_of_many_audited_models_only_the_worst_cases_are_drawn(records):
    for number in range(6):
        records.audit(f"t/m{number}")
    figure = only(audit_figures(records.experiment()))

    assert [line.label for line in panels(figure)[0].series] == [f"m{number}" for number in range(6)]
    looks = [tuple(sorted(line.look.items())) for line in panels(figure)[0].series]
    assert len(set(looks)) == 6


def test_robust_accuracy_is_a_step_function_up_to_255(records):
    for name in ("t/R0", "t/B1"):
        records.images(name, "fgs", [4.0, 200.0, NEVER], wrong=1)
        records.images(name, "hc1", [9.0, 3.0, NEVER], wrong=1)
    attacks, worst = robustness_figures(records.experiment())

    line = series(attacks, "fgs")
    assert (line.x, line.y) == ((0.0, 4.0, 200.0, 255.0), (75.0, 50.0, 25.0, 25.0))
    assert series(attacks, "worst case").y == (75.0, 50.0, 25.0, 25.0)
    assert [each.label for each in panels(worst)[0].series] == ["R0 (2 attacks)", "B1 (2 attacks)"]
    assert panels(attacks)[0].x_ends == (0.0, 212.0)
    assert "Cut at 212 grey levels" in attacks.caption


def test_margins_have_a_bin_edge_where_gradients_vanish(records):
    records.images("t/R0", "fgs", [4.0] * 20, blank=12.0)
    figure = only(margin_figures(records.experiment()))
    margin = panels(figure)[0]

    assert margin.rule[0] == pytest.approx(16.6, abs=0.05)
    assert sum(margin.series[0].y) == pytest.approx(100.0)
    assert len(margin.series[0].x) == len(margin.series[0].y) + 1
    assert "12.0 % blank under FGS" in margin.series[0].label


@pytest.mark.parametrize("stages", [(500, 1000), (500,)])
def test_noise_is_drawn_over_the_stages_or_over_sigma(records, stages):
    percent = tuple(tuple((rate, 4 * rate) for _ in stages) for rate in (5.0, 2.0))
    records.noise("t/R0", "t/B1", stages=stages, sigmas=(10.0, 50.0), flipped_percent=percent)
    figure = only(noise_figures(records.experiment()))

    if len(stages) == 1:
        assert (series(figure, "B1").x, series(figure, "B1").y) == ((10.0, 50.0), (2.0, 8.0))
        assert series(figure, "B1").marked
    else:
        assert [panel.title for panel in panels(figure)] == ["σ = 10", "σ = 50"]  # noqa: RUF001
        assert series(figure, "R0", panel=1).y == (20.0, 20.0)
    assert "Without confidence intervals" in figure.caption
    assert len(list(surface_figures(records.experiment()))) == len(stages) - 1


def test_strengths_that_flip_next_to_nothing_are_not_drawn(records):
    percent = ((tuple(0.1 * step**3 for step in range(1, 7)),),) * 2
    records.noise("t/R0", "t/B1", stages=(500,), sigmas=tuple(range(10, 70, 10)), flipped_percent=percent)

    assert chosen_sigmas(records.experiment().noise[0]) == [3, 4, 5]


def test_the_papers_figure_names_its_ends_and_both_models(records):
    records.noise("table1/R0", "table1/B1", stages=(500, 10000), sigmas=(50.0, 100.0))
    figure = only(surface_figures(records.experiment()))
    picture = draw_surfaces(figure.content)

    assert "Published, figure 3 at σ 100, last stage: regular about 20 %, BANG about 3 %." in figure.caption  # noqa: RUF001
    assert [axes.get_title() for axes in picture.axes[:3]] == ["R0", "B1", "R0 minus B1"]
    assert [label.get_text() for label in picture.axes[0].get_xticklabels()] == ["500", "10,000"]
    assert figure.content.percent.shape == (2, 2, 2)


def test_settings_show_the_mean_of_models_that_share_one_and_the_regular_level(records):
    for name, accuracy in (("table1/B0", 99.0), ("table1/B1", 98.0), ("table1/B2", 97.0)):
        records.attack(name, "fgs", accuracy=accuracy)
    records.attack("table1/same", "fgs", accuracy=96.0, method="bang", iterations=10000,
                   method_settings={"beta": 1.2, "epsilon": 0.81, "ratio": 1.0})  # fmt: skip
    records.attack("table1/R0", "fgs", accuracy=99.5)
    figure = only(settings_figures(records.experiment()))
    accuracy = figure.content[0]

    assert [(point.names, point.value) for point in accuracy.points] == [("B0", 99.0), ("B1", 98.0), ("B2, same", 96.5)]
    assert accuracy.regular == 99.5
    assert "regular 99.50" in figure.alternative
    assert [axes.get_title() for axes in draw_settings(figure.content).axes[:1]] == ["accuracy\n(regular 99.50)"]


def test_one_setting_alone_makes_no_figure(records):
    records.attack("table1/B0", "fgs")
    assert not list(settings_figures(records.experiment()))


def test_training_is_drawn_from_the_log_of_the_same_weights(records):
    records.attack("t/R0", "fgs")
    records.card("t/R0")
    log = (
        "iteration,loss,rate,training_accuracy,test_accuracy,seconds\n500,0.9,0.01,90,97.0,1\n1000,0.1,0.01,99,98.5,1\n"
    )
    (records.root / "models/t/R0/log.csv").write_text(log)
    figure = only(training_figures(records.experiment()))

    assert series(figure, "R0").y == (0.9, 0.1)
    assert series(figure, "R0", panel=1).y == (3.0, 1.5)
    assert [panel.y_logarithmic for panel in panels(figure)] == [True, False]
    assert "R0: 0.9 at 500, 0.1 at 1000; R0: 3 at 500, 1.5 at 1000." in figure.alternative


def test_similarity_shows_flipped_images_and_names_what_it_leaves_out(records):
    records.images("t/R0", "fgs", [10.0] * 60 + [NEVER])
    records.images("t/R0", "zoo", [20.0])
    records.images("t/R0", "hc1", [20.0, 40.0])
    records.attack("t/R1", "fgs")
    figure = only(similarity_figures(records.experiment()))

    assert [len(panel.series[0].x) for panel in panels(figure)] == [60, 2]
    assert series(figure, "medians", panel=1).x == (30.0,)
    assert "R0 hc1: 2 flipped medians: L∞ 30" in figure.alternative
    assert figure.caption.endswith("Not shown: zoo; no single images: R1.")
    assert draw(figure).axes[0].get_title().startswith("R0 fgs: 60 flipped")


def test_examples_show_one_image_of_each_class_and_why_one_is_missing(records):
    keep_examples(records, "t/R0", "hc1")
    keep_examples(records, "t/B1", "hc1", flipped=(True, False))
    (compared,) = example_figures(records.experiment())
    lines = {line.label: line for line in compared.content.lines}

    assert compared.content.titles == ("0", "1", "2")
    assert compared.content.largest == 9
    assert [each.text for each in lines["B1\nHC1"].pictures] == ["L∞ 9", "never\nflipped", "not\nkept"]
    assert "Flipped of the images attacked: R0 2 of 3; B1 1 of 3." in compared.caption
    assert draw(compared).axes


def test_pictures_in_colour_are_scaled_in_each_channel(records):
    keep_examples(records, "t/R0", "fgs", channels=3)
    (compared,) = example_figures(records.experiment())

    assert "127.5 + 127.5 change / 9 in each channel" in compared.caption
    assert draw(compared).axes


def test_long_names_end_in_an_ellipsis():
    assert shortened("a b", 4, 1) == "a b"
    assert shortened("automobiles of many kinds", 8, 2).endswith("…")


def chart(name="one", label="line"):
    panel = Panel((Series(label, (0.0, 1.0), (3.0, 4.0), number=0),), x_label="x", y_label="y")
    return Figure(name, "audit", "Title", "Caption.", "Alternative.", Chart((panel,)))


def test_a_chart_draws_every_kind_of_line(records):
    x = (1.0, 2.0, 3.0)
    kinds = (
        Series("band", x, x, (0.5, 1.5, 2.5), (1.5, 2.5, 3.5), number=0),
        Series("bars", x, x, (0.5, 1.5, 2.5), (1.5, 2.5, 3.5), number=1, marked=True),
        Series("steps", x, x, (0.5, 1.5, 2.5), (1.5, 2.5, 3.5), number=2, kind="steps"),
        Series("outline", x, (4.0, 5.0), number=3, kind="outline"),
        Series("reference", x, x),
    )
    whole = chart()._replace(content=Chart((Panel(kinds, rule=(2.0, "rule")), Panel(kinds, y_logarithmic=True)), 2))
    picture = draw(whole)

    assert [text.get_text() for text in picture.legends[0].get_texts()] == [
        "band", "bars", "steps", "outline", "reference",
    ]  # fmt: skip
    assert picture.axes[1].get_yscale() == "log"


def test_figures_are_written_once_and_again_when_their_content_changes(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(drawing, "draw", lambda figure: drawn.append(figure.name) or draw(figure))
    for figures in ([chart()], [chart()], [chart(label="other")], [chart(label="other"), chart("two")]):
        write_figures(figures, tmp_path, (), SILENT)
    assert drawn == ["one", "one", "two"]

    (tmp_path / "one.png").write_bytes(b"no picture")
    write_figures([chart(label="other")], tmp_path, (), SILENT)
    assert drawn == ["one", "one", "two", "one"]


def test_vector_formats_are_written_where_asked_for_and_the_same_each_time(tmp_path):
    (paths,) = write_figures([chart()], tmp_path, ("svg", "pdf", "md"), SILENT)
    first = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    write_figures([chart()], tmp_path, ("svg", "pdf"), SILENT)

    assert [path.suffix for path in paths] == [".svg", ".pdf", ".png"]
    assert [path.read_bytes() for path in paths] == first


def test_workers_draw_what_this_process_draws(tmp_path, monkeypatch):
    figures = [chart("one"), chart("two")]
    (one,), (two,) = write_figures(figures, tmp_path / "alone", (), SILENT)
    monkeypatch.setattr(drawing, "_IN_PROCESS", 0)
    monkeypatch.setattr(drawing, "available_cores", lambda: 2)
    monkeypatch.setattr(drawing, "draw", lambda figure: pytest.fail("drawn in this process"))
    (first,), (second,) = write_figures(figures, tmp_path / "shared", (), SILENT)

    assert (first.read_bytes(), second.read_bytes()) == (one.read_bytes(), two.read_bytes())


def test_a_palette_keeps_the_ground_and_rare_colours_near():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture = np.full((128, 128, 3), 255, dtype=np.uint8)
    picture[:64, :64] = noise
    with Image.open(io.BytesIO(palette_png(Image.fromarray(picture), {"bangbench": "key"}))) as found:
        assert found.mode == "P"
        assert found.info["bangbench"] == "key"
        pixels = np.asarray(found.convert("RGB")).astype(int)

    assert (pixels[64:] == 255).all()
    assert np.abs(pixels - picture).max() < 90


def test_what_is_drawn_is_plain_data(records):
    records.audit("t/R0")
    figure = only(audit_figures(records.experiment()))

    assert pickle.loads(pickle.dumps(figure)) == figure
