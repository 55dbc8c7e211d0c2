"""Synthetic records, written as the bench writes them, with numbers near those of the authors' LeNets."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bangbench.core.provenance import Provenance
from bangbench.core.statistics import wilson_interval
from bangbench.reporting.collect import FoundNoise, collect
from bangbench.reporting.experiments import Experiment, group_records
from bangbench.reporting.frames import frames_of
from bangbench.reporting.table import Table
from bangbench.store.audits import AuditRecord, AuditSummary, BudgetRates, Check, ClaimVerdict
from bangbench.store.layout import CARD, model_folder, results_folder, versus_name
from bangbench.store.records import (
    AttackRecord,
    AttackSummary,
    DataInfo,
    LinfSummary,
    ModelCard,
    ModelInfo,
    Moments,
    NoiseRecord,
    NoiseSummary,
    Preprocessing,
    write_record,
)

PROVENANCE = Provenance(
    bangbench="0.1.0",
    commit=None,
    dirty=None,
    python="3.11.9",
    packages={"numpy": "2.0.0"},
    system="Linux x86_64",
    processor="test",
    cores=2,
    device="cpu",
    command="bangbench attack table1/R0",
)

#: rate, its interval, blank, L_inf mean and std, median, PASS (definition), PASS (paper), unaligned.
_NUMBERS: dict[str, dict[str, Any]] = {
    "R0 fgs": {"rate": 90.328762, "interval": (89.73, 90.89), "blank": 9.570391, "linf": (40.5612, 15.7441),
               "median": 42.0, "pass": (0.40784, 0.10752), "paper": (0.40712, 0.10851), "plain": (0.404, 0.1068)},
    "R0 fgs-unmasked": {"rate": 99.93, "interval": (99.85, 99.97), "blank": 0.0, "linf": (42.41, 16.43),
                        "median": 41.0, "pass": (0.41, 0.11), "paper": (0.41, 0.11), "plain": (0.40, 0.11)},
    "R0 hc1": {"rate": 99.76805, "interval": (99.6, 99.85), "blank": 0.0, "linf": (122.2, 49.4),
               "median": 118.5, "pass": (0.7646, 0.0989), "paper": (0.7526, 0.1131), "plain": (0.7464, 0.1129)},
    "R0 hc1-unmasked": {"rate": 99.63, "interval": (99.49, 99.73), "blank": 0.0, "linf": (123.2, 49.5),
                        "median": 119.0, "pass": (0.76, 0.1), "paper": (0.75, 0.11), "plain": (0.74, 0.11)},
    "B1 fgs": {"rate": 1.683128, "interval": (1.45, 1.95), "blank": 98.3, "linf": (5.4731, 2.7719),
               "median": None, "pass": (0.7666, 0.1328), "paper": (0.7652, 0.1349), "plain": (0.7641, 0.1357)},
    "B1 fgs-unmasked": {"rate": 100.0, "interval": (99.96, 100.0), "blank": 0.0, "linf": (40.38, 15.96),
                        "median": 38.0, "pass": (0.41, 0.11), "paper": (0.41, 0.11), "plain": (0.40, 0.11)},
    "B1 hc1": {"rate": 95.2, "interval": (94.76, 95.6), "blank": 0.0, "linf": (200.0, 63.2),
               "median": 204.25, "pass": (0.5882, 0.1322), "paper": (0.4853, 0.2096), "plain": (0.4602, 0.2179)},
    "B1 hc1-unmasked": {"rate": 99.8, "interval": (99.69, 99.87), "blank": 0.0, "linf": (121.4, 56.7),
                        "median": 115.0, "pass": (0.7, 0.12), "paper": (0.69, 0.13), "plain": (0.68, 0.13)},
}  # fmt: skip

_CORRECT = {"R0": 9916, "B1": 9922}

_REGULAR = ("table1/R0", "table1/R1", "table2/R0", "table2/R1")

#: beta and epsilon of the paper's BANG models.
_BANG = {
    "table1/B0": (1.0, 0.785), "table1/B1": (1.0, 0.815), "table1/B2": (1.2, 0.81), "table1/B3": (1.35, 0.78),
    "table1/B4": (1.5, 0.84), "table1/B5": (1.6, 0.78), "table2/B0": (0.4, 0.855), "table2/B1": (0.45, 0.805),
    "table2/B2": (0.75, 0.8), "table2/B3": (0.75, 0.845), "table2/B4": (0.95, 0.84), "table2/B5": (1.0, 0.8),
}  # fmt: skip


class Records(NamedTuple):
    """Writes synthetic records under one root."""

    root: Path

    def attack(self, name: str, attack: str, *, status: str = "done", data: str = "mnist", **changes: Any) -> Path:
        """Write results/NAME/ATTACK.json; `changes` replace fields of the model or of the summary."""
        model = {key: changes.pop(key) for key in tuple(changes) if key in ModelInfo.model_fields}
        record = AttackRecord(
            schema=1,
            status="started" if status == "started" else "done",
            key="k",
            spec={},
            provenance=PROVENANCE,
            attack=attack,
            model=model_info(name, **({"data": data_info(data).name} | model)),
            data=data_info(data),
            summary=None if status != "done" else summary(name, attack, **changes),
        )
        path = results_folder(self.root, name) / f"{attack}.json"
        write_record(path, record)
        return path

    def noise(self, regular: str, bang: str, *, data: str = "mnist", status: str = "done", **changes: Any) -> Path:
        """Write results/PAIR/noise.json; `changes` replace fields of the summary, `spec` what was asked for.

        bang_model: fields of the BANG model that are others; both: of both models.
        """
        spec, bang_model = changes.pop("spec", {"clip": True}), changes.pop("bang_model", {})
        common = {"data": data_info(data).name} | changes.pop("both", {})
        record = NoiseRecord(
            schema=1,
            status="started" if status == "started" else "done",
            key="k",
            spec=spec,
            provenance=PROVENANCE,
            models=(
                model_info(regular, **common),
                model_info(bang, **(common | bang_model)),
            ),
            data=data_info(data),
            summary=None if status != "done" else noise_summary(**changes),
        )
        path = results_folder(self.root, versus_name((regular, bang))) / "noise.json"
        write_record(path, record)
        return path

    def audit(self, name: str, *, data: str = "mnist:1000", status: str = "done", **changes: Any) -> Path:
        """Write results/NAME/audit.json; `changes` replace fields of the model or of the summary, `against` a name."""
        model = {key: changes.pop(key) for key in tuple(changes) if key in ModelInfo.model_fields}
        against = changes.pop("against", None)
        record = AuditRecord(
            schema=1,
            status="started" if status == "started" else "done",
            key="k",
            spec={"limit": 1000},
            provenance=PROVENANCE,
            model=model_info(name, **model),
            against=None if against is None else model_info(against),
            data=data_info(data),
            summary=None if status != "done" else audit_summary(name, **changes),
        )
        path = results_folder(self.root, name) / "audit.json"
        write_record(path, record)
        return path

    def card(self, name: str, *, spec: dict[str, Any] | None = None, source: str | None = None, **changes: Any) -> Path:
        """Write models/NAME/model.json; spec: settings that are others than the paper's; source: of the images."""
        path = model_folder(self.root, name) / CARD
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, model_card(name, spec=spec, source=source, **changes))
        return path

    def held(self, budget: int, worst: int, images: int = 1000, correct: int = 990, **flipped: int) -> BudgetRates:
        """Return a budget of an audit, `worst` images flipped by all attacks together."""
        return held(budget, worst, images, correct, **flipped)

    def experiments(self) -> tuple[Experiment, ...]:
        """Return what was written, put together as a report does."""
        return group_records(collect(self.root, ()))[0]

    def experiment(self) -> Experiment:
        """Return the only experiment."""
        (found,) = self.experiments()
        return found

    def table(self, build: Callable[..., Table | None]) -> Table | None:
        """Return a table of the only experiment."""
        experiment = self.experiment()
        return build(experiment, frames_of([experiment]))

    def images(self, name: str, attack: str, linf: Sequence[float], wrong: int = 0, **changes: Any) -> Path:
        """Write an attack with single images: L_inf of each correct one, infinite where it failed; then wrong ones."""
        distance = np.array([*linf, *[np.inf] * wrong])
        flipped = np.isfinite(distance)
        attacked = np.arange(len(distance)) < len(linf)
        count, total = int(flipped.sum()), len(distance)
        correct = len(linf)
        rate = 100 * count / correct if correct else None
        numbers = {"images": total, "correct": correct, "flipped": count, "rate": rate, "rate_interval": None}
        numbers |= {"accuracy": 100 * correct / total}
        path = self.attack(name, attack, **(numbers | changes))
        found = np.where(flipped, distance, np.nan)
        columns = {"index": np.arange(total), "attacked": attacked, "flipped": flipped, "linf": found}
        columns |= {"pass": 1 - found / 255, "margin": np.linspace(1, 30, total)}
        columns |= {"true_logit": np.linspace(-5, 9, total)}
        pq.write_table(pa.table(columns), path.with_suffix(".parquet"))
        return path

    def found_noise(self, regular: str, bang: str, **changes: Any) -> FoundNoise:
        """Write a noise record and return it as `collect` finds it."""
        path = self.noise(regular, bang, **changes)
        record = NoiseRecord.model_validate_json(path.read_text(encoding="utf-8"))
        assert record.summary is not None
        return FoundNoise(versus_name((regular, bang)), path, record, record.summary)


def model_info(name: str, **changes: Any) -> ModelInfo:
    """Return what is known of a LeNet on MNIST; names in B are BANG models.

    Those called after rows in table1 and table2 (there: CIFAR-10 quick) are trained as the paper's, others for nobody
    knows how many steps.
    """
    folder, _, row = name.rpartition("/")
    bang, quick = row.startswith("B"), folder == "table2"
    beta, epsilon = _BANG.get(name, (1.0, 0.815))
    as_printed = name in _BANG or name in _REGULAR
    given: dict[str, Any] = {
        "name": name,
        "net": "cifar10-quick" if quick else "lenet",
        "parameters": 145578 if quick else 431080,
        "classes": 10,
        "input_shape": (3, 32, 32) if quick else (1, 28, 28),
        "preprocessing": Preprocessing(input_scale=1.0, mean_image=True) if quick else Preprocessing(input_scale=256.0),
        "method": "bang" if bang else "regular",
        "method_settings": {"beta": beta, "epsilon": epsilon, "ratio": 0.5 if quick else 1.0} if bang else {},
        "seed": 0,
        "iterations": (20_000 if quick else 10_000) if as_printed else None,
        "data": "cifar10" if quick else "mnist",
        "weights_sha256": "ab" * 32,
    }
    return ModelInfo(**(given | changes))


def model_card(
    name: str, *, spec: dict[str, Any] | None = None, source: str | None = None, **changes: Any
) -> ModelCard:
    """Return the card of a model; spec: settings other than LeNet's; source: of the images; `changes` of the model."""
    model = model_info(name, **changes)
    trained = {"batch_size": 64, "learning_rate": 0.01, "rate_policy": "inv(0.0001, 0.75)", "momentum": 0.9}
    trained |= {"weight_decay": 0.0005, "shuffle": False, "train_images": None, "iterations": model.iterations}
    data = data_info(str(model.data))
    return ModelCard(
        schema=1,
        status="done",
        key="k",
        spec=trained | (spec or {}),
        provenance=PROVENANCE,
        model=model,
        train_data=data if source is None else data.model_copy(update={"source": source}),
    )


def data_info(name: str) -> DataInfo:
    """Return the test split called `name`; ``mnist:1000`` are its first 1,000 images."""
    source, _, images = name.partition(":")
    return DataInfo(
        name=source,
        source=source,
        fingerprint=f"{zlib.crc32(name.encode()):08x}" * 8,
        images=int(images or 10000),
        class_names=tuple(map(str, range(10))),
    )


def summary(name: str, attack: str, **changes: Any) -> AttackSummary:
    """Return the numbers of an attack; models other than R0 and B1 have R0's, other attacks FGS's."""
    row = name.rpartition("/")[2]
    row = row if row in _CORRECT else "R0"
    numbers = _NUMBERS.get(f"{row} {attack}", _NUMBERS[f"{row} fgs"])
    correct = _CORRECT[row]
    given: dict[str, Any] = {
        "accuracy": correct / 100,
        "images": 10000,
        "correct": correct,
        "flipped": round(numbers["rate"] * correct / 100),
        "rate": numbers["rate"],
        "rate_interval": numbers["interval"],
        "blank": numbers["blank"],
        "linf": LinfSummary(mean=numbers["linf"][0], std=numbers["linf"][1], median_censored=numbers["median"]),
        "l2": Moments(mean=500.0, std=100.0),
        "pass": moments(numbers["pass"]),
        "pass_paper": moments(numbers["paper"]),
        "unaligned": moments(numbers["plain"]),
        "ecc_failures": {"definition": 3, "paper": 0},
        "unverified": 0,
        "forwards": 1000,
        "seconds": 1.5,
    }
    return AttackSummary(**(given | changes))


def audit_summary(name: str, **changes: Any) -> AuditSummary:
    """Return what an audit of 1,000 images found: R0 and other regular models sound, BANG models masked."""
    bang = name.rpartition("/")[2].startswith("B")
    claims = (
        claim("predictions", 99.0),
        claim("fgs", 2.4, "masked", ("fgs-masked", "loss-underflow"), (6.4, 3.6)) if bang else claim("fgs", 91.2),
        claim("hc1", 95.3, "masked", ("hot-cold-sign",), (200.1, 63.0)) if bang else claim("hc1", 99.7),
        claim("fgs-unmasked", 100.0, linf=(40.4, 16.0)),
        claim("hc1-unmasked", 99.8, linf=(121.4, 56.7)),
        claim("worst-case", 99.8),
    )
    given: dict[str, Any] = {
        "verdict": "masked" if bang else "sound",
        "reasons": ("fgs-masked", "hot-cold-sign") if bang else (),
        "accuracy": 99.0,
        "images": 1000,
        "correct": 990,
        "budgets": (
            budget_rates(26, fgs=24, pgd=574, square=460),
            budget_rates(51, fgs=24, pgd=950, square=760),
            budget_rates(76, fgs=24, pgd=983, square=786),
        ),
        "claims": claims,
        "checks": (
            Check(code="input-scale", outcome="passed", evidence="99.00 % as given, at most 98.10 % otherwise."),
            audit_check("fgs-masked", "masked", ("fgs",)) if bang else audit_check("fgs-masked", "passed", ("fgs",)),
            audit_check("loss-underflow", "note", ("fgs",)),
        ),
        "forwards": 1000,
        "seconds": 210.4,
    }
    return AuditSummary(**(given | changes))


def claim(
    name: str,
    rate: float,
    verdict: Any = "sound",
    reasons: tuple[str, ...] = (),
    linf: tuple[float, float] | None = None,
) -> ClaimVerdict:
    """Return the verdict on one claim."""
    found = None if linf is None else moments(linf)
    return ClaimVerdict(claim=name, verdict=verdict, reasons=reasons, rate=rate, linf=found)


def budget_rates(budget: int, correct: int = 990, images: int = 1000, **flipped: int) -> BudgetRates:
    """Return what attacks flip within a budget; together they flip two images more than the best of them."""
    return held(budget, min(correct, max(flipped.values()) + 2), images, correct, **flipped)


def held(budget: int, worst: int, images: int = 1000, correct: int = 990, **flipped: int) -> BudgetRates:
    """Return what happened within a budget: so many images flipped by all attacks together."""
    return BudgetRates(
        budget=budget,
        flipped=flipped,
        worst_case=worst,
        rate=100 * worst / correct,
        rate_interval=wilson_interval(worst, correct),
        robust_accuracy=100 * (correct - worst) / images,
    )


def audit_check(code: str, outcome: Any, claims: tuple[str, ...] = ()) -> Check:
    """Return a check that found something on 966 images."""
    return Check(
        code=code,
        outcome=outcome,
        claims=claims,
        evidence="It is so on 966 of 990 images.",
        numbers={"share": 97.58},
        count=966,
        images=(0, 1, 2),
        meaning="Meaning of it.",
        advice="Advice on it.",
    )


def moments(pair: tuple[float | None, float | None]) -> Moments:
    """Return a mean and a standard deviation."""
    return Moments(mean=pair[0], std=pair[1])


def noise_summary(**changes: Any) -> NoiseSummary:
    """Return a noise evolution over 20 stages and 10 sigmas in which the regular model is flipped more."""
    stages = tuple(changes.pop("stages", range(500, 10001, 500)))
    sigmas = tuple(changes.pop("sigmas", [10.0 * step for step in range(1, 11)]))
    regular = tuple(tuple(20 * (sigma / 100) ** 2 * (1 + stage / 40000) for sigma in sigmas) for stage in stages)
    bang = tuple(tuple(value * (0.4 - stage / 50000) for value in line)
                 for stage, line in zip(stages, regular, strict=True))  # fmt: skip
    given: dict[str, Any] = {
        "stages": stages,
        "sigmas": sigmas,
        "draws": 1000,
        "images": 1000,
        "images_per_class": (100,) * 10,
        "flipped_percent": (regular, bang),
        "forwards": 1000,
        "seconds": 1.5,
    }
    return NoiseSummary(**(given | changes))


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """Return a writer of synthetic records under an empty root."""
    return Records(tmp_path)
