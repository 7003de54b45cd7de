"""``onibus labels export`` and ``import``: annotations in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onibus.infra.cli.label_options import AsOf, Specs, Yes
from onibus.infra.cli.label_printing import progress, say
from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.settings import Settings


def register(group: typer.Typer) -> None:
    """Add both to the commands of ``onibus labels``."""
    group.command("export")(with_settings(export))
    group.command("import")(with_settings(import_file))


def export(
    settings: Settings,
    file: Annotated[Path, typer.Argument(help="File to write, .parquet or .jsonl.")],
    spec: Specs = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Write all annotations, and so all labels with their history, to a file with a data card."""
    from onibus.consumers.labels.annotation_log_reader import AnnotationReader, of_specs
    from onibus.consumers.labels.as_of import resolve_as_of
    from onibus.consumers.labels.export import export_annotations
    from onibus.consumers.specs.known_specs import KnownSpecs
    from onibus.infra.kafka.topics import TopicNames

    specs = KnownSpecs.read(settings)
    chosen = specs.chosen(spec)
    wanted = None if chosen is None else of_specs(frozenset(chosen))
    with AnnotationReader(settings, wanted) as reader:
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
    result = {"file": str(file), "rows": card.rows, "sha256": card.sha256, "offsets": card.offsets}
    say(result, f"{card.rows:,} annotations in {file}, described in {file}.card.md", as_json)


def import_file(
    settings: Settings,
    file: Annotated[Path, typer.Argument(help="A file of onibus labels export, with its card beside it.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Add the annotations of a file to the log, and their labels. Importing twice changes nothing."""
    from onibus.consumers.labels.export import AnnotationFile
    from onibus.consumers.labels.import_file import carry_out, plan_import

    source = AnnotationFile(file)
    plan = plan_import(settings, source)
    result: dict[str, Any] = {
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
        f"already there, {plan.older:,} left out because there are newer ones about their captions"
    )
    say(result, line if yes or not plan.changes else f"{line}; use --yes to do it", as_json)
