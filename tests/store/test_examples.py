"""ATTACK-examples.npz: written and read again, missing, damaged, of the wrong shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bangbench.core.errors import BenchError
from bangbench.store.examples import Examples, examples_file, read_examples, write_examples


def examples_of(count: int, **changes: Any) -> Examples:
    """Return so many colour images, the last of which was not flipped."""
    generator = np.random.default_rng(count)
    flipped = np.arange(count) < count - 1
    adversarial = generator.integers(0, 256, (count, 3, 4, 5), dtype=np.uint8)
    adversarial[~flipped] = 0
    return Examples(
        indices=np.arange(count) * 3,
        original=generator.integers(0, 256, (count, 3, 4, 5), dtype=np.uint8),
        adversarial=adversarial,
        flipped=flipped,
        labels=np.arange(count) % 10,
        predictions=np.where(flipped, (np.arange(count) + 1) % 10, -1),
        ranks=np.where(flipped, np.arange(count)[::-1] - 1, -1),
    )._replace(**changes)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_what_is_read_is_what_was_written(tmp_path: Path, count: int) -> None:
    written = examples_of(count)
    write_examples(tmp_path / "fgs-examples.npz", written)

    found = read_examples(tmp_path / "fgs-examples.npz")

    assert found is not None
    for name, array in written._asdict().items():
        assert getattr(found, name).dtype == array.dtype, name
        assert getattr(found, name).tolist() == array.tolist(), name


def test_the_same_examples_are_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_examples(tmp_path / name, examples_of(3))

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_file_stands_beside_its_record() -> None:
    assert examples_file(Path("results/R0/my.attack.json")) == Path("results/R0/my.attack-examples.npz")


def test_there_may_be_no_examples(tmp_path: Path) -> None:
    assert read_examples(tmp_path / "fgs-examples.npz") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", b"\x93NUMPY", b"no archive at all"])
def test_a_file_that_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fgs-examples.npz"
    path.write_bytes(content)

    with pytest.raises(BenchError, match=r"fgs-examples.npz: not a whole file of examples \(.*make the measurement"):
        read_examples(path)


def test_half_a_file_and_a_flipped_bit_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "fgs-examples.npz"
    write_examples(path, examples_of(5))
    whole = bytearray(path.read_bytes())

    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BenchError, match="not a whole file of examples"):
        read_examples(path)

    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(BenchError, match="not a whole file of examples"):
        read_examples(path)


def test_a_file_of_other_arrays_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fgs-examples.npz"
    np.savez(path, index=np.arange(3), adversarial=np.zeros((3, 1, 2, 2), dtype=np.uint8))

    with pytest.raises(BenchError, match=r"not a whole file of examples.*indices"):
        read_examples(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"adversarial": np.zeros((4, 3, 4, 6), dtype=np.uint8)},
        {"original": np.zeros((4, 3, 4, 5))},
        {"indices": np.arange(3)},
        {"labels": np.array(0)},
        {"ranks": np.zeros((4, 1))},
        {"original": np.array(0, dtype=np.uint8)},
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "fgs-examples.npz"
    write_examples(path, examples_of(4, **changes))

    with pytest.raises(
        BenchError, match=r"expected uint8 originals and adversarial images of one shape \(N, C, H, W\)"
    ):
        read_examples(path)


def test_the_distance_is_the_largest_change_and_minus_one_for_a_failure() -> None:
    original, adversarial = np.full((3, 1, 2, 2), 100, np.uint8), np.full((3, 1, 2, 2), 100, np.uint8)
    adversarial[0, 0, 1, 1], adversarial[1, 0, 0, 0] = 255, 0
    examples = examples_of(3, original=original, adversarial=adversarial, flipped=np.array([True, True, False]))

    assert examples.linf().tolist() == [155, 100, -1]


def test_images_are_found_by_index_and_by_rank() -> None:
    examples = examples_of(5)

    assert [examples.place(index) for index in (0, 9, 10)] == [0, 3, None]
    assert examples.ranks.tolist() == [3, 2, 1, 0, -1]
    assert examples.ranked(0, 3).tolist() == [3, 2, 1]
    assert examples.ranked(3, 9).tolist() == [0]
    assert examples.ranked(4, 2).tolist() == []
