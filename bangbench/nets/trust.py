"""Whose code may run: a net of one's own is code, and a model folder that names one runs it when it is opened.

What a user names in a command is theirs to run. What a folder names runs only where this user has trained a net of
that file before, which is remembered outside the folder, in the user's own configuration, or asks for it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from bangbench.core.errors import BenchError
from bangbench.nets.references import PROGRAMS, loader_of
from bangbench.store.files import write_text

#: What was named in this process, for where no configuration can be written.
_named: set[str] = set()


def remember_code(net: str) -> str | None:
    """Keep that this user has named `net`, so that models trained with it open; return why it cannot be kept."""
    if ":" not in net:
        return None
    _named.add(_identity(net))
    try:
        write_text(_entry(net), f"{_identity(net)}\n")
    except (BenchError, RuntimeError) as error:
        return f"{error}: opening a model of {net} will need --trust-code"
    return None


def check_code(net: str, where: Path, trusted: bool) -> None:
    """Raise `BenchError`, before anything is imported, unless `net` is the bench's own, a plug-in's, or trusted.

    net: a name, or ``package.module:factory`` or ``file.py:factory``; trusted: that this command was told so.
    """
    if ":" not in net or trusted or loader_of(net) not in {None, *PROGRAMS} or _is_remembered(net):
        return
    raise BenchError(
        f"{where} names a net of its own, '{net}': opening it would run {code_file(net)}, which you have trained "
        "nothing with here; read that file, then pass --trust-code, or train the model again yourself"
    )


def _is_remembered(net: str) -> bool:
    try:
        return _identity(net) in _named or _entry(net).is_file()
    except RuntimeError:  # nobody's home: nothing was kept
        return False


def code_file(net: str) -> str:
    """Return the file that a net's name would run, or the module's name where none is found; nothing is imported."""
    place = net.rpartition(":")[0]
    if loader_of(net) in PROGRAMS:
        return str(Path(net.partition(":")[2]).resolve())
    if place.endswith(".py"):
        return str(Path(place).resolve())
    search: list[str] | None = [str(Path.cwd()), *sys.path]
    for depth in range(1, place.count(".") + 2):
        module = ".".join(place.split(".")[:depth])
        spec = PathFinder.find_spec(module, search)
        if spec is None:
            break
        if module == place and spec.origin:
            return str(Path(spec.origin).resolve())
        search = list(spec.submodule_search_locations or [])
    return f"the module {place}"


def _identity(net: str) -> str:
    return f"{code_file(net)}:{net.rpartition(':')[2]}"


def _entry(net: str) -> Path:
    """Return the file whose being there says that this user trusts a factory of a file."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    name = hashlib.sha256(_identity(net).encode(errors="surrogateescape")).hexdigest()
    return Path(base) / "bangbench" / "trusted-code" / name
