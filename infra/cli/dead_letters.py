"""``onibus dead-letters list | redrive``: records that were given up."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.cli.tables import print_table
from onibus.infra.errors import OnibusError
from onibus.infra.process.terminal import echo
from onibus.infra.settings import Settings
from onibus.infra.times import TIME_HELP, parse_time

if TYPE_CHECKING:
    from onibus.consumers.dead_letters import Entry, Selection
    from onibus.schemas.codec import Codec

_MICROSECONDS = 1_000_000

_Reason = Annotated[str, typer.Option(help="Only those whose reason contains this text.")]
_Since = Annotated[
    str | None,
    typer.Option(help=f"Only those since this time: {TIME_HELP}."),
]
_Until = Annotated[str | None, typer.Option(help="Only those before this time, in the format of --since.")]
_Spec = Annotated[str | None, typer.Option(help="Only those of this spec: its name or its id.")]


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(
        help="List records that were given up, and have them judged again.", no_args_is_help=True
    )
    group.command("list")(with_settings(list_letters))
    group.command("redrive")(with_settings(redrive))
    app.add_typer(group, name="dead-letters")


def list_letters(
    settings: Settings,
    reason: _Reason = "",
    since: _Since = None,
    until: _Until = None,
    spec: _Spec = None,
    as_json: AsJson = False,
) -> None:
    """List the records that were given up, why, and whether they were sent again."""
    from onibus.consumers.dead_letters import entries
    from onibus.infra.kafka.codecs import codec_for

    names, codec = _spec_names(settings), codec_for(settings)
    selection = _selection(names, reason, since, until, spec)
    rows = [_row(entry, names, codec) for entry in entries(settings) if selection.holds(entry.letter)]
    if as_json:
        echo(json.dumps(rows, indent=2))
        return
    names_of = ("offset", "failed_at", "spec", "redriven_at", "reason", "caption")
    shown = [[str(row[name]) if row[name] is not None else "–" for name in names_of] for row in rows]
    print_table(("offset", "given up", "spec", "sent again", "reason", "caption"), shown)


def redrive(
    settings: Settings,
    reason: _Reason = "",
    since: _Since = None,
    until: _Until = None,
    spec: _Spec = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without this flag, only show what would be done.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send captions that were given up to the annotators again. Each is sent again only once."""
    from onibus.consumers.dead_letters import Fate
    from onibus.consumers.dead_letters import redrive as send_again

    selection = _selection(_spec_names(settings), reason, since, until, spec)
    fates: Counter[Fate] = send_again(settings, selection, dry_run=not yes)
    if as_json:
        counts = {fate.name.lower(): fates[fate] for fate in Fate}
        echo(json.dumps({"dry_run": not yes} | counts, indent=2))
        return
    if not fates.total():
        echo("no letter matches, so there is nothing to do")
        return
    advice = "; use --yes to do it" if fates[Fate.SEND] else ""
    echo(f"{fates[Fate.SEND]} letters {'sent again' if yes else f'would be sent again{advice}'}")
    for fate in Fate:
        if fate is not Fate.SEND and fates[fate]:
            echo(f"{fates[fate]} {fate.value}")


def _selection(
    names: dict[bytes, str], reason: str, since: str | None, until: str | None, spec: str | None
) -> Selection:
    from onibus.consumers.dead_letters import Selection

    spec_ids = None
    if spec is not None:
        spec_ids = frozenset(i for i, name in names.items() if spec in (name, i.hex()))
        if not spec_ids:
            known = ", ".join(sorted(set(names.values()))) or "none"
            raise OnibusError(f"no spec {spec!r} was ever published; choose one of: {known}")
    return Selection(reason, _moment("--since", since), _moment("--until", until), spec_ids)


def _spec_names(settings: Settings) -> dict[bytes, str]:
    from onibus.consumers.specs.spec_file import read_specs

    return {spec_id: spec.name for spec_id, spec in read_specs(settings).items()}


def _moment(flag: str, text: str | None) -> int | None:
    """Microseconds since the epoch."""
    return None if text is None else int(parse_time(text, flag).timestamp() * _MICROSECONDS)


def _row(entry: Entry, names: dict[bytes, str], codec: Codec) -> dict[str, Any]:
    letter = entry.letter
    return {
        "offset": entry.offset,
        "failed_at": _when(letter.failed_at),
        "component": letter.component,
        "source": f"{letter.source_topic} {letter.source_partition}@{letter.source_offset}",
        "spec": None if letter.spec_id is None else names.get(letter.spec_id, letter.spec_id.hex()),
        "caption": _caption(letter.original_value, codec),
        "reason": letter.reason,
        "attempts": letter.attempts,
        "redriven_at": None if entry.redriven_at is None else _when(entry.redriven_at),
    }


def _caption(value: bytes | None, codec: Codec) -> str | None:
    """The text of a caption record; None if it is not one."""
    from onibus.infra.kafka.codecs import decoded_quietly
    from onibus.schemas.records import CaptionObserved

    caption = decoded_quietly(codec, CaptionObserved, value)
    return None if caption is None else caption.text


def _when(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / _MICROSECONDS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
