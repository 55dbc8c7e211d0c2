"""The state of an unfinished training: weights, solver, method, random generators and the log so far, in one file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from bangbench.core.errors import BenchError
from bangbench.nets.weights import load_state, save_state, tensor_bytes


class LogRow(NamedTuple):
    """One line of log.csv: the mean loss and training accuracy (percent) of the batches since the line before."""

    iteration: int
    loss: float
    rate: float
    training_accuracy: float
    test_accuracy: float
    seconds: float


class Snapshot(NamedTuple):
    """Everything needed to go on as if nothing had happened."""

    iteration: int
    net: dict[str, Tensor]
    solver: dict[str, Tensor]
    method: dict[str, Tensor]
    log: list[LogRow]


def save_snapshot(path: Path, key: str, snapshot: Snapshot, device: torch.device) -> None:
    """Write a snapshot with the default generators' states, atomically."""
    parts = {"net": snapshot.net, "solver": snapshot.solver, "method": snapshot.method}
    tensors = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
    tensors["generator.cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["generator.cuda"] = torch.cuda.get_rng_state(device)
    state = {"key": key, "iteration": str(snapshot.iteration), "log": json.dumps(snapshot.log)}
    save_state(path, tensors, state | {"sha256": _digest(tensors, state)})


def load_snapshot(path: Path, key: str, device: torch.device) -> Snapshot | None:
    """Read a snapshot of the run `key` and set the default generators; None where there is none of this run.

    Raises `BenchError` where a bit of it is not what was written: training would go on from other weights.
    """
    if not path.exists():
        return None
    metadata = _metadata(path)
    if metadata.get("key") != key:
        return None
    tensors = load_state(path)
    digest = metadata.pop("sha256", None)
    if digest != _digest(tensors, metadata):
        raise BenchError(f"{path}: not a whole snapshot (its checksum differs); delete it to start again")
    torch.set_rng_state(tensors["generator.cpu"])
    if device.type == "cuda" and "generator.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["generator.cuda"], device)
    log = [LogRow(*row) for row in json.loads(metadata["log"])]
    net, solver, method = (_under(part, tensors) for part in ("net", "solver", "method"))
    return Snapshot(int(metadata["iteration"]), net, solver, method, log)


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, "pt") as stream:
            return stream.metadata() or {}
    except Exception as error:  # a damaged header can make the reader raise anything
        raise BenchError(f"{path}: not a whole snapshot ({error}); delete it to start again") from error


def _digest(tensors: Mapping[str, Tensor], state: Mapping[str, str]) -> str:
    """Return the SHA-256 of tensors and what is written beside them."""
    digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode())
    for name in sorted(tensors):
        values = tensors[name]
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(tensor_bytes(values))
    return digest.hexdigest()


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
