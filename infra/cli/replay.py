"""``onibus replay …``: models made again from the annotation log, and held against each other."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onibus.infra.cli import replay_episodes
from onibus.infra.cli.evaluation_printing import agreement_json, print_agreement, print_evaluation
from onibus.infra.cli.label_printing import progress
from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.devices import Device
from onibus.infra.errors import OnibusError
from onibus.infra.flags import MOST_SEED
from onibus.infra.process.terminal import echo
from onibus.infra.reward_kinds import P_HELPFUL_THRESHOLD
from onibus.infra.settings import Settings
from onibus.infra.times import TIME_HELP

if TYPE_CHECKING:
    from onibus.consumers.labels.annotation_log_reader import AnnotationSource, LoggedAnnotation
    from onibus.consumers.replay.verify_labels import LabelCheck
    from onibus.consumers.reward_models.version_reader import Training
    from onibus.consumers.specs.known_specs import KnownSpecs

_SHOWN_DIFFERENCES = 10
_WHOSE = {"labels": "in_force", "people": "people", "annotators": "annotators"}
_JUDGE_HELP = (
    "A model file, a model's name on the bus, labels:SPEC (verdicts in force), people:SPEC (set by people "
    "alone) or annotators:SPEC (answers of models and rules alone)."
)

AsOf = Annotated[
    str | None,
    typer.Option(help="Labels as they were at a time, at offsets, or for a version of a model (MODEL@12)."),
]
FromFile = Annotated[
    Path | None, typer.Option("--from", help="Read this file of onibus labels export instead of the log.")
]
NetworkImports = Annotated[
    list[str] | None,
    typer.Option("--import", help="Module with the network of a reward model; can be repeated."),
]


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(
        help="Rebuild reward models, labels and episodes from the logs.", no_args_is_help=True
    )
    group.command()(with_settings(train))
    group.command()(with_settings(verify))
    group.command()(with_settings(evaluate))
    group.command()(with_settings(compare))
    replay_episodes.register(group)
    app.add_typer(group, name="replay")


def train(
    settings: Settings,
    out: Annotated[
        Path, typer.Argument(help="File to write, in safetensors format; its cards are written beside it.")
    ],
    spec: Annotated[
        str,
        typer.Option(help="Spec: NAME (in use now), NAME@MODEL, NAME@ID or the first digits of an id."),
    ],
    until: Annotated[
        str | None,
        typer.Option(
            help=f"Use annotations written before a time ({TIME_HELP}), offsets (0:120,1:98,…) or a "
            "version of a reward model (MODEL@12). (default: everything)"
        ),
    ] = None,
    source: FromFile = None,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Seed of initial weights and mini-batches.")
    ] = 0,
    steps: Annotated[int, typer.Option(min=32, help="Gradient steps, a multiple of 32.")] = 512,
    threshold: Annotated[
        float, typer.Option(help="Threshold to record on the model's card.")
    ] = P_HELPFUL_THRESHOLD,
    helpful_weight: Annotated[
        float | None,
        typer.Option(help="Weight of helpful captions in the loss; that of unhelpful ones is 1."),
    ] = None,
    network: Annotated[
        str,
        typer.Option(
            help="max-over-time (the online trainer's), published, small or large; or module:Class of "
            "your own."
        ),
    ] = "max-over-time",
    device: Annotated[Device, typer.Option(help="Where the model is trained.")] = "cpu",
    name: Annotated[
        str | None, typer.Option(help="Name of the model. (default: the spec's name and -replayed)")
    ] = None,
    publish: Annotated[bool, typer.Option("--publish", help="Also publish it on the bus.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a reward model from scratch on the annotation log, or on a file of it."""
    _one_thread()
    from onibus.consumers.labels.as_of import resolve_as_of
    from onibus.consumers.replay.offline_training import TrainingPlan, write_model
    from onibus.consumers.replay.offline_training import train as train_model
    from onibus.consumers.replay.publish import publish_model
    from onibus.consumers.reward_models.unseen import told

    with _annotations(settings, source, spec) as (annotations, specs):
        spec_id = specs.newest(spec)
        plan = TrainingPlan(
            name or f"{specs[spec_id].name}-replayed",
            spec_id,
            specs[spec_id],
            resolve_as_of(settings, annotations, until, "--until"),
            seed,
            steps,
            threshold,
            None if helpful_weight is None else (1.0, helpful_weight),
            network,
            device,
        )
        with progress("gradient steps", 2 * steps) as advance:
            version, newest = train_model(annotations, plan, advance)
    data = f"the annotations of {source.name}" if source else "the annotation log"
    card = write_model(out, version, newest, plan, data)
    published = publish_model(settings, version) if publish else False
    if as_json:
        echo(json.dumps(asdict(card) | {"published": published}, indent=2))
        return
    echo(
        f"{card.model}: {card.gradient_steps:,} steps, loss {card.metrics['loss']:.3f}, "
        f"{told(card.metrics)}; SHA-256 {card.sha256}"
    )
    echo(f"written to {out}; what it is: {out}.md" + ("; on the bus, too" if published else ""))


def verify(
    settings: Settings,
    model: Annotated[
        str | None, typer.Argument(help="Name of a reward model, or the beginning of it. (default: all)")
    ] = None,
    labels: Annotated[bool, typer.Option(help="--no-labels skips the label table.")] = True,
    imports: NetworkImports = None,
    as_json: AsJson = False,
) -> None:
    """Rebuild every version of the reward models and the label table, and compare bit for bit.

    Exits with code 1 if anything differs that this onibus made.
    """
    _one_thread()
    _import(imports)
    from onibus.consumers.replay.verify_labels import verify_labels
    from onibus.consumers.replay.verify_models import verify_training
    from onibus.consumers.reward_models.version_reader import read_updates, trainings
    from onibus.consumers.specs.known_specs import KnownSpecs

    specs = KnownSpecs.read(settings)
    chosen = _matching(trainings(read_updates(settings)), model)
    checks = []
    for training in chosen:
        with progress(training.model, len(training.versions)) as advance:
            checks.append(verify_training(settings, training, specs, advance))
        if not as_json:
            echo(checks[-1].line)
    if not chosen and not as_json:
        echo("no reward model has a version yet")
    label_check = verify_labels(settings) if labels else None
    if as_json:
        echo(
            json.dumps(
                {
                    "trainings": [asdict(check) for check in checks],
                    "labels": None if label_check is None else asdict(label_check),
                },
                indent=2,
                default=bytes.hex,
            )
        )
    elif label_check is not None:
        _print_label_check(label_check)
    if not all(check.is_well for check in checks) or (label_check and not label_check.is_well):
        raise typer.Exit(1)


def evaluate(
    settings: Settings,
    model: Annotated[str, typer.Argument(help="A model file, or the name of a model on the bus.")],
    spec: Annotated[
        str | None,
        typer.Option(help="Compare with the labels of this spec. (default: the spec that it was trained on)"),
    ] = None,
    people: Annotated[bool, typer.Option("--people", help="Compare with people's verdicts only.")] = False,
    held_out: Annotated[
        bool,
        typer.Option(
            "--held-out",
            help="Only labels that the model was not trained on: with replay train --until, all later ones.",
        ),
    ] = False,
    threshold: Annotated[
        float, typer.Option(help="Probability above which it predicts helpful.")
    ] = P_HELPFUL_THRESHOLD,
    worst: Annotated[int, typer.Option(min=0, help="Number of worst mistakes to show.")] = 10,
    imports: NetworkImports = None,
    as_of: AsOf = None,
    source: FromFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare a reward model with labels: accuracy, ROC-AUC, Brier score, calibration, mistakes."""
    _one_thread()
    _import(imports)
    from onibus.consumers.replay import evaluation
    from onibus.consumers.replay.judges import load_model, verdicts_of

    loaded = load_model(settings, model)
    known = evaluation.TrainedOn(loaded)
    with _annotations(settings, source) as (annotations, specs):
        spec_id = specs.newest(spec) if spec else loaded.spec_id
        verdicts = verdicts_of(known.noting(_read(settings, annotations, as_of)), spec_id)
    truth = verdicts.people if people else verdicts.in_force
    told = evaluation.evaluate(loaded, known.held_out(truth) if held_out else truth, threshold, worst, known)
    if as_json:
        echo(json.dumps(asdict(told) | {"model": model}, indent=2, default=bytes.hex))
    else:
        print_evaluation(told)


def compare(
    settings: Settings,
    first: Annotated[str, typer.Argument(help=_JUDGE_HELP)],
    second: Annotated[str, typer.Argument(help="The other judge, in the same form.")],
    threshold: Annotated[
        float, typer.Option(help="Probability above which a model predicts helpful.")
    ] = P_HELPFUL_THRESHOLD,
    show: Annotated[int, typer.Option(min=0, help="Number of captions to show on which they differ.")] = 10,
    imports: NetworkImports = None,
    as_of: AsOf = None,
    source: FromFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare two judges: agreement, Cohen's kappa, and captions on which they differ."""
    _one_thread()
    _import(imports)
    from onibus.consumers.replay.evaluation import agree
    from onibus.consumers.replay.judges import JudgedSubject, RewardModel, load_model, verdicts_of

    with _annotations(settings, source) as (annotations, specs):
        logged = list(_read(settings, annotations, as_of))
    found: dict[str, dict[bytes, JudgedSubject] | RewardModel] = {}
    for name in (first, second):
        whose, colon, spec = name.partition(":")
        if colon and whose in _WHOSE:
            found[name] = getattr(verdicts_of(logged, specs.newest(spec)), _WHOSE[whose])
        else:
            found[name] = load_model(settings, name)
    # A model judges what the other side did; two models, all that was judged under the first one's spec.
    labels = [judge for judge in found.values() if isinstance(judge, dict)]
    models = [judge for judge in found.values() if isinstance(judge, RewardModel)]
    subjects = labels[0] if labels else verdicts_of(logged, models[0].spec_id).in_force
    one, other = (
        judge if isinstance(judge, dict) else judge.judge(subjects, threshold)
        for judge in (found[first], found[second])
    )
    told = agree(one, other)
    if as_json:
        echo(json.dumps(agreement_json(told, first, second), indent=2))
    else:
        print_agreement(told, first, second, show)


def _matching(found: list[Training], model: str | None) -> list[Training]:
    if model is None:
        return found
    chosen = [training for training in found if training.model.startswith(model)]
    if not chosen:
        names = ", ".join(sorted({training.model for training in found})) or "none yet"
        raise OnibusError(f"there is no reward model {model}; there are: {names}")
    return chosen


@contextmanager
def _annotations(
    settings: Settings, file: Path | None, spec: str | None = None
) -> Iterator[tuple[AnnotationSource, KnownSpecs]]:
    """The log, of one spec if it is named, or a file of it; and the specs that are known there."""
    from onibus.consumers.labels.annotation_log_reader import AnnotationReader, of_specs
    from onibus.consumers.labels.export import AnnotationFile
    from onibus.consumers.specs.known_specs import KnownSpecs

    if file is not None:
        source = AnnotationFile(file)
        yield source, KnownSpecs(source.specs)
        return
    specs = KnownSpecs.read(settings)
    wanted = None if spec is None else of_specs({specs.newest(spec)})
    with AnnotationReader(settings, wanted) as reader:
        yield reader, specs


def _read(settings: Settings, source: AnnotationSource, as_of: str | None) -> Iterator[LoggedAnnotation]:
    from onibus.consumers.labels.as_of import resolve_as_of

    return source.read(resolve_as_of(settings, source, as_of))


def _print_label_check(check: LabelCheck) -> None:
    echo(check.line)
    for one in check.differences[:_SHOWN_DIFFERENCES]:
        topic, log = (v.value if v else "no label" for v in (one.on_topic, one.by_log))
        echo(f"  {one.subject_id.hex()} under {one.spec_id.hex()}: {topic} on the topic, {log} by the log")
    if check.changing:
        echo(f"  {check.changing:,} labels changed meanwhile and were left out")


def _import(modules: list[str] | None) -> None:
    from onibus.infra.plugins import import_plugin

    for module in modules or ():
        import_plugin("--import", module)


def _one_thread() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the weights' bits depend on it
