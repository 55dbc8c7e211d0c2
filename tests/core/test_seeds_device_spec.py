"""Seeds, the choice of the device, and what decides that two runs are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pydantic import ValidationError

from bangbench.attacks.spec import AttackSpec
from bangbench.core.device import available_cores, choose_device, cpu_threads, describe_device
from bangbench.core.errors import OutOfMemoryError, UsageError
from bangbench.core.seeds import default_seeds, derive_seed, torch_generator
from bangbench.core.spec import Spec, fingerprint_of
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import batch_size_for
from bangbench.noise.spec import NoiseSpec
from bangbench.store.records import Preprocessing
from bangbench.training.spec import TrainSpec


def test_a_derived_seed_never_changes() -> None:
    # every weight, dropout mask and noise draw ever measured hangs on these numbers
    assert derive_seed(0) == 3456079177858693020
    assert derive_seed(0, "weights") == 133441691874178746
    assert derive_seed(7, "noise", 3, 11) == 752590271831056972


def test_purposes_and_seeds_give_streams_of_their_own() -> None:
    uses = [(0,), (1,), (0, "weights"), (0, "layers"), (0, "noise", 1), (0, "noise", 2), (0, "noise", 1, 2), (10,)]
    seeds = {derive_seed(*use) for use in uses}  # type: ignore[arg-type]
    assert len(seeds) == len(uses)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_generator_repeats_itself_and_leaves_the_default_one_alone() -> None:
    before = torch.get_rng_state()
    first = torch.rand(4, generator=torch_generator(3, "x"))
    assert torch.equal(first, torch.rand(4, generator=torch_generator(3, "x")))
    assert not torch.equal(first, torch.rand(4, generator=torch_generator(3, "y")))
    assert torch.equal(before, torch.get_rng_state())


def test_the_default_generator_is_seeded_inside_the_block_and_restored_after_it() -> None:
    before = torch.get_rng_state()
    draws = []
    for _ in range(2):
        with default_seeds(5, torch.device("cpu")):
            draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(before, torch.get_rng_state())


def test_the_default_generator_is_restored_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt), default_seeds(5, torch.device("cpu")):
        torch.rand(4)
        raise KeyboardInterrupt
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["gpu", "cudda", "meta", "xpu", "cuda:", "cuda:x", "cpu:1", "", "CPU"])
def test_an_unknown_device_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match=rf"unknown device '{name}': known: auto, cpu, cuda, cuda:N, mps") as caught:
        choose_device(name)
    assert caught.value.exit_status == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_an_absent_device_is_refused_with_advice() -> None:
    with pytest.raises(UsageError, match=r"device 'cuda:3' cannot be used here: .*; try --device cpu"):
        choose_device("cuda:3")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_prefers_cuda_then_mps_then_the_processor(
    cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    assert choose_device("auto").type == expected


def reduce_precision() -> None:
    """Do what users' nets do when they are imported."""
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("medium")


def check_precision() -> None:
    """Assert that float32 is float32, and that sums are made in one order."""
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    switches = (getattr(torch.backends.mkldnn, "matmul", None), getattr(torch.backends.cudnn, "conv", None))
    assert {getattr(switch, "fp32_precision", "ieee") for switch in switches} == {"ieee"}


def test_reduced_precision_is_switched_off() -> None:
    reduce_precision()
    assert describe_device(choose_device("cpu")) == "cpu"
    check_precision()


def test_reduced_precision_that_a_net_has_switched_on_is_switched_off_again() -> None:
    choose_device("cpu")
    reduce_precision()
    Classifier(torch.nn.Flatten(), Preprocessing())
    check_precision()


def test_an_end_of_memory_says_how_many_images_to_try() -> None:
    class Greedy(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB\nmore")

    classifier = Classifier(Greedy(), Preprocessing()).eval()
    with pytest.raises(OutOfMemoryError, match=r"^out of memory with 100 images at once: try --batch-size 50 \(CUDA"):
        classifier(torch.zeros(100, 1, 4, 4))


def test_other_errors_of_a_net_are_its_own() -> None:
    classifier = Classifier(torch.nn.Linear(3, 2), Preprocessing()).eval()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        classifier(torch.zeros(8, 1, 4, 4))


@pytest.mark.parametrize(
    ("values", "batch"), [(28 * 28, 256), (3 * 32 * 32, 256), (3 * 64 * 64, 64), (3 * 224 * 224, 16), (10**9, 16)]
)
def test_larger_images_go_through_a_net_in_smaller_batches(values: int, batch: int) -> None:
    assert batch_size_for(torch.device("cpu"), values) == batch


def test_a_net_without_parameters_has_a_device() -> None:
    assert Classifier(torch.nn.Flatten(), Preprocessing()).to("meta").device.type == "meta"


def test_threads_are_set_inside_the_block_only() -> None:
    before = torch.get_num_threads()
    with cpu_threads(3):
        assert torch.get_num_threads() == 3
        with cpu_threads(None):
            assert torch.get_num_threads() == available_cores() >= 1
    assert torch.get_num_threads() == before


class SmallSpec(Spec):
    """A spec with one setting and one circumstance of its own."""

    circumstances: ClassVar[frozenset[str]] = Spec.circumstances | {"batch_size"}

    net: str = "lenet"
    batch_size: int = 1


def test_settings_are_what_was_asked_for_without_the_circumstances() -> None:
    spec = SmallSpec(root=Path("/elsewhere"), data_dir=Path("/data"), device="cpu", overwrite=True, batch_size=5)
    assert spec.settings() == {"net": "lenet"}


def test_the_key_changes_with_settings_and_inputs_and_not_with_circumstances() -> None:
    key = SmallSpec().key(weights="a")
    assert (
        SmallSpec(root=Path("/x"), data_dir=Path("/y"), device="cuda", overwrite=True, batch_size=9).key(weights="a")
        == key
    )
    others = {SmallSpec(net="other").key(weights="a"), SmallSpec().key(weights="b"), SmallSpec().key()}
    assert len(others | {key}) == 4


CHANGES: list[tuple[Spec, dict[str, Any]]] = [
    (TrainSpec(name="R0"), {"net": "x", "data": "digits", "method": "bang"}),
    (TrainSpec(name="R0"), {"seed": 1, "iterations": 1, "batch_size": 1, "learning_rate": 0.5}),
    (TrainSpec(name="R0"), {"rate_policy": "constant()", "momentum": 0.5, "weight_decay": 0.5, "stages": 1}),
    (TrainSpec(name="R0"), {"shuffle": True, "train_images": 1, "input_scale": 2.0, "mean": (0.5,), "std": (0.5,)}),
    (TrainSpec(name="R0"), {"threads": 2}),
    (AttackSpec(model="R0"), {"data": "digits", "limit": 1, "save_images": True, "weights": Path("w.pt")}),
    (AttackSpec(model="R0"), {"input_scale": 2.0, "mean": (0.5,), "std": (0.5,)}),
    (NoiseSpec(models=("R0", "B1")), {"sigma": (1.0,), "draws": 1, "per_class": 1, "seed": 1, "clip": False}),
    (NoiseSpec(models=("R0", "B1")), {"precision": 0.5, "arithmetic": "bfloat16"}),
]


@pytest.mark.parametrize(
    ("spec", "field", "value"),
    [(spec, field, value) for spec, changes in CHANGES for field, value in changes.items()],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_setting_of_a_command_changes_its_key(spec: Spec, field: str, value: Any) -> None:
    assert spec.model_copy(update={field: value}).key() != spec.key()


@pytest.mark.parametrize("spec", [TrainSpec(name="R0"), AttackSpec(model="R0"), NoiseSpec(models=("R0", "B1"))])
def test_where_and_how_fast_to_compute_does_not_change_a_key(spec: Spec) -> None:
    elsewhere = {"root": Path("/x"), "data_dir": Path("/y"), "device": "cuda", "overwrite": True, "wait": False}
    assert spec.model_copy(update=elsewhere).key() == spec.key()


def test_a_spec_is_frozen_and_knows_no_other_fields() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        SmallSpec().net = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        SmallSpec(nett="lenet")  # type: ignore[call-arg]


def test_a_fingerprint_depends_on_values_and_not_on_their_order() -> None:
    assert fingerprint_of({"a": 1, "b": [2]}) == fingerprint_of({"b": [2], "a": 1})
    assert fingerprint_of({"a": 1}) != fingerprint_of({"a": "1"})
