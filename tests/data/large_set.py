"""Attack more images than may lie in memory, and measure the memory: a program of its own, for test_large_sets.py."""

from __future__ import annotations

import argparse
import json
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

CLASSES = 10
#: More than are attacked at once, so that what those take is counted with the few.
FEW = 1000
_NET = """
import torch

def net():
    torch.manual_seed(0)
    linear = torch.nn.Linear(3 * 4 * 4, {classes})
    with torch.no_grad():
        linear.weight.mul_(0.1)
        linear.bias.zero_()
        linear.bias[0] = 0.2  # it sees the first class everywhere
    return torch.nn.Sequential(torch.nn.AvgPool2d({side} // 4), torch.nn.Flatten(), linear)
"""


def write_set(path: Path, count: int, side: int, first: int) -> None:
    """Write JPEG files of smooth colours into a .zip, `first` of them in the first class, the others in the others."""
    random = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            small = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            pixels = cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)
            encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()
            label = 0 if number < first else 1 + number % (CLASSES - 1)
            archive.writestr(f"c{label}/{number:06}.jpg", encoded)


def anonymous_memory() -> int:
    """Return the bytes of this process that are its own: mapped files, which the system may drop, do not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@contextmanager
def measured(peak: list[int]) -> Iterator[None]:
    """Append the most memory in use meanwhile to `peak`."""
    found, ended = [anonymous_memory()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            found.append(max(found.pop(), anonymous_memory()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        peak.append(found[0])


def main() -> None:
    """Attack a few images, then all, and print what memory each took, in bytes, and how many were flipped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    for name in ("count", "side", "first"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    write_set(given.folder / "set.zip", given.count, given.side, given.first)
    (given.folder / "net.py").write_text(_NET.format(classes=CLASSES, side=given.side))
    from bangbench.attacks.run import attack
    from bangbench.attacks.spec import AttackSpec

    peaks: list[int] = []
    for name, limit in (("few", FEW), ("all", None)):
        spec = AttackSpec(
            model=f"{given.folder / 'net.py'}:net",
            name=name,
            random_weights=True,
            trust_code=True,
            data=f"folder:{given.folder / 'set.zip'}",
            attack=("fgs",),
            limit=limit,
            root=given.folder,
            workers=1,
        )
        with measured(peaks):
            (record,) = attack(spec)
    assert record.summary is not None
    found = {"few": peaks[0], "all": peaks[1], "images": record.summary.images, "flipped": record.summary.flipped}
    sys.stdout.write(json.dumps(found | {"seconds": record.summary.seconds}))


if __name__ == "__main__":
    main()
