"""Data sets of other libraries, in whose place stand fakes with what of them is used."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bangbench.core.errors import BenchError, UsageError
from bangbench.data.sources import load_first, open_source


def pictures(count: int, colour: bool = False) -> list[np.ndarray]:
    shape = (6, 8, 3) if colour else (6, 8)
    return list(np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8))


class Rows:
    """A part of a data set of `datasets`."""

    def __init__(self, images: list[np.ndarray], label: str = "ClassLabel") -> None:
        kinds = {"img": type("Image", (), {}), "fine": type(label, (), {"names": ["ant", "bee", "cat"]})}
        self.features = {name: kind() for name, kind in kinds.items()}
        self.images, self.decoded = images, 0

    def __iter__(self) -> Any:
        for place, pixels in enumerate(self.images):
            self.decoded += 1
            yield {"img": Image.fromarray(pixels), "fine": place % 2}


def fake(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: Any) -> None:
    module = types.ModuleType(name)
    for attribute, value in attributes.items():
        setattr(module, attribute, value)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize("colour", [False, True])
def test_a_hugging_face_set_gives_pictures_labels_and_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, split: str, colour: bool
) -> None:
    images = pictures(5, colour)
    rows = Rows(images)
    fake(monkeypatch, "datasets", load_dataset=lambda name: {split: rows})
    data = load_first(open_source("hf-dataset:someone/insects", tmp_path), "test", 3)
    expected = np.stack(images[:3])
    assert np.array_equal(data.images, expected.transpose(0, 3, 1, 2) if colour else expected[:, None])
    assert (data.labels.tolist(), data.class_names) == ([0, 1, 0], ("ant", "bee", "cat"))
    assert rows.decoded == 3
    with pytest.raises(BenchError, match="has no split train, it has"):
        open_source("hf-dataset:someone/insects", tmp_path).load("train")


@pytest.mark.parametrize("how", ["train", "split"])
def test_a_torchvision_set_gives_pictures_labels_and_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    images = pictures(4)

    class Insects:
        classes = ("ant", "bee")

        def __init__(self, root: str, **given: Any) -> None:
            if set(given) != {how}:
                raise TypeError(f"unexpected {given}")
            assert root == str(tmp_path)
            assert given[how] in (False, "test")

        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, place: int) -> tuple[Image.Image, int]:
            return Image.fromarray(images[place]), place % 2

    fake(monkeypatch, "torchvision.datasets", Insects=Insects)
    fake(monkeypatch, "torchvision")
    data = open_source("torchvision-dataset:Insects", tmp_path).load("test")
    assert np.array_equal(data.images[:, 0], np.stack(images))
    assert (data.labels.tolist(), data.class_names) == ([0, 1, 0, 1], ("ant", "bee"))
    with pytest.raises(UsageError, match="has no 'Insect'"):
        open_source("torchvision-dataset:Insect", tmp_path).load("test")


def test_a_medmnist_file_is_found_in_the_data_directory(tmp_path: Path) -> None:
    images = np.stack(pictures(4))
    with pytest.raises(BenchError, match=r"'medmnist:bloodmnist' was not found: expected it at .*bloodmnist\.npz"):
        open_source("medmnist:bloodmnist", tmp_path)
    (tmp_path / "medmnist").mkdir()
    np.savez(tmp_path / "medmnist/bloodmnist.npz", test_images=images, test_labels=np.array([[0], [1], [1], [0]]))
    assert open_source("medmnist:bloodmnist", tmp_path).load("test").labels.tolist() == [0, 1, 1, 0]


def test_what_a_library_cannot_give_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'bangbench\[hf\]'"):
        open_source("hf-dataset:x", tmp_path).load("test")

    def fail(name: str) -> None:
        raise OSError("no route to host\nand much more")

    fake(monkeypatch, "datasets", load_dataset=fail)
    with pytest.raises(BenchError, match="data set 'x' cannot be loaded: OSError: no route to host; check the name"):
        open_source("hf-dataset:x", tmp_path).load("test")
    fake(monkeypatch, "datasets", load_dataset=lambda name: {"test": Rows(pictures(2), "Value")})
    with pytest.raises(BenchError, match="expected a column of images and one of class labels"):
        open_source("hf-dataset:x", tmp_path).load("test")
    mixed = [np.zeros((6, 8), np.uint8), np.zeros((8, 6), np.uint8)]
    fake(monkeypatch, "datasets", load_dataset=lambda name: {"test": Rows(mixed)})
    with pytest.raises(BenchError, match="images of 2 sizes; write them to folders, and give --resize"):
        open_source("hf-dataset:x", tmp_path).load("test")
