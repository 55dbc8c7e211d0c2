"""Downloads from a local server: whole, wrong, cut off, absent; then verification and the list of sources."""

from __future__ import annotations

import gzip
import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from bangbench.core.errors import BenchError, UsageError
from bangbench.core.progress import SILENT, Silent
from bangbench.data import cifar10, download, fetch, mnist

CONTENTS = {name: np.random.default_rng(len(name)).bytes(150_000) + name.encode() for name in mnist.SHA256}


class Server:
    """A local HTTP server: `files` by name; the names in `cut` end after half of what was announced."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.requests: list[str] = []
        self.headers: dict[str, str] | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Keep quiet."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/files/"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name = handler.path.rpartition("/")[2]
        self.requests.append(name)
        if name not in self.files:
            handler.send_error(404)
            return
        content = self.files[name]
        if self.headers is not None:
            handler.send_response(302 if "Location" in self.headers else 200)
            for header, text in self.headers.items():
                handler.send_header(header, text)
            handler.end_headers()
            handler.wfile.write(content)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[: len(content) // 2] if name in self.cut else content)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serve a small stand-in for MNIST, whose checksums count as the official ones."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(mnist, "SHA256", {name: hashlib.sha256(data).hexdigest() for name, data in CONTENTS.items()})
    running = Server()
    running.files = {f"{name}.gz": gzip.compress(content) for name, content in CONTENTS.items()}
    thread = threading.Thread(target=running.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.http.shutdown()
    running.http.server_close()
    thread.join()


class Recorder(Silent):
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.stretches: list[list[int]] = []
        self.units: set[str] = set()
        self.notes: list[str] = []
        self.finished = 0

    def start(self, label: str, total: int, done: int = 0, unit: str = "it") -> None:
        self.stretches.append([total, done])
        self.units.add(unit)

    def advance(self, count: int = 1) -> None:
        self.stretches[-1][1] += count

    def note(self, text: str) -> None:
        self.notes.append(text)

    def finish(self) -> None:
        self.finished += 1


def left_behind(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


def closed_port_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def test_mnist_is_downloaded_checked_and_counted_in_bytes(server: Server, tmp_path: Path) -> None:
    progress = Recorder()
    paths = fetch.fetch("mnist", tmp_path, progress, [server.url])
    assert [path.name for path in paths] == list(server.files)
    assert all(path.parent == tmp_path / "mnist" for path in paths)
    assert [path.read_bytes() for path in paths] == list(server.files.values())
    assert progress.stretches == [[len(content)] * 2 for content in server.files.values()]
    assert progress.units == {"B"}
    assert progress.finished == 4
    assert [result.message for result in fetch.verify("mnist", tmp_path)] == ["official content"] * 4


def test_another_gzip_wrapping_of_the_official_content_is_accepted(server: Server, tmp_path: Path) -> None:
    server.files = {f"{name}.gz": gzip.compress(content, 1, mtime=5) for name, content in CONTENTS.items()}
    assert len(fetch.fetch("mnist", tmp_path, SILENT, [server.url])) == 4


def test_files_already_there_are_kept_and_not_asked_for(server: Server, tmp_path: Path) -> None:
    fetch.fetch("mnist", tmp_path, SILENT, [server.url])
    raw = tmp_path / "train-images-idx3-ubyte"
    raw.write_bytes(CONTENTS[raw.name])
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").unlink()
    server.requests.clear()
    progress = Recorder()
    assert fetch.fetch("mnist", tmp_path, progress, [server.url])[0] == raw
    assert server.requests == []
    assert progress.notes[0] == f"{raw} is already there"


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_file_of_other_content_in_the_way_is_not_overwritten(server: Server, tmp_path: Path, ending: str) -> None:
    path = tmp_path / "mnist" / f"train-labels-idx1-ubyte{ending}"
    path.parent.mkdir()
    path.write_bytes(b"my own labels")
    with pytest.raises(BenchError, match=r"idx1-ubyte.* is in the way: expected SHA256 .* move it, .* away and run"):
        fetch.fetch("mnist", tmp_path, SILENT, [server.url])
    assert path.read_bytes() == b"my own labels"


def test_wrong_content_is_refused_with_both_hashes_and_nothing_is_kept(server: Server, tmp_path: Path) -> None:
    name = "train-images-idx3-ubyte"
    server.files[f"{name}.gz"] = gzip.compress(b"<html>please log in</html>")
    found = hashlib.sha256(b"<html>please log in</html>").hexdigest()
    with pytest.raises(BenchError) as caught:
        fetch.fetch("mnist", tmp_path, SILENT, [server.url])
    message = str(caught.value)
    assert f"expected SHA256 of the uncompressed content {mnist.SHA256[name]}, found {found}" in message
    assert "login page" in message
    assert "nothing was kept; try again" in message
    assert left_behind(tmp_path) == []


def test_content_that_is_no_gzip_file_is_refused(server: Server, tmp_path: Path) -> None:
    whole = server.files["train-images-idx3-ubyte.gz"]
    server.files["train-images-idx3-ubyte.gz"] = whole[:-1000]
    with pytest.raises(BenchError, match=r"train-images-idx3-ubyte\.gz: expected a complete gzip file"):
        fetch.fetch("mnist", tmp_path, SILENT, [server.url])
    assert left_behind(tmp_path) == []


def test_a_transfer_that_breaks_off_leaves_only_whole_files(server: Server, tmp_path: Path) -> None:
    server.cut = {"train-labels-idx1-ubyte.gz"}
    progress = Recorder()
    total = len(server.files["train-labels-idx1-ubyte.gz"])
    with pytest.raises(
        BenchError, match=rf"expected {total} bytes, the connection ended after about \d+: .*nothing was kept"
    ):
        fetch.fetch("mnist", tmp_path, progress, [server.url])
    assert left_behind(tmp_path) == ["train-images-idx3-ubyte.gz"]
    assert progress.finished == len(progress.stretches) == 2
    server.cut = set()
    assert len(fetch.fetch("mnist", tmp_path, SILENT, [server.url])) == 4
    assert server.requests.count("train-images-idx3-ubyte.gz") == 1


def test_a_missing_file_on_the_server_is_reported_with_its_status(server: Server, tmp_path: Path) -> None:
    del server.files["t10k-images-idx3-ubyte.gz"]
    with pytest.raises(
        BenchError, match=r"t10k-images-idx3-ubyte\.gz: expected the file, the server answered 404 Not Found"
    ):
        fetch.fetch("mnist", tmp_path, SILENT, [server.url])
    assert left_behind(tmp_path) == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "many"},
        {"Content-Length": "-5"},
        {"Content-Length": "9" * 30},
        {"Location": "t10k-images-idx3-ubyte.gz"},
        {"Location": "file:///etc/passwd"},
        {"Location": "http://[broken"},
        {"Location": ""},
    ],
)
def test_nonsense_from_a_server_is_refused_and_nothing_is_kept(
    server: Server, tmp_path: Path, headers: dict[str, str]
) -> None:
    server.files["train-images-idx3-ubyte.gz"] = b"other"
    server.headers = headers
    with pytest.raises(BenchError, match=r"train-images-idx3-ubyte\.gz could not be downloaded"):
        fetch.fetch("mnist", tmp_path, SILENT, [server.url])
    assert left_behind(tmp_path) == []


def test_a_transfer_without_end_is_broken_off(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_MOST_BYTES", 100_000)
    with pytest.raises(BenchError, match="expected at most 100,000 bytes, the server sends more"):
        fetch.fetch("mnist", tmp_path, SILENT, [server.url])
    assert left_behind(tmp_path) == []


def test_a_gzip_file_without_end_is_not_uncompressed(server: Server, tmp_path: Path) -> None:
    server.files["train-images-idx3-ubyte.gz"] = gzip.compress(bytes(65 << 20), 1)
    with pytest.raises(BenchError, match="larger than any file of MNIST"):
        fetch.fetch("mnist", tmp_path, SILENT, [server.url])
    assert left_behind(tmp_path) == []


def test_a_server_that_is_gone_is_reported_with_its_address(server: Server, tmp_path: Path) -> None:
    url = closed_port_url()
    address = url.removeprefix("http://").rstrip("/")
    with pytest.raises(
        BenchError, match=rf"expected an answer from {address}, found none .*check the network"
    ) as caught:
        fetch.fetch("mnist", tmp_path, SILENT, [url])
    assert str(caught.value).startswith("train-images-idx3-ubyte.gz could not be downloaded:")
    assert f"put the file into {tmp_path / 'mnist'} yourself" in str(caught.value)
    assert left_behind(tmp_path) == []


def test_a_failing_address_gives_way_to_the_next_one(server: Server, tmp_path: Path) -> None:
    progress = Recorder()
    assert len(fetch.fetch("mnist", tmp_path, progress, [closed_port_url(), server.url])) == 4
    assert len(progress.notes) == 4
    assert "found none" in progress.notes[0]


def test_an_interrupted_download_leaves_nothing(server: Server, tmp_path: Path) -> None:
    class Interrupted(Silent):
        def advance(self, count: int = 1) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch.fetch("mnist", tmp_path, Interrupted(), [server.url])
    assert left_behind(tmp_path) == []


def test_a_data_directory_that_is_a_file_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BenchError, match=r"cannot write .*train-images-idx3-ubyte"):
        fetch.fetch("mnist", tmp_path / "file", SILENT, [server.url])


def test_the_cifar10_archive_is_checked_as_it_is(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = gzip.compress(b"archive")
    server.files["cifar-10-python.tar.gz"] = content
    with pytest.raises(BenchError, match="expected MD5 c58f30108f718f92721af3b95e74349a, found"):
        fetch.fetch("cifar10", tmp_path, SILENT, [server.url])
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(cifar10.MD5, "cifar-10-python.tar.gz", digest)
    (path,) = fetch.fetch("cifar10", tmp_path, SILENT, [server.url])
    assert path == tmp_path / "cifar10" / "cifar-10-python.tar.gz"
    assert [result.ok for result in fetch.verify("cifar10", tmp_path)] == [True]


def test_unpacked_cifar10_batches_are_kept_if_whole_and_in_the_way_if_not(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [name for names in cifar10.BATCHES.values() for name in names]:
        (folder / name).write_bytes(name.encode())
        monkeypatch.setitem(cifar10.MD5, name, hashlib.md5(name.encode(), usedforsecurity=False).hexdigest())
    assert len(fetch.fetch("cifar10", tmp_path, SILENT, [server.url])) == 6
    (folder / "data_batch_3").unlink()
    with pytest.raises(
        BenchError, match=r"data_batch_3 is in the way: missing; .* move it, or all of .*cifar-10-batches-py"
    ):
        fetch.fetch("cifar10", tmp_path, SILENT, [server.url])
    assert server.requests == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits", "'digits' has no files that could be downloaded; this works for mnist and cifar10"),
        ("minst", "unknown data source 'minst': did you mean 'mnist'\\?"),
    ],
)
def test_only_mnist_and_cifar10_can_be_fetched(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        fetch.fetch(name, tmp_path, SILENT)


def test_the_published_addresses_come_in_the_documented_order() -> None:
    assert fetch.BASE_URLS["mnist"][0] == "https://ossci-datasets.s3.amazonaws.com/mnist/"
    assert fetch.BASE_URLS["mnist"][1] == "https://storage.googleapis.com/cvdf-datasets/mnist/"


def test_verify_names_missing_damaged_and_other_files(mnist_dir: Path) -> None:
    (mnist_dir / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    damaged = mnist_dir / "mnist" / "t10k-images-idx3-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    results = fetch.verify("mnist", mnist_dir)
    assert [result.ok for result in results] == [False] * 4
    assert results[0].message.startswith(f"expected SHA256 of the uncompressed content {mnist.SHA256[IMAGES]}, found")
    assert "complete gzip file" in results[2].message
    assert results[3].message == "missing; run 'bangbench data fetch mnist'"
    assert results[3].path == mnist_dir / "mnist" / "t10k-labels-idx1-ubyte.gz"


IMAGES = "train-images-idx3-ubyte"


def test_verify_of_unpacked_cifar10_checks_every_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch.verify("cifar10", tmp_path)[0].message == "missing; run 'bangbench data fetch cifar10'"
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_2").write_bytes(b"right")
    (folder / "test_batch").write_bytes(b"wrong")
    monkeypatch.setitem(cifar10.MD5, "data_batch_2", hashlib.md5(b"right", usedforsecurity=False).hexdigest())
    results = {result.path.name: result for result in fetch.verify("cifar10", tmp_path)}
    assert len(results) == 6
    assert results["data_batch_2"].ok
    assert "expected MD5 40351d587109b95175f43aff81a1287e, found" in results["test_batch"].message
    assert results["data_batch_1"].message == "missing; fetch the data set again"


def test_unpacked_binary_batches_cannot_be_verified_and_say_so(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-bin").mkdir()
    results = fetch.verify("cifar10", tmp_path)
    assert {result.ok for result in results} == {False}
    assert "no checksum is published" in results[0].message


def test_the_list_tells_what_is_there_where_and_how_to_get_the_rest(mnist_dir: Path, image_folder: Path) -> None:
    np.savez(mnist_dir / "blood.npz", x=np.zeros(1))
    listed = {status.name: status for status in fetch.describe_sources(mnist_dir)}
    assert list(listed) == ["cifar10", "digits", "mnist", "npz:blood.npz", "folder:insects"]
    assert listed["digits"] == ("digits", True, "inside scikit-learn", "nothing to get")
    assert listed["mnist"] == ("mnist", True, str(mnist_dir / "mnist"), "bangbench data fetch mnist")
    assert listed["cifar10"] == ("cifar10", False, str(mnist_dir / "cifar10"), "bangbench data fetch cifar10")
    assert listed["folder:insects"].where == str(image_folder)


def test_the_list_of_an_absent_data_directory_is_not_an_error(tmp_path: Path) -> None:
    listed = fetch.describe_sources(tmp_path / "none")
    assert [status.present for status in listed] == [False, True, False]


@pytest.mark.data
def test_the_real_mnist_is_verified(real_data: Path) -> None:
    results = fetch.verify("mnist", real_data)
    if all(result.message.startswith("missing") for result in results):
        pytest.skip("no MNIST files in BANGBENCH_DATA")
    assert [(result.ok, result.message) for result in results] == [(True, "official content")] * 4
