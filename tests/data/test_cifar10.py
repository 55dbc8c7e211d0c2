"""CIFAR-10's python and binary batches, unpacked and as archives, whole, damaged and hostile."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.data.cifar10 import Cifar10
from bangbench.data.cifar_pickle import read_python_batch

NAMES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
PER_BATCH = 4


def data_of(batch: int) -> NDArray[np.uint8]:
    return np.random.default_rng(batch).integers(0, 256, (PER_BATCH, 3072), dtype=np.uint8)


def labels_of(batch: int) -> list[int]:
    return [(batch + 3 * row) % 10 for row in range(PER_BATCH)]


def official_pickle(data: NDArray[np.uint8], labels: list[int]) -> bytes:
    """Return a batch byte for byte as Python 2 and its numpy wrote the official ones (protocol 2, `str` keys)."""
    counted = b"".join(b"K" + bytes([label]) for label in labels)
    rows = b"K" + bytes([len(data)])
    raw = data.tobytes()
    return (
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05("
        + counted
        + b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85q\t"
        + b"U\x01b\x87q\nRq\x0b(K\x01"
        + rows
        + b"M\x00\x0c\x86q\x0ccnumpy\ndtype\nq\rU\x02u1K\x00K\x01\x87Rq\x0e(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        + b"J\xff\xff\xff\xffK\x00tb\x89T"
        + len(raw).to_bytes(4, "little")
        + raw
        + b"tbu."
    )


def batch_content(batch: int, binary: bool) -> bytes:
    data, labels = data_of(batch), labels_of(batch)
    if binary:
        return np.hstack([np.array(labels, dtype=np.uint8)[:, None], data]).tobytes()
    return official_pickle(data, labels)


def write_batches(folder: Path, binary: bool) -> Path:
    folder.mkdir(parents=True)
    for batch, name in enumerate(NAMES):
        (folder / (name + ".bin" * binary)).write_bytes(batch_content(batch, binary))
    return folder


def write_archive(path: Path, folder: str, binary: bool) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        # the archive's own order is not the order of the data set
        for batch, name in reversed(list(enumerate(NAMES))):
            content = batch_content(batch, binary)
            member = tarfile.TarInfo(f"{folder}/{name}{'.bin' * binary}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


WRITERS: dict[str, Callable[[Path], Path]] = {
    "python directory": lambda root: write_batches(root / "cifar10" / "cifar-10-batches-py", False),
    "binary directory": lambda root: write_batches(root / "cifar-10-batches-bin", True),
    "python archive": lambda root: write_archive(root / "cifar-10-python.tar.gz", "cifar-10-batches-py", False),
    "binary archive": lambda root: write_archive(
        root / "cifar10" / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", True
    ),
}


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_is_read_in_the_official_order(tmp_path: Path, form: str) -> None:
    where = WRITERS[form](tmp_path)
    source = Cifar10(tmp_path)
    train, test = source.load("train"), source.load("test")
    assert train.images.shape == (5 * PER_BATCH, 3, 32, 32)
    assert np.array_equal(train.images.reshape(-1, 3072), np.vstack([data_of(batch) for batch in range(5)]))
    assert train.labels.tolist() == [label for batch in range(5) for label in labels_of(batch)]
    assert np.array_equal(test.images.reshape(-1, 3072), data_of(5))
    assert train.class_names[3] == "cat"
    assert source.locate() == str(where)


def test_batches_written_by_python_3_are_read_too() -> None:
    content = pickle.dumps({"data": {"no": "array"}, "labels": [1]})
    with pytest.raises(BenchError, match=r"expected 'data' of shape \(N, 3072\), found no array"):
        read_python_batch(content, "batch")
    data, labels = read_python_batch(pickle.dumps({"data": data_of(1), "labels": labels_of(1)}, protocol=4), "batch")
    assert np.array_equal(data, data_of(1))
    assert labels.tolist() == labels_of(1)


class Payload:
    """A pickled object that would create a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_a_malicious_pickle_is_refused_and_nothing_in_it_runs(tmp_path: Path) -> None:
    folder = write_batches(tmp_path / "cifar-10-batches-py", False)
    target = tmp_path / "created"
    hostile = pickle.dumps({"data": Payload(target), "labels": [0]})
    (folder / "test_batch").write_bytes(hostile)
    with pytest.raises(BenchError, match=r"test_batch: .*asks for posix\.mkdir.*nothing in it was run"):
        Cifar10(tmp_path).load("test")
    assert not target.exists()
    pickle.loads(hostile)
    assert target.exists(), "the payload must work where pickles are trusted, or this test proves nothing"


@pytest.mark.parametrize("name", ["builtins.eval", "os.system", "numpy.load", "numpy.core.multiarray.scalar"])
def test_every_name_but_those_of_a_plain_array_is_refused(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    with pytest.raises(BenchError, match=f"the pickle asks for {name}, which CIFAR-10 does not need"):
        read_python_batch(f"c{module}\n{attribute}\n(S'x'\ntR.".encode(), "batch")


def test_an_array_of_another_type_is_refused() -> None:
    content = pickle.dumps({"data": data_of(0).astype(np.float32), "labels": labels_of(0)}, protocol=4)
    with pytest.raises(BenchError, match="an array that does not hold plain bytes"):
        read_python_batch(content, "batch")


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1, 2], "expected a pickled dictionary, found list"),
        ({"labels": [1]}, "expected an entry 'data' in the batch, found none"),
        ({"data": np.zeros((2, 3000), np.uint8), "labels": [1, 2]}, r"shape \(N, 3072\), found shape \(2, 3000\)"),
        (
            {"data": np.zeros((2, 3072), np.uint8), "labels": [1, 10]},
            r"expected 'labels' as a list of integers 0\.\.9",
        ),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": ["1", 2]}, r"'labels' as a list of integers 0\.\.9"),
    ],
)
def test_a_batch_of_other_content_is_refused(batch: object, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        read_python_batch(pickle.dumps(batch, protocol=4), "batch")


@pytest.mark.parametrize("keep", [0, 1, 60, 500, -1])
def test_a_truncated_python_batch_is_refused(keep: int) -> None:
    with pytest.raises(BenchError, match="expected a CIFAR-10 batch, found a file that cannot be read as one"):
        read_python_batch(batch_content(0, False)[:keep], "batch")


def test_a_batch_with_fewer_labels_than_images_is_refused(tmp_path: Path) -> None:
    folder = write_batches(tmp_path / "cifar-10-batches-py", False)
    (folder / "test_batch").write_bytes(official_pickle(data_of(5), [1, 2, 3]))
    with pytest.raises(BenchError, match="4 images but 3 labels"):
        Cifar10(tmp_path).load("test")


def test_a_truncated_binary_batch_is_refused(tmp_path: Path) -> None:
    folder = write_batches(tmp_path / "cifar-10-batches-bin", True)
    for content in (b"", (folder / "data_batch_3.bin").read_bytes()[:-100]):
        (folder / "data_batch_3.bin").write_bytes(content)
        message = f"data_batch_3.bin: expected a multiple of 3073 bytes .*, found {len(content)}: the file is truncated"
        with pytest.raises(BenchError, match=message):
            Cifar10(tmp_path).load("train")


def test_binary_labels_out_of_range_are_refused(tmp_path: Path) -> None:
    folder = write_batches(tmp_path / "cifar-10-batches-bin", True)
    (folder / "test_batch.bin").write_bytes(bytes([200]) + bytes(3072))
    with pytest.raises(BenchError, match=r"labels span 200\.\.200, expected 0\.\.9"):
        Cifar10(tmp_path).load("test")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_archive_is_refused(tmp_path: Path, share: float) -> None:
    path = WRITERS["python archive"](tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(BenchError, match=r"expected a complete \.tar\.gz archive, .* truncated or damaged; delete it"):
        Cifar10(tmp_path).load("train")


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    folder = write_batches(tmp_path / "cifar-10-batches-py", False)
    (folder / "data_batch_4").unlink()
    with pytest.raises(BenchError, match="expected data_batch_4 inside, found none"):
        Cifar10(tmp_path).load("train")
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz"):
        pass
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.raises(BenchError, match="expected test_batch inside, found none"):
        Cifar10(tmp_path).load("test")


def test_links_in_an_archive_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        link = tarfile.TarInfo("cifar-10-batches-py/test_batch")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(BenchError, match="expected test_batch inside, found none"):
        Cifar10(tmp_path).load("test")


def test_absent_files_are_named_with_both_places_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BenchError) as caught:
        Cifar10(tmp_path).load("test")
    message = str(caught.value)
    assert "cifar-10-python.tar.gz" in message
    assert f"{tmp_path / 'cifar10'} or {tmp_path}" in message
    assert "bangbench data fetch cifar10" in message
    assert Cifar10(tmp_path).locate() is None
