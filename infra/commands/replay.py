"""``onibus replay …``: models made again from the annotation log."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
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
    group.command()(with_settings(train))
    group.command()(with_settings(verify))
    app.add_typer(group, name="replay")


def train(
    settings: Settings,
    out: Annotated[Path, typer.Argument(help="File to write, in safetensors; its cards come beside it.")],
    spec: Annotated[str, typer.Option(help="Name of the spec (its newest), or the first digits of its id.")],
    until: Annotated[
        str | None,
        typer.Option(
            help="Learn from what was written before: a time (2026-11-23T12:00), offsets (0:120,1:98,…) or a "
            "version of a reward model (MODEL@12). [default: everything]"
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Learn from this file of onibus labels export; no broker is needed."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of initial weights and mini-batches.")] = 0,
    steps: Annotated[int, typer.Option(min=32, help="Gradient steps, a multiple of 32.")] = 512,
    threshold: Annotated[
        float, typer.Option(help="Goes on the card: above which the model's judgement is to count.")
    ] = 0.5,
    helpful_weight: Annotated[
        float | None, typer.Option(help="Weight of helpful captions in the loss; unhelpful ones have 1.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model. [default: the spec's, and -replayed]")
    ] = None,
    publish: Annotated[bool, typer.Option("--publish", help="Put it on the bus, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a reward model on the annotation log, or on a file of it, all over again."""
    _one_thread()
    from consumers.replay.annotation_file import AnnotationFile
    from consumers.replay.annotation_reader import AnnotationReader, of_specs
    from consumers.replay.as_of import resolve_as_of
    from consumers.replay.model_publishing import publish_model
    from consumers.replay.model_training import TrainingPlan, write_model
    from consumers.replay.model_training import train as train_model
    from consumers.replay.specs import KnownSpecs
    from infra.codecs import codec_for

    if source is None:
        specs = KnownSpecs.read(settings)
        spec_id = specs.newest(spec)
        read_from: Any = AnnotationReader(settings, codec_for(settings), of_specs({spec_id}))
    else:
        read_from = AnnotationFile(source)
        specs = KnownSpecs(read_from.specs)
        spec_id = specs.newest(spec)
    with read_from as annotations:
        plan = TrainingPlan(
            name or f"{specs[spec_id].name}-replayed",
            spec_id,
            specs[spec_id],
            resolve_as_of(settings, annotations, until),
            seed,
            steps,
            threshold,
            None if helpful_weight is None else (1.0, helpful_weight),
        )
        with progress("gradient steps", steps) as advance:
            version = train_model(annotations, plan, advance)
    data = f"the annotations of {source.name}" if source else "the annotation log"
    card = write_model(out, version, plan, data)
    published = publish_model(settings, version) if publish else False
    if as_json:
        typer.echo(json.dumps(asdict(card) | {"published": published}, indent=2))
        return
    typer.echo(
        f"{card.model}: {card.gradient_steps:,} steps, loss {card.metrics['loss']:.3f}; SHA-256 {card.sha256}"
    )
    typer.echo(f"written to {out}; what it is: {out}.md" + ("; on the bus, too" if published else ""))


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
