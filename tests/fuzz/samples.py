"""Whole inputs of every kind that the bench reads, small, and what reads each of them."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from bangbench.cli.output import Output
from bangbench.cli.status import StatusSpec, run_status, status_json
from bangbench.core.errors import BenchError
from bangbench.data.cifar10 import Cifar10
from bangbench.data.folder import FolderSource
from bangbench.data.mnist import Mnist
from bangbench.data.npy import NpySource
from bangbench.data.npz import NpzSource
from bangbench.metrics.compare import read_stack
from bangbench.nets.caffe_hdf5 import read_caffe_model
from bangbench.nets.catalogue import build_net, net_definition
from bangbench.nets.models import open_model
from bangbench.nets.weights import apply_state, load_state
from bangbench.recipes.planned import plan_recipe
from bangbench.recipes.recipe import load_recipe
from bangbench.recipes.spec import ReproduceSpec
from bangbench.reporting.document import figures_of, tables_of
from bangbench.reporting.frames import frames_of
from bangbench.reporting.render import RENDERERS
from bangbench.reporting.run import find
from bangbench.store.cells import read_cells
from bangbench.store.chunks import Chunks
from bangbench.store.status import look
from bangbench.training.snapshot import LogRow, Snapshot, load_snapshot, save_snapshot

REPOSITORY = Path(__file__).parents[2]
CPU = torch.device("cpu")
KEY = "k" * 32


class Kind(NamedTuple):
    """write: a whole input into an empty folder; read: what a command does with the folder, damaged or not."""

    write: Callable[[Path], None]
    read: Callable[[Path], None]


def small_net() -> nn.Module:
    """Return a net with weights and, in its batch norm, a whole number."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))


def _read_weights(path: Path) -> None:
    net = small_net()
    apply_state(net, load_state(path), str(path))
    if not all(bool(value.isfinite().all()) for value in net.state_dict().values()):
        raise AssertionError("weights that are not finite were taken")


def _write_model(folder: Path) -> None:
    card = json.loads((REPOSITORY / "models/table1/R0/model.json").read_text())
    net = build_net(net_definition("lenet"), (1, 16, 16), 10, seed=0)
    save_file(net.state_dict(), folder / "weights.safetensors")
    save_file({"mean": torch.full((1, 16, 16), 3.0)}, folder / "preprocessing.safetensors")
    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    card["model"] |= {"input_shape": [1, 16, 16], "weights_sha256": digest}
    card["model"]["preprocessing"] |= {"mean_image": True}
    (folder / "model.json").write_text(json.dumps(card))


def _read_model(folder: Path) -> None:
    card = folder / "model.json"
    weights = folder / "weights.safetensors"
    if card.is_file() and weights.is_file() and b"weights_sha256" in card.read_bytes():
        _keep_digest(card, weights)
    open_model(str(folder), folder, CPU)


def _keep_digest(card: Path, weights: Path) -> None:
    """Write the checksum of damaged weights into the card, as someone who means harm would."""
    try:
        value = json.loads(card.read_text())
        value["model"]["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
        card.write_text(json.dumps(value))
    except (ValueError, TypeError, KeyError, RecursionError, UnicodeError):
        return


def _write_caffe(path: Path) -> None:
    shapes = {"conv1": (20, 1, 5, 5), "conv2": (50, 20, 5, 5), "ip1": (500, 800), "ip2": (10, 500)}
    with h5py.File(path, "w") as stream:
        for name, shape in shapes.items():
            stream[f"data/{name}/0"] = np.full(shape, 0.01, np.float32)
            stream[f"data/{name}/1"] = np.zeros(shape[:1], np.float32)


def split_arrays(height: int = 8) -> dict[str, np.ndarray]:
    """Return the four arrays of a data set with three classes."""
    generator = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 6), ("test", 3)):
        arrays[f"{split}_images"] = generator.integers(0, 256, (count, height, 9), np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 3
    return arrays


def _read_source(source: object) -> None:
    for split in ("train", "test"):
        source.load(split)  # type: ignore[attr-defined]


def encoded(kind: str, side: int = 8) -> bytes:
    """Return a small image file."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def write_folder(folder: Path) -> None:
    """Write an image folder with two classes and a file of every format."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for kind in ("png", "jpeg", "bmp", "tiff", "webp", "ppm"):
                (folder / split / name / f"0.{kind}").write_bytes(encoded(kind))


def _write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for split in ("train", "test"):
            for name in ("cat", "dog"):
                for kind in ("png", "jpeg", "tiff"):
                    archive.writestr(f"{split}/{name}/0.{kind}", encoded(kind))


def _write_mnist(folder: Path) -> None:
    for prefix in ("train", "t10k"):
        images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8).tobytes()
        content = {
            f"{prefix}-images-idx3-ubyte": struct.pack(">4I", 2051, 4, 28, 28) + images,
            f"{prefix}-labels-idx1-ubyte": struct.pack(">2I", 2049, 4) + bytes([0, 1, 2, 3]),
        }
        for name, raw in content.items():
            (folder / f"{name}.gz").write_bytes(gzip.compress(raw, mtime=0))


def _batches() -> dict[str, bytes]:
    pixels = np.zeros((2, 3072), np.uint8)
    batch = {b"data": pixels, b"labels": [0, 9], b"batch_label": b"x", b"filenames": [b"a", b"b"]}
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    return {name: pickle.dumps(batch, protocol=3) for name in names}


def _write_cifar(folder: Path) -> None:
    (folder / "cifar-10-batches-py").mkdir()
    for name, content in _batches().items():
        (folder / "cifar-10-batches-py" / name).write_bytes(content)


def _write_cifar_binary(folder: Path) -> None:
    (folder / "cifar-10-batches-bin").mkdir()
    for name in _batches():
        (folder / "cifar-10-batches-bin" / f"{name}.bin").write_bytes((b"\x03" + bytes(3072)) * 2)


def _write_cifar_archive(folder: Path) -> None:
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name, content in _batches().items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _write_results(folder: Path) -> None:
    """Write the results of one attack on 60 images, an audit, as they are committed, and the log of a training."""
    source, target = REPOSITORY / "results/lenet", folder / "results/lenet"
    target.mkdir(parents=True)
    table = pq.read_table(source / "fgs.parquet").slice(0, 60)
    pq.write_table(table, target / "fgs.parquet", compression="zstd", write_page_checksum=True)
    record = json.loads((source / "fgs.json").read_text())
    counts = {"images": 60, "correct": sum(table["attacked"].to_pylist()), "flipped": sum(table["flipped"].to_pylist())}
    record["summary"] |= counts
    (target / "fgs.json").write_text(json.dumps(record))
    (folder / "models/lenet").mkdir(parents=True)
    (folder / "models/lenet/log.csv").write_bytes((REPOSITORY / "models/table1/R0/log.csv").read_bytes()[:2000])
    for name in ("fgs-examples.npz", "audit.json"):
        (target / name).write_bytes((source / name).read_bytes())


def _read_results(folder: Path) -> None:
    """Make everything of the results that a report has, but for drawing it."""
    found = find(folder)
    for experiment in found.experiments:
        frames = frames_of([experiment])
        for table in tables_of(experiment, frames):
            for render in RENDERERS.values():
                render(table).encode()
        list(figures_of(experiment))
    if found.problems:
        raise BenchError(found.problems[0])


def _write_grid(folder: Path) -> None:
    """Write a grid of three cells, whose records have the summary of an attack."""
    target = folder / "results/grid"
    attack = json.loads((REPOSITORY / "results/lenet/fgs.json").read_text())
    common = {name: attack[name] for name in ("schema", "status", "key", "provenance", "model", "data")}
    noise = {"sigma": 60.0, "draws": 10, "images": 30, "flipped_percent": 12.5}
    measured = {"accuracy": 99.0, "train_accuracy": 99.5, "seconds": 3.0, "noise": noise}
    places = {"grid/r": {}, "grid/b": {"beta": 1.0, "epsilon": 0.5}, "grid/c": {"beta": 2.0, "epsilon": 0.5}}
    cells = [{"name": name, "place": place, "seed": 0, "level": 1} for name, place in places.items()]
    grid = {"schema": 1, "kind": "grid", "title": "A grid", "axes": {"beta": [1.0, 2.0], "epsilon": [0.5]}}
    for name, place in places.items():
        cell = {"kind": "cell", "spec": {"train": {"iterations": 60}}, "place": place, "seed": 0, "notes": []}
        cell |= common | measured | {"train_data": attack["data"], "attacks": {"fgs": attack["summary"]}}
        (target.parent / name).mkdir(parents=True)
        (target.parent / name / "cell.json").write_text(json.dumps(cell))
    (target / "grid.json").write_text(json.dumps(grid | {"cells": cells}))


def _read_grid(folder: Path) -> None:
    _read_results(folder)
    read_cells(folder, "grid")


def _write_root(folder: Path) -> None:
    """Write a root with a training under way, one that failed, and what a recipe wants besides."""
    card = json.loads((REPOSITORY / "models/table1/R0/model.json").read_text())
    (folder / "models/t/R0/stages").mkdir(parents=True)
    (folder / "models/t/R0/stages/000010.safetensors").touch()
    (folder / "models/t/R0/model.json").write_text(json.dumps(card | {"status": "started"}))
    origin = {"host": "h", "since": "2026-01-01T00:00:00+00:00"}
    wanted = {"iterations": 60, "attacks": ["fgs", "pgd"], "audit": True, "cell": False}
    models = [{"name": f"t/{name}", **wanted} for name in ("R0", "B1")]
    plan = {"recipe": "t", "command": "bangbench reproduce t", "models": models, "noise": "t/R0-vs-B1", **origin}
    notes = {"plans/t.json": plan, "failed/t/B1.json": {"name": "t/B1", "why": "the loss is NaN", **origin}}
    for name, value in notes.items():
        path = folder / ".jobs" / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(value))


def _read_root(folder: Path) -> None:
    works = look(folder)
    json.dumps(status_json(works), allow_nan=False, ensure_ascii=False).encode()
    shown = io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(shown):
        run_status([StatusSpec(root=folder)], Output())
    if any(work.why for work in works if work.name != "t/B1"):
        raise BenchError(next(work.why for work in works if work.why))


def _write_npy(folder: Path) -> None:
    arrays = split_arrays()
    np.save(folder / "x.npy", arrays["test_images"])
    np.save(folder / "y.npy", arrays["test_labels"])


def _write_chunk(folder: Path) -> None:
    Chunks(folder / "chunks", KEY).write(3, chunk_arrays())


def chunk_arrays() -> dict[str, np.ndarray]:
    """Return what a chunk holds."""
    return {"x": np.arange(40.0), "found": np.arange(40) % 2 == 0}


def _read_chunk(folder: Path) -> None:
    chunks = Chunks(folder / "chunks", KEY)
    if not chunks.done(3):
        raise BenchError("the chunk is computed again")
    found = chunks.read(3)
    if not all(np.array_equal(found[name], array) for name, array in chunk_arrays().items()):
        raise AssertionError("a damaged chunk was taken for a whole one")


def _write_snapshot(folder: Path) -> None:
    state = small_net().state_dict()
    log = [LogRow(10, 0.5, 0.1, 50.0, 40.0, 1.0)]
    save_snapshot(folder / "resume.safetensors", KEY, Snapshot(10, state, {}, {}, log), CPU)


def _read_snapshot(folder: Path) -> None:
    found = load_snapshot(folder / "resume.safetensors", KEY, CPU)
    if found is None:
        return  # of another run: training begins anew
    if not all(torch.equal(found.net[name], value) for name, value in small_net().state_dict().items()):
        raise AssertionError("a damaged snapshot was taken for a whole one")


def _write_recipe(folder: Path) -> None:
    (folder / "x.toml").write_bytes((REPOSITORY / "bangbench/recipes/demo.toml").read_bytes())


def _read_recipe(folder: Path) -> None:
    reference = str(folder / "x.toml")
    plan_recipe(load_recipe(reference), ReproduceSpec(recipe=reference), workers=1)


def _write_stacks(folder: Path) -> None:
    (folder / "a.png").write_bytes(encoded("png"))
    (folder / "b.jpg").write_bytes(encoded("jpeg"))
    np.save(folder / "c.npy", np.zeros((2, 8, 8), np.uint8))
    np.savez_compressed(folder / "d.npz", np.zeros((2, 8, 8), np.uint8))


def _read_stacks(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        read_stack(path)


KINDS = {
    "pt": Kind(
        lambda folder: torch.save(small_net().state_dict(), folder / "w.pt"), lambda f: _read_weights(f / "w.pt")
    ),
    "safetensors": Kind(
        lambda folder: save_file(small_net().state_dict(), folder / "w.safetensors"),
        lambda folder: _read_weights(folder / "w.safetensors"),
    ),
    "model": Kind(_write_model, _read_model),
    "caffe": Kind(
        lambda folder: _write_caffe(folder / "m.h5"), lambda folder: read_caffe_model(folder / "m.h5") and None
    ),
    "npz": Kind(
        lambda folder: np.savez_compressed(folder / "d.npz", **split_arrays()),
        lambda folder: _read_source(NpzSource(folder / "d.npz")),
    ),
    "folder": Kind(write_folder, lambda folder: _read_source(FolderSource(folder))),
    "zip": Kind(lambda f: _write_zip(f / "d.zip"), lambda folder: _read_source(FolderSource(folder / "d.zip"))),
    "mnist": Kind(_write_mnist, lambda folder: _read_source(Mnist(folder))),
    "cifar": Kind(_write_cifar, lambda folder: _read_source(Cifar10(folder))),
    "cifar-binary": Kind(_write_cifar_binary, lambda folder: _read_source(Cifar10(folder))),
    "cifar-archive": Kind(_write_cifar_archive, lambda folder: _read_source(Cifar10(folder))),
    "npy": Kind(_write_npy, lambda folder: NpySource(folder / "x.npy", folder / "y.npy").load("test") and None),
    "results": Kind(_write_results, _read_results),
    "grid": Kind(_write_grid, _read_grid),
    "root": Kind(_write_root, _read_root),
    "chunk": Kind(_write_chunk, _read_chunk),
    "snapshot": Kind(_write_snapshot, _read_snapshot),
    "recipe": Kind(_write_recipe, _read_recipe),
    "stack": Kind(_write_stacks, _read_stacks),
}
