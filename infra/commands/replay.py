"""``onibus replay …``: models made again from the annotation log."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.label_printing import progress
from infra.commands.options import AsJson, with_settings
from infra.errors import OnibusError
from infra.settings import Settings

if TYPE_CHECKING:
    from consumers.replay.verify_labels import LabelCheck
    from consumers.replay.versions import Training

_SHOWN_DIFFERENCES = 10


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(help="Make reward models again from the annotation log.", no_args_is_help=True)
    group.command()(with_settings(verify))
    app.add_typer(group, name="replay")


def verify(
    settings: Settings,
    model: Annotated[
        str | None, typer.Argument(help="Reward model, by its name or the beginning of it. [default: all]")
    ] = None,
    labels: Annotated[bool, typer.Option(help="--no-labels leaves the label table out.")] = True,
    as_json: AsJson = False,
) -> None:
    """Make every version of the reward models again, and the label table; compare bit for bit.

    Ends with exit code 1 if something is not identical.
    """
    _one_thread()
    from consumers.replay.specs import KnownSpecs
    from consumers.replay.verify_labels import verify_labels
    from consumers.replay.verify_versions import verify_training
    from consumers.replay.versions import read_updates, trainings

    specs = KnownSpecs.read(settings)
    chosen = _matching(trainings(read_updates(settings)), model)
    checks = []
    for training in chosen:
        with progress(training.model, len(training.versions)) as advance:
            checks.append(verify_training(settings, training, specs, advance))
        if not as_json:
            typer.echo(checks[-1].line)
    label_check = verify_labels(settings) if labels else None
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "trainings": [asdict(check) for check in checks],
                    "labels": None if label_check is None else _label_check_json(label_check),
                },
                indent=2,
            )
        )
    elif label_check is not None:
        _print_label_check(label_check)
    if any(check.identical < check.versions for check in checks) or (label_check and not label_check.is_well):
        raise typer.Exit(1)


def _matching(found: list[Training], model: str | None) -> list[Training]:
    if model is None:
        return found
    chosen = [training for training in found if training.model.startswith(model)]
    if not chosen:
        names = ", ".join(sorted({training.model for training in found})) or "none yet"
        raise OnibusError(f"there is no reward model {model}; there are: {names}")
    return chosen


def _label_check_json(check: LabelCheck) -> dict[str, Any]:
    return {
        "labels": check.labels,
        "annotations": check.annotations,
        "changing": check.changing,
        "table_differs": check.table_differs,
        "unreadable": check.unreadable,
        "differences": [
            {
                "spec_id": one.spec_id.hex(),
                "subject_id": one.subject_id.hex(),
                "on_topic": one.on_topic and one.on_topic.value,
                "by_log": one.by_log and one.by_log.value,
            }
            for one in check.differences
        ],
    }


def _print_label_check(check: LabelCheck) -> None:
    typer.echo(check.line)
    for one in check.differences[:_SHOWN_DIFFERENCES]:
        topic, log = (v.value if v else "no label" for v in (one.on_topic, one.by_log))
        typer.echo(
            f"  {one.subject_id.hex()} under {one.spec_id.hex()}: {topic} on the topic, {log} by the log"
        )
    if check.changing:
        typer.echo(f"  {check.changing:,} labels changed meanwhile and were left out")


def _one_thread() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the weights' bits depend on it
