"""``onibus labels …``: list, correct, export and import labels."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onibus.infra.cli import label_agreement, label_files, label_serving
from onibus.infra.cli.label_options import (
    Annotator,
    AsOf,
    Before,
    Note,
    OriginOption,
    Person,
    Since,
    Specs,
    Subject,
    Text,
    VerdictName,
    Verdicts,
    Yes,
    label_filter,
    user_name,
)
from onibus.infra.cli.label_printing import ID_DIGITS, print_history, print_labels, progress, say
from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.errors import OnibusError
from onibus.infra.process.terminal import echo, printable
from onibus.infra.settings import Settings
from onibus.schemas.verdict_in_force import WITHDRAWN

if TYPE_CHECKING:
    from onibus.consumers.labels.fold import FoldedLabel, LabelFold
    from onibus.consumers.specs.known_specs import KnownSpecs

_EXAMPLES = 5


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(help="List, correct, export and import labels.", no_args_is_help=True)
    group.command("list")(with_settings(list_labels))
    group.command("show")(with_settings(show))
    group.command("set")(with_settings(set_label))
    group.command("withdraw")(with_settings(withdraw_labels))
    group.command("annotate-again")(with_settings(annotate_again))
    label_agreement.register(group)
    label_files.register(group)
    label_serving.register(group)
    app.add_typer(group, name="labels")


def list_labels(
    settings: Settings,
    spec: Specs = None,
    verdict: Verdicts = None,
    text: Text = "",
    annotator: Annotator = None,
    origin: OriginOption = None,
    since: Since = None,
    before: Before = None,
    as_of: AsOf = None,
    limit: Annotated[int, typer.Option(min=0, help="Show this many, newest first; 0 shows all.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List labels in force, newest first. --verdict withdrawn lists withdrawn ones."""
    from onibus.consumers.labels.as_of import labels_as_of
    from onibus.consumers.labels.fold import label_json
    from onibus.consumers.specs.known_specs import KnownSpecs

    specs = KnownSpecs.read(settings)
    wanted = label_filter(specs, spec, verdict, text, annotator, origin, since, before)
    found = wanted.newest_first(labels_as_of(settings, as_of, wanted.spec_ids))
    shown = found[: limit or None]
    if as_json:
        echo(json.dumps([label_json(label, specs.name(label.spec_id)) for label in shown], indent=2))
    else:
        print_labels(shown, specs)
    if len(shown) < len(found):
        echo(f"the newest {len(shown):,} of {len(found):,}; use --limit 0 to show all", err=True)


def show(
    settings: Settings,
    subject: Subject,
    spec: Specs = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Show everything known about one caption: verdicts, raw answers, prompts, costs."""
    from onibus.consumers.labels.as_of import annotations_as_of
    from onibus.consumers.labels.corrections import SubjectName
    from onibus.consumers.labels.fold import LabelFold
    from onibus.consumers.labels.history import history_json
    from onibus.consumers.specs.known_specs import KnownSpecs

    specs, name = KnownSpecs.read(settings), SubjectName(subject)
    chosen = specs.chosen(spec)
    logged = [
        one
        for one in annotations_as_of(
            settings, as_of, lambda key: name.may_be(key) and (not chosen or key[:8] in chosen)
        )
        if one.annotation is not None
    ]
    found = name.find(LabelFold(logged))
    history = history_json(found.subject_id, logged, specs)
    if as_json:
        echo(json.dumps(history, indent=2))
    else:
        print_history(history)


def set_label(
    settings: Settings,
    subject: Subject,
    verdict: Annotated[VerdictName, typer.Argument(help="The verdict.")],
    spec: Annotated[
        str, typer.Option(help="Name of the spec (the newest of that name), or the first digits of its id.")
    ],
    note: Note = "",
    person: Person = None,
    new: Annotated[bool, typer.Option("--new", help="Allow a caption that has not been judged yet.")] = False,
    as_json: AsJson = False,
) -> None:
    """Set a verdict by hand. It overrides every later answer of a model until it is withdrawn."""
    from onibus.consumers.labels.as_of import annotations_as_of
    from onibus.consumers.labels.corrections import SubjectName, new_caption, set_by_hand
    from onibus.consumers.labels.fold import LabelFold
    from onibus.consumers.labels.writer import LabelWriter
    from onibus.consumers.specs.known_specs import KnownSpecs
    from onibus.schemas.records import Verdict

    specs, name = KnownSpecs.read(settings), SubjectName(subject)
    spec_id = specs.newest(spec)
    labels = LabelFold(annotations_as_of(settings, None, name.may_be))
    now = time.time_ns() // 1000
    found = new_caption(settings, subject, now) if new and not len(labels) else name.find(labels)
    if verdict == WITHDRAWN:
        raise OnibusError("withdrawn is not a verdict; use: onibus labels withdraw")
    before = labels.get(spec_id, found.subject_id)
    change = set_by_hand(found, spec_id, specs[spec_id], Verdict(verdict), person or user_name(), note, now)
    with LabelWriter(settings) as writer:
        writer.write([change])
    was = "no label" if before is None or before.verdict is None else before.verdict.value
    changed = {"subject_id": found.subject_id.hex(), "spec_id": spec_id.hex(), "was": was, "is": verdict}
    say(
        changed | {"person": change.annotations[0].annotator},
        f"{found.subject_id.hex()}: {was} -> {verdict} under {spec}, by hand",
        as_json,
    )


def withdraw_labels(
    settings: Settings,
    subject: Annotated[
        str | None, typer.Argument(help="A single caption: the first digits of its id, or the whole caption.")
    ] = None,
    spec: Specs = None,
    verdict: Verdicts = None,
    text: Text = "",
    annotator: Annotator = None,
    origin: OriginOption = None,
    since: Since = None,
    before: Before = None,
    note: Note = "",
    person: Person = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Withdraw labels, including those set by people. Annotators judge the captions when they come again."""
    from onibus.consumers.labels.as_of import labels_as_of
    from onibus.consumers.labels.corrections import SubjectName, withdraw
    from onibus.consumers.specs.known_specs import KnownSpecs

    specs = KnownSpecs.read(settings)
    wanted = label_filter(specs, spec, verdict, text, annotator, origin, since, before)
    labels = labels_as_of(settings, None, wanted.spec_ids)
    chosen = wanted.newest_first(labels)
    if subject is not None:
        subject_id = SubjectName(subject).find(labels).subject_id
        chosen = [label for label in chosen if label.subject_id == subject_id]
    if _is_dry_run("withdraw", chosen, specs, yes or subject is not None, as_json):
        return
    written = _write(
        settings, withdraw(chosen, person or user_name(), note, time.time_ns() // 1000), len(chosen)
    )
    say({"withdrawn": written}, f"withdrew {written:,} labels", as_json)


def annotate_again(
    settings: Settings,
    spec: Annotated[
        str, typer.Option(help="Spec whose labels are chosen: its name, or the first digits of its id.")
    ],
    under: Annotated[
        str | None,
        typer.Option(
            help="Judge them under this spec instead where they have no label; nothing is withdrawn."
        ),
    ] = None,
    verdict: Verdicts = None,
    text: Text = "",
    annotator: Annotator = None,
    origin: OriginOption = None,
    since: Since = None,
    before: Before = None,
    people_too: Annotated[
        bool, typer.Option("--people-too", help="Also withdraw people's verdicts.")
    ] = False,
    note: Note = "asked again",
    person: Person = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for annotators to judge them.")] = 60.0,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Have captions judged again: withdraw their labels and publish the captions again.

    An annotator never asks about a caption that has a label, so the label is withdrawn first. Then the
    caption is published as if it had just been seen (as run "asked-again"), and again while it has no
    label. If the command is interrupted, continue with --verdict withdrawn.
    """
    from onibus.consumers.labels.as_of import labels_as_of
    from onibus.consumers.labels.corrections import FOLLOWED_SECONDS, CaptionRepublisher, withdraw
    from onibus.consumers.specs.known_specs import KnownSpecs
    from onibus.schemas.records import Kind

    specs = KnownSpecs.read(settings)
    target = specs.newest(under or spec)
    if specs[target].kind is not Kind.JUDGE_ONE:
        raise OnibusError(
            f"spec {specs.name(target)} compares captions, whose pairs annotators choose; use: onibus labels "
            "withdraw, and pairs are judged again when their captions come again"
        )
    sources = set(specs.matching(spec)) - {target} if under else {target}
    wanted = replace(
        label_filter(specs, None, verdict, text, annotator, origin, since, before),
        spec_ids=frozenset(sources),
    )
    labels = labels_as_of(settings, None, {*sources, target})
    chosen = [
        label
        for label in wanted.newest_first(labels)
        if (not _has_label(labels, target, label.subject_id) if under else people_too or not label.by_person)
    ]
    if _is_dry_run("have judged again", chosen, specs, yes, as_json):
        return
    if not under:
        in_force = [label for label in chosen if label.verdict is not None]
        changes = withdraw(in_force, person or user_name(), note, time.time_ns() // 1000)
        _write(settings, changes, len(in_force))
        time.sleep(FOLLOWED_SECONDS)
    again = CaptionRepublisher(settings, chosen, target)
    published = again.publish()
    with progress("judged", len(chosen)) as advance:
        missing = again.wait(wait, advance)
    if missing:
        echo(
            f"{missing:,} have no label yet; they are judged when an annotator of spec "
            f"{specs.name(target)} runs",
            err=True,
        )
    result = {"published": published, "judged": published - missing}
    say(result, f"published {published:,} captions again, {published - missing:,} are judged", as_json)


def _has_label(labels: LabelFold, spec_id: bytes, subject_id: bytes) -> bool:
    label = labels.get(spec_id, subject_id)
    return label is not None and label.verdict is not None


def _is_dry_run(what: str, chosen: list[FoldedLabel], specs: KnownSpecs, yes: bool, as_json: bool) -> bool:
    """Print what would be done, unless ``yes``; returns whether nothing is to be done."""
    from onibus.consumers.labels.filter import counts

    if yes and chosen:
        return False
    rows = [
        {
            "spec": specs.name(spec_id),
            "spec_id": spec_id.hex(),
            "verdict": verdict,
            "origin": origin,
            "labels": n,
        }
        for (spec_id, verdict, origin), n in sorted(counts(chosen).items())
    ]
    if as_json:
        echo(json.dumps({"would": what, "labels": len(chosen), "counts": rows, "done": False}, indent=2))
        return True
    if not chosen:
        echo("no label matches, so there is nothing to do")
        return True
    echo(f"would {what}: {len(chosen):,} label{'' if len(chosen) == 1 else 's'}; use --yes to do it")
    for row in rows:
        echo(f"  {row['labels']:,} {row['verdict']} ({row['origin']}) under {row['spec']}")
    for label in chosen[:_EXAMPLES]:
        echo(f"  e.g. {label.subject_id.hex()[:ID_DIGITS]} {printable(label.text)}")
    return True


def _write(settings: Settings, changes: Iterable[Any], count: int) -> int:
    from onibus.consumers.labels.writer import LabelWriter

    with LabelWriter(settings) as writer, progress("written", count) as advance:
        return writer.write(changes, advance)
