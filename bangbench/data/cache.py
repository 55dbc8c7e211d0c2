"""The folder of decoded images: what is in it, how large it may get, and how it is emptied."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bangbench.core.errors import BenchError
from bangbench.core.locks import folder_lock
from bangbench.store.files import read_file

FORMAT: Literal[1] = 1
HEADER, PIXELS = "header.json", "pixels.raw"
#: What a process leaves that was killed while it decoded.
UNFINISHED = ".tmp"
#: Where the cache is, and how many gigabytes it may take; 0: nothing is kept.
FOLDER_VARIABLE, BOUND_VARIABLE = "BANGBENCH_CACHE", "BANGBENCH_CACHE_GB"

_USUAL_GB = 20.0
_GB = 10**9
_MOST_BYTES_OF_HEADER = 1 << 16
_KEY = re.compile(r"[0-9a-f]{32}")

_Side = Annotated[int, Field(ge=1, le=1 << 32)]


class Header(BaseModel):
    """What is kept beside the pixels: of what they are, their shape (N, C, H, W), and the data set's fingerprint."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    format: Literal[1] = FORMAT
    source: str
    split: str
    shape: Annotated[list[_Side], Field(min_length=4, max_length=4)]
    fingerprint: str


class Kept(NamedTuple):
    """One set of decoded images: source is "?" and images 0 where its header is missing or damaged.

    size: bytes on the disk; used: when it was last opened.
    """

    source: str
    split: str
    images: int
    size: int
    used: datetime
    path: Path


def cache_folder() -> Path:
    """Return where decoded images are kept: BANGBENCH_CACHE, else ``images`` in the user's cache directory."""
    from_environment = os.environ.get(FOLDER_VARIABLE)
    if from_environment:
        return Path(from_environment)
    import pooch  # takes a while, and is not needed where the folder is given

    return Path(pooch.os_cache("bangbench")) / "images"


def cache_bound() -> int:
    """Return how many bytes the cache may take: BANGBENCH_CACHE_GB, 20 GB by default; `BenchError` for no number."""
    text = os.environ.get(BOUND_VARIABLE, "").strip()
    try:
        gigabytes = float(text) if text else _USUAL_GB
        return int(gigabytes * _GB) if gigabytes >= 0 else int("negative")
    except (ValueError, OverflowError) as error:
        raise BenchError(f"{BOUND_VARIABLE}: expected gigabytes, such as 20, or 0 for none, found '{text}'") from error


def is_kept() -> bool:
    """Return whether decoded images are to be kept at all: BANGBENCH_CACHE_GB is not 0."""
    return os.environ.get(BOUND_VARIABLE, "").strip() != "0"


def kept_images() -> list[Kept]:
    """Return what is in the cache, the most recently used first."""
    folder = cache_folder()
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    found = [_look_at(folder / name) for name in names if _KEY.fullmatch(name)]
    return sorted(found, key=lambda kept: (kept.used, kept.path), reverse=True)


def clear_cache() -> tuple[list[Kept], list[Kept]]:
    """Remove all decoded images; return what was removed, and what another process is decoding or may not be removed.

    A process that has the images open goes on with them. Files that the bench did not put there are left alone.
    """
    found = kept_images()
    removed = [kept for kept in found if remove(kept.path)]
    return removed, [kept for kept in found if kept not in removed]


def make_room(size: int, own: Path) -> bool:
    """Remove what was used longest ago, except `own`, until `size` more bytes fit; return whether they do."""
    bound = cache_bound()
    if size > bound:
        return False
    others = [kept for kept in kept_images() if kept.path != own]
    taken = sum(kept.size for kept in others)
    while taken + size > bound and others:
        oldest = others.pop()
        taken -= oldest.size if remove(oldest.path) else 0
    return taken + size <= bound


def remove(folder: Path) -> bool:
    """Remove one set of decoded images unless another process is writing it; return whether it is gone."""
    try:
        with folder_lock(folder, wait=0):
            for path in folder.iterdir():
                if path.name in (HEADER, PIXELS) or path.name.endswith(UNFINISHED):
                    path.unlink(missing_ok=True)
        with suppress(OSError):  # something else lies in it
            folder.rmdir()
    except (BenchError, OSError):
        return False
    return True


def read_header(folder: Path) -> Header:
    """Return the header of one set; `BenchError` where it is missing or damaged."""
    path = folder / HEADER
    try:
        return Header.model_validate_json(read_file(path, _MOST_BYTES_OF_HEADER))
    except ValidationError as error:
        raise BenchError(f"{path}: not a header of decoded images") from error


def _look_at(folder: Path) -> Kept:
    size, used = 0, 0.0
    with suppress(OSError):
        status = [entry.stat(follow_symlinks=False) for entry in os.scandir(folder)]
        size = sum(file.st_size for file in status)
        used = max((file.st_mtime for file in status), default=0.0)
    when = datetime.fromtimestamp(used).astimezone()
    try:
        header = read_header(folder)
    except BenchError:
        return Kept("?", "?", 0, size, when, folder)
    return Kept(header.source, header.split, header.shape[0], size, when, folder)
