"""The authors' released weights: Caffe models in HDF5 (`data/LAYER/0` weights, `data/LAYER/1` bias)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bangbench.core.errors import BenchError
from bangbench.store.files import sha256_of

#: Layers that a message names.
_MOST_NAMED = 8


class CaffeNet(NamedTuple):
    """A net that is recognised by the shapes of its layers, and the data set it was released for."""

    net: str
    data: str
    layers: dict[str, str]
    shapes: dict[str, tuple[int, ...]]


_KNOWN_NETS = (
    CaffeNet(
        "lenet",
        "mnist",
        {"conv1": "conv1", "conv2": "conv2", "ip1": "linear1", "ip2": "linear2"},
        {"conv1": (20, 1, 5, 5), "conv2": (50, 20, 5, 5), "ip1": (500, 800), "ip2": (10, 500)},
    ),
    CaffeNet(
        "cifar10-quick",
        "cifar10",
        {"conv1": "conv1", "conv2": "conv2", "conv3": "conv3", "ip1": "linear1", "ip2": "linear2"},
        {
            "conv1": (32, 3, 5, 5),
            "conv2": (32, 32, 5, 5),
            "conv3": (64, 32, 5, 5),
            "ip1": (64, 1024),
            "ip2": (10, 64),
        },
    ),
)


class Released(NamedTuple):
    """What the paper says of a released file: the row of its table, and how it was trained."""

    published: str
    method: str
    settings: dict[str, float]


#: The released LeNets by the SHA-256 of their files.
RELEASED = {
    "90a639d81e70fa18a6e63a3accbe47895c843fa0d80f70aa4696da72e91f844d": Released("table1/R0", "regular", {}),
    "dafb21e500eb0932af9df3e06f50064ecd6cec9bf008b30eb0f0271fe4cd3422": Released(
        "table1/B1", "bang", {"beta": 1.0, "epsilon": 0.815, "ratio": 1.0}
    ),
}


class CaffeModel(NamedTuple):
    """Weights under the bench's names, the net they belong to, and what is published of them."""

    known: CaffeNet
    state: dict[str, Tensor]
    sha256: str
    released: Released | None


def read_caffe_model(path: Path) -> CaffeModel:
    """Read a `.caffemodel.h5`; `BenchError` for a damaged file or a net that is neither LeNet nor CIFAR-10 quick.

    No value is read before all shapes are those of one of the two: 2 MB at most.
    """
    with _opened(path) as stream:
        layers = _layers(stream)
        shapes = {name: blobs[0].shape for name, blobs in layers.items()}
        for known in _KNOWN_NETS:
            if shapes == known.shapes:
                _check_biases(path, layers)
                digest = sha256_of(path)
                return CaffeModel(known, _state(known, layers), digest, RELEASED.get(digest))
    found = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:_MOST_NAMED]) or "no layers"
    names = " or ".join(known.net for known in _KNOWN_NETS)
    raise BenchError(f"{path}: expected the layers of {names}, found {found}")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError as error:
        raise BenchError("reading .caffemodel.h5 needs h5py: pip install 'bangbench[caffe]'") from error
    if not path.is_file():
        raise BenchError(f"model file {path} does not exist")
    try:
        with h5py.File(path, "r") as stream:
            yield stream
    except BenchError:
        raise
    except Exception as error:  # a damaged file can make HDF5 raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BenchError(f"{path}: not a whole Caffe HDF5 model ({reason}); copy it again") from error


def _layers(stream: Any) -> dict[str, list[Any]]:
    """Return the data sets of each layer, unread; those outside this file and those that are no numbers are refused."""
    filled = {name: stream["data"][name] for name in stream["data"] if len(stream["data"][name])}
    return {name: [_plain(group, key) for key in sorted(group)] for name, group in filled.items()}


def _plain(group: Any, key: str) -> Any:
    import h5py

    blob = group[key] if isinstance(group.get(key, getlink=True), h5py.HardLink) else None
    if not isinstance(blob, h5py.Dataset) or blob.external or blob.is_virtual or blob.dtype.kind != "f":
        raise ValueError(f"{group.name}/{key}: expected floating-point numbers kept in this file")
    return blob


def _check_biases(path: Path, layers: dict[str, list[Any]]) -> None:
    for name, blobs in layers.items():
        found = [blob.shape for blob in blobs[1:]]
        if found != [blobs[0].shape[:1]]:
            raise BenchError(
                f"{path}: {name}: expected a bias of shape {blobs[0].shape[:1]}, found {found[:_MOST_NAMED] or 'none'}"
            )


def _state(known: CaffeNet, layers: dict[str, list[Any]]) -> dict[str, Tensor]:
    state = {}
    for caffe_name, name in known.layers.items():
        for blob, part in zip(layers[caffe_name], ("weight", "bias"), strict=True):
            state[f"{name}.{part}"] = torch.from_numpy(np.asarray(blob).astype(np.float32))
    return state
