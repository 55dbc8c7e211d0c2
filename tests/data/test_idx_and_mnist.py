"""IDX files and MNIST: order, hashes, and every way in which the files can be wrong."""

from __future__ import annotations

import gzip
import hashlib
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from bangbench.core.errors import BenchError
from bangbench.data.idx import read_idx
from bangbench.data.mnist import Mnist, find_file

IMAGES = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"


def idx(*shape: int, magic: int | None = None, content: bytes | None = None) -> bytes:
    header = struct.pack(f">{1 + len(shape)}I", 0x0800 + len(shape) if magic is None else magic, *shape)
    return header + (bytes(int(np.prod(shape))) if content is None else content)


def test_mnist_keeps_the_order_of_the_files(mnist_dir: Path) -> None:
    raw = (mnist_dir / "mnist" / IMAGES).read_bytes()
    train = Mnist(mnist_dir).load("train")
    assert train.images.shape == (12, 1, 28, 28)
    assert train.images.tobytes() == raw[16:]
    assert train.labels.tolist() == [0, 3, 6, 9, 2, 5, 8, 1, 4, 7, 0, 3]
    assert train.labels.dtype == np.int64
    assert train.class_names == tuple("0123456789")


def test_mnist_reads_gzip_files_and_files_directly_in_the_data_directory(mnist_dir: Path) -> None:
    expected = Mnist(mnist_dir).load("test")
    for path in (mnist_dir / "mnist").iterdir():
        path.rename(mnist_dir / path.name)
    found = Mnist(mnist_dir).load("test")
    assert len(found.images) == 5
    assert found.fingerprint == expected.fingerprint


def test_a_gzip_file_without_the_ending_gz_is_recognised_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(gzip.compress(idx(3, content=b"\x01\x02\x03")))
    assert read_idx(path, 1).tolist() == [1, 2, 3]


def test_the_fingerprint_changes_with_a_pixel_a_label_and_the_order(mnist_dir: Path) -> None:
    fingerprints = {Mnist(mnist_dir).load("train").fingerprint}
    for name, position in ((IMAGES, 16 + 5), (LABELS, 8 + 2)):
        path = mnist_dir / "mnist" / name
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(bytes(content))
        fingerprints.add(Mnist(mnist_dir).load("train").fingerprint)
    raw = (mnist_dir / "mnist" / IMAGES).read_bytes()
    (mnist_dir / "mnist" / IMAGES).write_bytes(raw[:16] + raw[16 + 784 : 16 + 1568] + raw[16:800] + raw[1584:])
    fingerprints.add(Mnist(mnist_dir).load("train").fingerprint)
    assert len(fingerprints) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an IDX header of 16 bytes, found 0 bytes: the file is truncated"),
        (idx(2, 2, 2)[:15], "expected an IDX header of 16 bytes, found 15 bytes"),
        (idx(2, 2, 2, magic=0x0D03), "expected the magic number 0x00000803 of IDX images, found 0x00000d03"),
        (idx(1, 2, 3, magic=0x0801), "this file holds labels; were two files swapped\\?"),
        (idx(2, 2, 2)[:-1], "announces 2 x 2 x 2 = 8 bytes, found 7: the file is truncated"),
        (idx(2, 2, 2) + b"xyz", "announces 2 x 2 x 2 = 8 bytes, found more: other bytes trail the data"),
        (idx(0xFFFFFFFF, 0xFFFFFFFF, 28, content=b"abc"), "which a file of 19 bytes cannot hold: it is truncated"),
        (idx(50_000, 2, 2, content=b"abc"), "announces 50000 x 2 x 2 = 200000 bytes, which a file"),
        (idx(40, 2, 2, content=b"abc"), "= 160 bytes, found 3: the file is truncated"),
    ],
)
def test_a_malformed_idx_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(BenchError, match=message):
        read_idx(tmp_path / "images", 3)


def test_a_compressed_file_is_read_no_further_than_its_header_says(tmp_path: Path) -> None:
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx(2, 2, 2) + bytes(1 << 26)))
    tracemalloc.start()
    try:
        with pytest.raises(BenchError, match="found more: other bytes trail the data"):
            read_idx(tmp_path / "images.gz", 3)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("keep", [1, 12, -9, -4])
def test_a_truncated_gzip_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    noise = np.random.default_rng(0).bytes(2 * 28 * 28)
    path.write_bytes(gzip.compress(idx(2, 28, 28, content=noise))[:keep])
    with pytest.raises(BenchError, match=r"train-images-idx3-ubyte\.gz: expected .*truncated"):
        read_idx(path, 3)


def test_a_gzip_file_with_damaged_bytes_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(idx(2, 28, 28, content=np.random.default_rng(0).bytes(2 * 28 * 28)))
    for position, value in ((10, 0xFF), (len(whole) - 6, whole[-6] ^ 0xFF), (700, whole[700] ^ 0xFF)):
        damaged = bytearray(whole)
        damaged[position] = value
        path = tmp_path / "images.gz"
        path.write_bytes(bytes(damaged))
        with pytest.raises(BenchError, match=r"expected a complete gzip file, found .* damaged; fetch it again"):
            read_idx(path, 3)


def test_images_of_another_size_are_refused(mnist_dir: Path) -> None:
    (mnist_dir / "mnist" / IMAGES).write_bytes(idx(12, 28, 27))
    with pytest.raises(BenchError, match="expected images of 28x28 pixels, found 28x27; read other sizes with npz:"):
        Mnist(mnist_dir).load("train")


def test_images_and_labels_of_different_counts_are_refused(mnist_dir: Path) -> None:
    (mnist_dir / "mnist" / LABELS).write_bytes(idx(11))
    with pytest.raises(BenchError, match="12 images but 11 labels; one of the files is incomplete"):
        Mnist(mnist_dir).load("train")


def test_labels_out_of_range_are_refused(mnist_dir: Path) -> None:
    (mnist_dir / "mnist" / LABELS).write_bytes(idx(12, content=bytes(range(12))))
    with pytest.raises(BenchError, match=r"labels span 0\.\.11, expected 0\.\.9"):
        Mnist(mnist_dir).load("train")


def test_a_data_set_without_images_is_refused(mnist_dir: Path) -> None:
    (mnist_dir / "mnist" / IMAGES).write_bytes(idx(0, 28, 28))
    (mnist_dir / "mnist" / LABELS).write_bytes(idx(0))
    with pytest.raises(BenchError, match="no images"):
        Mnist(mnist_dir).load("train")


def test_a_missing_file_is_named_with_both_places_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BenchError) as caught:
        Mnist(tmp_path).load("test")
    message = str(caught.value)
    assert "t10k-images-idx3-ubyte.gz" in message
    assert str(tmp_path / "mnist") in message
    assert "bangbench data fetch mnist" in message


@pytest.mark.data
def test_the_real_mnist_has_the_known_counts_and_content(real_data: Path) -> None:
    source = Mnist(real_data)
    if source.locate() is None:
        pytest.skip("no MNIST files in BANGBENCH_DATA")
    train, test = source.load("train"), source.load("test")
    assert (len(train.images), len(test.images)) == (60000, 10000)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    header = struct.pack(">4I", 0x0803, 60000, 28, 28)
    known = "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    assert hashlib.sha256(header + train.images.tobytes()).hexdigest() == known
    assert find_file(real_data, "t10k-labels-idx1-ubyte") is not None
