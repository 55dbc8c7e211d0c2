"""Wrong words on the command line: one line that says what was expected, like every other message."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from bangbench.cli.output import complain

#: The base of what typer raises for words it cannot use; depending on its version it is click's or its own.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

#: What other programs call an option, and what it is called here, the first that a command has.
_OTHER_WORDS = {
    "--lr": ("--learning-rate",),
    "--eps": ("--budget", "--epsilon"),
    "--epsilon": ("--budget",),
    "--dataset": ("--data",),
    "--n": ("--limit",),
    "--num": ("--limit",),
    "--n-ex": ("--limit",),
    "--n-examples": ("--limit",),
    "--samples": ("--limit",),
    "--gpu": ("--device",),
    "--cuda": ("--device",),
    "--checkpoint": ("--weights",),
    "--ckpt": ("--weights",),
    "--model-path": ("--weights",),
    "--output": ("--root", "--out"),
    "--optimizer": ("--solver",),
    "--steps": ("--iterations", "--option"),
    "--wd": ("--weight-decay",),
    "--bs": ("--batch-size",),
    "--scheduler": ("--rate-policy",),
    "--format-version": ("--format",),
    "--attacks": ("--attack",),
    "--norm-mean": ("--mean",),
    "--force": ("--overwrite",),
    "--verbose": ("--debug",),
    "--reference": ("--against",),
}


class Command(TyperCommand):
    """A command whose wrong words end in one line."""

    def make_context(self, *arguments: Any, **named: Any) -> Any:
        """Parse the words of this command."""
        with _in_one_line():
            return super().make_context(*arguments, **named)


class Group(TyperGroup):
    """A group of commands whose wrong words end in one line."""

    def make_context(self, *arguments: Any, **named: Any) -> Any:
        """Parse the words before the command."""
        with _in_one_line():
            return super().make_context(*arguments, **named)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first word names."""
        with _in_one_line():
            return super().resolve_command(ctx, args)


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # no error: the help is what is wanted
            raise
        complain(_message(error))
        raise typer.Exit(2) from None


def _message(error: Any) -> str:
    context = getattr(error, "ctx", None)
    wrong = getattr(error, "option_name", None) if type(error).__name__ == "NoSuchOption" else None
    message = error.format_message() if wrong is None else _no_option(wrong, context)
    where = f" ({context.command_path} --help)" if context is not None else ""
    return " ".join(message.split()) + where


def _no_option(wrong: str, context: Any) -> str:
    known = [name for parameter in context.command.params for name in parameter.opts if name.startswith("--")]
    meant = [name for name in _OTHER_WORDS.get(wrong.lower(), ()) if name in known]
    meant = meant or difflib.get_close_matches(wrong.lower(), known, n=1, cutoff=0.5)
    return f"no option {wrong} here" + (f": did you mean {meant[0]}?" if meant else "")
