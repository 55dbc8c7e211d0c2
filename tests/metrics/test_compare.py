"""Scores for images in files: what is read, what is refused, and that nothing is mixed up on the way."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from bangbench.core.errors import BenchError
from bangbench.metrics.compare import compare_files, read_stack
from bangbench.metrics.pass_score import pass_scores_all
from bangbench.metrics.spec import PassSpec


@pytest.fixture
def colours() -> NDArray[np.uint8]:
    """Return one image (H, W, 3) whose red, green and blue differ everywhere."""
    rows, columns = np.indices((16, 20))
    return np.stack([10 * rows, 200 - 5 * columns, 3 * rows + 4 * columns], axis=-1).astype(np.uint8)


def spec(original: Path, adversarial: Path) -> PassSpec:
    return PassSpec(original=original, adversarial=adversarial, workers=1)


def test_the_scores_are_those_of_the_arrays_pair_by_pair(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    original = generator.integers(0, 256, (3, 1, 16, 16), dtype=np.uint8)
    adversarial = np.clip(original.astype(int) + generator.integers(-40, 41, original.shape), 0, 255).astype(np.uint8)
    adversarial[1] = original[1]
    np.save(tmp_path / "o.npy", original)
    np.savez(tmp_path / "a.npz", adversarial)
    rows = compare_files(spec(tmp_path / "o.npy", tmp_path / "a.npz"))
    expected = pass_scores_all(adversarial, original, workers=1)
    assert [row.pair for row in rows] == [0, 1, 2]
    assert [row.pass_definition for row in rows] == expected["definition"].score.tolist()
    assert [row.pass_paper for row in rows] == expected["paper"].score.tolist()
    assert [row.ssim for row in rows] == expected["definition"].unaligned.tolist()
    difference = np.abs(adversarial.astype(float) - original).reshape(3, -1)
    assert [row.linf for row in rows] == difference.max(1).tolist()
    assert [row.l2 for row in rows] == pytest.approx(np.sqrt((difference**2).sum(1)))
    assert (rows[1].ssim, rows[1].linf, rows[1].l2) == (1.0, 0.0, 0.0)


def test_the_roles_are_not_swapped(tmp_path: Path) -> None:
    original = np.zeros((1, 32, 32), np.uint8)
    original[0, 8:24, 8:24] = 200
    adversarial = np.roll(original, 2, axis=2) + np.uint8(20)
    for name, array in (("o", original), ("a", adversarial)):
        np.save(tmp_path / f"{name}.npy", array)
    forwards = compare_files(spec(tmp_path / "o.npy", tmp_path / "a.npy"))[0]
    expected = pass_scores_all(adversarial[:, None], original[:, None], workers=1)["definition"].score[0]
    backwards = compare_files(spec(tmp_path / "a.npy", tmp_path / "o.npy"))[0]
    assert forwards.pass_definition == expected != backwards.pass_definition


def test_colour_images_are_read_as_red_green_blue(tmp_path: Path, colours: NDArray[np.uint8]) -> None:
    cv2.imwrite(str(tmp_path / "c.png"), cv2.cvtColor(colours, cv2.COLOR_RGB2BGR))
    assert np.array_equal(read_stack(tmp_path / "c.png"), colours.transpose(2, 0, 1)[None])


def test_an_alpha_channel_is_dropped(tmp_path: Path, colours: NDArray[np.uint8]) -> None:
    alpha = cv2.cvtColor(colours, cv2.COLOR_RGB2BGRA)
    alpha[..., 3] = 7
    cv2.imwrite(str(tmp_path / "c.png"), alpha)
    assert np.array_equal(read_stack(tmp_path / "c.png"), colours.transpose(2, 0, 1)[None])


def test_grey_images_have_one_channel(tmp_path: Path, colours: NDArray[np.uint8]) -> None:
    cv2.imwrite(str(tmp_path / "g.png"), colours[..., 0])
    assert np.array_equal(read_stack(tmp_path / "g.png"), colours[None, None, :, :, 0])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 16, 20), (5, 1, 16, 20)),
        ((5, 3, 16, 20), (5, 3, 16, 20)),
        ((5, 16, 20, 3), (5, 3, 16, 20)),
        ((5, 16, 20, 1), (5, 1, 16, 20)),
        ((3, 1, 16, 20), (3, 1, 16, 20)),
    ],
)
def test_stacks_may_have_their_channels_first_last_or_none(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    stack = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "s.npy", stack)
    found = read_stack(tmp_path / "s.npy")
    assert found.shape == expected
    assert found.flags.c_contiguous
    assert np.array_equal(found[2, 0, 3], stack[2, 0, 3] if shape == expected else stack[2, 3].reshape(20, -1)[:, 0])


def test_the_images_that_an_attack_keeps_are_a_stack(tmp_path: Path) -> None:
    images = np.ones((2, 1, 16, 16), np.uint8)
    np.savez(tmp_path / "fgs.npz", index=np.array([3, 5]), adversarial=images)
    assert np.array_equal(read_stack(tmp_path / "fgs.npz"), images)


def test_stacks_of_different_shapes_are_refused_with_both_shapes(tmp_path: Path) -> None:
    for name, count in (("o", 2), ("a", 3)):
        np.save(tmp_path / f"{name}.npy", np.zeros((count, 16, 16), np.uint8))
    with pytest.raises(BenchError, match=r"found \(3, 1, 16, 16\) and \(2, 1, 16, 16\)"):
        compare_files(spec(tmp_path / "o.npy", tmp_path / "a.npy"))


def test_images_smaller_than_the_window_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(BenchError, match=r"at least 11x11 pixels"):
        compare_files(spec(tmp_path / "o.npy", tmp_path / "o.npy"))


class Trap:
    """An object whose unpickling would be noticed."""

    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.png", b"not an image", r"text\.png: expected an 8-bit image, or a stack as \.npy or \.npz"),
        ("empty.png", b"", r"empty\.png: expected an 8-bit image"),
        ("empty.npy", b"", r"empty\.npy: not a whole \.npy or \.npz file of plain numbers"),
        ("text.npy", b"not an array", r"text\.npy: not a whole"),
        ("zip.npz", b"PK\x03\x04half", r"zip\.npz: not a whole"),
    ],
)
def test_files_that_are_no_images_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BenchError, match=message):
        read_stack(tmp_path / name)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "expected one array, found none"),
        ({"a": np.zeros((1, 16, 16), np.uint8), "b": np.zeros(1)}, "expected one array, found a, b"),
        ({"a": np.zeros((1, 16, 16), np.float32)}, r"expected uint8 images .* found float32 \(1, 16, 16\)"),
        ({"a": np.zeros((16, 16), np.uint8)}, r"found uint8 \(16, 16\)"),
        ({"a": np.zeros((0, 16, 16), np.uint8)}, "the stack holds no images"),
        ({"a": np.array([Trap()], dtype=object)}, "pickled Python objects"),
    ],
)
def test_arrays_that_are_no_stack_of_images_are_refused(
    tmp_path: Path, arrays: dict[str, NDArray[np.uint8]], message: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(BenchError, match=message):
        read_stack(tmp_path / "x.npz")


def test_a_truncated_stack_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", np.random.default_rng(0).integers(0, 256, (4, 16, 16), dtype=np.uint8))
    content = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(BenchError, match=r"x\.npz: not a whole"):
        read_stack(tmp_path / "x.npz")


def test_sixteen_bit_images_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), np.zeros((16, 16), np.uint16))
    with pytest.raises(BenchError, match=r"deep\.png: expected an 8-bit image"):
        read_stack(tmp_path / "deep.png")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"nothing\.png does not exist"):
        read_stack(tmp_path / "nothing.png")
