"""The files below train/ and test/ of a directory or of a .zip, read without unpacking anything."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bangbench.core.errors import BenchError

SPLITS = ("train", "test")
_LITTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError)


class Tree(NamedTuple):
    """files and folders: names such as ``train/cat/1.png``, sorted; read: the bytes of one file by its name."""

    files: list[str]
    folders: list[str]
    read: Callable[[str], bytes]


@contextmanager
def open_tree(path: Path) -> Iterator[Tree]:
    """Yield what lies below train/ and test/ in a directory or .zip; one folder around the two is looked through.

    Hidden files and what operating systems leave behind are left out. Raises `BenchError` for a damaged archive
    and for entries that point outside it.
    """
    if path.is_dir():
        yield _directory_tree(path)
        return
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise BenchError(
            f"{path}: expected a directory or a complete .zip, found a file that is neither ({error}): it is "
            "truncated, damaged or of another kind"
        ) from error
    with archive:
        yield _zip_tree(archive, path)


def _directory_tree(path: Path) -> Tree:
    root = _directory_root(path)
    files, folders = [], []
    for split in SPLITS:
        for folder, _, names in os.walk(root / split, followlinks=True):
            folders.append(Path(folder).relative_to(root).as_posix())
            files += [(Path(folder) / name).relative_to(root).as_posix() for name in names]

    def read(name: str) -> bytes:
        try:
            return (root / name).read_bytes()
        except OSError as error:
            raise BenchError(f"{root / name}: cannot be read: {error.strerror}") from error

    return Tree(_kept(files), _kept(folders), read)


def _directory_root(path: Path) -> Path:
    if any((path / split).is_dir() for split in SPLITS):
        return path
    inner = [entry for entry in path.iterdir() if entry.is_dir() and not _is_litter(entry.name)]
    return inner[0] if len(inner) == 1 else path


def _zip_tree(archive: zipfile.ZipFile, path: Path) -> Tree:
    entries = {_safe_name(entry.filename, path): entry for entry in archive.infolist()}
    prefix = _wrapping_folder(_kept(list(entries)))
    inside = {name.removeprefix(prefix): entry for name, entry in entries.items() if name.startswith(prefix)}
    wanted = {name: entry for name, entry in inside.items() if name.split("/")[0] in SPLITS}
    files = [name for name, entry in wanted.items() if not entry.is_dir()]
    folders = {parent for name in wanted for parent in _parents(name)}
    folders |= {name.rstrip("/") for name, entry in wanted.items() if entry.is_dir()}

    def read(name: str) -> bytes:
        try:
            return archive.read(wanted[name])
        except _DAMAGE as error:
            raise BenchError(f"{path}: {name}: cannot be read from the archive ({error}); it is damaged") from error

    return Tree(_kept(files), _kept(list(folders)), read)


def _safe_name(name: str, path: Path) -> str:
    """Return an entry's name with forward slashes; one that points outside the archive raises `BenchError`."""
    plain = name.replace("\\", "/")
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain) or ".." in plain.split("/"):
        raise BenchError(
            f"{path}: the entry '{name}' points outside the archive; expected paths such as train/CLASS/IMAGE; do "
            "not trust this file, or write it again"
        )
    return plain


def _wrapping_folder(names: list[str]) -> str:
    tops = {name.split("/")[0] for name in names if "/" in name}
    return f"{tops.pop()}/" if len(tops) == 1 and not tops & set(SPLITS) else ""


def _parents(name: str) -> list[str]:
    parts = name.rstrip("/").split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _kept(names: list[str]) -> list[str]:
    return sorted(name for name in names if not any(_is_litter(part) for part in name.split("/")))


def _is_litter(part: str) -> bool:
    return part.startswith(".") or part in _LITTER
