"""The process around :class:`~onibus.consumers.reward_models.trainer.RewardTrainer`: log in, versions out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import torch
from kafka.errors import KafkaError

from onibus.consumers.reward_models import unseen
from onibus.consumers.reward_models.character_cnn import MAX_OVER_TIME, AnyNetwork
from onibus.consumers.reward_models.learned import LearnedLog, read_learned
from onibus.consumers.reward_models.merged_annotations import AnnotationLog
from onibus.consumers.reward_models.model_file import ModelFile, ModelFileError, read_model_file
from onibus.consumers.reward_models.publisher import VersionWriter
from onibus.consumers.reward_models.schedule import OWN, Schedule
from onibus.consumers.reward_models.trainer import RewardTrainer, TrainedVersion, objective_of
from onibus.consumers.reward_models.transfer import model_name
from onibus.infra.errors import OnibusError
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.reachability import UnreachableError
from onibus.infra.kafka.transactions import OutgoingRecord
from onibus.infra.kafka.transient import raise_unless_transient
from onibus.infra.observability import metrics
from onibus.infra.settings import Settings
from onibus.schemas.errors import RegistryError
from onibus.schemas.records import Annotation, Kind

_log = logging.getLogger(__name__)

QUIET_SECONDS = 2.0
"""When nothing came for so long, a version is made of what there is, though fewer than it waits for. The
one place where time has a say; where such a version ended stands in it as offsets, as with any other."""

_HELD_OUT = {
    "held_out": metrics.REWARD_HELD_OUT,
    "held_out_positive": metrics.REWARD_HELPFUL,
    "held_out_accuracy": metrics.REWARD_ACCURACY,
    "held_out_balanced_accuracy": metrics.REWARD_BALANCED_ACCURACY,
    "held_out_precision": metrics.REWARD_PRECISION,
    "held_out_recall": metrics.REWARD_RECALL,
    "held_out_brier": metrics.REWARD_BRIER,
}
"""Figures of a version, each with the metric that has it."""

_POLL_MS = 200
_LOOK_SECONDS = 0.1
_RETRY_SECONDS = 1.0


@dataclass(slots=True)
class TrainerSummary:
    """What a trainer did in its life."""

    model: str
    versions: int = 0
    version: int = 0
    gradient_steps: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def line(self) -> str:
        """The summary as one line for a person."""
        return (
            f"reward model {self.model}: {self.versions:,} versions in "
            f"{time.monotonic() - self.started:.0f} s, now version {self.version}, "
            f"{self.gradient_steps:,} gradient steps; {unseen.told(self.figures)}"
        )


class TrainerProcess:
    """Trains the reward model of one specification until it is told to stop.

    Killed at any moment, it goes on from the newest version on the bus: what it has learned from, which is
    written with the versions, restores its data, the file has its optimizer, and the numbers are as if
    nothing had happened.

    While a version is written the next one is trained already, and waits for it: one is on its way at a time.
    """

    def __init__(
        self,
        settings: Settings,
        spec_name: str,
        spec_id: bytes,
        seed: int,
        kind: Kind = Kind.JUDGE_ONE,
        network: AnyNetwork = MAX_OVER_TIME,
        device: str = "cpu",
        schedule: Schedule = OWN,
    ) -> None:
        self._settings, self._spec_id, self._seed = settings, spec_id, seed
        self._kind, self._network, self._device = kind, network, device
        self._schedule, self._begun = schedule, time.monotonic()
        self._model = model_name(spec_name, spec_id)
        self._codec = codec_for(settings)
        self._writer = VersionWriter(settings, self._codec, self._model)
        self._publisher = ThreadPoolExecutor(1, "versions")
        self._writing: Future[None] | None = None
        self._leaving = threading.Event()
        self._unwritten: list[OutgoingRecord] = []
        self.summary = TrainerSummary(self._model)

    def run(self, stopping: threading.Event) -> TrainerSummary:
        """Train and publish until ``stopping`` is set.

        Raises:
            OnibusError: the cluster refuses, the model on the bus cannot be gone on with, or another
                trainer has taken it over.
        """
        log: AnnotationLog | None = None
        try:
            self._writer.open(stopping)  # from here on no one else writes this model's versions
            objective = objective_of(self._kind, self._network)
            trainer = RewardTrainer(
                self._model,
                self._spec_id,
                self._seed,
                self._newest(),
                objective=objective,
                device=self._device,
                schedule=self._schedule,
            )
            self.summary.version, self.summary.gradient_steps = trainer.version, trainer.gradient_steps
            learned = read_learned(self._settings, self._codec, self._model, self._spec_id)
            read_from = learned.offsets
            log = AnnotationLog(self._settings, self._codec, self._spec_id, trainer.offsets, read_from)
            trainer.go_on_from(log.restored)
            self._take_again(learned, trainer, stopping)
            _log.info("ready: trainer of reward model %s at version %d", self._model, trainer.version)
            while not stopping.is_set():
                self._turn(log, learned, trainer, stopping)
            self._leaving.set()
            self._wait_until_written(stopping)
        finally:
            self._leaving.set()
            self._publisher.shutdown()
            if log is not None:
                log.close()
            self._writer.close()
        return self.summary

    def _newest(self) -> ModelFile | None:
        whole = self._writer.newest()
        if whole is None:
            return None
        try:
            file = read_model_file(whole.data)
        except ModelFileError as error:
            raise OnibusError(
                f"version {whole.version} of reward model {self._model} cannot be read: {error}; was it "
                "written by another program? Use another --topic-prefix"
            ) from error
        if file.provenance.torch_version != torch.__version__:
            _log.warning(
                "version %d was trained with torch %s, this is %s: what follows has not the same bits",
                whole.version, file.provenance.torch_version, torch.__version__,
            )  # fmt: skip
        return file

    def _take_again(self, learned: LearnedLog, trainer: RewardTrainer, stopping: threading.Event) -> None:
        """Have the trainer see what was seen before, as far as it learns from it."""
        for seen in learned.taken():
            if stopping.is_set():
                return
            trainer.see(*seen)
            if trainer.is_due():  # the versions were lost, not the data
                self._make_version(trainer, learned, stopping)
        for partition, offset in learned.offsets.items():
            if trainer.offsets.get(partition, 0) < offset:
                trainer.see(partition, offset - 1, None)

    def _turn(
        self, log: AnnotationLog, learned: LearnedLog, trainer: RewardTrainer, stopping: threading.Event
    ) -> None:
        if self._writing is not None and self._writing.done():
            self._wait_until_written(stopping)
        try:
            log.fill(_POLL_MS)
        except (KafkaError, UnreachableError) as error:
            raise_unless_transient(error, "reading annotations")
            _log.warning("reading annotations: %s; trying again", error)
            stopping.wait(_RETRY_SECONDS)
            return
        while not stopping.is_set() and (record := _next(log, stopping)) is not None:
            learned.add(*record)
            trainer.see(*record)
            if trainer.is_due(seconds=self._seconds):
                self._make_version(trainer, learned, stopping)
        if trainer.is_due(quiet=log.quiet_seconds > QUIET_SECONDS, seconds=self._seconds):
            self._make_version(trainer, learned, stopping)
        elif learned.is_due(trainer.offsets) and not stopping.is_set():
            self._wait_until_written(stopping)
            self._writing = self._publisher.submit(self._keep, learned.cut(trainer.offsets))

    @property
    def _seconds(self) -> float:
        """Since the newest version was begun, or this process."""
        return time.monotonic() - self._begun

    def _make_version(self, trainer: RewardTrainer, learned: LearnedLog, stopping: threading.Event) -> None:
        """Train, and have it published; if a stop comes between, the next start does it again."""
        self._begun = time.monotonic()
        version = trainer.train(keep_going=lambda: not stopping.is_set())
        if version is None:
            return
        self._wait_until_written(stopping)
        counted = trainer.objective.counted(version.metrics)
        blocks = learned.cut(trainer.offsets)
        self._writing = self._publisher.submit(self._publish, version, counted, blocks)

    def _publish(self, version: TrainedVersion, counted: str, blocks: list[OutgoingRecord]) -> None:
        if self._writer.publish(version, self._leaving, [*self._unwritten, *blocks]):
            self._unwritten = []
            self._count(version, counted)

    def _keep(self, blocks: list[OutgoingRecord]) -> None:
        self._unwritten += blocks
        if self._writer.keep(self._unwritten, self._leaving):
            self._unwritten = []

    def _wait_until_written(self, stopping: threading.Event) -> None:
        """Wait for the version that is on its way, not long once it is time to stop; raises what it met."""
        if self._writing is None:
            return
        while not wait([self._writing], _LOOK_SECONDS).done:
            if stopping.is_set():
                self._leaving.set()
        writing, self._writing = self._writing, None
        writing.result()

    def _count(self, version: TrainedVersion, counted: str) -> None:
        made, told = version.file.provenance, version.metrics
        self.summary.versions += 1
        self.summary.version, self.summary.gradient_steps = made.version, made.gradient_steps
        self.summary.figures = told
        metrics.REWARD_VERSIONS.labels(model=self._model).inc()
        metrics.REWARD_GRADIENT_STEPS.labels(model=self._model).inc(version.steps)
        metrics.REWARD_LOSS.labels(model=self._model).set(told["loss"])
        metrics.REWARD_LABEL_AGE_SECONDS.labels(model=self._model).set(told["newest_label_age_seconds"])
        for name, gauge in _HELD_OUT.items():
            if name in told:
                gauge.labels(model=self._model).set(told[name])
        _log.info("version %d: loss %.3f, %s, %s", made.version, told["loss"], unseen.told(told), counted)


def _next(log: AnnotationLog, stopping: threading.Event) -> tuple[int, int, Annotation | None] | None:
    """The next record of the log; None: read on first, or the schema registry does not answer now."""
    try:
        return log.next()
    except RegistryError as error:
        _log.warning("reading annotations: %s; trying again", error)
        stopping.wait(_RETRY_SECONDS)
        return None
