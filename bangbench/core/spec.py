"""What a command was asked to do: one frozen, validated model per command."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bangbench.core.errors import UsageError
from bangbench.core.validation import first_problem

Settings = TypeVar("Settings", bound=BaseModel)

#: What of earlier runs may be replaced: nothing (False), runs of other settings that never ended, whatever has other
#: settings, or everything (True), so that it is computed again even with the same settings.
Overwrite = bool | Literal["unfinished", "differing"]


class Spec(BaseModel):
    """Base of all specs. `settings` is what the record keeps; `key` tells whether two runs are the same one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Fields that a record has from the model or the data where they are not given.
    filled_in: ClassVar[frozenset[str]] = frozenset()
    #: Fields that say where or how fast to compute, not what.
    circumstances: ClassVar[frozenset[str]] = frozenset({"root", "data_dir", "device", "overwrite", "wait"})

    root: Path = Field(Path(), description="Directory that holds models/ and results/.")
    data_dir: Path | None = Field(
        None, description="Directory of the data files (default: BANGBENCH_DATA, else the user cache)."
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    overwrite: Overwrite = Field(False, description="Compute again, and replace what earlier runs left.")
    wait: bool = Field(
        True, description="Wait while another command writes to the same folder; else say which one, and end."
    )

    @property
    def patience(self) -> float | None:
        """Return how many seconds to wait for another command that writes to the same folder; None: to its end."""
        return None if self.wait else 0.0

    def settings(self) -> dict[str, Any]:
        """Return what was asked for, as JSON values, without the circumstances of this machine."""
        return self.model_dump(mode="json", exclude=set(self.circumstances))

    def beside(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a record as they are asked for now, as far as that is known without model and data.

        What only those tell stays as it is in `before`: a difference is one whatever they are.
        """
        unknown = {name for name in self.filled_in if getattr(self, name) is None}
        told = set(type(self).model_fields) - self.circumstances - unknown
        now = {name: value for name, value in self.settings().items() if name in told}
        return {name: value for name, value in before.items() if name not in told} | now

    def key(self, **inputs: Any) -> str:
        """Return a hash of the settings and of the fingerprints of what they are applied to."""
        return fingerprint_of({**self.settings(), **inputs})


def make_settings(what: str, kind: type[Settings], given: Mapping[str, Any]) -> Settings:
    """Return settings of `kind`; `UsageError`, which begins with `what`, for one it does not have or out of range."""
    try:
        return kind(**given)
    except ValidationError as error:
        place, problem = first_problem(error)
        setting = ".".join(place)
        if error.errors()[0]["type"] == "extra_forbidden":
            known = ", ".join(kind.model_fields) or "none"
            close = difflib.get_close_matches(setting, kind.model_fields, n=1, cutoff=0.5)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise UsageError(f"{what} has no setting '{setting}' (it has: {known}){hint}") from error
        raise UsageError(f"{what}: {setting}: {problem}") from error


def numbers_given(given: Mapping[str, str], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a record with the numbers that were typed; whatever else was typed is passed over."""
    now = dict(before)
    for name, text in given.items():
        kind = type(before.get(name))
        if kind in (int, float):
            with suppress(ValueError):
                now[name] = kind(text)
    return now


def fingerprint_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
