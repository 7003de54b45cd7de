"""``onibus spec``: the annotation specs on the bus, and which of them a name stands for; spec files."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from onibus.infra.cli import spec_files
from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.cli.tables import print_table
from onibus.infra.process.terminal import echo
from onibus.infra.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(
        help="Annotation specs: what is asked, and how answers are read.", no_args_is_help=True
    )
    group.command("list")(with_settings(list_specs))
    spec_files.add_to(group)
    app.add_typer(group, name="spec")


def list_specs(
    settings: Settings,
    name: Annotated[str | None, typer.Argument(help="Only specs of this name. (default: all)")] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Count the labels of each; reads the whole label topic.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List specs by name, the one in use last: that is what the name stands for.

    Choose another with --spec NAME@ID, with the first digits of the id, or with --spec NAME@MODEL.
    """
    from onibus.consumers.specs.spec_file import spec_names

    rows = _rows(settings, name)
    if labels:
        from onibus.consumers.labels.reader import read_labels

        table = read_labels(settings)
        rows = [row | {"labels": table.count(bytes.fromhex(row["id"]))} for row in rows]
    if as_json:
        echo(json.dumps(rows, indent=2))
        return
    shown = []
    for row in rows:
        model = f"{row['model']} {row['model_revision']}".strip()
        counted = [f"{row['labels']:,}"] if labels else []
        in_use = "yes" if row["in_use"] else ""
        shown.append(
            (row["name"], row["id"], model, row["announced_at"], row["announced_by"] or "–", in_use, *counted)
        )
    columns = ("name", "id", "model", "announced last", "by", "in use")
    if shown:
        print_table((*columns, "labels") if labels else columns, shown)
    else:
        echo(f"no annotator has announced {name or 'a spec'} on this cluster yet")
    if name is None:
        echo(f"built in: {', '.join(spec_names())}; look at one with: onibus spec show NAME")


def _rows(settings: Settings, name: str | None) -> list[dict[str, Any]]:
    from onibus.consumers.specs.choice import spec_in_use
    from onibus.consumers.specs.spec_file import announced_specs

    announced = announced_specs(settings)
    specs = {spec_id: one.spec for spec_id, one in announced.items()}
    rows = [
        {
            "name": one.spec.name,
            "id": spec_id.hex(),
            "model": one.spec.model,
            "model_revision": one.spec.model_revision,
            "announced_at": datetime.fromtimestamp(one.announced_at, UTC).isoformat(timespec="seconds"),
            "announced_by": one.announced_by,
            "imported": one.was_imported,
            "in_use": spec_in_use(specs, one.spec.name) == spec_id,
        }
        for spec_id, one in announced.items()
        if name in (None, one.spec.name)
    ]
    return sorted(rows, key=lambda row: str(row["name"]))  # a stable sort: the last announced stays last
