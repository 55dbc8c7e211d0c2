"""Hand-made inputs, each of which once broke a reader or could: small files that ask for much, or that mean harm."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import sys
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from samples import encoded, small_net, split_arrays

NAMED = "passed over"
GIBIBYTE = 1 << 30


class Bomb(NamedTuple):
    """kind: of which samples; prepare: turns a whole one into the bomb; said: what its refusal has to name.

    taken: that it is no reason for a refusal, only for a word.
    """

    kind: str
    prepare: Callable[[Path], None]
    said: str
    taken: bool = False


BOMBS: dict[str, Bomb] = {}


def bomb(kind: str, said: str, taken: bool = False) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Add a function that turns a whole input into a hostile one."""

    def add(prepare: Callable[[Path], None]) -> Callable[[Path], None]:
        name = prepare.__name__.replace("_", " ")
        BOMBS[name] = Bomb(kind, prepare, said, taken)
        return prepare

    return add


# --- weights


def _save(folder: Path, changes: dict[str, Any], **how: Any) -> None:
    torch.save(small_net().state_dict() | changes, folder / "w.pt", **how)


@bomb("pt", "0.weight is (4294967296,), expected (4, 6)")
def a_tensor_that_claims_16_gigabytes(folder: Path) -> None:
    _save(folder, {"0.weight": torch.zeros(1).expand(1 << 32)})


@bomb("pt", "huge")
def a_tensor_that_nobody_asked_for(folder: Path) -> None:
    _save(folder, {"huge": torch.zeros(1).expand(1 << 40)})


def _kinds() -> dict[str, torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "sparse": torch.zeros(4, 6).to_sparse(),
            "compressed_sparse": torch.zeros(4, 6).to_sparse_csr(),
            "quantised": torch.quantize_per_tensor(torch.zeros(4, 6), 0.1, 0, torch.qint8),
            "meta": torch.zeros(4, 6, device="meta"),
            "nested": torch.nested.nested_tensor([torch.zeros(4, 6)]),
            "float8": torch.zeros(4, 6).to(torch.float8_e4m3fn),
            "complex": torch.zeros(4, 6, dtype=torch.complex64),
            "integer": torch.zeros(4, 6, dtype=torch.int64),
        }


def _add_kind(name: str) -> None:
    def prepare(folder: Path) -> None:
        _save(folder, {"0.weight": _kinds()[name]})

    prepare.__name__ = f"a_{name}_tensor_of_weights"
    bomb("pt", "w.pt: ")(prepare)


for _name in ("sparse", "compressed_sparse", "quantised", "meta", "nested", "float8", "complex", "integer"):
    _add_kind(_name)


@bomb("pt", "0.weight holds NaN or infinite values")
def weights_that_are_finite_only_in_the_file(folder: Path) -> None:
    _save(folder, {"0.weight": torch.full((4, 6), 1e300, dtype=torch.float64)})


@bomb("pt", "the checksum of")
def a_bit_of_the_weights_that_the_checksum_tells(folder: Path) -> None:
    content = bytearray((folder / "w.pt").read_bytes())
    place = bytes(content).find(small_net().state_dict()["0.weight"].numpy().tobytes())
    content[place + 1] ^= 1
    (folder / "w.pt").write_bytes(content)


@bomb("pt", "before PyTorch 1.6")
def the_format_in_which_a_storage_has_any_size(folder: Path) -> None:
    _save(folder, {}, _use_new_zipfile_serialization=False)


@bomb("pt", "not compressed")
def compressed_zeros_for_weights(folder: Path) -> None:
    with zipfile.ZipFile(folder / "w.pt") as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(folder / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, bytes(1 << 20) if "/data/" in name else content)


@bomb("pt", "two entries have one name")
def two_storages_of_one_name(folder: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(folder / "w.pt", "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(archive.infolist()[0].filename, b"other")


@bomb("safetensors", "0.weight holds int64, expected floating-point")
def whole_numbers_for_weights(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(small_net().state_dict() | {"0.weight": torch.zeros(4, 6, dtype=torch.int64)}, folder / "w.safetensors")


@bomb("safetensors", "not a whole safetensors file")
def a_header_longer_than_the_file(folder: Path) -> None:
    content = (folder / "w.safetensors").read_bytes()
    (folder / "w.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + content[8:])


# --- models


def _change_card(folder: Path, **changes: Any) -> None:
    card = json.loads((folder / "model.json").read_text())
    card["model"] |= changes
    (folder / "model.json").write_text(json.dumps(card))


@bomb("model", "payload.py")
def a_model_that_names_code(folder: Path) -> None:
    (folder / "payload.py").write_text(f"from pathlib import Path\nPath({str(folder / 'ran')!r}).touch()\n")
    _change_card(folder, net=f"{folder.name}/payload.py:make")


@bomb("model", "os.py")
def a_model_that_names_a_function_of_python(folder: Path) -> None:
    _change_card(folder, net="os:abort")


@bomb("model", "GiB")
def a_model_for_images_of_any_size(folder: Path) -> None:
    _change_card(folder, input_shape=[1, 60_000, 60_000], preprocessing={"input_scale": 256.0})


@bomb("model", "classes")
def a_model_of_any_number_of_classes(folder: Path) -> None:
    _change_card(folder, classes=1 << 40)


@bomb("model", "mean")
def a_mean_image_of_another_shape(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({"mean": torch.zeros(3)}, folder / "preprocessing.safetensors")


@bomb("model", "expected a tensor 'mean'")
def a_mean_image_of_another_name(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({"other": torch.zeros(3)}, folder / "preprocessing.safetensors")


@bomb("model", "weights.safetensors")
def a_pipe_in_place_of_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    os.mkfifo(folder / "weights.safetensors")


@bomb("model", "model.json")
def a_card_without_end(folder: Path) -> None:
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace("{}", "[" * 100_000 + "]" * 100_000, 1) + " " * (17 << 20))


# --- the authors' files


def _caffe(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        with h5py.File(folder / "m.h5", "a") as stream:
            del stream["data/conv1/0"]
            change(stream["data/conv1"])

    return prepare


def _add_caffe(name: str, said: str, change: Callable[[Any], None]) -> None:
    prepare = _caffe(change)
    prepare.__name__ = name
    bomb("caffe", said)(prepare)


_OTHER = "expected floating-point numbers kept in this file"
_add_caffe(
    "20_gigabytes_that_take_no_room", "(5000000000,)", lambda group: group.create_dataset("0", (5_000_000_000,), "f4")
)
_add_caffe("words_for_weights", _OTHER, lambda group: group.create_dataset("0", data=[b"a", b"b"]))
_add_caffe("whole_numbers_in_hdf5", _OTHER, lambda group: group.create_dataset("0", data=np.zeros((20, 1, 5, 5), int)))
_add_caffe(
    "weights_in_another_file",
    _OTHER,
    lambda group: group.create_dataset("0", (20, 1, 5, 5), "f4", external=[("/etc/passwd", 0, 2000)]),
)
_add_caffe("a_link_to_another_file", _OTHER, lambda group: group.__setitem__("0", h5py.ExternalLink("/etc/x.h5", "/a")))
_add_caffe("a_link_to_itself", _OTHER, lambda group: group.__setitem__("0", h5py.SoftLink("/data/conv1/0")))


# --- arrays


def _npz(folder: Path, name: str, content: bytes | None) -> None:
    """Put other bytes in place of one array of d.npz, or leave it out."""
    arrays = split_arrays()
    with zipfile.ZipFile(folder / "d.npz", "w") as archive:
        for key, array in arrays.items():
            stream = io.BytesIO()
            np.save(stream, array)
            if key != name or content is not None:
                archive.writestr(f"{key}.npy", content if key == name else stream.getvalue())


def _npy(shape: tuple[int, ...], kind: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue() + content


@bomb("npz", "'train_images'")
def a_header_that_announces_more_than_there_is(folder: Path) -> None:
    _npz(folder, "train_images", _npy((1 << 31, 8, 9), "|u1", b"few"))


@bomb("npz", "'train_labels'")
def a_header_whose_product_overflows(folder: Path) -> None:
    _npz(folder, "train_labels", _npy((1 << 40, 1 << 40), "<i8", b""))


@bomb("npz", "memory")
def zeros_compressed_a_thousandfold(folder: Path) -> None:
    _npz(folder, "train_images", None)
    with (
        zipfile.ZipFile(folder / "d.npz", "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("train_images.npy", "w") as stream,
    ):
        stream.write(_npy((7_500_000, 8, 9), "|u1", b""))
        for _ in range(540):
            stream.write(bytes(10**6))


@bomb("npz", "encrypted")
def an_array_that_says_it_is_encrypted(folder: Path) -> None:
    _encrypt(folder / "d.npz")


def _encrypt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = 0
        while (start := content.find(mark, start)) >= 0:
            content[start + place] |= 1
            start += 4
    path.write_bytes(content)


@bomb("npz", "two arrays 'test_labels'")
def two_arrays_of_one_name(folder: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(folder / "d.npz", "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("test_labels.npy", b"other")


@bomb("npz", "expected a .npz file")
def an_npz_that_is_no_archive(folder: Path) -> None:
    (folder / "d.npz").write_bytes(_npy((2,), "<i8", bytes(16)))


@bomb("stack", "10000x10000")
def an_image_of_which_only_the_header_is_large(folder: Path) -> None:
    (folder / "a.png").write_bytes(_png(10_000))


@bomb("stack", "c.npy")
def a_stack_that_announces_a_terabyte(folder: Path) -> None:
    (folder / "c.npy").write_bytes(_npy((1 << 40,), "|u1", b""))


# --- image folders


def _png(side: int) -> bytes:
    """Return a PNG of some hundred bytes that announces side x side grey pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 16), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@bomb("folder", "3600000000 pixels")
def a_picture_of_60000_pixels_a_side(folder: Path) -> None:
    (folder / "train/cat/0.png").write_bytes(_png(60_000))


@bomb("zip", "announces 13000x13000 pixels")
def sixty_pictures_of_13000_pixels_a_side(folder: Path) -> None:
    with zipfile.ZipFile(folder / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(60):
            archive.writestr(f"{'train' if number % 2 else 'test'}/cat/{number}.png", _png(13_000))


@bomb("folder", "images like")
def many_pictures_as_large_as_allowed(folder: Path) -> None:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("L", (4096, 4096)).save(stream, "png")
    shutil.rmtree(folder / "train")
    shutil.rmtree(folder / "test")
    for split in ("train", "test"):
        (folder / split / "cat").mkdir(parents=True)
        for number in range(20):
            (folder / split / "cat" / f"{number}.png").write_bytes(stream.getvalue())


@bomb("folder", "train/cat/0.tiff: the image cannot be read")
def a_picture_that_libtiff_has_words_for(folder: Path) -> None:
    path = folder / "train/cat/0.tiff"
    tag = struct.pack("<HHI", 259, 3, 1)
    path.write_bytes(path.read_bytes().replace(tag + b"\1\0", tag + b"\5\0"))  # says that it is compressed


@bomb("folder", "train/cat/0.tiff: expected an image")
def a_picture_that_pillow_has_words_for(folder: Path) -> None:
    path = folder / "train/cat/0.tiff"
    tag = struct.pack("<HHI", 277, 3, 1)
    path.write_bytes(path.read_bytes().replace(tag + b"\3", tag + b"\x8c"))  # 140 samples a pixel


@bomb("folder", "is 9x9 pixels, but")
def a_picture_of_another_size(folder: Path) -> None:
    (folder / "train/dog/0.bmp").write_bytes(encoded("bmp", 9))


@bomb("zip", "two entries are called")
def entries_that_collide(folder: Path) -> None:
    with zipfile.ZipFile(folder / "d.zip", "a") as archive:
        archive.writestr("train\\cat\\0.png", encoded("png"))


@bomb("zip", "two entries are called")
def entries_of_one_name(folder: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(folder / "d.zip", "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("train/cat/0.png", encoded("png"))


@bomb("zip", "points outside the archive")
def an_entry_that_leads_out(folder: Path) -> None:
    with zipfile.ZipFile(folder / "d.zip", "a") as archive:
        archive.writestr("../train/cat/9.png", encoded("png"))


@bomb("folder", NAMED, taken=True)
def links_in_a_circle(folder: Path) -> None:
    (folder / "train/cat/again").symlink_to(folder / "train")
    (folder / "train/self").symlink_to(folder / "train/self")


@bomb("folder", NAMED, taken=True)
def a_pipe_among_images(folder: Path) -> None:
    os.mkfifo(folder / "train/cat/1.png")


@bomb("folder", NAMED, taken=True)
def links_that_lead_out(folder: Path) -> None:
    (folder / "train/cat/1.png").symlink_to("/dev/zero")
    (folder / "train/cat/2.png").symlink_to("/etc/passwd")
    (folder / "test/fox").symlink_to("/etc")


@bomb("folder", "is not UTF-8")
def a_class_whose_name_is_no_text(folder: Path) -> None:
    for split in ("train", "test"):
        (folder / split / "dog").rename(folder / split / os.fsdecode(b"d\xffg"))


# --- MNIST and CIFAR-10


@bomb("mnist", "other bytes trail the data")
def a_gzip_file_that_does_not_end(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(256 << 20), 1))


@bomb("mnist", "cannot hold")
def four_billion_images_in_a_header(folder: Path) -> None:
    header = struct.pack(">4I", 2051, 0xFFFFFFFF, 28, 28)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header))


@bomb("cifar", "data_batch_1")
def a_pickle_with_a_memo_of_gigabytes(folder: Path) -> None:
    content = b"\x80\x02]r" + struct.pack("<I", 0x7FFFFFFF) + b"."
    (folder / "cifar-10-batches-py/data_batch_1").write_bytes(content)


@bomb("cifar", "posix.system" if sys.platform != "win32" else "system")
def a_pickle_that_runs_a_command(folder: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {folder / 'ran'}",)

    (folder / "cifar-10-batches-py/test_batch").write_bytes(pickle.dumps(Payload()))


@bomb("cifar", "data_batch_2")
def a_pipe_in_place_of_a_batch(folder: Path) -> None:
    (folder / "cifar-10-batches-py/data_batch_2").unlink()
    os.mkfifo(folder / "cifar-10-batches-py/data_batch_2")


def _tar(folder: Path, *members: tuple[str, int, bytes]) -> None:
    stream = io.BytesIO()
    for name, size, content in members:
        member = tarfile.TarInfo(name)
        member.size = size
        stream.write(member.tobuf(tarfile.GNU_FORMAT) + content)
    (folder / "cifar-10-python.tar.gz").write_bytes(gzip.compress(stream.getvalue()))


@bomb("cifar-archive", "more than CIFAR-10")
def a_member_of_a_hundred_gigabytes(folder: Path) -> None:
    _tar(folder, ("x/test_batch", 100 * GIBIBYTE, b""))


@bomb("cifar-archive", "more than CIFAR-10")
def a_stranger_of_a_hundred_gigabytes(folder: Path) -> None:
    _tar(folder, ("x/readme", 100 * GIBIBYTE, b""))


# --- results


def _change_record(folder: Path, name: str, change: Callable[[Any], None]) -> None:
    path = folder / "results/lenet" / name
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def _add_record(name: str, said: str, record: str, change: Callable[[Any], None]) -> None:
    def prepare(folder: Path) -> None:
        _change_record(folder, record, change)

    prepare.__name__ = name
    bomb("results", said)(prepare)


_add_record("a_rate_of_250_percent", "rate", "fgs.json", lambda r: r["summary"].update(rate=250.0))
_add_record("a_rate_that_is_no_number", "finite", "fgs.json", lambda r: r["summary"].update(rate=float("nan")))
_add_record("a_rate_that_is_infinite", "finite", "fgs.json", lambda r: r["spec"].update(seed=float("inf")))
_add_record(
    "more_flipped_than_correct", "expected flipped <= correct", "fgs.json", lambda r: r["summary"].update(flipped=61)
)
_add_record(
    "an_audit_of_a_negative_budget", "budget", "audit.json", lambda r: r["summary"]["budgets"][0].update(budget=-1)
)
_add_record("a_name_of_two_lines", "model.name", "fgs.json", lambda r: r["model"].update(name="a\n| b"))
_add_record("a_name_that_is_no_text", "fgs.json", "fgs.json", lambda r: r["model"].update(name="\ud800"))


@bomb("results", "fgs.json")
def a_record_nested_two_thousand_deep(folder: Path) -> None:
    path = folder / "results/lenet/fgs.json"
    path.write_text(path.read_text().replace('"spec": {', '"spec": {"deep": ' + "[" * 2000 + "]" * 2000 + ", ", 1))


@bomb("results", "nested at most")
def a_record_nested_two_hundred_deep(folder: Path) -> None:
    path = folder / "results/lenet/fgs.json"
    path.write_text(path.read_text().replace('"spec": {', '"spec": {"deep": ' + "[" * 200 + "]" * 200 + ", ", 1))


@bomb("results", "expected a file, found a folder, a pipe or a device")
def a_pipe_in_place_of_a_record(folder: Path) -> None:
    (folder / "results/lenet/fgs.json").unlink()
    os.mkfifo(folder / "results/lenet/fgs.json")


@bomb("results", "encrypted")
def examples_that_say_they_are_encrypted(folder: Path) -> None:
    _encrypt(folder / "results/lenet/fgs-examples.npz")


@bomb("results", "N flags and N whole numbers")
def examples_whose_labels_are_no_numbers(folder: Path) -> None:
    path = folder / "results/lenet/fgs-examples.npz"
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(path, **(arrays | {"labels": np.full(len(arrays["labels"]), np.nan)}))


@bomb("results", "expected columns of numbers")
def a_table_of_long_words(folder: Path) -> None:
    table = pq.read_table(folder / "results/lenet/fgs.parquet")
    words = pa.array(["x" * (1 << 20)] * table.num_rows)
    pq.write_table(table.append_column("words", words), folder / "results/lenet/fgs.parquet")


@bomb("results", "memory")
def a_table_of_a_hundred_million_rows(folder: Path) -> None:
    rows = pa.array(np.zeros(1 << 16, np.int8))
    table = pa.table({"index": pa.chunked_array([rows] * 1600)})
    pq.write_table(table, folder / "results/lenet/fgs.parquet", compression="zstd")


@bomb("results", "models/lenet/log.csv")
def a_log_of_one_endless_cell(folder: Path) -> None:
    (folder / "models/lenet/log.csv").write_text("iteration,loss\n" + "1" * 1_000_000)


# --- grids, and what status looks at


def _change_json(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def _add_change(kind: str, said: str, file: str, name: str, change: Callable[[Any], None], taken: bool = False) -> None:
    def prepare(folder: Path) -> None:
        _change_json(folder / file, change)

    prepare.__name__ = name
    bomb(kind, said, taken)(prepare)


_CELL, _GRID = "results/grid/c/cell.json", "results/grid/grid.json"
_NOTE, _PLAN = ".jobs/failed/t/B1.json", ".jobs/plans/t.json"
_add_change(
    "grid", "flipped_percent", _CELL, "250_percent_of_noise", lambda r: r["noise"].update(flipped_percent=250.0)
)
_add_change("grid", "finite", _GRID, "an_axis_without_end", lambda r: r["axes"].update(beta=[float("inf")]))
_add_change("grid", "on the axes", _GRID, "a_model_off_the_axes", lambda r: r["cells"][1].update(place={"beta": 7.0}))
_add_change("grid", "64 bits", _GRID, "a_seed_of_400_digits", lambda r: r["cells"][1].update(seed=10**400))
_add_change("grid", "../x", _GRID, "a_cell_that_leads_out", lambda r: r["cells"][1].update(name="../x"))
_add_change("grid", "different names", _GRID, "a_cell_twice", lambda r: r["cells"].append(r["cells"][0]))
_add_change("root", "", _NOTE, "a_failure_in_the_language_of_rich", lambda r: r.update(why="[/x] :bomb:"), taken=True)
_add_change("root", "", _NOTE, "a_host_of_two_lines", lambda r: r.update(host="h\nbangbench: done"), taken=True)
_add_change("root", "", _PLAN, "a_plan_of_a_huge_number", lambda r: r.update(recipe=float("inf")), taken=True)


@bomb("grid", "expected a file, found a folder, a pipe or a device")
def a_pipe_in_place_of_a_grid(folder: Path) -> None:
    (folder / _GRID).unlink()
    os.mkfifo(folder / _GRID)


@bomb("root", "", taken=True)
def a_pipe_in_place_of_a_plan(folder: Path) -> None:
    (folder / _PLAN).unlink()
    os.mkfifo(folder / _PLAN)


@bomb("root", "models/[/x]/model.json")
def a_model_whose_folder_cannot_be_a_name(folder: Path) -> None:
    (folder / "models/[/x]").mkdir(parents=True)
    (folder / "models/[/x]/model.json").write_text("{}")


@bomb("root", "results/t/cell.json")
def a_cell_where_no_grid_is(folder: Path) -> None:
    (folder / "results/t").mkdir(parents=True)
    (folder / "results/t/cell.json").write_text("[]")


@bomb("root", "", taken=True)
def a_training_whose_settings_are_no_table(folder: Path) -> None:
    _change_json(folder / "models/t/R0/model.json", lambda card: card["spec"].update(train="x"))


@bomb("npy", "pickled Python objects")
def objects_in_an_array_of_images(folder: Path) -> None:
    np.save(folder / "x.npy", np.array([{}, []], dtype=object), allow_pickle=True)


@bomb("npy", "x.npy")
def an_array_that_announces_a_terabyte(folder: Path) -> None:
    (folder / "x.npy").write_bytes(_npy((1 << 40, 8, 9), "|u1", b""))


@bomb("cifar-archive", "its last bytes are missing")
def an_archive_without_its_last_member(folder: Path) -> None:
    path = folder / "cifar-10-python.tar.gz"
    whole = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(whole[: whole.index(b"data_batch_5") + 700]))


@bomb("snapshot", "checksum")
def one_bit_of_a_snapshot(folder: Path) -> None:
    content = bytearray((folder / "resume.safetensors").read_bytes())
    content[-3000] ^= 1  # of the generator's state
    (folder / "resume.safetensors").write_bytes(content)
