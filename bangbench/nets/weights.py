"""Weights in and out: safetensors, and state dicts of `.pt` files that hold nothing but tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from bangbench.core.errors import BenchError
from bangbench.store.files import write_bytes

State = Mapping[str, Tensor]


def save_state(path: Path, state: State, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically; the same tensors give the same bytes on every device."""
    # copies, because safetensors refuses tensors that share memory, as the weights of a layer with two names do
    plain = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    write_bytes(path, save(plain, metadata))


def load_state(path: Path) -> dict[str, Tensor]:
    """Read tensors from `.safetensors`, or from a `.pt`/`.pth` state dict; code in a pickle is never run.

    Raises `BenchError` for a missing, truncated or foreign file, and for a pickle that holds more than tensors.
    """
    if not path.is_file():
        raise BenchError(f"weights {path} do not exist")
    if path.suffix in {".pt", ".pth"}:
        return _load_pickled_state(path)
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise BenchError(f"{path}: not a whole safetensors file ({error}); copy or train it again") from error


def apply_state(net: nn.Module, state: State, where: str) -> None:
    """Load `state` into `net`; `BenchError` says which weights are missing, foreign, misshapen, NaN or infinite."""
    expected = net.state_dict()
    problems = [f"{name} is missing" for name in expected if name not in state]
    problems += [f"{name} does not belong to this net" for name in state if name not in expected]
    for name, tensor in state.items():
        if name in expected and tensor.shape != expected[name].shape:
            problems.append(f"{name} is {tuple(tensor.shape)}, expected {tuple(expected[name].shape)}")
        elif tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            problems.append(f"{name} holds NaN or infinite values")
    if problems:
        raise BenchError(f"{where}: the weights do not fit: {'; '.join(problems[:4])}")
    net.load_state_dict(dict(state))


def _load_pickled_state(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can make the unpickler raise anything
        raise BenchError(
            f"{path}: not a whole state dict of tensors only (truncated, or a pickle that holds more, whose code is "
            "never run); save net.state_dict() to a new file"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BenchError(f"{path}: expected a state dict (name -> tensor), found {type(state).__name__}")
    return state
