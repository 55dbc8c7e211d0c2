"""Weights in and out: safetensors, and state dicts of `.pt` files that hold nothing but tensors."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from bangbench.core.errors import BenchError
from bangbench.core.memory import check_memory
from bangbench.nets.checkpoints import misfits, renamed, state_in, wrong_shapes
from bangbench.nets.references import program_in
from bangbench.store.files import write_bytes
from bangbench.store.layout import PICKLES

State = Mapping[str, Tensor]

_PROGRAMS = {"torchscript": "TorchScript", "export": "torch.export"}
_FLOATING = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_WHOLE = frozenset({torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})


def save_state(path: Path, state: State, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically; the same tensors give the same bytes on every device."""
    # copies, because safetensors refuses tensors that share memory, as the weights of a layer with two names do
    plain = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    write_bytes(path, save(plain, metadata))


def tensor_bytes(tensor: Tensor) -> bytes:
    """Return the values of a tensor as they lie in memory, whatever their type: NumPy knows no bfloat16."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def load_state(path: Path) -> dict[str, Tensor]:
    """Read tensors from `.safetensors`, or from a `.pt`, `.pth` or `.ckpt` checkpoint; code in it is never run.

    Both kinds hold their values uncompressed: what is read takes at most as much memory as the file is long. Tensors
    may claim more elements than they have values: look at no content before `apply_state` has compared the shapes.
    Raises `BenchError` for a missing, truncated or foreign file, and for a pickle that holds more than tensors.
    """
    if not path.is_file():
        raise BenchError(f"weights {path} do not exist")
    check_memory(path.stat().st_size, f"weights {path}")
    program = program_in(path)
    if program is not None:
        raise BenchError(
            f"{path}: a net with code of its own ({_PROGRAMS[program]}), not weights: give it as MODEL, without a "
            "factory, and with --trust-code if you trust who wrote it"
        )
    if path.suffix in PICKLES:
        return _load_pickled_state(path)
    try:
        return load_file(path)
    except Exception as error:  # a damaged header can make the reader raise anything
        raise BenchError(
            f"{path}: not a whole safetensors file ({_first_line(error)}); copy or train it again"
        ) from error


def apply_state(net: nn.Module, state: State, where: str) -> None:
    """Load `state` into `net`; `BenchError` says which weights are missing, foreign, misshapen, NaN or infinite.

    The names of a state may have a prefix that the net's lack (`renamed`).
    Only tensors whose name, shape and kind are those that the net has are looked into: others may be of any size. A
    value that is finite in the file and is not in the type of the net counts as infinite.
    """
    expected = net.state_dict()
    state = renamed(state, expected)
    foreign = misfits(state, expected)
    if foreign is not None:
        raise BenchError(f"{where}: the weights do not fit: {foreign}")
    wrong = {name: list(_misfit(name, state[name], expected[name])) for name in expected}
    problems = [problem for found in wrong.values() for problem in found]
    if problems:
        shaped = [name for name in wrong if _is_plain(state[name]) and state[name].shape != expected[name].shape]
        cause = wrong_shapes(state, expected, shaped) if shaped else None
        problems = [*problems[:3], *([cause] if cause else [])]
    else:
        problems = [
            f"{name} holds NaN or infinite values" for name in expected if not _finite(state[name], expected[name])
        ]
    if problems:
        raise BenchError(f"{where}: the weights do not fit: {'; '.join(problems[:4])}")
    net.load_state_dict(dict(state))


def check_tensor(name: str, state: State, expected: Tensor, where: str) -> Tensor:
    """Return one tensor of `state`; `BenchError` unless it is there, like `expected` in shape and kind, and finite."""
    if name not in state:
        raise BenchError(f"{where}: expected a tensor '{name}', found {', '.join(list(state)[:4]) or 'none'}")
    found = state[name]
    problems = [*_misfit(name, found, expected)]
    if not problems and not _finite(found, expected):
        problems = [f"{name} holds NaN or infinite values"]
    if problems:
        raise BenchError(f"{where}: {problems[0]}; copy or train it again")
    return found


def _misfit(name: str, found: Tensor, expected: Tensor) -> Iterator[str]:
    """Yield what is wrong with a tensor's kind or shape; its content is not looked at."""
    kinds = _FLOATING if expected.is_floating_point() else _WHOLE
    if not _is_plain(found):
        yield f"{name} is no plain tensor (sparse, quantised, nested or without values); save it as a dense one"
    elif found.shape != expected.shape:
        yield f"{name} is {tuple(found.shape)}, expected {tuple(expected.shape)}"
    elif found.dtype not in kinds:
        kind = "floating-point numbers of 16 bits or more" if expected.is_floating_point() else "whole numbers"
        yield f"{name} holds {str(found.dtype).removeprefix('torch.')}, expected {kind}"


def _is_plain(tensor: Tensor) -> bool:
    strided = tensor.layout == torch.strided and not tensor.is_nested
    return strided and not tensor.is_quantized and tensor.device.type != "meta"


def _finite(found: Tensor, expected: Tensor) -> bool:
    return not expected.is_floating_point() or bool(found.to(dtype=expected.dtype).isfinite().all())


def _load_pickled_state(path: Path) -> dict[str, Tensor]:
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds of tensors that are refused in our own words
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can make the unpickler raise anything
        held = re.search(r"GLOBAL ([\w.]+)", str(error))
        if held is not None:
            raise BenchError(
                f"{path}: not a whole state dict of tensors only: a pickle of {held[1]}, whose code is never run; "
                "torch.load it where it was saved, and save net.state_dict() to a new file"
            ) from error
        raise BenchError(
            f"{path}: not a whole state dict of tensors only (truncated, written before PyTorch 1.6, or a pickle that "
            f"holds more, whose code is never run: {_first_line(error)}); save net.state_dict() to a new file"
        ) from error
    found = state_in(state)
    if found is None:
        keys = f" of {', '.join(map(str, list(state)[:6]))}" if isinstance(state, dict) else ""
        raise BenchError(f"{path}: expected a state dict (name -> tensor), found {type(state).__name__}{keys}")
    return found


def _check_archive(path: Path) -> None:
    """Raise an error unless the file is a zip, nothing in it compressed or named twice, and every checksum right.

    The older formats let a small file ask for any amount of memory.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
            raise ValueError("expected tensors that are not compressed, as torch.save writes them")
        if len({entry.filename for entry in entries}) < len(entries):
            raise ValueError("two entries have one name")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("its entries are longer than the file")
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
