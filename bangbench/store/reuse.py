"""Whether a result on disk is the one asked for: then it is used, gone on with, or protected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bangbench.core.errors import BenchError
from bangbench.core.spec import Overwrite, Spec
from bangbench.store.chunks import forget_parts, is_empty_training
from bangbench.store.records import AnyRecord, find_record


def finished_record(
    path: Path, kind: type[AnyRecord], key: str, settings: Mapping[str, Any], overwrite: Overwrite
) -> AnyRecord | None:
    """Return the record at `path` if it is complete and has this `key`; None if the work is still to be done.

    A record with another key is protected: `BenchError` names the settings that differ, unless `overwrite` lets it be
    replaced. With `overwrite` True the work is to be done whatever is there. What a process left that was killed
    when its record was complete, chunks and a snapshot, is removed.
    """
    try:
        record = find_record(path, kind)
    except BenchError:
        if may_replace_finished(overwrite):
            return None
        raise
    if record is None:
        return None
    if record.key == key:
        if record.status != "done" or overwrite is True:
            return None
        forget_parts(path)
        return record
    if may_replace_finished(overwrite) or _is_nothing(path, record, overwrite):
        return None
    raise _in_the_way(path, record.spec, settings)


def check_in_the_way(path: Path, kind: type[AnyRecord], spec: Spec) -> None:
    """Raise the error of `finished_record` where what was typed alone says that the settings differ."""
    if may_replace_finished(spec.overwrite):
        return
    record = find_record(path, kind)
    if record is None or _is_nothing(path, record, spec.overwrite):
        return
    settings = spec.beside(record.spec)
    if settings != record.spec:
        raise _in_the_way(path, record.spec, settings)


def _is_nothing(path: Path, record: AnyRecord, overwrite: Overwrite) -> bool:
    """Return whether an unfinished record may be replaced: nothing is kept of the training, or it is to be."""
    return record.status == "started" and (overwrite == "unfinished" or is_empty_training(path))


def _in_the_way(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> BenchError:
    return BenchError(
        f"{path} was made with other settings ({differences(before, now)}); "
        "choose another name or root, or pass --overwrite"
    )


def may_replace_finished(overwrite: Overwrite) -> bool:
    """Return whether a finished record of other settings may be replaced."""
    return overwrite in (True, "differing")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say how the settings of two records with different keys differ, nested ones as ``outer.inner``."""
    before, now = dict(_flat(before)), dict(_flat(now))
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if not changed:
        return "the data or the weights are not the same"
    return ", ".join(f"{name}: {before.get(name)} -> {now.get(name)}" for name in changed)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
