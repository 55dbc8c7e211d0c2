"""The page of all commands and options, made from what ``--help`` shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from bangbench.cli.main import app

HEAD = """# Commands

Every command takes `--json` (one JSON object on stdout, everything else on stderr), `--quiet` and `--debug`. Exit
status: 0 done, 1 failed with a message, 2 wrong usage, 130 interrupted (what was finished is kept).
`bangbench --install-completion` lets your shell complete names of models, attacks, methods, nets, recipes and reason
codes.
"""
_EVERYWHERE = {"help", "json", "quiet", "debug"}


def page() -> str:
    """Return the page as Markdown."""
    return HEAD + "".join(_sections("bangbench", typer.main.get_command(app)))


def _sections(path: str, group: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _sections(f"{path} {name}", command)
        else:
            yield _section(f"{path} {name}", command)


def _section(path: str, command: Any) -> str:
    rows = [_row(parameter) for parameter in command.params if parameter.name not in _EVERYWHERE]
    table = ["| | |", "|---|---|", *rows] if rows else []
    example = (command.epilog or "").removeprefix("Example: ")
    return "\n".join([f"\n## {path}\n", command.help or "", f"\n```sh\n{example}\n```\n", *table, ""])


def _row(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in parameter.opts if name.startswith("-")) or f"`{parameter.name.upper()}`"
    default = parameter.default if getattr(parameter, "show_default", False) else None
    several = isinstance(default, list | tuple)
    shown = " ".join(map(str, default)) if several else str(default)  # type: ignore[arg-type]
    text = (parameter.help or "").replace("|", "\\|").replace("*", "\\*")
    return f"| {names} | {text}{f' (default: {shown})' if default not in (None, [], (), False) else ''} |"
