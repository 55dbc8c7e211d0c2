"""Where a number comes from: versions, commit, processor, command."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bangbench import __version__
from bangbench.core.device import available_cores

_PACKAGES = ("torch", "numpy", "scipy", "opencv-python-headless", "opencv-python", "scikit-image", "numba")


class Provenance(BaseModel):
    """What a reader needs to judge or repeat a measurement."""

    model_config = ConfigDict(frozen=True)

    bangbench: str
    commit: str | None
    dirty: bool | None
    python: str
    packages: dict[str, str]
    system: str
    processor: str
    cores: int
    device: str
    command: str


def collect_provenance(device: str) -> Provenance:
    """Return the provenance of a computation on `device` made by the current process."""
    commit, dirty = _git_state()
    return Provenance(
        bangbench=__version__,
        commit=commit,
        dirty=dirty,
        python=platform.python_version(),
        packages=_package_versions(),
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor_name(),
        cores=available_cores(),
        device=device,
        command=command_line(sys.argv),
    )


def command_line(arguments: list[str]) -> str:
    """Return the command as a reader would type it, without the path of the program."""
    program = "bangbench" if "bangbench" in arguments[0] else Path(arguments[0]).name
    return shlex.join([program, *arguments[1:]])


def _package_versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git_state() -> tuple[str | None, bool | None]:
    """Return commit and dirty flag of the checkout bangbench runs from, or (None, None) where it is installed."""
    package = Path(__file__).resolve().parents[1]
    if not (package.parent / ".git").exists():
        return None, None
    try:
        commit = _git(package.parent, "rev-parse", "HEAD")
        return commit, bool(_git(package.parent, "status", "--porcelain", "--", str(package)))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(folder: Path, *words: str) -> str:
    """Return what git says; it writes nothing, which one that is killed would leave locked."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _processor_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
