"""``onibus labels …``: look at the labels, correct them, take them along."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.label_printing import ID_DIGITS, print_history, print_labels, progress, say
from infra.commands.options import AsJson, with_settings
from infra.errors import OnibusError
from infra.settings import Settings

if TYPE_CHECKING:
    from consumers.replay.label_filter import LabelFilter
    from consumers.replay.label_fold import FoldedLabel, LabelFold
    from consumers.replay.specs import KnownSpecs

_EXAMPLES = 5


class Verdict(StrEnum):
    """Verdicts as a person types them, and "withdrawn" for none in force."""

    HELPFUL = "helpful"
    UNHELPFUL = "unhelpful"
    UNSURE = "unsure"
    FIRST = "first"
    SECOND = "second"
    TIE = "tie"
    WITHDRAWN = "withdrawn"


class Origin(StrEnum):
    """Who answered."""

    LLM = "llm"
    RULES = "rules"
    HUMAN = "human"
    WITHDRAWAL = "withdrawal"


_Specs = Annotated[
    list[str] | None,
    typer.Option("--spec", help="Name of a spec, or the first digits of its id; repeatable."),
]
_Verdicts = Annotated[list[Verdict] | None, typer.Option("--verdict", help="In force; repeatable.")]
_Text = Annotated[str, typer.Option(help="Stands in the caption; upper and lower case alike.")]
_Annotator = Annotated[str | None, typer.Option(help="Name of the annotator or person.")]
_OriginOption = Annotated[Origin | None, typer.Option(help="Who answered.")]
_Since = Annotated[str | None, typer.Option(help="Annotated then or later: 2026-11-23T12:00, UTC.")]
_Before = Annotated[str | None, typer.Option(help="Annotated earlier.")]
_AsOf = Annotated[
    str | None,
    typer.Option(
        help="Labels as they were: at a time (2026-11-23T12:00), at offsets of the annotation log "
        "(0:120,1:98,…) or at a version of a reward model (MODEL@12)."
    ),
]
_Subject = Annotated[str, typer.Argument(help="First digits of a caption's id, or the whole caption.")]
_Person = Annotated[str | None, typer.Option(help="Who says so. [default: the user's name]")]
_Note = Annotated[str, typer.Option(help="Why; kept in the history.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would be done.")]


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(help="Look at labels, correct them, take them along.", no_args_is_help=True)
    group.command("list")(with_settings(list_labels))
    group.command("show")(with_settings(show))
    group.command("set")(with_settings(set_label))
    group.command("withdraw")(with_settings(withdraw_labels))
    group.command("annotate-again")(with_settings(annotate_again))
    group.command("export")(with_settings(export))
    group.command("import")(with_settings(import_file))
    app.add_typer(group, name="labels")


def list_labels(
    settings: Settings,
    spec: _Specs = None,
    verdict: _Verdicts = None,
    text: _Text = "",
    annotator: _Annotator = None,
    origin: _OriginOption = None,
    since: _Since = None,
    before: _Before = None,
    as_of: _AsOf = None,
    limit: Annotated[int, typer.Option(min=0, help="Show so many, the newest; 0 for all.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List labels in force, newest first; --verdict withdrawn shows those that were taken back."""
    from consumers.replay.as_of import labels_as_of
    from consumers.replay.label_fold import label_json
    from consumers.replay.specs import KnownSpecs

    specs = KnownSpecs.read(settings)
    wanted = _filter(specs, spec, verdict, text, annotator, origin, since, before)
    found = wanted.newest_first(labels_as_of(settings, as_of, wanted.spec_ids))
    shown = found[: limit or None]
    if as_json:
        typer.echo(json.dumps([label_json(label, specs.name(label.spec_id)) for label in shown], indent=2))
    else:
        print_labels(shown, specs)
    if len(shown) < len(found):
        typer.echo(f"the newest {len(shown):,} of {len(found):,}; --limit 0 shows all", err=True)


def show(
    settings: Settings,
    subject: _Subject,
    spec: _Specs = None,
    as_of: _AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of one caption: verdicts, every answer as it came, prompts, costs."""
    from consumers.replay.as_of import annotations_as_of
    from consumers.replay.corrections import SubjectName
    from consumers.replay.label_fold import LabelFold
    from consumers.replay.label_history import history_json
    from consumers.replay.specs import KnownSpecs

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
    told = history_json(found.subject_id, logged, specs)
    if as_json:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        print_history(told)


def set_label(
    settings: Settings,
    subject: _Subject,
    verdict: Annotated[Verdict, typer.Argument(help="What it is.")],
    spec: Annotated[str, typer.Option(help="Name of the spec (its newest), or the first digits of its id.")],
    note: _Note = "",
    person: _Person = None,
    new: Annotated[
        bool, typer.Option("--new", help="The caption may be one that nobody has judged yet.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Set a verdict by hand. It stands over every later answer of a model, until it is withdrawn."""
    from consumers.replay.as_of import annotations_as_of
    from consumers.replay.corrections import SubjectName, new_caption, set_by_hand
    from consumers.replay.label_fold import LabelFold
    from consumers.replay.label_writer import LabelWriter
    from consumers.replay.specs import KnownSpecs
    from schemas.records import Verdict as RecordVerdict

    specs, name = KnownSpecs.read(settings), SubjectName(subject)
    spec_id = specs.newest(spec)
    labels = LabelFold(annotations_as_of(settings, None, name.may_be))
    now = time.time_ns() // 1000
    found = new_caption(settings, subject, now) if new and not len(labels) else name.find(labels)
    if verdict is Verdict.WITHDRAWN:
        raise OnibusError("withdrawn is no verdict; use: onibus labels withdraw")
    before = labels.get(spec_id, found.subject_id)
    change = set_by_hand(found, spec_id, specs[spec_id], RecordVerdict(verdict), person or _user(), note, now)
    with LabelWriter(settings) as writer:
        writer.write([change])
    was = "no label" if before is None or before.verdict is None else before.verdict.value
    if as_json:
        told = {
            "subject_id": found.subject_id.hex(),
            "spec_id": spec_id.hex(),
            "was": was,
            "is": verdict.value,
        }
        typer.echo(json.dumps(told | {"person": change.annotations[0].annotator}))
    else:
        typer.echo(f"{found.subject_id.hex()}: {was} -> {verdict.value} under {spec}, by hand")


def withdraw_labels(
    settings: Settings,
    subject: Annotated[
        str | None, typer.Argument(help="One caption: first digits of its id, or all of it.")
    ] = None,
    spec: _Specs = None,
    verdict: _Verdicts = None,
    text: _Text = "",
    annotator: _Annotator = None,
    origin: _OriginOption = None,
    since: _Since = None,
    before: _Before = None,
    note: _Note = "",
    person: _Person = None,
    yes: _Yes = False,
    as_json: AsJson = False,
) -> None:
    """Withdraw labels, people's too: nothing is in force then, and annotators ask if they see the caption."""
    from consumers.replay.as_of import labels_as_of
    from consumers.replay.corrections import SubjectName, withdraw
    from consumers.replay.specs import KnownSpecs

    specs = KnownSpecs.read(settings)
    wanted = _filter(specs, spec, verdict, text, annotator, origin, since, before)
    labels = labels_as_of(settings, None, wanted.spec_ids)
    chosen = wanted.newest_first(labels)
    if subject is not None:
        subject_id = SubjectName(subject).find(labels).subject_id
        chosen = [label for label in chosen if label.subject_id == subject_id]
    if _is_dry_run("withdraw", chosen, specs, yes, as_json):
        return
    written = _write(settings, withdraw(chosen, person or _user(), note, time.time_ns() // 1000), len(chosen))
    say({"withdrawn": written}, f"withdrew {written:,} labels", as_json)


def annotate_again(
    settings: Settings,
    spec: Annotated[str, typer.Option(help="Spec whose labels are chosen: a name, or an id's first digits.")],
    under: Annotated[
        str | None,
        typer.Option(
            help="Have them judged under this spec instead, if they have no label there; none is withdrawn."
        ),
    ] = None,
    verdict: _Verdicts = None,
    text: _Text = "",
    annotator: _Annotator = None,
    origin: _OriginOption = None,
    since: _Since = None,
    before: _Before = None,
    people_too: Annotated[
        bool, typer.Option("--people-too", help="Also what people said; else that stands.")
    ] = False,
    note: _Note = "asked again",
    person: _Person = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait until annotators have judged them.")
    ] = 60.0,
    yes: _Yes = False,
    as_json: AsJson = False,
) -> None:
    """Have captions judged again: withdraws their labels and puts the captions on the bus once more.

    An annotator never asks about a caption that has a label, so the label goes first; then the caption is
    published as if it had just been seen (run "asked-again"), and again while it has no label.
    """
    from consumers.replay.as_of import labels_as_of
    from consumers.replay.corrections import FOLLOWED_SECONDS, AskingAgain, withdraw
    from consumers.replay.specs import KnownSpecs

    specs = KnownSpecs.read(settings)
    target = specs.newest(under) if under else specs.newest(spec)
    wanted = _filter(specs, [spec], verdict, text, annotator, origin, since, before)
    labels = labels_as_of(settings, None, {*(wanted.spec_ids or ()), target})
    chosen = [
        label
        for label in wanted.newest_first(labels)
        if len(label.texts) == 1 and (under or people_too or not label.by_person)
    ]
    if under:
        chosen = [label for label in chosen if not _has_label(labels, target, label.subject_id)]
    if _is_dry_run("have judged again", chosen, specs, yes, as_json):
        return
    if not under:
        _write(settings, withdraw(chosen, person or _user(), note, time.time_ns() // 1000), len(chosen))
        time.sleep(FOLLOWED_SECONDS)
    again = AskingAgain(settings, chosen, target)
    published = again.publish()
    with progress("judged", len(chosen)) as advance:
        missing = again.wait(wait, advance)
    if missing:
        typer.echo(
            f"{missing:,} have no label yet; they are judged when an annotator of spec "
            f"{specs.name(target)} runs",
            err=True,
        )
    told = {"published": published, "judged": published - missing}
    say(told, f"put {published:,} captions on the bus again, {published - missing:,} are judged", as_json)


def export(
    settings: Settings,
    file: Annotated[Path, typer.Argument(help="File to write; its name ends in .parquet or .jsonl.")],
    spec: _Specs = None,
    as_of: _AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Write every annotation, so every label with its history, to a file with a data card beside it."""
    from consumers.replay.annotation_file import export_annotations
    from consumers.replay.annotation_reader import AnnotationReader, of_specs
    from consumers.replay.as_of import resolve_as_of
    from consumers.replay.specs import KnownSpecs
    from infra.codecs import codec_for
    from infra.topics import TopicNames

    specs = KnownSpecs.read(settings)
    chosen = specs.chosen(spec)
    wanted = None if chosen is None else of_specs(frozenset(chosen))
    with AnnotationReader(settings, codec_for(settings), wanted) as reader:
        until = resolve_as_of(settings, reader, as_of)
        with progress("annotations", None) as advance:
            card = export_annotations(
                file,
                reader.read(until),
                {spec_id: specs[spec_id] for spec_id in chosen or specs.all},
                TopicNames(settings.topic_prefix).annotations,
                until,
                advance,
            )
    told = {"file": str(file), "rows": card.rows, "sha256": card.sha256, "offsets": card.offsets}
    say(told, f"{card.rows:,} annotations in {file}; what they are: {file}.card.md", as_json)


def import_file(
    settings: Settings,
    file: Annotated[Path, typer.Argument(help="A file of onibus labels export, its card beside it.")],
    yes: _Yes = False,
    as_json: AsJson = False,
) -> None:
    """Add the annotations of a file to the log, and the labels that follow. Twice changes nothing."""
    from consumers.replay.annotation_file import AnnotationFile
    from consumers.replay.importing import carry_out, plan_import

    source = AnnotationFile(file)
    plan = plan_import(settings, source)
    told: dict[str, Any] = {
        "annotations": plan.annotations,
        "labels": plan.labels,
        "there_already": plan.there,
        "left_out_as_older": plan.older,
        "done": yes,
    }
    if yes and plan.changes:
        carry_out(settings, source, plan)
    verb = "imported" if yes else "would import"
    line = (
        f"{verb} {plan.annotations:,} annotations, which change {plan.labels:,} labels; {plan.there:,} are "
        f"there already, {plan.older:,} left out: something newer is known about their captions"
    )
    say(told, line if yes else f"{line}; --yes does it", as_json)


# --- choosing -----------------------------------------------------------------------------------------


def _has_label(labels: LabelFold, spec_id: bytes, subject_id: bytes) -> bool:
    label = labels.get(spec_id, subject_id)
    return label is not None and label.verdict is not None


def _filter(
    specs: KnownSpecs,
    spec: list[str] | None,
    verdict: list[Verdict] | None,
    text: str,
    annotator: str | None,
    origin: Origin | None,
    since: str | None,
    before: str | None,
) -> LabelFilter:
    from consumers.replay.as_of import parse_time
    from consumers.replay.label_filter import LabelFilter
    from schemas.records import Origin as RecordOrigin

    chosen = specs.chosen(spec)
    return LabelFilter(
        spec_ids=None if chosen is None else frozenset(chosen),
        verdicts=frozenset(v.value for v in verdict or ()),
        text=text,
        annotator=annotator,
        origin=RecordOrigin(origin) if origin else None,
        since=parse_time(since, "--since") if since else None,
        before=parse_time(before, "--before") if before else None,
    )


# --- writing ------------------------------------------------------------------------------------------


def _is_dry_run(what: str, chosen: list[FoldedLabel], specs: KnownSpecs, yes: bool, as_json: bool) -> bool:
    """Say what would be done, unless ``yes``; whether that is all."""
    from consumers.replay.label_filter import counts

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
        typer.echo(
            json.dumps({"would": what, "labels": len(chosen), "counts": rows, "done": False}, indent=2)
        )
        return True
    typer.echo(f"would {what}: {len(chosen):,} labels" + ("; --yes does it" if chosen else ""))
    for row in rows:
        typer.echo(f"  {row['labels']:,} {row['verdict']} ({row['origin']}) under {row['spec']}")
    for label in chosen[:_EXAMPLES]:
        typer.echo(f"  e.g. {label.subject_id.hex()[:ID_DIGITS]} {label.text}")
    return True


def _write(settings: Settings, changes: Iterable[Any], count: int) -> int:
    from consumers.replay.label_writer import LabelWriter

    with LabelWriter(settings) as writer, progress("written", count) as advance:
        return writer.write(changes, advance)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise OnibusError("nobody knows who you are; say so with --person") from error
