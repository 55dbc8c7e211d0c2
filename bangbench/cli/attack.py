"""`bangbench attack`."""

from __future__ import annotations

from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bangbench.attacks.spec import AttackSpec
from bangbench.cli.before import check_models
from bangbench.cli.options import command
from bangbench.cli.output import Output
from bangbench.store.layout import results_folder
from bangbench.store.records import AttackRecord, Moments

_UNLIMITED = 10_000


def run_attack(specs: list[AttackSpec], output: Output) -> None:
    """Attack the test images that a model classifies correctly and keep one row per image.

    fgs and hc1 are the paper's; their unmasked twins compute the same without float32 underflow and with the sign
    mended. A rate that rises from one to the other was not robustness but a vanished gradient.

    pgd, apgd, square, transfer, uniform-noise and gaussian-noise change an image anywhere, by at most a budget; the
    rate is that within the largest one.
    """
    check_models(specs)
    from bangbench.attacks.run import attack

    results = [attack(spec, output.progress()) for spec in specs]
    if output.json:
        output.print_json(attack_json(results))
    elif not output.quiet:
        for records in results:
            print_attacks(records, output.console())
    if specs[0].save_images:
        for record in (record for records in results for record in records):
            file = results_folder(specs[0].root, record.model.name) / f"{record.attack}.npz"
            output.say(f"{file}: index, original, adversarial, label, prediction of the flipped images")


def print_attacks(records: list[AttackRecord], console: Console) -> None:
    """Print the summary of one model's attacks, means and their deviations on two lines where one is too narrow."""
    table = attack_table(records)
    needed = console.measure(table, options=console.options.update(width=_UNLIMITED)).maximum
    console.print(table if needed <= console.width else attack_table(records, "\n"))
    for record in records:
        if "robust_accuracy" in (robust := _within(record)):
            low, high = robust["robust_accuracy_interval"]
            console.print(
                f"{record.attack} within {robust['budget'][-1]}/255: clean {robust['clean_accuracy']:.2f} %, robust "
                f"accuracy {robust['robust_accuracy']:.2f} % [{low:.1f}, {high:.1f}]",
                highlight=False,
                markup=False,
            )


def attack_json(results: list[list[AttackRecord]]) -> dict[str, Any]:
    """Return what ``--json`` prints: percent and grey levels, one entry per model and attack."""
    models = {}
    for records in results:
        first = _summary(records[0])
        models[records[0].model.name] = {
            "data": records[0].data.name,
            "accuracy": first["accuracy"],
            "images": first["images"],
            "correct": first["correct"],
            "attacks": {record.attack: _within(record) | _per_attack(_summary(record)) for record in records},
        }
    return {"schema": 1, "models": models}


def _summary(record: AttackRecord) -> dict[str, Any]:
    return record.summary.model_dump(mode="json", by_alias=True) if record.summary else {}


def _within(record: AttackRecord) -> dict[str, Any]:
    """Return, of an attack inside a ball, the budgets in grey levels, and the accuracies within the largest.

    They are what RobustBench calls clean and robust accuracy: in percent of all images, attacked or not.
    """
    from bangbench.core.statistics import wilson_interval

    summary = record.summary
    if not record.spec.get("budget"):
        return {}
    if summary is None or not summary.images:
        return {"budget": record.spec["budget"]}
    held = summary.correct - summary.flipped
    return {
        "budget": record.spec["budget"],
        "clean_accuracy": summary.accuracy,
        "robust_accuracy": 100.0 * held / summary.images,
        "robust_accuracy_interval": wilson_interval(held, summary.images),
    }


def _per_attack(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name not in ("accuracy", "images", "correct")}


def attack_table(records: list[AttackRecord], separator: str = " ") -> Table:
    """Return the summary of one model's attacks, `separator` (blank or newline) before deviations and budgets."""
    first = records[0]
    summary = _summary(first)
    table = Table(
        title=f"{first.model.name} on {first.data.name}: {summary['images']} images, {summary['correct']} correct "
        f"({summary['accuracy']:.2f} %)",
        title_justify="left",
        title_style="bold",
        caption="rate: flipped per correct image; L_inf (grey levels), PASS: over flipped; median: failures infinite",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("attack", no_wrap=True)
    for header in ("rate %", "95 % interval", "blank %", "L_inf", "median", "PASS", "PASS (paper)"):
        table.add_column(header, justify="right")
    for record in records:
        within = (f"L∞ ≤ {largest}" for largest in _within(record).get("budget", [])[-1:])
        table.add_row(separator.join([record.attack, *within]), *_cells(record, separator))
    return table


def _cells(record: AttackRecord, separator: str) -> list[str]:
    summary = record.summary
    if summary is None:
        return []
    interval = summary.rate_interval
    median = summary.linf.median_censored
    return [
        _number(summary.rate, 2),
        "-" if interval is None else f"{interval[0]:.1f}-{separator.strip(' ')}{interval[1]:.1f}",
        _number(summary.blank, 2),
        _moments(summary.linf, 2, separator),
        "inf" if median is None else f"{median:.0f}",
        _moments(summary.pass_definition, 4, separator),
        _moments(summary.pass_paper, 4, separator),
    ]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _moments(moments: Moments, digits: int, separator: str) -> str:
    if moments.mean is None:
        return "-"
    return f"{moments.mean:.{digits}f}{separator}±{moments.std:.{digits}f}"


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "attack",
        AttackSpec,
        run_attack,
        arguments=("model",),
        repeated="model",
        example="bangbench attack R0 B1 --attack fgsm --budget 8/255 --limit 1000",
    )
