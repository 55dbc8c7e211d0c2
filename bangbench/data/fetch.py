"""Get the data sets that can be downloaded, check what is there, and say what is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from bangbench.core.errors import BenchError, UsageError
from bangbench.core.progress import Progress
from bangbench.data import cifar10, mnist
from bangbench.data.download import download
from bangbench.data.idx import content_blocks
from bangbench.data.sources import SOURCES, data_directory

#: Where each data set is downloaded from; the next address is tried where one fails.
BASE_URLS: dict[str, tuple[str, ...]] = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "cifar10": ("https://www.cs.toronto.edu/~kriz/",),
}

CIFAR10_ARCHIVE = "cifar-10-python.tar.gz"

_BLOCK_BYTES = 1 << 20
#: The longest file of MNIST has 47 MB.
_MOST_BYTES = 64 << 20


class Verified(NamedTuple):
    """What became of one file's check; `message` is fit to be shown after the path."""

    path: Path
    ok: bool
    message: str


class SourceStatus(NamedTuple):
    """One line of ``bangbench data list``: the text for ``--data``, whether it is there, where, how to get it."""

    name: str
    present: bool
    where: str
    how: str


class _Checksum(NamedTuple):
    algorithm: str
    digest: str
    of_uncompressed: bool

    def complaint(self, path: Path, where: str) -> str | None:
        """Return what is wrong with a file, or None; `BenchError` for a damaged or too long gzip file."""
        digest = hashlib.new(self.algorithm, usedforsecurity=False)
        if self.of_uncompressed:
            for block in content_blocks(path, where, _MOST_BYTES):
                digest.update(block)
        else:
            with path.open("rb") as stream:
                while block := stream.read(_BLOCK_BYTES):
                    digest.update(block)
        found = digest.hexdigest()
        if found == self.digest:
            return None
        what = f"{self.algorithm.upper()}{' of the uncompressed content' if self.of_uncompressed else ''}"
        return f"expected {what} {self.digest}, found {found} ({path.stat().st_size} bytes)"


def fetch(name: str, data_dir: Path | None, progress: Progress, base_urls: Sequence[str] | None = None) -> list[Path]:
    """Download what is missing of ``mnist`` or ``cifar10`` and return the paths of all its files.

    Files already there are checked and kept. A download gets its final name only after its checksum was found
    right (MNIST: SHA-256 of the uncompressed content). `base_urls` (default: `BASE_URLS`) are tried in order.
    Raises `UsageError` for another name, and `BenchError` where no address yields the right file or where a file
    of other content is in the way, which is never overwritten.
    """
    _check_name(name, "downloaded")
    addresses = BASE_URLS[name] if base_urls is None else base_urls
    checksums = _checksums(name)
    results = verify(name, data_dir)
    for path, ok, message in results:
        if ok:
            progress.note(f"{path} is already there")
        elif path.exists() or path.name not in checksums:
            raise BenchError(
                f"{path} is in the way: {message}; it is damaged or not the official file: move it, or "
                f"all of {path.parent}, away and run the command again"
            )
        else:
            _fetch_file(addresses, path, checksums[path.name], progress)
    return [result.path for result in results]


def verify(name: str, data_dir: Path | None) -> list[Verified]:
    """Return for each file of ``mnist`` or ``cifar10`` (else: `UsageError`) whether it is the official one."""
    _check_name(name, "verified")
    directory = data_directory(data_dir)
    if name == "cifar10":
        return _verify_cifar10(directory)
    results = []
    for file_name, checksum in _checksums(name).items():
        path = mnist.find_file(directory, file_name.removesuffix(".gz"))
        results.append(_verified(path, checksum) if path else _missing(directory / name / file_name, name))
    return results


def describe_sources(data_dir: Path | None) -> list[SourceStatus]:
    """Return the registered sources, then the .npz files, .zip files and image folders in the data directory."""
    directory = data_directory(data_dir)
    return [_status(name, directory) for name in SOURCES.names()] + list(_file_sources(directory))


def _check_name(name: str, done: str) -> None:
    SOURCES.check(name)
    if name not in BASE_URLS:
        raise UsageError(f"'{name}' has no files that could be {done}; this works for {' and '.join(BASE_URLS)}")


def _checksums(name: str) -> dict[str, _Checksum]:
    """Return the files to download with their checksums."""
    if name == "mnist":
        return {f"{file_name}.gz": _Checksum("sha256", digest, True) for file_name, digest in mnist.SHA256.items()}
    return {CIFAR10_ARCHIVE: _Checksum("md5", cifar10.MD5[CIFAR10_ARCHIVE], False)}


def _fetch_file(addresses: Sequence[str], target: Path, checksum: _Checksum, progress: Progress) -> None:
    failures: list[str] = []
    for address in addresses:
        url = f"{address.rstrip('/')}/{target.name}"
        try:
            return _fetch_from(url, target, checksum, progress)
        except BenchError as error:
            failures.append(str(error))
            if len(failures) < len(addresses):
                progress.note(f"{error}; trying the next address")
    advice = f"or put the file into {target.parent} yourself"
    raise BenchError(f"{target.name} could not be downloaded:\n" + "\n".join(failures) + f"\n{advice}")


def _fetch_from(url: str, target: Path, checksum: _Checksum, progress: Progress) -> None:
    def check(temporary: Path) -> None:
        complaint = checksum.complaint(temporary, url)
        if complaint:
            raise BenchError(
                f"{url}: {complaint}: the server sent something else (a login page, another version) or the "
                "transfer was damaged; nothing was kept; try again, or from another network"
            )

    download(url, target, check, progress)


def _verify_cifar10(directory: Path) -> list[Verified]:
    path = cifar10.find_cifar10(directory)
    if path is None:
        return [_missing(directory / "cifar10" / CIFAR10_ARCHIVE, "cifar10")]
    if path.is_file():
        return [_verified(path, _Checksum("md5", cifar10.MD5[path.name], False))]
    ending = cifar10.FORMS[path.name]
    batches = [batch for part in cifar10.BATCHES.values() for batch in part]
    if ending:
        advice = "no checksum is published for unpacked binary batches; keep the .tar.gz instead"
        return [Verified(path / f"{batch}{ending}", False, advice) for batch in batches]
    return [_verified(path / batch, _Checksum("md5", cifar10.MD5[batch], False)) for batch in batches]


def _verified(path: Path, checksum: _Checksum) -> Verified:
    if not path.is_file():
        return Verified(path, False, "missing; fetch the data set again")
    try:
        complaint = checksum.complaint(path, str(path))
    except (BenchError, OSError) as error:
        complaint = str(error)
    return Verified(path, complaint is None, complaint or "official content")


def _missing(path: Path, name: str) -> Verified:
    return Verified(path, False, f"missing; run 'bangbench data fetch {name}'")


def _status(name: str, directory: Path) -> SourceStatus:
    """Return the state of a registered source; one from another package that has no `locate` counts as present."""
    source = SOURCES.load(name)(directory)
    locate = getattr(source, "locate", None)
    where = locate() if locate else "supplied by a package"
    how = f"bangbench data fetch {name}" if name in BASE_URLS else "nothing to get"
    return SourceStatus(name, where is not None, where or str(directory / name), how)


def _file_sources(directory: Path) -> Iterable[SourceStatus]:
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        is_folder = (path / "train").is_dir() and (path / "test").is_dir()
        prefix = {".npz": "npz", ".zip": "folder"}.get(path.suffix, "folder" if is_folder else None)
        if prefix:
            yield SourceStatus(f"{prefix}:{path.name}", True, str(path), "nothing to get")
