"""Decoded images on disk: decoded once, the same bit for bit, never believed when damaged, and bounded."""

from __future__ import annotations

import io
import json
import logging
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bangbench.core.errors import BenchError
from bangbench.core.locks import folder_lock
from bangbench.data import decoded
from bangbench.data.cache import HEADER, PIXELS, clear_cache, kept_images
from bangbench.data.dataset import Dataset
from bangbench.data.folder import FolderSource
from bangbench.data.images import Shape, decode_image
from bangbench.data.npy import NpySource
from bangbench.data.npz import NpzSource
from bangbench.data.sources import load_first

SIDE, CLASSES, EACH = 12, 3, 8
SIZE = CLASSES * EACH * 3 * SIDE * SIDE


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache that takes small sets as well."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("BANGBENCH_CACHE", str(folder))
    monkeypatch.delenv("BANGBENCH_CACHE_GB", raising=False)
    monkeypatch.setattr(decoded, "MOST_IN_MEMORY", 0)
    monkeypatch.setattr(decoded, "_complained_of", set())
    return folder


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the images that are decoded, as they come."""
    names: list[str] = []

    def counted(content: bytes, where: str, *others: object) -> np.ndarray:
        names.append(where)
        return decode_image(content, where, *others)  # type: ignore[arg-type]

    monkeypatch.setattr("bangbench.data.folder.decode_image", counted)
    return names


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", 1)


def write_photos(folder: Path, seed: int) -> Path:
    """Write JPEG files of noise in folders of classes."""
    random = np.random.default_rng(seed)
    for label in range(CLASSES):
        (folder / f"c{label}").mkdir(parents=True)
        for number in range(EACH):
            stream = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(stream, "JPEG")
            (folder / f"c{label}" / f"{number}.jpg").write_bytes(stream.getvalue())
    return folder


def test_images_are_decoded_once_and_come_back_bit_for_bit(
    photos: Path, seen: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = FolderSource(photos).load("test")
    assert len(seen) == CLASSES * EACH
    again = FolderSource(photos).load("test")
    assert len(seen) == CLASSES * EACH
    monkeypatch.setenv("BANGBENCH_CACHE_GB", "0")
    shutil.rmtree(cache)
    in_memory = FolderSource(photos).load("test")
    assert not cache.exists()
    assert len(seen) == 2 * CLASSES * EACH
    assert first.fingerprint == again.fingerprint == in_memory.fingerprint
    assert np.array_equal(again.images, in_memory.images)
    assert np.array_equal(again.labels, in_memory.labels)


def test_a_small_set_stays_in_memory(photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "MOST_IN_MEMORY", SIZE)
    FolderSource(photos).load("test")
    assert kept_images() == []
    monkeypatch.setattr(decoded, "MOST_IN_MEMORY", SIZE - 1)
    FolderSource(photos).load("test")
    (kept,) = kept_images()
    assert (kept.source, kept.split, kept.images) == (str(photos), "test", CLASSES * EACH)
    assert SIZE < kept.size < SIZE + 1000
    assert kept.path.parent == cache


def test_what_is_written_to_the_images_reaches_no_other_process(photos: Path) -> None:
    data, fingerprint = FolderSource(photos).load("test"), FolderSource(photos).load("test").fingerprint
    data.images[:] = 7
    assert FolderSource(photos).load("test").fingerprint == fingerprint


@pytest.mark.parametrize("shape", [None, Shape(20, 16)])
def test_the_first_images_are_decoded_and_kept_alone(photos: Path, seen: list[str], shape: Shape | None) -> None:
    few = load_first(FolderSource(photos, shape), "test", 5)
    assert len(seen) == 5
    assert kept_images()[0].images == 5
    assert load_first(FolderSource(photos, shape), "test", 5).fingerprint == few.fingerprint
    assert len(seen) == 5
    assert FolderSource(photos, shape).load("test").first(5).fingerprint == few.fingerprint


def change_a_pixel(photos: Path) -> None:
    path = photos / "c0/0.jpg"
    status, other = path.stat(), (photos / "c0/1.jpg").read_bytes()
    path.write_bytes(other)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a copy that keeps the times


def rename_a_class(photos: Path) -> None:
    (photos / "c0").rename(photos / "cx")


def name_the_classes(photos: Path) -> None:
    (photos / "classes.txt").write_text("c0 a\nc1 b\nc2 c\n")


@pytest.mark.parametrize("change", [change_a_pixel, rename_a_class, name_the_classes])
def test_changed_files_are_decoded_again(photos: Path, change, monkeypatch: pytest.MonkeyPatch) -> None:
    before = FolderSource(photos).load("test").fingerprint
    change(photos)
    after = FolderSource(photos).load("test").fingerprint
    monkeypatch.setenv("BANGBENCH_CACHE_GB", "0")
    shutil.rmtree(os.environ["BANGBENCH_CACHE"])
    assert after == FolderSource(photos).load("test").fingerprint != before


def test_other_sizes_are_other_images(photos: Path) -> None:
    shapes = [FolderSource(photos, shape).load("test").images.shape[2] for shape in (Shape(10, 8), Shape(10, 10), None)]
    assert shapes == [8, 10, SIDE]
    assert len(kept_images()) == 3


def damage(path: Path, random: np.random.Generator) -> None:
    """Change bits of a file, cut it, lengthen it, empty it, or put a folder in its place."""
    content = bytearray(path.read_bytes())
    kind = int(random.integers(6))
    place = int(random.integers(len(content)))
    if kind < 2:
        content[place] ^= 1 << int(random.integers(8))
    elif kind == 2:
        content = content[:place]
    elif kind == 3:
        content += bytes(int(random.integers(1, 100)))
    elif kind == 4:
        content = bytearray()
    path.unlink()
    if kind == 5:
        path.mkdir()
    else:
        path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", [PIXELS, HEADER])
@pytest.mark.parametrize("seed", range(12))
def test_damaged_files_are_told_of_and_made_again(
    photos: Path, seen: list[str], caplog: pytest.LogCaptureFixture, name: str, seed: int
) -> None:
    whole = FolderSource(photos).load("test")
    (kept,) = kept_images()
    damage(kept.path / name, np.random.default_rng(seed))
    found = FolderSource(photos).load("test")
    assert (found.fingerprint, np.array_equal(found.images, whole.images)) == (whole.fingerprint, True)
    harmless = len(seen) == CLASSES * EACH  # a bit of the header that says nothing, such as the source's name
    assert harmless == (caplog.text == "")
    if name == PIXELS:
        assert "decoded images cannot be used" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [CLASSES * EACH, 3, 1 << 31, 1 << 31]},
        {"shape": [1 << 31, 3, SIDE, SIDE]},
        {"shape": [CLASSES * EACH, SIZE // (CLASSES * EACH), 1, 1]},
        {"shape": [0, 0, 0, 0]},
        {"fingerprint": "0" * 64},
        {"format": 2},
    ],
)
def test_a_header_that_lies_is_not_believed(
    photos: Path, seen: list[str], caplog: pytest.LogCaptureFixture, changes: dict[str, object]
) -> None:
    whole = FolderSource(photos).load("test").fingerprint
    header = kept_images()[0].path / HEADER
    header.write_text(json.dumps(json.loads(header.read_text()) | changes))
    assert FolderSource(photos).load("test").fingerprint == whole
    assert len(seen) == 2 * CLASSES * EACH
    assert caplog.text.count("decoded images cannot be used") == 1
    FolderSource(photos).load("test")
    assert len(seen) == 2 * CLASSES * EACH


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file grow beyond a kilobyte, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def loaded_without(photos: Path, seen: list[str], caplog: pytest.LogCaptureFixture) -> Dataset:
    """Return the images of a set that cannot be kept, which was said once."""
    data = FolderSource(photos).load("test")
    assert FolderSource(photos).load("test").fingerprint == data.fingerprint
    assert len(seen) >= 2 * CLASSES * EACH
    assert caplog.text.count("decoded images are not kept") == 1
    return data


def test_a_full_disk_is_done_without(
    photos: Path, seen: list[str], cache: Path, caplog: pytest.LogCaptureFixture, small_files: None
) -> None:
    assert len(loaded_without(photos, seen, caplog).images) == CLASSES * EACH
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    assert "File too large" in caplog.text


def test_a_folder_that_cannot_be_made_is_done_without(
    photos: Path, seen: list[str], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("in the way")
    assert len(loaded_without(photos, seen, caplog).images) == CLASSES * EACH


@pytest.mark.parametrize(("bound", "told"), [("1e-6", "do not fit into"), ("much", "BANGBENCH_CACHE_GB: expected")])
def test_a_bound_that_is_too_small_is_said(
    photos: Path, seen: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, bound, told
) -> None:
    monkeypatch.setenv("BANGBENCH_CACHE_GB", bound)
    loaded_without(photos, seen, caplog)
    assert told in caplog.text


def test_what_was_used_longest_ago_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANGBENCH_CACHE_GB", str(2.5 * SIZE / 1e9))
    folders = [write_photos(tmp_path / f"set{seed}", seed) for seed in range(3)]
    for age, folder in zip((300, 200), folders, strict=False):
        FolderSource(folder).load("test")
        for path in (kept_images()[0].path / name for name in (HEADER, PIXELS)):
            os.utime(path, (path.stat().st_mtime - age,) * 2)
    FolderSource(folders[0]).load("test")  # used again
    FolderSource(folders[2]).load("test")
    assert {kept.source for kept in kept_images()} == {str(folders[0]), str(folders[2])}


def test_an_image_that_cannot_be_decoded_leaves_nothing(photos: Path, cache: Path) -> None:
    path = photos / "c2/7.jpg"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BenchError, match=r"c2/7\.jpg: the image cannot be read"):
        FolderSource(photos).load("test")
    assert list(cache.iterdir()) == []


def test_files_that_change_while_they_are_read_are_refused(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(content: bytes, where: str, *others: object) -> np.ndarray:
        (photos / "c2/7.jpg").touch()
        return decode_image(content, where, *others)  # type: ignore[arg-type]

    monkeypatch.setattr("bangbench.data.folder.decode_image", changing)
    with pytest.raises(BenchError, match="files were changed while they were read; run the command again"):
        FolderSource(photos).load("test")
    assert list(cache.iterdir()) == []


def test_clearing_takes_what_the_bench_put_there_and_is_not_writing(photos: Path, cache: Path) -> None:
    data = FolderSource(photos).load("test")
    busy = cache / ("f" * 32)
    (cache / "theirs").mkdir()
    (cache / "theirs" / HEADER).write_text("x")
    (kept,) = kept_images()
    (kept.path / (PIXELS + ".tmp")).write_bytes(b"left by a process that was killed")
    with folder_lock(busy):
        pass
    busy.mkdir(exist_ok=True)
    (busy / "theirs.txt").write_text("x")
    removed, left = clear_cache()
    assert {found.path for found in removed} == {kept.path, busy}
    assert left == []
    assert sorted(path.name for path in cache.rglob("*")) == sorted([busy.name, "theirs", HEADER, "theirs.txt"])
    assert int(data.images.sum()) > 0, "images that are open stay"


@pytest.fixture(params=["npz", "compressed npz", "npy"])
def stored(request: pytest.FixtureRequest, tmp_path: Path):
    """Return a function that writes images with labels, and returns their source."""

    def write(images: np.ndarray) -> NpzSource | NpySource:
        labels = np.arange(len(images)) % CLASSES
        if request.param == "npy":
            np.save(tmp_path / "x.npy", images)
            np.save(tmp_path / "y.npy", labels)
            return NpySource(tmp_path / "x.npy", tmp_path / "y.npy")
        save = np.savez if request.param == "npz" else np.savez_compressed
        save(tmp_path / "set.npz", images=images, labels=labels)
        return NpzSource(tmp_path / "set.npz")

    return write


@pytest.mark.parametrize("shape", [(11, 6, 6), (11, 6, 6, 3), (11, 3, 6, 7), (11, 1, 6, 7)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_are_read_in_blocks_to_the_same_images(
    stored, shape: tuple[int, ...], kind: type, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    array = levels if kind is np.uint8 else (levels / np.float32(255)).astype(kind)
    source = stored(np.asarray(array, order=order))  # type: ignore[call-overload]
    monkeypatch.setattr(decoded, "MOST_IN_MEMORY", 1 << 20)
    expected = [source.load("test"), *(source.load_first("test", count) for count in (1, 5, 99))]
    monkeypatch.setattr(decoded, "MOST_IN_MEMORY", 0)
    for module in ("npz", "npy"):
        monkeypatch.setattr(f"bangbench.data.{module}.BLOCK", 4 * array[0].nbytes)
    found = [source.load("test"), *(source.load_first("test", count) for count in (1, 5, 99))]
    again = [source.load("test"), source.load_first("test", 1)]
    assert [data.fingerprint for data in found] == [data.fingerprint for data in expected]
    assert [data.fingerprint for data in again] == [data.fingerprint for data in expected[:2]]
    assert all(np.array_equal(one.images, other.images) for one, other in zip(found, expected, strict=True))
    found[0].images[:] = 0
    assert source.load("test").fingerprint == expected[0].fingerprint


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_large_array_that_is_cut_off_is_refused(
    stored, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, part: float
) -> None:
    source = stored(np.random.default_rng(0).integers(0, 256, (40, 9, 9, 3), dtype=np.uint8))
    path = next(path for path in (tmp_path / "set.npz", tmp_path / "x.npy") if path.exists())
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(BenchError, match=f"{path.name}: "):
        source.load("test")
    assert not cache.exists() or list(cache.iterdir()) == []


def test_waiting_for_another_process_ends_in_its_images(
    photos: Path, seen: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    import subprocess
    import sys

    FolderSource(photos).load("test")
    kept = kept_images()[0].path
    hidden = kept / HEADER
    content = hidden.read_bytes()
    hidden.unlink()
    program = (
        "import sys, time; from pathlib import Path; from bangbench.core.locks import folder_lock\n"
        f"folder = Path({str(kept)!r})\n"
        "with folder_lock(folder):\n"
        "    print('locked', flush=True); time.sleep(1.0)\n"
        f"    (folder / {HEADER!r}).write_bytes({content!r})\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with caplog.at_level(logging.WARNING):
            FolderSource(photos).load("test")
    assert len(seen) <= CLASSES * EACH + 1, "one was looked at for the size"
    assert "waiting for it" in caplog.text
