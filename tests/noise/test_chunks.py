"""Finished chunks are found again, damaged and foreign ones are not."""

from __future__ import annotations

import numpy as np
import pytest

from bangbench.core.errors import BenchError
from bangbench.core.locks import folder_lock
from bangbench.store.chunks import Chunks

KEY, OTHER = "a" * 64, "b" * 64
ARRAYS = {"flipped": np.arange(6, dtype=np.int32).reshape(2, 3), "found": np.array([True, False])}


@pytest.fixture
def chunks(tmp_path):
    return Chunks(tmp_path / "chunks", KEY)


def test_a_chunk_comes_back_as_it_was_written(chunks):
    assert not chunks.done(3)
    chunks.write(3, ARRAYS)
    assert chunks.done(3)
    found = chunks.read(3)
    assert found.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def test_a_later_run_of_the_same_key_finds_the_chunks(chunks):
    chunks.write(0, ARRAYS)
    assert Chunks(chunks.folder, KEY).done(0)


def test_the_holder_of_the_lock_removes_chunks_of_another_key_and_half_written_files(chunks):
    chunks.write(0, ARRAYS)
    (chunks.folder / ".000001.npz.x.tmp").write_bytes(b"half")
    with folder_lock(chunks.folder.parent, 0):
        other = Chunks(chunks.folder, OTHER)
    assert not other.done(0)
    assert list(chunks.folder.iterdir()) == []


def test_without_the_lock_another_run_s_files_are_left_alone(chunks):
    chunks.write(0, ARRAYS)
    (chunks.folder / ".000001.npz.x.tmp").write_bytes(b"half")
    other = Chunks(chunks.folder, OTHER)
    assert not other.done(0)
    other.write(0, ARRAYS)
    other.clear()
    assert not other.done(0)
    assert chunks.done(0)
    assert len(list(chunks.folder.iterdir())) == 2


def test_the_holder_of_the_lock_clears_whatever_is_there(chunks):
    chunks.write(0, ARRAYS)
    with folder_lock(chunks.folder.parent, 0):
        other = Chunks(chunks.folder, OTHER)
        chunks.write(1, ARRAYS)
        other.clear()
    assert not chunks.folder.exists()


@pytest.mark.parametrize("kept", [0, 10, 100, -1])
def test_a_truncated_chunk_counts_as_not_done(chunks, kept):
    chunks.write(0, ARRAYS)
    chunks.path(0).write_bytes(chunks.path(0).read_bytes()[:kept])
    assert not chunks.done(0)
    with pytest.raises(BenchError, match=r"000000-a+\.npz: not a whole chunk .*run the command again"):
        chunks.read(0)


def test_a_chunk_with_one_byte_changed_counts_as_not_done(chunks):
    chunks.write(0, ARRAYS)
    content = bytearray(chunks.path(0).read_bytes())
    place = content.index(ARRAYS["flipped"].tobytes())
    content[place] ^= 1
    chunks.path(0).write_bytes(content)
    assert not chunks.done(0)


def test_clear_removes_the_folder_and_may_be_called_twice(chunks):
    chunks.write(0, ARRAYS)
    chunks.clear()
    chunks.clear()
    assert not chunks.folder.exists()
