"""Ways of damaging a file: its bytes as a disk would change them, its values as someone who means harm would."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Mutator = Callable[[random.Random, bytes], bytes]

_EDGES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
_NUMBERS = (
    b"0",
    b"-1",
    b"1e999",
    b"-1e999",
    b"NaN",
    b"Infinity",
    b"99999999999999999999",
    b"0.1",
    b"2147483648",
    b"250",
)
_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        250,
        1 << 31,
        1 << 64,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "a\nb",
        "\ud800",
        "../../x",
    ),
    *("=1+1", "\x00", [], {}, [[]], {"a": {}}, [1, 2, 3], ["x"] * 100, "evil.py:make", "long " * 2000),
)


def damaged(generator: random.Random, path: Path) -> None:
    """Damage a file in one of the ways that its kind allows, now and then in several."""
    content = path.read_bytes()
    for _ in range(generator.choice((1, 1, 1, 2, 5))):
        content = generator.choice(_ways(path))(generator, content)
    path.write_bytes(content)


def _ways(path: Path) -> list[Mutator]:
    ways: list[Mutator] = [flip, flip, edge, edge, cut, zero, noise, repeat, move]
    if path.suffix in {".json"}:
        ways += [value] * 8
    if path.suffix in {".json", ".toml", ".csv", ".safetensors"}:
        ways += [number] * 6
    if path.suffix in {".npz", ".zip", ".pt"}:
        ways += [member] * 8
    if path.suffix == ".gz":
        ways += [compressed] * 8
    return ways


def flip(generator: random.Random, content: bytes) -> bytes:
    """Change one bit."""
    if not content:
        return content
    changed = bytearray(content)
    changed[_place(generator, content)] ^= 1 << generator.randrange(8)
    return bytes(changed)


def edge(generator: random.Random, content: bytes) -> bytes:
    """Put a number at the edge of its range somewhere, in either order of its bytes."""
    size = generator.choice((1, 2, 4, 8))
    value = generator.choice(_EDGES) & ((1 << 8 * size) - 1)
    place = _place(generator, content)
    return content[:place] + value.to_bytes(size, generator.choice(("little", "big"))) + content[place + size :]


def cut(generator: random.Random, content: bytes) -> bytes:
    """Leave out the end."""
    return content[: _place(generator, content)]


def zero(generator: random.Random, content: bytes) -> bytes:
    """Make a stretch zero, as a file system does after a power loss."""
    first, last = sorted((_place(generator, content), _place(generator, content)))
    return content[:first] + bytes(last - first) + content[last:]


def noise(generator: random.Random, content: bytes) -> bytes:
    """Put random bytes in."""
    place = _place(generator, content)
    return content[:place] + generator.randbytes(generator.choice((1, 4, 64, 4096))) + content[place:]


def repeat(generator: random.Random, content: bytes) -> bytes:
    """Put a stretch in twice."""
    first, last = sorted((_place(generator, content), _place(generator, content)))
    return content[:last] + content[first:last] + content[last:]


def move(generator: random.Random, content: bytes) -> bytes:
    """Overwrite a stretch with another one."""
    source, target = _place(generator, content), _place(generator, content)
    part = content[source : source + generator.choice((4, 16, 256))]
    return content[:target] + part + content[target + len(part) :]


def value(generator: random.Random, content: bytes) -> bytes:
    """Put something else in place of a value of a JSON document, or nest it deeply."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return flip(generator, content)
    places = list(_places(document))
    if not places:
        return content
    holder, key = generator.choice(places)
    if generator.random() < 0.1:
        depth = generator.choice((50, 2000, 100_000))
        text = json.dumps(_replaced(document, holder, key, "HERE"))
        return text.replace('"HERE"', "[" * depth + "]" * depth).encode()
    if generator.random() < 0.1 and isinstance(holder, dict):
        del holder[key]
    else:
        holder[key] = generator.choice(_VALUES)
    return json.dumps(document).encode()


def number(generator: random.Random, content: bytes) -> bytes:
    """Put another number in place of one that is written in digits."""
    found = list(re.finditer(rb"\d+(\.\d+)?", content[:20_000]))
    if not found:
        return flip(generator, content)
    match = generator.choice(found)
    return content[: match.start()] + generator.choice(_NUMBERS) + content[match.end() :]


def member(generator: random.Random, content: bytes) -> bytes:
    """Damage an entry of an archive and write the archive anew, so that its checksums are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    except Exception:  # damaged before
        return flip(generator, content)
    if not entries:
        return content
    chosen = generator.choice(list(entries))
    way = generator.choice((flip, edge, edge, cut, zero, noise, number, repeat))
    entries[chosen] = way(generator, entries[chosen])
    stream = io.BytesIO()
    kind = generator.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, inside in entries.items():
            archive.writestr(name, inside)
    return stream.getvalue()


def compressed(generator: random.Random, content: bytes) -> bytes:
    """Damage what a gzip file holds."""
    try:
        inside = gzip.decompress(content)
    except Exception:  # damaged before
        return flip(generator, content)
    way = generator.choice((flip, edge, edge, cut, zero, noise, repeat))
    return gzip.compress(way(generator, inside), mtime=0)


def _place(generator: random.Random, content: bytes) -> int:
    """Return a place in the content, more often where headers are."""
    where = generator.random()
    if where < 0.4:
        return generator.randrange(min(len(content), 256) or 1)
    if where < 0.6:
        return max(0, len(content) - 1 - generator.randrange(min(len(content), 256) or 1))
    return generator.randrange(len(content) or 1)


def _places(document: Any) -> list[tuple[Any, Any]]:
    places, pending = [], [document]
    while pending:
        holder = pending.pop()
        inner = holder.items() if isinstance(holder, dict) else enumerate(holder) if isinstance(holder, list) else ()
        for key, inside in inner:
            places.append((holder, key))
            pending.append(inside)
    return places


def _replaced(document: Any, holder: Any, key: Any, other: Any) -> Any:
    holder[key] = other
    return document
