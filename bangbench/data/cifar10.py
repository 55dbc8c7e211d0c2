"""CIFAR-10 proper: the official python or binary batches, unpacked or as the archive, in file order."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.data.cifar_pickle import read_python_batch
from bangbench.data.dataset import Dataset, Split, make_dataset
from bangbench.store.files import read_file

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

BATCHES: dict[Split, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test": ("test_batch",),
}

#: Published MD5 sums of the archives and of the unpacked python batches.
MD5 = {
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}

#: What may lie in the data directory, in order of preference, and the ending of the batches' names in it.
FORMS = {
    "cifar-10-batches-py": "",
    "cifar-10-python.tar.gz": "",
    "cifar-10-batches-bin": ".bin",
    "cifar-10-binary.tar.gz": ".bin",
}

_PIXELS = 3 * 32 * 32
_MOST_BYTES, _MOST_ARCHIVE_BYTES = 64 << 20, 1 << 30


class Cifar10:
    """The 60,000 colour images of CIFAR-10, read from ``cifar10/`` or from the data directory itself."""

    name = "cifar10"

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def load(self, split: Split) -> Dataset:
        """Return the split in official order: uint8 (N, 3, 32, 32), RGB. Raises `BenchError` for bad files.

        Of a batch, which has 31 MB, at most 64 MiB are read, and of an archive 1 GiB, block by block.
        """
        path = find_cifar10(self.data_dir)
        if path is None:
            raise BenchError(
                f"cifar10: expected one of {', '.join(FORMS)} in {self.data_dir / 'cifar10'} or {self.data_dir}, "
                "found none; run 'bangbench data fetch cifar10', or point --data-dir or BANGBENCH_DATA at the "
                "files"
            )
        names = [batch + FORMS[path.name] for batch in BATCHES[split]]
        contents = _read_directory(path, names) if path.is_dir() else _read_archive(path, names)
        read = _read_binary_batch if FORMS[path.name] else read_python_batch
        parts = [read(contents[name], f"{path}: {name}") for name in names]
        data, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return make_dataset(data.reshape(-1, 3, 32, 32), labels, CLASS_NAMES, f"cifar10 {split} ({path})")

    def locate(self) -> str | None:
        """Return the path of the files, or None."""
        path = find_cifar10(self.data_dir)
        return None if path is None else str(path)


def find_cifar10(data_dir: Path) -> Path | None:
    """Return the directory of batches or the archive to read, or None."""
    for folder in (data_dir / "cifar10", data_dir):
        for name in FORMS:
            if (folder / name).exists():
                return folder / name
    return None


def _read_directory(path: Path, names: list[str]) -> Mapping[str, bytes]:
    contents = {}
    for name in names:
        try:
            contents[name] = read_file(path / name, _MOST_BYTES)
        except BenchError as error:
            raise error if (path / name).exists() else _missing(path, [name]) from error
    return contents


def _read_archive(path: Path, names: list[str]) -> Mapping[str, bytes]:
    """Return the wanted members, read in memory: nothing is extracted, so a member's path cannot lead anywhere."""
    contents: dict[str, bytes] = {}
    try:
        with _Bounded(path) as content, tarfile.open(fileobj=content, mode="r:") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if member.offset_data + member.size > _MOST_ARCHIVE_BYTES or (
                    name in names and member.size > _MOST_BYTES
                ):
                    raise tarfile.TarError("it holds more than CIFAR-10")
                stream = archive.extractfile(member) if name in names and member.isreg() else None
                if stream is not None and name in contents:
                    raise tarfile.TarError(f"it holds {name} twice")
                if stream is not None:
                    contents[name] = stream.read()
    except Exception as error:  # a damaged archive makes tarfile raise nearly anything
        is_cut = isinstance(error, EOFError) or "end of data" in str(error)  # gzip's and tarfile's words for one thing
        reason = "its last bytes are missing" if is_cut else error
        raise BenchError(
            f"{path}: expected a complete .tar.gz archive, found one that cannot be read to its end ({reason}): it "
            "is truncated or damaged; delete it and run 'bangbench data fetch cifar10'"
        ) from error
    if len(contents) < len(names):
        raise _missing(path, [name for name in names if name not in contents])
    return contents


class _Bounded(gzip.GzipFile):
    """An uncompressed archive of which no more is read at once than a batch may have: headers can be bombs as well."""

    def read(self, size: int | None = -1) -> bytes:
        """Return `size` bytes."""
        if size is None or not 0 <= size <= _MOST_BYTES:
            raise tarfile.TarError("it holds more than CIFAR-10")
        return super().read(size)


def _missing(path: Path, names: list[str]) -> BenchError:
    return BenchError(f"{path}: expected {', '.join(names)} inside, found none; fetch the data set again")


def _read_binary_batch(content: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    record = 1 + _PIXELS
    if not content or len(content) % record:
        raise BenchError(
            f"{where}: expected a multiple of {record} bytes (label and pixels), found {len(content)}: the file "
            "is truncated; fetch it again"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, record)
    return records[:, 1:], records[:, 0].astype(np.int64)
