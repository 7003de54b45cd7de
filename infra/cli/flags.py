"""Command-line flags made from the fields of option models: one place for name, type, help and default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from onibus.infra.flags import Flag, flag_name

T = TypeVar("T")


def with_flags(
    argument: str,
    flags: Sequence[inspect.Parameter],
    command: Callable[..., T],
    *,
    last: bool = False,
) -> Callable[..., T]:
    """``command(argument, …)`` with ``flags`` beside its own; it gets those that were typed in a dict.

    Args:
        argument: the name of the dict; a flag that was not typed is not in it.
        flags: as :func:`flags_of` makes them.
        command: what they are given to.
        last: whether they come last in the help.
    """
    hints = get_type_hints(command, include_extras=True)
    own = [
        p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for p in inspect.signature(command).parameters.values()
        if p.name != argument
    ]

    @wraps(command)
    def wrapper(**given: Any) -> T:
        typed = {flag.name: given.pop(flag.name, None) for flag in flags}
        return command(**{argument: {k: v for k, v in typed.items() if v not in (None, [], ())}}, **given)

    parameters = [*own, *flags] if last else [*flags, *own]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper


def with_options(
    model: type[BaseModel], *, only: Collection[str] | None = None, leave_out: Collection[str] = ()
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Give ``command(given, …)`` one flag for each field of ``model``; ``given`` has what was typed."""
    flags = flags_of(model, only=only, leave_out=leave_out)
    return lambda command: with_flags("given", flags, command)


def flags_of(
    model: type[BaseModel],
    *,
    only: Collection[str] | None = None,
    leave_out: Collection[str] = (),
    panel: str | None = None,
) -> list[inspect.Parameter]:
    """One flag for each field of ``model``, in its order, each optional.

    In the help a flag stands in ``panel``, or in the one that the class of its field has as its ``title``.
    """
    types = get_type_hints(model)
    panels = _panels(model)
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=_annotation(name, field, types[name], panel or panels.get(name)),
        )
        for name, field in model.model_fields.items()
        if name not in leave_out and (only is None or name in only)
    ]


def _annotation(name: str, field: FieldInfo, type_: Any, panel: str | None) -> Any:
    flag = next((one for one in field.metadata if isinstance(one, Flag)), Flag())
    kind = list[str] if flag.repeated else type_
    name_on_the_line = flag_name(name, field.metadata)
    if kind is bool:
        name_on_the_line += f"/--no-{name_on_the_line.removeprefix('--')}"
    option = typer.Option(name_on_the_line, help=_help(field, flag), rich_help_panel=panel)
    return Annotated[kind | None, option]


def _help(field: FieldInfo, flag: Flag) -> str:
    default = flag.default
    if default is None and not field.is_required() and field.default is not None:
        default = _shown(field.default)
    return f"{field.description} (default: {default})" if default else f"{field.description}"


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    return str(default)


def _panels(model: type[BaseModel]) -> Mapping[str, str | None]:
    """By field the title of the class that declares it."""
    return {
        name: one.model_config.get("title")
        for one in reversed(model.__mro__)
        if issubclass(one, BaseModel)
        for name in inspect.get_annotations(one)
    }
