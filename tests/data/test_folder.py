"""Image folders and archives of them: classes, order, colour, and everything that is refused."""

from __future__ import annotations

import io
import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bangbench.attacks.spec import AttackSpec
from bangbench.core.errors import BenchError
from bangbench.data.folder import FolderSource
from bangbench.data.images import decode_image
from bangbench.data.sources import load_first, open_source


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def zipped(folder: Path, target: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            archive.write(path, prefix + path.relative_to(folder).as_posix())
    return target


def test_classes_are_sorted_by_name_and_labels_match_them(image_folder: Path) -> None:
    train = FolderSource(image_folder).load("train")
    assert train.class_names == ("ant", "bee")
    assert train.images.shape == (40, 1, 6, 8)
    is_ant = train.images[:, 0, 0, 0] >= 100
    assert (train.labels == np.where(is_ant, 0, 1)).all()
    assert sorted(train.images[:, 0, 0, 0].tolist()) == [*range(20), *range(100, 120)]


def test_the_order_is_fixed_and_not_by_class(image_folder: Path) -> None:
    first, again = FolderSource(image_folder).load("train"), FolderSource(image_folder).load("train")
    assert first.fingerprint == again.fingerprint
    changes = np.count_nonzero(np.diff(first.labels))
    assert changes > 10, "40 images sorted by class change class once"
    assert first.labels.tolist() == [
        1,
        1,
        0,
        0,
        1,
        0,
        1,
        1,
        1,
        0,
        0,
        1,
        1,
        1,
        0,
        1,
        1,
        1,
        1,
        0,
        0,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        1,
        1,
        0,
        1,
        1,
        0,
        1,
        0,
        1,
        0,
        0,
    ]


def test_a_zip_a_wrapped_zip_and_a_wrapped_folder_are_the_same_data(image_folder: Path, tmp_path: Path) -> None:
    expected = FolderSource(image_folder).load("test")
    plain = zipped(image_folder, tmp_path / "plain.zip")
    wrapped = zipped(image_folder, tmp_path / "wrapped.zip", "some-name/")
    for path in (plain, wrapped, image_folder.parent.joinpath("outer")):
        if path.suffix != ".zip":
            path.mkdir()
            image_folder.rename(path / "inner")
        assert FolderSource(path).load("test").fingerprint == expected.fingerprint
    assert FolderSource(plain).name == "plain"


def test_hidden_files_and_litter_are_left_out(image_folder: Path, tmp_path: Path) -> None:
    expected = FolderSource(image_folder).load("train").fingerprint
    (image_folder / "train" / "ant" / ".DS_Store").write_bytes(b"x")
    (image_folder / "train" / "ant" / "Thumbs.db").write_bytes(b"x")
    (image_folder / "train" / ".cache").mkdir()
    (image_folder / "README.txt").write_text("not an image")
    assert FolderSource(image_folder).load("train").fingerprint == expected
    archive = zipped(image_folder, tmp_path / "x.zip", "outer/")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("__MACOSX/outer/train/ant/._001.png", b"x")
    assert FolderSource(archive).load("train").fingerprint == expected


def test_colour_is_red_green_blue(image_folder: Path) -> None:
    red = np.zeros((6, 8, 3), np.uint8)
    red[..., 0] = 250
    for path in image_folder.rglob("*.png"):
        path.unlink()
        path.with_suffix(".jpg").write_bytes(encoded(red, "JPEG", quality=95))
    means = FolderSource(image_folder).load("test").images.mean(axis=(0, 2, 3))
    assert means[0] > 240
    assert means[1:].max() < 10


def test_one_colour_image_in_either_split_makes_both_colour(image_folder: Path) -> None:
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[..., 2] = 9
    (image_folder / "test" / "ant" / "000.png").write_bytes(encoded(pixels))
    source = FolderSource(image_folder)
    train, test = source.load("train"), source.load("test")
    assert train.images.shape[1] == test.images.shape[1] == 3
    assert (train.images == train.images[:, :1]).all()
    assert [0, 0, 9] in test.images[:, :, 0, 0].tolist()


def test_an_empty_class_folder_is_refused(image_folder: Path, tmp_path: Path) -> None:
    for path in (image_folder / "test" / "bee").iterdir():
        path.unlink()
    for path in (image_folder, zipped(image_folder, tmp_path / "x.zip")):
        with pytest.raises(BenchError, match="test/bee: the class folder is empty; add images or remove the class"):
            FolderSource(path).load("train")


def test_a_class_in_one_split_only_is_refused(image_folder: Path) -> None:
    (image_folder / "test" / "bee").rename(image_folder / "test" / "wasp")
    with pytest.raises(BenchError, match=r"same classes in train/ and test/, found 'bee' in train/ only"):
        FolderSource(image_folder).load("test")


def test_a_folder_without_classes_is_refused(tmp_path: Path, image_folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchError, match="expected class folders in train/, found none; arrange the images as"):
        FolderSource(tmp_path / "empty").load("train")
    shutil.rmtree(image_folder / "test")
    with pytest.raises(BenchError, match="expected class folders in test/, found none"):
        FolderSource(image_folder).load("test")


@pytest.mark.parametrize("kind", ["folder", "zip", "wrapped"])
@pytest.mark.parametrize("layout", ["test", "val", "validation", "classes"])
def test_an_evaluation_needs_no_training_images(image_folder: Path, tmp_path: Path, layout: str, kind: str) -> None:
    whole = FolderSource(image_folder).load("test")
    shutil.rmtree(image_folder / "train")
    if layout == "classes":
        for part in (image_folder / "test").iterdir():
            part.rename(image_folder / part.name)
        (image_folder / "test").rmdir()
    else:
        (image_folder / "test").rename(image_folder / layout)
    prefix = "insects/" if kind == "wrapped" else ""
    source = FolderSource(image_folder if kind == "folder" else zipped(image_folder, tmp_path / "x.zip", prefix))
    assert source.load("test").fingerprint == whole.fingerprint
    with pytest.raises(BenchError, match="expected class folders in train/, found none"):
        source.load("train")


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_the_first_images_are_those_of_the_whole_and_no_others_are_decoded(
    image_folder: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FolderSource(image_folder).load("test").first(count)
    seen: list[str] = []

    def counted(content: bytes, where: str, *others: object) -> np.ndarray:
        seen.append(where)
        return decode_image(content, where, *others)  # type: ignore[arg-type]

    monkeypatch.setattr("bangbench.data.folder.decode_image", counted)
    found = load_first(FolderSource(image_folder), "test", count)
    assert found.fingerprint == whole.fingerprint
    assert len(seen) == len(whole.images)


def test_one_colour_image_makes_the_first_images_colour_wherever_it_lies(image_folder: Path) -> None:
    path = image_folder / "train/bee/000.png"
    path.write_bytes(encoded(np.zeros((6, 8, 3), np.uint8)))
    whole = FolderSource(image_folder).load("test").first(3)
    found = FolderSource(image_folder).load_first("test", 3)
    assert (found.images.shape[1], found.fingerprint) == (3, whole.fingerprint)


def test_a_test_folder_goes_before_one_for_validation(image_folder: Path) -> None:
    before = FolderSource(image_folder).load("test").fingerprint
    shutil.copytree(image_folder / "train", image_folder / "val")
    assert FolderSource(image_folder).load("test").fingerprint == before


def test_a_damaged_image_is_named_as_it_is_called(image_folder: Path) -> None:
    shutil.rmtree(image_folder / "train")
    (image_folder / "test").rename(image_folder / "val")
    (image_folder / "val/ant/000.png").write_bytes(b"no image")
    with pytest.raises(BenchError, match=r"insects/val/ant/000\.png: expected an image"):
        FolderSource(image_folder).load("test")


@pytest.mark.parametrize("content", [b"", b"no image at all", encoded(np.zeros((6, 8), np.uint8))[:42]])
def test_an_unreadable_image_is_named(image_folder: Path, tmp_path: Path, content: bytes) -> None:
    (image_folder / "train" / "bee" / "007.png").write_bytes(content)
    for path in (image_folder, zipped(image_folder, tmp_path / "x.zip")):
        with pytest.raises(BenchError, match=r"train/bee/007\.png: .*; replace or remove the file"):
            FolderSource(path).load("train")
        assert len(FolderSource(path).load("test").images) == 10, "the other split can be used"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "PPM"])
def test_an_image_cut_off_anywhere_is_refused_or_lost_no_pixel(kind: str) -> None:
    whole = encoded(np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8), kind)
    pixels = decode_image(whole, "whole")
    refused = 0
    for keep in range(len(whole)):
        try:
            # where only a checksum or an end marker is cut off, all pixels are still there
            assert np.array_equal(decode_image(whole[:keep], "cut"), pixels)
        except BenchError as error:
            assert re.search("^cut: .*replace or remove the file$", str(error))
            refused += 1
    assert refused >= len(whole) - 20


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_pixels_are_those_that_pillow_reads(subsampling: int) -> None:
    blocks = np.random.default_rng(1).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    content = encoded(blocks.repeat(6, 0).repeat(6, 1), "JPEG", quality=75, subsampling=subsampling)
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(decode_image(content, "x"), np.asarray(image))


def test_a_jpeg_with_bytes_after_its_end_is_read() -> None:
    content = encoded(np.full((8, 8), 77, np.uint8), "JPEG")
    assert np.array_equal(decode_image(content + b"\0\0", "x"), decode_image(content, "x"))
    assert decode_image(content, "x").shape == (8, 8)


def test_images_of_different_sizes_are_named(image_folder: Path) -> None:
    (image_folder / "test" / "bee" / "003.png").write_bytes(encoded(np.zeros((8, 6), np.uint8)))
    message = r"test/bee/003\.png is 6x8 pixels, but .*test/ant/000\.png is 8x6; expected images of one size"
    with pytest.raises(BenchError, match=message):
        FolderSource(image_folder).load("test")
    for path in image_folder.glob("test/*/*.png"):
        path.write_bytes(encoded(np.zeros((8, 6), np.uint8)))
    for split, message in (("train", r"test/ant/000\.png is 6x8 pixels, but .*train/ant/"), ("test", "is 8x6 pixels")):
        with pytest.raises(BenchError, match=message):
            FolderSource(image_folder).load(split)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((6, 8), np.uint16), "expected 8 bits per channel, found an image of mode I;16"),
        (np.full((6, 8, 4), 128, np.uint8), "the image is partly transparent"),
    ],
)
def test_deep_and_transparent_images_are_refused(pixels: np.ndarray, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        decode_image(encoded(pixels), "x")


def test_an_opaque_alpha_channel_is_dropped() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    assert np.array_equal(decode_image(encoded(pixels), "x"), pixels[..., :3])


@pytest.mark.parametrize("name", ["train/notes.csv", "train/ant/000.gif", "test/bee/list.txt"])
def test_what_is_no_image_is_passed_over_by_name(
    image_folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = FolderSource(image_folder).load("test").fingerprint
    (image_folder / name).write_bytes(b"x")
    assert FolderSource(image_folder).load("test").fingerprint == before
    assert f"passed over what is no image (1): {image_folder}/{name}" in caplog.text


def test_an_image_below_a_class_is_refused(image_folder: Path) -> None:
    (image_folder / "train/ant/more").mkdir()
    (image_folder / "train/ant/more/000.png").write_bytes(b"x")
    with pytest.raises(BenchError, match=r"train/ant/more/000\.png: expected images in folders of classes only"):
        FolderSource(image_folder).load("train")


@pytest.mark.parametrize(
    "name", ["../train/ant/x.png", "train/../../x.png", "/train/ant/x.png", "C:\\x.png", "train\\..\\..\\x.png"]
)
def test_a_zip_entry_that_points_outside_is_refused(image_folder: Path, tmp_path: Path, name: str) -> None:
    archive = zipped(image_folder, tmp_path / "x.zip")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(name, encoded(np.zeros((6, 8), np.uint8)))
    with pytest.raises(BenchError, match=r"x\.zip: the entry '.*x\.png' points outside the archive"):
        FolderSource(archive).load("train")


def test_a_damaged_zip_is_refused(image_folder: Path, tmp_path: Path) -> None:
    archive = zipped(image_folder, tmp_path / "x.zip")
    whole = archive.read_bytes()
    for keep in (0, len(whole) // 2, len(whole) - 10):
        archive.write_bytes(whole[:keep])
        with pytest.raises(BenchError, match=r"x\.zip: expected a directory or a complete \.zip, found"):
            FolderSource(archive).load("train")
    damaged = bytearray(whole)
    damaged[whole.index(b"IDAT") + 6] ^= 0xFF
    archive.write_bytes(bytes(damaged))
    with pytest.raises(BenchError, match=r"\.png: cannot be read from the archive \(Bad CRC-32.*\); it is damaged"):
        FolderSource(archive).load("train")


def test_the_fingerprint_changes_with_one_pixel_and_with_a_class_name(image_folder: Path) -> None:
    fingerprints = {FolderSource(image_folder).load("test").fingerprint}
    pixels = np.full((6, 8), 100, np.uint8)
    pixels[2, 2] = 101
    (image_folder / "test" / "ant" / "000.png").write_bytes(encoded(pixels))
    fingerprints.add(FolderSource(image_folder).load("test").fingerprint)
    for split in ("train", "test"):
        (image_folder / split / "bee").rename(image_folder / split / "wasp")
    fingerprints.add(FolderSource(image_folder).load("test").fingerprint)
    assert len(fingerprints) == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(image_folder: Path) -> None:
    (image_folder / "train" / "ant" / "000.png").chmod(0)
    with pytest.raises(BenchError, match=r"train/ant/000\.png: cannot be read: Permission denied"):
        FolderSource(image_folder).load("train")


@pytest.mark.data
@pytest.mark.slow
def test_the_real_cifar10_jpeg_archive_is_read_whole_and_mixed(real_data: Path) -> None:
    path = real_data / "cifar10-jpeg.zip"
    if not path.exists():
        pytest.skip("no cifar10-jpeg.zip in BANGBENCH_DATA")
    source = FolderSource(path)
    train, test = source.load("train"), source.load("test")
    assert source.name == "cifar10-jpeg"
    assert train.images.shape == (50000, 3, 32, 32)
    assert test.images.shape == (10000, 3, 32, 32)
    assert np.bincount(train.labels).tolist() == [5000] * 10
    assert train.class_names[:3] == ("airplane", "automobile", "bird")
    assert np.bincount(train.labels[:1000], minlength=10).min() > 50


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Return folders of classes with images of three sizes, each black with a white middle of a third of its sides."""
    for name, sizes in (("ant", [(30, 60), (60, 60)]), ("bee", [(90, 45)])):
        (tmp_path / "mixed" / name).mkdir(parents=True)
        for number, (height, width) in enumerate(sizes):
            pixels = np.zeros((height, width), np.uint8)
            side = min(height, width) // 3
            top, left = (height - side) // 2, (width - side) // 2
            pixels[top : top + side, left : left + side] = 255
            (tmp_path / "mixed" / name / f"{number}.png").write_bytes(encoded(pixels))
    return tmp_path


def test_images_of_mixed_sizes_are_resized_and_their_middle_taken(mixed: Path) -> None:
    with pytest.raises(BenchError, match="expected images of one size; pass --resize N --crop N, or resize them"):
        open_source("folder:mixed", mixed).load("test")
    whole = open_source("folder:mixed,resize=30", mixed).load("test").images
    assert whole.shape == (3, 1, 30, 30)
    for image in whole[:, 0]:
        assert image[15, 15] == 255
        assert image[:8].max() == image[:, :8].max() == image[-8:].max() == 0
    middle = open_source("folder:mixed,resize=30,crop=8", mixed).load("test").images
    assert np.array_equal(middle, whole[:, :, 11:19, 11:19])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("folder:mixed,resize=8,crop=30", "expected 1 <= crop <= resize"),
        ("folder:mixed,resize=0", "expected 1 <= crop <= resize"),
        ("npz:x.npz,resize=8", "resize and crop go with folder: only"),
    ],
)
def test_sizes_that_cannot_be_are_refused(mixed: Path, text: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        open_source(text, mixed)


def test_options_of_sizes_are_part_of_the_data_in_a_record() -> None:
    spec = AttackSpec(model="m", data="folder:x", resize=256, crop=224)
    assert spec.data == "folder:x,resize=256,crop=224"
    assert spec.key() == AttackSpec(model="m", data="folder:x,resize=256,crop=224").key()
    assert AttackSpec(model="m", data="folder:x").key() != spec.key()
    for wrong in ({"crop": 224, "data": "folder:x"}, {"resize": 256}):
        with pytest.raises(ValueError, match="--crop goes with --resize, and --resize with --data"):
            AttackSpec(model="m", **wrong)


def test_names_of_classes_may_stand_in_a_file_beside_them(image_folder: Path) -> None:
    before = FolderSource(image_folder).load("test")
    (image_folder / "classes.txt").write_text("bee   honey bee, Apis mellifera\n\nant\tant\nwasp a wasp\n")
    after = FolderSource(image_folder).load("test")
    assert after.class_names == ("ant", "honey bee, Apis mellifera")
    assert np.array_equal(after.labels, before.labels)
    (image_folder / "classes.txt").write_text("bee honey bee\n")
    with pytest.raises(BenchError, match=r"classes\.txt: expected a line FOLDER NAME .*, found none for ant"):
        FolderSource(image_folder).load("test")
