"""Command-line options made from a spec: names, defaults, help and validation have one definition."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from bangbench.cli.completion import canonical, completer
from bangbench.cli.output import Output, ending
from bangbench.cli.usage import Command
from bangbench.core.errors import UsageError
from bangbench.core.spec import Spec
from bangbench.core.validation import first_problem

AnySpec = TypeVar("AnySpec", bound=Spec)
#: Runs a command: the specs (one for each value of a repeated argument) and how to talk.
Run = Callable[[list[AnySpec], Output], None]

#: Types of numbers, and what the help calls them.
_NUMBERS: dict[Any, str] = {int: "INTEGER", float: "NUMBER"}


def command(
    app: typer.Typer,
    name: str,
    spec: type[AnySpec],
    run: Run[AnySpec],
    arguments: tuple[str, ...] = (),
    repeated: str | None = None,
    without: tuple[str, ...] = (),
    example: str = "",
) -> None:
    """Add a command whose options are the fields of `spec`.

    arguments: fields that are positional; repeated: the positional one that takes several values, each of which
    becomes a spec of its own; without: fields that mean nothing here. The help is the docstring of `run`.
    """

    def body(**values: Any) -> None:
        output = Output(values.pop("json"), values.pop("quiet"), values.pop("debug"))
        with ending(output):
            given = {key: value for key, value in values.items() if value not in (None, [], ())}
            several = given.pop(repeated) if repeated else [None]
            run([_make(spec, given | ({repeated: one} if repeated else {}), arguments) for one in several], output)

    fields = [field for field in _ordered(spec, arguments) if field not in without]
    parameters = [
        _parameter(field, spec.model_fields[field], field in arguments, field == repeated) for field in fields
    ]
    body.__signature__ = inspect.Signature([*parameters, *_common()])  # type: ignore[attr-defined]
    body.__doc__ = _unwrapped(run.__doc__ or "")
    epilog = f"Example: {example}" if example else None
    needs_words = any(spec.model_fields[field].is_required() for field in arguments)
    app.command(name, cls=Command, epilog=epilog, no_args_is_help=needs_words)(body)


def _make(spec: type[AnySpec], values: dict[str, Any], arguments: tuple[str, ...]) -> AnySpec:
    try:
        return spec(**{name: _read(spec, name, value) for name, value in values.items()})
    except ValidationError as error:
        location, problem = first_problem(error)
        if not location:
            raise UsageError(problem) from error
        field = "-".join(location[:1])
        place = field.upper() if field in arguments else f"--{field.replace('_', '-')}"
        raise UsageError(f"{place}: {problem}") from error


def _read(spec: type[Spec], name: str, value: Any) -> Any:
    """Return what was typed for a field: names in the case in which they are known, numbers split at commas."""
    if _plain_type(spec.model_fields[name].annotation) not in ((float, True), (int, True)):
        return [canonical(name, one) for one in value] if isinstance(value, list) else canonical(name, value)
    return [part.strip() for word in value for part in str(word).split(",")]


def _unwrapped(text: str) -> str:
    """Return a docstring with one line for each paragraph, which the help then breaks to fit the terminal."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text).split("\n\n"))


def _ordered(spec: type[Spec], arguments: tuple[str, ...]) -> list[str]:
    """Return the fields: arguments first, then the command's own, those it shares, and those of every command."""
    everywhere = [name for name in Spec.model_fields if name in spec.model_fields and name not in arguments]
    others = [name for name in spec.model_fields if name not in everywhere and name not in arguments]
    own = [name for name in others if name in spec.__annotations__]
    return [*arguments, *own, *(name for name in others if name not in own), *everywhere]


def _parameter(name: str, info: FieldInfo, positional: bool, repeated: bool) -> inspect.Parameter:
    kind, many = _plain_type(info.annotation)
    default = info.default
    extra: dict[str, Any] = {"help": info.description, "show_default": default not in (None, (), False)}
    if kind in _NUMBERS:  # the spec reads numbers: it has words for what is none, and commas between several
        extra["metavar"], kind, default = _NUMBERS[kind], str, _typed(default)
    elif get_origin(kind) is not Literal:
        extra["autocompletion"] = completer(name)
    elif many:
        kind = str  # typer has no lists of choices; the spec checks them
    annotation: Any = list[kind] if many or repeated else kind  # type: ignore[valid-type]
    if many and isinstance(default, tuple):
        default = list(default)
    flag = f"--{name.replace('_', '-')}"
    choice = typer.Argument(**extra) if positional else typer.Option(_flags(flag, kind), **extra)
    given = inspect.Parameter.empty if info.is_required() else default
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=given, annotation=Annotated[annotation, choice]
    )


def _typed(default: Any) -> Any:
    """Return a number, or several, as a user would type them; what is none as it is."""
    if isinstance(default, tuple):
        return tuple(map(_typed, default))
    return f"{default:g}" if isinstance(default, float) else str(default) if isinstance(default, int) else default


def _flags(flag: str, kind: Any) -> str:
    return f"{flag}/--no-{flag[2:]}" if kind is bool else flag


def _plain_type(annotation: Any) -> tuple[Any, bool]:
    """Return the type Typer understands, and whether several values may be given."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain_type(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return _plain_type(next(part for part in get_args(annotation) if part is not type(None)))
    if origin is tuple and Ellipsis not in get_args(annotation):
        return annotation, False
    if origin is tuple:
        return _plain_type(get_args(annotation)[0])[0], True
    if origin is Literal or annotation in (str, int, float, bool, Path):
        return annotation, False
    raise TypeError(f"no command-line option for a field of type {annotation}")


def _common() -> list[inspect.Parameter]:
    described = {
        "json": "Print one JSON object on stdout and nothing else there.",
        "quiet": "Show no progress and no summary.",
        "debug": "Show the traceback of an error.",
    }
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False,
            annotation=Annotated[bool, typer.Option(f"--{name}", help=text)],
        )
        for name, text in described.items()
    ]
