"""Every version of an online training made again from the annotation log, and compared by its SHA-256."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256

import torch

from onibus.consumers.labels.annotation_log_reader import AnnotationReader, of_specs
from onibus.consumers.labels.as_of import offsets_of
from onibus.consumers.replay.offline_training import feed, offline_weights, take_steps
from onibus.consumers.reward_models.character_cnn import CLASSES, MAX_OVER_TIME, SCORE, network_of
from onibus.consumers.reward_models.model_file import ModelFile, ModelFileError, read_model_file
from onibus.consumers.reward_models.own_network import told_reference, why_unknown
from onibus.consumers.reward_models.processor import processor
from onibus.consumers.reward_models.publisher import newest_version
from onibus.consumers.reward_models.trainer import RewardTrainer, TrainedVersion, objective_of
from onibus.consumers.reward_models.version_reader import OFFLINE, Training
from onibus.consumers.specs.known_specs import KnownSpecs
from onibus.infra.devices import gpu_name
from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings
from onibus.infra.version import version
from onibus.schemas.records import Kind, RewardUpdate

OLDEST = "0.1.0 or older"
"""What made versions that do not say so."""


@dataclass(frozen=True, slots=True)
class WeightsApart:
    """How far two versions are apart: the largest difference of a weight, and that of all by their norm."""

    version: int
    largest: float
    relative_norm: float


@dataclass(slots=True)
class TrainingCheck:
    """What came of making a training's versions again.

    Attributes:
        first_different: the first version whose file is another; each later one is made from it.
        made_by: the onibus that made it, if that is not this one: it may train otherwise, so the versions
            from there on cannot be verified here, which is no fault of theirs.
        other_network: why the user's own network, which they have, is not here; none is made again then.
        other_gpu: the first version that a GPU made which this machine lacks, and that GPU's name; it and
            those after it are not made again here.
        torch_versions: with which they were made online; ``torch_version`` is this machine's.
        processors: on which they were made, empty where that was not recorded; ``processor`` is this one.
        online_seconds: from the first version's end to the last one's; below 0 if the trainer's clock was
            set back meanwhile.
        replay_seconds: for all of them here.
        apart: of the newest version, whose weights are on the bus, if they are others.
    """

    model: str
    versions: int
    identical: int = 0
    first_different: int | None = None
    made_by: str | None = None
    other_network: str | None = None
    other_gpu: tuple[int, str] | None = None
    torch_versions: tuple[str, ...] = ()
    torch_version: str = torch.__version__
    processors: tuple[str, ...] = ()
    processor: str = field(default_factory=processor)
    online_seconds: float = 0.0
    replay_seconds: float = 0.0
    apart: WeightsApart | None = None

    @property
    def is_well(self) -> bool:
        """Whether nothing differs that this onibus made."""
        return self.first_different is None or self.made_by is not None

    @property
    def line(self) -> str:
        """The outcome for a person."""
        told = (
            f"{self.model}: {self.identical} of {self.versions} versions identical, made again in "
            f"{self.replay_seconds:.1f} s"
        )
        if self.online_seconds >= 0:
            told += f" (online {self.online_seconds:.1f} s)"
        if self.first_different is None:
            return told + self._not_made_again()
        if self.made_by is not None:
            return (
                f"{told}; version {self.first_different} was made by onibus {self.made_by}, this is "
                f"{version()}, which trains otherwise: verify it, and those after it, with that one"
            )
        told += f"; version {self.first_different} is the first that differs"
        told += self._made_elsewhere()
        if self.apart is None:
            return f"{told}; the weights to compare with are no longer on the bus"
        return (
            f"{told}; weights of version {self.apart.version} are up to {self.apart.largest:.2g} apart, "
            f"{self.apart.relative_norm:.2g} of their norm"
        )

    def _made_elsewhere(self) -> str:
        """How what made them differs from what is here; the bits depend on it."""
        parts = []
        if others := [version for version in self.torch_versions if version != self.torch_version]:
            parts.append(f"made with torch {', '.join(others)}, this is {self.torch_version}")
        if others := [name for name in self.processors if name != self.processor]:
            names = ", ".join(name or "a processor that was not recorded" for name in others)
            parts.append(f"made on {names}, this is {self.processor}")
        return f" ({'; '.join(parts)})" if parts else ""

    def _not_made_again(self) -> str:
        if self.other_network is not None:
            return f"; {self.other_network}"
        if self.other_gpu is None:
            return ""
        first, theirs = self.other_gpu
        return (
            f"; version {first} was trained on a GPU ({theirs}), this machine has {gpu_name() or 'none'}: "
            "verify it, and those after it, on a machine with that GPU"
        )


def verify_training(
    settings: Settings,
    training: Training,
    specs: KnownSpecs,
    progress: Callable[[int], None] = lambda _: None,
) -> TrainingCheck:
    """Make each version again from the one before and the annotations up to its offsets.

    That is all a version depends on: how partitions interleaved, and when a version was due, does not
    matter. Memory is that of a trainer and of an :class:`AnnotationReader`.

    Args:
        progress: called with 1 after each version.

    Raises:
        OnibusError: the log is not the one that the versions were made from, or not whole.
    """
    spec_id = _spec_of(training)
    first, last = training.versions[0], training.versions[-1]
    weights = offline_weights(first.metrics)
    spec = specs[spec_id]
    outputs = CLASSES if spec.kind is Kind.JUDGE_ONE else SCORE
    network = network_of(first.architecture, outputs)
    trainer: RewardTrainer | None = None
    check = TrainingCheck(
        training.model,
        len(training.versions),
        torch_versions=tuple(dict.fromkeys(u.torch_version for u in training.versions)),
        processors=tuple(dict.fromkeys(u.processor for u in training.versions)),
        online_seconds=(last.trained_at - first.trained_at) / 1e6,
    )
    if network is None and told_reference(first.architecture) is not None:
        check.other_network = why_unknown(first.architecture)
        return check
    # Another architecture of ours is told of when it differs.
    objective = objective_of(spec.kind, network or MAX_OVER_TIME, weights)
    began, newest = time.monotonic(), None
    with AnnotationReader(settings, of_specs({spec_id})) as reader:
        for update in training.versions:
            device = _device_of(update)
            if device is None:
                check.other_gpu = update.version, update.gpu
                break
            if trainer is None or trainer.device != device:
                trainer = RewardTrainer(
                    training.model, spec_id, first.seed, newest, objective=objective, device=device
                )
            newest = _made_again(trainer, reader, update, spec_id)
            if sha256(newest.to_bytes()).digest() == update.weights_sha256:
                check.identical += 1
            elif check.first_different is None:
                check.first_different = update.version
                if update.onibus != version():
                    check.made_by = update.onibus or OLDEST
            progress(1)
    check.replay_seconds = time.monotonic() - began
    if check.first_different is not None and newest is not None and check.other_gpu is None:
        check.apart = _distance(settings, last, newest)
    return check


def _device_of(update: RewardUpdate) -> str | None:
    """The torch device that makes a version again; None: this machine has no such GPU."""
    if not update.gpu:
        return "cpu"
    return "cuda" if update.gpu == gpu_name() else None


def _made_again(
    trainer: RewardTrainer, reader: AnnotationReader, update: RewardUpdate, spec_id: bytes
) -> ModelFile:
    """The version that ``update`` tells of, with the torch version that made it for its own."""
    if OFFLINE in update.metrics:
        feed(trainer, reader.read(offsets_of(update)), offsets_of(update), spec_id)
    else:
        for one in reader.read(offsets_of(update)):
            trainer.see(one.partition, one.offset, one.annotation)
    if trainer.offsets != offsets_of(update) or not trainer.objective.data.can_teach:
        raise OnibusError(
            f"the annotation log up to the offsets of version {update.version} of {update.model} is not what "
            "that version learned from: was the topic created anew? Use the cluster that it was trained on"
        )
    trained = _trained_on(trainer, update)
    made = trained.file.provenance
    if (made.architecture, made.gradient_steps) != (update.architecture, update.gradient_steps):
        raise OnibusError(
            f"version {update.version} of {update.model} has another architecture or number of gradient "
            "steps than this program makes; verify it with the onibus that made it"
        )
    return replace(trained.file, provenance=replace(made, torch_version=update.torch_version))


def _trained_on(trainer: RewardTrainer, update: RewardUpdate) -> TrainedVersion:
    """With as many steps as were recorded, whatever schedule asked for them."""
    if OFFLINE in update.metrics:
        return take_steps(trainer, update.version - trainer.version)
    trained = trainer.train(steps=max(1, update.gradient_steps - trainer.gradient_steps))
    assert trained is not None  # no one stops it
    return trained


def _distance(settings: Settings, update: RewardUpdate, made: ModelFile) -> WeightsApart | None:
    whole = newest_version(settings, update.model)
    if whole is None or whole.sha256 != update.weights_sha256:
        return None
    try:
        published = read_model_file(whole.data).weights
    except ModelFileError:
        return None
    if published.keys() != made.weights.keys():
        return None
    theirs = torch.cat([published[name].flatten() for name in sorted(published)])
    ours = torch.cat([made.weights[name].flatten() for name in sorted(published)])
    difference = ours - theirs
    relative = float(difference.norm() / theirs.norm())
    return WeightsApart(update.version, float(difference.abs().max()), relative)


def _spec_of(training: Training) -> bytes:
    spec_ids = training.versions[0].spec_ids
    if len(spec_ids) != 1:
        raise OnibusError(
            f"{training.model} learned from {len(spec_ids)} specifications; this program replays one: "
            "use the onibus that made it"
        )
    return spec_ids[0]
