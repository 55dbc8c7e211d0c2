"""The images of a directory or of a .zip by split and class, read without unpacking anything."""

from __future__ import annotations

import logging
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bangbench.core.errors import BenchError
from bangbench.data.images import MOST_BYTES
from bangbench.store.files import read_file

_LOG = logging.getLogger(__name__)
#: What the folders of the splits are called; the first that is there holds the test images.
TRAIN, TESTS = "train", ("test", "val", "valid", "validation")
SPLITS = (TRAIN, *TESTS)
_LITTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
#: Files passed over that a message names.
_MOST_NAMED = 5


class Tree(NamedTuple):
    """files and folders: names such as ``train/cat/1.png``, sorted; read: the bytes of one file by its name.

    Test images are below ``test/``, however their folder is called, or if there are only folders of classes; real: what
    a file or folder is called where it lies; stamp: sizes and times, in JSON, which change with the files.
    """

    files: list[str]
    folders: list[str]
    read: Callable[[str], bytes]
    real: dict[str, str]
    stamp: Callable[[], Any]


@contextmanager
def open_tree(path: Path) -> Iterator[Tree]:
    """Yield what lies below train/ and test/ (or val/, or folders of classes alone) in a directory or .zip.

    One folder around them is looked through.

    Hidden files and what operating systems leave behind are left out, and so is, with a warning, what is neither a
    file nor a folder and what a link outside the directory leads to. A file is read only up to `MOST_BYTES`. Raises
    `BenchError` for a damaged archive and for entries that point outside it or collide.
    """
    if path.is_dir():
        yield _directory_tree(path)
        return
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # a damaged directory makes zipfile raise nearly anything
        raise BenchError(
            f"{path}: expected a directory or a complete .zip, found a file that is neither ({error}): it is "
            "truncated, damaged or of another kind"
        ) from error
    with archive:
        yield _zip_tree(archive, path)


def _directory_tree(path: Path) -> Tree:
    root = _directory_root(path)
    walk = _Walk(root)
    tops = [entry.name for entry in root.iterdir() if entry.is_dir() and not _is_litter(entry.name)]
    naming = _naming(tops)
    walk.enter([root / top for top in sorted(naming)])
    if walk.passed_over:
        named = ", ".join(walk.passed_over[:_MOST_NAMED])
        _LOG.warning("%s: passed over what is no file of its own (%d): %s", root, len(walk.passed_over), named)
    files, folders = (_kept([_readable(place, root) for place in found]) for found in (walk.files, walk.folders))
    return _named(
        files,
        folders,
        naming,
        lambda name: read_file(root / name, MOST_BYTES),
        lambda: [[name, *stamp_of(root / name)] for name in files],
    )


def stamp_of(path: Path) -> list[int]:
    """Return what changes with a file: its size, and the times of its content and of its entry; zeros for none."""
    try:
        status = path.stat()
    except OSError:  # reading it says what is wrong
        return [0, 0, 0]
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _naming(tops: list[str]) -> dict[str, str]:
    """Return which of the folders at the top are read, and what each is called in a `Tree`."""
    test = next((name for name in TESTS if name in tops), None)
    if TRAIN not in tops and test is None:
        return {top: f"test/{top}" for top in tops}  # classes alone
    return {name: split for name, split in ((TRAIN, "train"), (test, "test")) if name in tops and name is not None}


def _named(
    files: list[str],
    folders: list[str],
    naming: dict[str, str],
    read: Callable[[str], bytes],
    stamp: Callable[[], Any],
) -> Tree:
    """Return the tree of files and folders under their real names."""
    real = {naming[top] + name[len(top) :]: name for name in (*files, *folders) for top in (name.split("/")[0],)}
    known = {name: key for key, name in real.items()}
    return Tree(
        sorted(known[name] for name in files),
        sorted(known[name] for name in folders),
        lambda name: read(real[name]),
        real,
        stamp,
    )


def _readable(place: Path, root: Path) -> str:
    """Return a path below the root with forward slashes; `BenchError` for bytes that are no text."""
    name = place.relative_to(root).as_posix()
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise BenchError(f"{root}: the name {name.encode(errors='surrogateescape')!r} is not UTF-8; rename it")
    return name


class _Walk:
    """The regular files and the folders below a root; a link is followed if it leads to something new inside the root.

    passed_over: what was not taken.
    """

    def __init__(self, root: Path) -> None:
        self.files: list[Path] = []
        self.folders: list[Path] = []
        self.passed_over: list[str] = []
        self._root = root.resolve()
        self._entered = {self._root}

    def enter(self, folders: list[Path]) -> None:
        """Note what is in these folders and below; links come last, so that each file has its own name first."""
        links: list[Path] = [folder for folder in folders if folder.is_symlink()]
        pending = [folder for folder in folders if folder.is_dir() and not folder.is_symlink()]
        while pending or links:
            if not pending:
                pending = self._follow(links.pop(0))
                continue
            folder = pending.pop()
            self.folders.append(folder)
            self._entered.add(folder.resolve())
            with os.scandir(folder) as entries:
                for entry in entries:
                    place = folder / entry.name
                    if entry.is_symlink():
                        links.append(place)
                    elif entry.is_dir():
                        pending.append(place)
                    elif entry.is_file():
                        self.files.append(place)
                    else:
                        self.passed_over.append(f"{place} (a pipe, a socket or a device)")
            links.sort()

    def _follow(self, link: Path) -> list[Path]:
        """Note the file that a link leads to, or return the folder."""
        try:
            real = link.resolve(strict=True)
        except (OSError, RuntimeError):  # a loop of links is a RuntimeError before Python 3.13
            self.passed_over.append(f"{link} (a link to nothing)")
            return []
        if real.is_relative_to(self._root) and real.is_file():
            self.files.append(link)
        elif real.is_relative_to(self._root) and real.is_dir() and real not in self._entered:
            return [link]
        elif not _is_litter(link.name):
            where = "read already or no file" if real.is_relative_to(self._root) else "outside"
            self.passed_over.append(f"{link} (a link to {real}, {where})")
        return []


def _directory_root(path: Path) -> Path:
    if any((path / split).is_dir() for split in SPLITS):
        return path
    inner = [entry for entry in path.iterdir() if entry.is_dir() and not _is_litter(entry.name)]
    return inner[0] if len(inner) == 1 else path


def _zip_tree(archive: zipfile.ZipFile, path: Path) -> Tree:
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = _safe_name(entry.filename, path)
        if name in entries:
            raise BenchError(f"{path}: two entries are called '{name}', of which only one can be meant; write it again")
        entries[name] = entry
    prefix = _wrapping_folder(_kept(list(entries)))
    inside = {name.removeprefix(prefix): entry for name, entry in entries.items() if name.startswith(prefix)}
    naming = _naming(sorted({name.split("/")[0] for name in _kept(list(inside)) if "/" in name}))
    wanted = {name: entry for name, entry in inside.items() if "/" in name and name.split("/")[0] in naming}
    files = [name for name, entry in wanted.items() if not entry.is_dir()]
    folders = {parent for name in wanted for parent in _parents(name)}
    folders |= {name.rstrip("/") for name, entry in wanted.items() if entry.is_dir()}

    def read(name: str) -> bytes:
        if wanted[name].file_size > MOST_BYTES:
            raise BenchError(
                f"{path}: {name}: expected at most {MOST_BYTES:,} bytes, found {wanted[name].file_size:,}; remove it"
            )
        try:
            return archive.read(wanted[name])  # never more than the entry announces
        except Exception as error:  # a damaged archive makes zipfile raise nearly anything
            raise BenchError(f"{path}: {name}: cannot be read from the archive ({error}); it is damaged") from error

    return _named(_kept(files), _kept(list(folders)), naming, read, lambda: stamp_of(path))


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
