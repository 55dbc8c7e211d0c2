"""Whether a result on disk is the one asked for: then it is used, gone on with, or protected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bangbench.core.errors import BenchError
from bangbench.store.records import AnyRecord, find_record


def finished_record(
    path: Path, kind: type[AnyRecord], key: str, settings: Mapping[str, Any], overwrite: bool
) -> AnyRecord | None:
    """Return the record at `path` if it is complete and has this `key`; None if the work is still to be done.

    A record with another key is protected: `BenchError` names the settings that differ, unless `overwrite`.
    """
    try:
        record = find_record(path, kind)
    except BenchError:
        if overwrite:
            return None
        raise
    if record is None:
        return None
    if record.key == key:
        return record if record.status == "done" else None
    if overwrite:
        return None
    raise BenchError(
        f"{path} was made with other settings ({_differences(record.spec, settings)}); "
        "choose another name or root, or pass --overwrite"
    )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if not changed:
        return "the data or the weights are not the same"
    return ", ".join(f"{name}: {before.get(name)} -> {now.get(name)}" for name in changed)
