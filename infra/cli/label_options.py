"""Flags that choose labels, shared by the commands of ``onibus labels``."""

from __future__ import annotations

import getpass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from onibus.infra.errors import OnibusError
from onibus.infra.times import TIME_HELP
from onibus.schemas.records import Origin
from onibus.schemas.verdict_in_force import verdict_names

if TYPE_CHECKING:
    from onibus.consumers.labels.filter import LabelFilter
    from onibus.consumers.specs.known_specs import KnownSpecs


Specs = Annotated[
    list[str] | None,
    typer.Option(
        "--spec", help="Spec: NAME, NAME@MODEL, NAME@ID or the first digits of an id; can be repeated."
    ),
]
if TYPE_CHECKING:
    VerdictName = str
else:  # typer takes, and shows, the values of an enum
    VerdictName = StrEnum("VerdictName", [(name.upper(), name) for name in verdict_names()])

Verdicts = Annotated[
    list[VerdictName] | None, typer.Option("--verdict", help="Verdict in force; can be repeated.")
]
Text = Annotated[str, typer.Option(help="Text that the caption contains; case is ignored.")]
Annotator = Annotated[str | None, typer.Option(help="Name of the annotator or person who answered.")]
OriginOption = Annotated[
    Origin | None, typer.Option(help="Kind of answer: from a model, the rules, a person, or a withdrawal.")
]
Since = Annotated[str | None, typer.Option(help=f"Annotated at or after this time: {TIME_HELP}.")]
Before = Annotated[str | None, typer.Option(help="Annotated before this time, in the format of --since.")]
AsOf = Annotated[
    str | None,
    typer.Option(
        help=f"Labels as they were at a time ({TIME_HELP}), at offsets of the annotation log "
        "(0:120,1:98,…) or for a version of a reward model (MODEL@12)."
    ),
]
Subject = Annotated[str, typer.Argument(help="First digits of a caption's id, or the whole caption.")]
Person = Annotated[str | None, typer.Option(help="Person who makes the change. (default: your user name)")]
Note = Annotated[str, typer.Option(help="Reason, kept in the history.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without this flag, only show what would be done.")]


def label_filter(
    specs: KnownSpecs,
    spec: list[str] | None,
    verdict: list[VerdictName] | None,
    text: str,
    annotator: str | None,
    origin: Origin | None,
    since: str | None,
    before: str | None,
) -> LabelFilter:
    """The filter that the flags describe."""
    from onibus.consumers.labels.filter import LabelFilter
    from onibus.infra.times import parse_time

    chosen = specs.chosen(spec)
    return LabelFilter(
        spec_ids=None if chosen is None else frozenset(chosen),
        verdicts=frozenset(verdict or ()),
        text=text,
        annotator=annotator,
        origin=origin,
        since=parse_time(since, "--since") if since else None,
        before=parse_time(before, "--before") if before else None,
    )


def user_name() -> str:
    """Name of the user, who makes the change if no person is given."""
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise OnibusError("cannot determine your user name; give it with --person") from error
