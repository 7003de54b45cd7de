"""A reward model trained offline, on all annotations up to given offsets from its first step on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from onibus.consumers.labels.annotation_log_reader import AnnotationSource, LoggedAnnotation, offsets_text
from onibus.consumers.reward_models.character_cnn import USUAL, network_named
from onibus.consumers.reward_models.schedule import STEPS_PER_VERSION
from onibus.consumers.reward_models.trainer import THREADS, RewardTrainer, TrainedVersion, objective_of
from onibus.consumers.reward_models.transfer import model_name
from onibus.consumers.reward_models.unseen import HELD_OUT_PART, is_held_out
from onibus.consumers.reward_models.version_reader import OFFLINE
from onibus.infra.devices import Device, torch_device
from onibus.infra.errors import OnibusError
from onibus.infra.files import write_whole
from onibus.infra.reward_kinds import P_HELPFUL_THRESHOLD
from onibus.schemas.ids import caption_id
from onibus.schemas.records import Annotation, AnnotationSpec, Kind

_WEIGHTS = ("unhelpful_weight", "helpful_weight")


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What is trained.

    Attributes:
        name: of the model; its spec's id is put after it.
        until: by partition the first annotation offset that is left out.
        steps: gradient steps, a multiple of 32.
        threshold: above which the model's judgement is to count; it goes on the card.
        class_weights: of unhelpful and helpful captions in the loss; None: 1 each.
        network: a name in :data:`~onibus.consumers.reward_models.character_cnn.NETWORKS`.
        device: that trains it.
    """

    name: str
    spec_id: bytes
    spec: AnnotationSpec
    until: Mapping[int, int]
    seed: int = 0
    steps: int = 512
    threshold: float = P_HELPFUL_THRESHOLD
    class_weights: tuple[float, float] | None = None
    network: str = USUAL
    device: Device = "cpu"

    def __post_init__(self) -> None:
        if self.steps < STEPS_PER_VERSION or self.steps % STEPS_PER_VERSION:
            raise OnibusError(
                f"--steps {self.steps} is not a multiple of {STEPS_PER_VERSION}; give another number"
            )
        network_named(self.network)
        torch_device(self.device)
        if self.class_weights is not None:
            if self.spec.kind is not Kind.JUDGE_ONE:
                raise OnibusError(
                    f"spec {self.spec.name} compares captions, class weights are for verdicts on one"
                )
            if min(self.class_weights) <= 0:
                raise OnibusError("class weights must be above 0; correct --helpful-weight")

    @property
    def model(self) -> str:
        """Full name of the model."""
        return model_name(self.name, self.spec_id)


@dataclass(slots=True)
class ModelCard:
    """What a model file is; everything that is needed to make it again."""

    model: str
    file: str
    size_bytes: int
    sha256: str
    spec: dict[str, Any]
    data: str
    newest_annotation: str
    annotation_offsets: dict[str, int]
    seed: int
    gradient_steps: int
    class_weights: tuple[float, float] | None
    threshold: float
    architecture: dict[str, Any]
    torch_version: str
    threads: int
    gpu: str
    metrics: dict[str, float]
    trained_at: str
    format: str = field(default="onibus-reward-model-card/1")

    def markdown(self) -> str:
        """The card for people."""
        rows = "\n".join(f"| {name} | {value:.6g} |" for name, value in sorted(self.metrics.items()))
        offsets = offsets_text({int(p): offset for p, offset in self.annotation_offsets.items()})
        weights = "" if self.class_weights is None else f", class weights {self.class_weights}"
        held_out = (
            "The `held_out` figures are of a model that was trained in the same way, but without one caption "
            f"in {HELD_OUT_PART}, chosen by the seed: they are its figures on those captions. "
            if "held_out" in self.metrics
            else "There was too little to hold any of them out and measure a model on these. "
        )
        return (
            f"# {self.model}\n\n`{self.file}`: {self.size_bytes:,} bytes, SHA-256 `{self.sha256}`. Trained "
            f"{self.trained_at} on {self.data} below the offsets `{offsets}`.\n\n"
            f"It learned from all {self.metrics['labels']:,.0f} labels there, the newest of them written "
            f"{self.newest_annotation}. {held_out}"
            "`onibus replay evaluate --held-out` measures this model on captions labelled later.\n\n"
            f"Spec {self.spec['name']} (`{self.spec['spec_id']}`): {self.spec['goal']}\n\n"
            f"Seed {self.seed}, {self.gradient_steps:,} gradient steps{weights}, threshold "
            f"{self.threshold:g}; {self.architecture['name']}, torch {self.torch_version}, "
            f"{self.gpu or f'{self.threads} thread'}.\n\n"
            f"| figure | value |\n|---|---|\n{rows}\n"
        )


def train(
    source: AnnotationSource, plan: TrainingPlan, advance: Callable[[int], None] = lambda _: None
) -> tuple[TrainedVersion, int]:
    """Train as planned: a function of the annotations below the offsets, the seed and the settings.

    Also says when the newest of the annotations was written, milliseconds since the epoch, UTC.

    It is done twice. A first model is trained without a sixteenth of the captions, chosen by the seed, and
    held against them; those are the ``held_out`` figures of the second, which learns from all.

    From a cluster and from a file that was exported there come the same bits, on the same kind of machine
    and torch version. Memory: that of the trainer, which keeps what it learns from (see its objective).

    Args:
        advance: called with 1 before each gradient step, of twice those planned.

    Raises:
        OnibusError: there is nothing to learn, or annotations are missing.
    """
    trainer, held_out = _trainer(plan), _HeldOut(plan)
    if not any(plan.until.values()):
        raise OnibusError("there is nothing to learn: the log has no annotation, or none before --until")
    feed(trainer, held_out.noting(source.read(plan.until)), plan.until, plan.spec_id)
    measured = held_out.figures(advance)
    version = take_steps(trainer, plan.steps // STEPS_PER_VERSION, advance)
    told = {OFFLINE: 1.0} | dict(zip(_WEIGHTS, plan.class_weights or (), strict=False))
    return replace(version, metrics=version.metrics | measured | told), held_out.newest


def _trainer(plan: TrainingPlan) -> RewardTrainer:
    objective = objective_of(plan.spec.kind, network_named(plan.network), plan.class_weights)
    device = torch_device(plan.device)
    return RewardTrainer(plan.model, plan.spec_id, plan.seed, objective=objective, device=device)


class _HeldOut:
    """A model that is trained without some captions, and held against them.

    It takes its annotations from the one pass over the log: a reader of the log goes on where it ended.

    Attributes:
        newest: when the newest annotation of the spec was written, milliseconds since the epoch, UTC.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        self._plan, self._trainer, self.newest = plan, _trainer(plan), 0
        self._kept: dict[bytes, Annotation] = {}

    def noting(self, logged: Iterable[LoggedAnnotation]) -> Iterator[LoggedAnnotation]:
        """The same annotations; those of the spec are noted as they pass."""
        for one in logged:
            if one.annotation is not None and one.annotation.spec_id == self._plan.spec_id:
                self._note(one, one.annotation)
            yield one

    def figures(self, advance: Callable[[int], None]) -> dict[str, float]:
        """Its figures; none where no captions are held out, or too little is left to learn."""
        if not self._kept or not self._trainer.objective.data.can_teach:
            advance(self._plan.steps)
            return {}
        take_steps(self._trainer, self._plan.steps // STEPS_PER_VERSION, advance)
        self._trainer.objective.test(self._trainer.network, list(self._kept.values()))
        figures = self._trainer.objective.figures()
        return {name: value for name, value in figures.items() if name.startswith("held_out")}

    def _note(self, one: LoggedAnnotation, annotation: Annotation) -> None:
        self.newest = max(self.newest, one.written_at)
        if any(is_held_out(caption_id(text), self._plan.seed) for text in annotation.texts):
            self._kept[annotation.subject_id] = annotation
        else:
            self._trainer.see(one.partition, one.offset, annotation)


def feed(
    trainer: RewardTrainer, logged: Iterable[LoggedAnnotation], until: Mapping[int, int], spec_id: bytes
) -> None:
    """Have the trainer see everything below ``until``, of which it then says that it has."""
    for one in logged:
        annotation = one.annotation
        is_own = annotation is not None and annotation.spec_id == spec_id
        trainer.see(one.partition, one.offset, annotation if is_own else None)
    for partition, offset in until.items():
        if trainer.offsets.get(partition, 0) < offset:  # the last records are of others, or markers
            trainer.see(partition, offset - 1, None)
    data = trainer.objective.data
    if not data.can_teach:
        raise OnibusError(
            f"there is nothing to learn: {len(data):,} labels, but not of both kinds (helpful "
            "and unhelpful, or a decided comparison); choose another --spec, or a later --until"
        )


def take_steps(
    trainer: RewardTrainer, versions: int, advance: Callable[[int], None] = lambda _: None
) -> TrainedVersion:
    """Train versions one after the other on the same data; the last one."""

    def counted() -> bool:
        advance(1)
        return True

    version = None
    for _ in range(versions):
        version = trainer.train(keep_going=counted)
    assert version is not None  # for one version at least, and no one stops it
    return version


def offline_weights(metrics: Mapping[str, float]) -> tuple[float, float] | None:
    """The class weights with which a version was trained offline."""
    unhelpful, helpful = (metrics.get(name) for name in _WEIGHTS)
    return None if unhelpful is None or helpful is None else (unhelpful, helpful)


def write_model(path: Path, version: TrainedVersion, newest: int, plan: TrainingPlan, data: str) -> ModelCard:
    """Write the model file, and its card to ``path`` with .json and .md after it.

    Args:
        newest: when the newest annotation was written that it learned from, milliseconds, UTC.
        data: where the annotations are from, in words.

    Raises:
        OnibusError: the disk does not take it.
    """
    made, content = version.file.provenance, version.file.to_bytes()
    card = ModelCard(
        model=plan.model,
        file=path.name,
        size_bytes=len(content),
        sha256=sha256(content).hexdigest(),
        spec={"spec_id": plan.spec_id.hex()} | asdict(plan.spec),
        data=data,
        newest_annotation=_iso(newest),
        annotation_offsets=made.annotation_offsets,
        seed=plan.seed,
        gradient_steps=made.gradient_steps,
        class_weights=plan.class_weights,
        threshold=plan.threshold,
        architecture=json.loads(made.architecture),
        torch_version=torch.__version__,
        threads=THREADS,
        gpu=made.gpu,
        metrics=version.metrics,
        trained_at=_iso(time.time_ns() // 1_000_000),
    )
    try:
        write_whole(path, content)
        write_whole(path.with_name(f"{path.name}.md"), card.markdown())
        write_whole(path.with_name(f"{path.name}.json"), json.dumps(asdict(card), indent=2))
    except OSError as error:
        raise OnibusError(f"cannot write {path}: {error.strerror}; give another path") from error
    return card


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
