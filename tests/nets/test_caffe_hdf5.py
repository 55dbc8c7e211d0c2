"""Caffe models in HDF5: small files in the released layout, and the released files themselves."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from bangbench.core.errors import BenchError
from bangbench.nets.caffe_hdf5 import read_caffe_model
from bangbench.nets.catalogue import build_net, net_definition
from bangbench.nets.models import open_model

CPU = torch.device("cpu")
LENET = {"conv1": (20, 1, 5, 5), "conv2": (50, 20, 5, 5), "ip1": (500, 800), "ip2": (10, 500)}
QUICK = {
    "conv1": (32, 3, 5, 5),
    "conv2": (32, 32, 5, 5),
    "conv3": (64, 32, 5, 5),
    "ip1": (64, 1024),
    "ip2": (10, 64),
}
NAMES = {"ip1": "linear1", "ip2": "linear2"}


def write_caffe(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Write random weights as Caffe does, groups of layers without weights included; return them by dataset."""
    random, written = np.random.default_rng(4), {}
    with h5py.File(path, "w") as stream:
        for empty in ("mnist", "pool1", "relu1"):
            stream.create_group(f"data/{empty}")
        for name, shape in shapes.items():
            for key, size in (("0", shape), ("1", shape[:1])):
                written[f"{name}/{key}"] = random.normal(0, 0.05, size).astype(np.float32)
                stream[f"data/{name}/{key}"] = written[f"{name}/{key}"]
    return written


@pytest.mark.parametrize(("net", "data", "shapes"), [("lenet", "mnist", LENET), ("cifar10-quick", "cifar10", QUICK)])
def test_weights_land_in_their_layers(tmp_path, net, data, shapes):
    written = write_caffe(tmp_path / "m.caffemodel.h5", shapes)
    caffe = read_caffe_model(tmp_path / "m.caffemodel.h5")
    assert (caffe.known.net, caffe.known.data, caffe.released) == (net, data, None)
    expected = {
        f"{NAMES.get(name, name)}.{part}": written[f"{name}/{key}"]
        for name in shapes
        for part, key in (("weight", "0"), ("bias", "1"))
    }
    assert caffe.state.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(caffe.state[key].numpy(), value)


def test_a_lenet_is_opened_without_any_data(tmp_path):
    write_caffe(tmp_path / "mine.caffemodel.h5", LENET)
    model = open_model(str(tmp_path / "mine.caffemodel.h5"), tmp_path, CPU)
    assert (model.name, model.data, model.info.net, model.info.parameters) == ("mine", "mnist", "lenet", 431_080)
    assert (model.info.published, model.info.method, model.stages, model.folder) == (None, None, (), None)
    images = torch.randint(256, (3, 1, 28, 28)).float()
    net = build_net(net_definition("lenet"), (1, 28, 28), 10, seed=0).eval()
    net.load_state_dict(read_caffe_model(tmp_path / "mine.caffemodel.h5").state)
    torch.testing.assert_close(model.classifier(images), net(images / 256))
    assert not model.classifier.training
    assert len(model.stages_fingerprint()) == 64


def test_cifar10_quick_takes_its_mean_image_from_the_training_set(tmp_path):
    write_caffe(tmp_path / "quick.caffemodel.h5", QUICK)
    random = np.random.default_rng(0)
    train = random.integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(7)
    np.savez(tmp_path / "d.npz", train_images=train, train_labels=labels, test_images=train[:2], test_labels=labels[:2])
    model = open_model(str(tmp_path / "quick.caffemodel.h5"), tmp_path, CPU, data=f"npz:{tmp_path / 'd.npz'}")
    np.testing.assert_allclose(
        model.classifier.mean.numpy(), train.astype(np.float64).mean(0).transpose(2, 0, 1), rtol=1e-6
    )
    assert (model.info.net, model.info.parameters) == ("cifar10-quick", 145_578)


def test_foreign_shapes_are_listed(tmp_path):
    write_caffe(tmp_path / "m.h5", LENET | {"ip2": (11, 500)})
    with pytest.raises(
        BenchError, match=r"expected the layers of lenet or cifar10-quick, found conv1 \(20, 1, 5, 5\).*ip2 \(11, 500\)"
    ):
        read_caffe_model(tmp_path / "m.h5")


def test_a_file_without_layers_is_refused(tmp_path):
    write_caffe(tmp_path / "m.h5", {})
    with pytest.raises(BenchError, match="found no layers"):
        read_caffe_model(tmp_path / "m.h5")


def test_a_layer_without_its_bias_is_refused(tmp_path):
    write_caffe(tmp_path / "m.h5", LENET)
    with h5py.File(tmp_path / "m.h5", "a") as stream:
        del stream["data/ip1/1"]
    with pytest.raises(BenchError, match=r"ip1: expected a bias of shape \(500,\), found none"):
        read_caffe_model(tmp_path / "m.h5")


def test_a_bias_of_another_size_is_refused(tmp_path):
    write_caffe(tmp_path / "m.h5", LENET)
    with h5py.File(tmp_path / "m.h5", "a") as stream:
        del stream["data/ip1/1"]
        stream["data/ip1/1"] = np.zeros(10, dtype=np.float32)
    with pytest.raises(BenchError, match=r"ip1: expected a bias of shape \(500,\), found \[\(10,\)\]"):
        read_caffe_model(tmp_path / "m.h5")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, share):
    write_caffe(tmp_path / "m.h5", LENET)
    content = (tmp_path / "m.h5").read_bytes()
    (tmp_path / "m.h5").write_bytes(content[: int(share * len(content))])
    with pytest.raises(BenchError, match=r"m\.h5: not a whole Caffe HDF5 model .*; copy it again"):
        read_caffe_model(tmp_path / "m.h5")


@pytest.mark.parametrize("dataset", ["other", "data", "data/conv1"])
def test_hdf5_of_another_layout_is_refused(tmp_path, dataset):
    with h5py.File(tmp_path / "m.h5", "w") as stream:
        stream[dataset] = np.float32(1)
    with pytest.raises(BenchError, match="not a whole Caffe HDF5 model"):
        read_caffe_model(tmp_path / "m.h5")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BenchError, match=r"model file .*none\.caffemodel\.h5 does not exist"):
        open_model(str(tmp_path / "none.caffemodel.h5"), tmp_path, CPU)


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "published", "method", "settings"),
    [
        ("lenet", "table1/R0", "regular", {}),
        ("lenet_bang", "table1/B1", "bang", {"beta": 1.0, "epsilon": 0.815, "ratio": 1.0}),
    ],
)
def test_the_authors_files_are_recognised_with_their_published_rows(
    authors, tmp_path, file, published, method, settings
):
    model = open_model(str(authors / f"{file}.caffemodel.h5"), tmp_path, CPU)
    assert (model.name, model.info.net, model.data) == (file, "lenet", "mnist")
    assert (model.info.published, model.info.method, model.info.method_settings) == (published, method, settings)
