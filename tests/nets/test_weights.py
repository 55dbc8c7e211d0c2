"""Weights in and out: round trips, damage, and pickles that hold code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bangbench.core.errors import BenchError
from bangbench.nets.weights import apply_state, load_state, save_state


def small_net(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_what_is_saved_is_loaded(tmp_path):
    state = small_net().state_dict()
    save_state(tmp_path / "w.safetensors", state)
    assert same(load_state(tmp_path / "w.safetensors"), state)


def test_the_same_tensors_give_the_same_bytes_whatever_their_layout(tmp_path):
    weight = torch.randn(4, 3, 5, 5)
    save_state(tmp_path / "a.safetensors", {"w": weight, "b": weight[0]})
    save_state(tmp_path / "b.safetensors", {"b": weight[0], "w": weight.to(memory_format=torch.channels_last)})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_layer_with_two_names_can_be_saved(tmp_path):
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    net.append(net[0])
    save_state(tmp_path / "w.safetensors", net.state_dict())
    assert same(load_state(tmp_path / "w.safetensors"), net.state_dict())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BenchError, match=r"weights .*none\.safetensors do not exist"):
        load_state(tmp_path / "none.safetensors")


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = tmp_path / "w.safetensors"
    save_file(small_net().state_dict(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BenchError, match=r"w\.safetensors: not a whole safetensors file .*; copy or train it again"):
        load_state(path)


def test_weights_that_fit_are_applied():
    net, other = small_net(0), small_net(1)
    apply_state(net, other.state_dict(), "here")
    assert same(net.state_dict(), other.state_dict())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("0.weight", torch.full((3, 4), float("nan")), "0.weight holds NaN or infinite values"),
        ("2.bias", torch.tensor([0.0, float("inf")]), "2.bias holds NaN or infinite values"),
        ("0.weight", torch.zeros(4, 3), r"0.weight is \(4, 3\), expected \(3, 4\)"),
        ("0.weight", None, "missing: 0.weight; the file holds only a part of the net, or is of a smaller one"),
        ("conv1.weight", torch.zeros(1), "not of this net: conv1.weight; the file is of a net with more layers"),
    ],
)
def test_weights_that_do_not_fit_are_named_and_nothing_is_changed(name, value, message):
    net, before = small_net(0), small_net(0).state_dict()
    state = {key: tensor for key, tensor in small_net(1).state_dict().items() if key != name}
    if value is not None:
        state[name] = value
    with pytest.raises(BenchError, match=f"somewhere: the weights do not fit: {message}$"):
        apply_state(net, state, "somewhere")
    assert same(net.state_dict(), before)


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_state_dict_of_tensors_is_read_from_a_pickle(tmp_path, suffix, nested):
    state = small_net().state_dict()
    torch.save({"state_dict": state, "epoch": 3} if nested else state, tmp_path / f"w{suffix}")
    assert same(load_state(tmp_path / f"w{suffix}"), dict(state))


class Bomb:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("plain", [False, True])
def test_code_in_a_pickle_is_never_run(tmp_path, plain):
    path, trace = tmp_path / "w.pt", tmp_path / "executed"
    content = {"weight": torch.zeros(1), "bomb": Bomb(trace)}
    if plain:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    with pytest.raises(BenchError, match=r"w\.pt: not a whole state dict of tensors only.* never run"):
        load_state(path)
    assert not trace.exists()


def test_a_pickled_net_is_refused(tmp_path):
    torch.save(small_net(), tmp_path / "w.pt")
    with pytest.raises(BenchError, match=r"save net\.state_dict\(\)"):
        load_state(tmp_path / "w.pt")


def test_a_pickle_of_something_else_is_refused(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "w.pt")
    with pytest.raises(BenchError, match=r"expected a state dict \(name -> tensor\), found list"):
        load_state(tmp_path / "w.pt")


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 no archive", b"\x80\x02]q", bytes(range(256))])
def test_a_file_that_is_no_pickle_is_refused(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(BenchError, match="not a whole state dict of tensors only"):
        load_state(tmp_path / "w.pt")


def test_a_truncated_pickle_is_refused(tmp_path):
    torch.save(small_net().state_dict(), tmp_path / "w.pt")
    content = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(BenchError, match="not a whole state dict of tensors only"):
        load_state(tmp_path / "w.pt")
