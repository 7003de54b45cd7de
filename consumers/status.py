"""What a running system does, read from the cluster alone: lag, rates, labels, costs, latencies, versions."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from onibus.consumers.annotator.cost import Asked, Cost, Prices, Spending
from onibus.consumers.dead_letters import entries
from onibus.consumers.labels.reader import read_labels
from onibus.consumers.labels.table import LabelTable
from onibus.consumers.specs.spec_file import read_specs
from onibus.infra.errors import OnibusError
from onibus.infra.files import reason_of
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import read_decoded
from onibus.infra.kafka.lag import lag_of
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas.records import Annotation, AnnotationSpec, Origin, RewardUpdate

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """A consumer group. ``lag``: by partition of ``captions``, records that are not done."""

    group: str
    state: str
    members: int
    lag: Mapping[int, int]

    @property
    def is_stopped(self) -> bool:
        """Whether it has no members, as after a demo: then no one is late, whatever the lag."""
        return self.members == 0

    @property
    def behind(self) -> int:
        """Records that its members have to catch up with; 0 where there are none."""
        return 0 if self.is_stopped else sum(self.lag.values())


@dataclass(frozen=True, slots=True)
class SpecStatus:
    """A spec. Latencies: seconds from observing a caption to its answer, lately; None without one. Captions
    observed before their annotator was ready are left out of them: ``answers_waiting`` is how many these are.

    ``unreadable``: the share of models' answers, lately, in which no verdict can be read; None without any.
    """

    spec: str
    spec_id: str
    labels: int
    answers_a_minute: float
    latency_p50: float | None
    latency_p99: float | None
    unreadable: float | None
    answers_waiting: int = 0


@dataclass(frozen=True, slots=True)
class CostStatus:
    """What one annotator's answers under one spec and model took, ever.

    ``usd``: at the prices recorded with the answers; the ``unpriced_tokens`` of answers without one are
    reckoned at the prices given, at nothing without any.
    """

    spec: str
    annotator: str
    model: str
    model_revision: str
    answers: int
    unreadable: int
    tokens_in: int
    tokens_out: int
    model_seconds: float
    usd: float
    unpriced_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The newest version of a reward model."""

    model: str
    version: int
    age_seconds: float
    gradient_steps: int


@dataclass(frozen=True, slots=True)
class SystemStatus:
    """All of it at one moment."""

    groups: list[GroupStatus]
    specs: list[SpecStatus]
    costs: list[CostStatus]
    models: list[ModelStatus]
    dead_letters_waiting: int


def system_status(settings: Settings, minutes: float = 5.0, prices: Prices | None = None) -> SystemStatus:
    """Look at the cluster; ``minutes``: what counts as lately.

    Raises:
        OnibusError: the cluster cannot be reached, or topics are missing.
    """
    names = TopicNames(settings.topic_prefix)
    specs = read_specs(settings)
    log = _AnswerLog(minutes, Spending(specs))
    for _, annotation in read_decoded(settings, names.annotations, Annotation):
        log.count(annotation)
    newest: dict[str, RewardUpdate] = {}
    for _, update in read_decoded(settings, names.reward_updates, RewardUpdate):
        newest[update.model] = update
    with clients.consumer(settings) as reader, clients.admin(settings) as client:
        groups = group_statuses(settings, reader, client, names.captions)
    now = time.time()
    return SystemStatus(
        groups=groups,
        specs=log.specs(specs, read_labels(settings)),
        costs=[_cost(specs, asked, cost, prices) for asked, cost in sorted(log.spending.by_asked.items())],
        models=[
            ModelStatus(u.model, u.version, now - u.trained_at / _MICROSECONDS, u.gradient_steps)
            for u in newest.values()
        ],
        dead_letters_waiting=sum(entry.redriven_at is None for entry in entries(settings)),
    )


@dataclass(slots=True)
class _AnswerLog:
    """A fold of the log of answers: costs of all, times of the latest."""

    minutes: float
    spending: Spending
    unreadable: dict[bytes, list[bool]] = field(default_factory=lambda: defaultdict(list))
    latencies: dict[bytes, list[float]] = field(default_factory=lambda: defaultdict(list))
    waiting: dict[bytes, int] = field(default_factory=lambda: defaultdict(int))
    since: float = 0.0

    def __post_init__(self) -> None:
        self.since = (time.time() - self.minutes * 60) * _MICROSECONDS

    def count(self, annotation: Annotation) -> None:
        self.spending.count([annotation])
        if annotation.annotated_at >= self.since and annotation.verdict is not None:
            seconds = (annotation.annotated_at - annotation.observed_at) / _MICROSECONDS
            if annotation.was_waiting:
                self.waiting[annotation.spec_id] += 1
            else:
                self.latencies[annotation.spec_id].append(seconds)
            if annotation.origin is Origin.LLM:
                self.unreadable[annotation.spec_id].append(self.spending.is_unreadable(annotation))

    def specs(self, specs: Mapping[bytes, AnnotationSpec], labels: LabelTable) -> list[SpecStatus]:
        found = []
        for spec_id in [*specs, *(i for i in labels.specs() if i not in specs)]:
            lately = self.latencies.get(spec_id)
            p50, p99 = np.quantile(lately, [0.5, 0.99]).tolist() if lately else (None, None)
            waiting = self.waiting.get(spec_id, 0)
            rate = (len(lately or ()) + waiting) / self.minutes
            of_models = self.unreadable.get(spec_id)
            share = sum(of_models) / len(of_models) if of_models else None
            name = _name(specs, spec_id)
            count = labels.count(spec_id)
            found.append(SpecStatus(name, spec_id.hex(), count, rate, p50, p99, share, waiting))
        return found


def group_statuses(
    settings: Settings, reader: KafkaConsumer, client: KafkaAdminClient, captions: str
) -> list[GroupStatus]:
    """Groups under our prefix that read ``captions``, the topic's full name.

    Raises:
        OnibusError: the cluster does not list them.
    """
    partitions = [TopicPartition(captions, n) for n in sorted(reader.partitions_for_topic(captions) or ())]
    starts, ends = reader.beginning_offsets(partitions), reader.end_offsets(partitions)
    try:
        listed = [g["group_id"] for g in client.list_groups()]
        ours = sorted(g for g in listed if g.startswith(settings.topic_prefix))
        described: dict[str, Any] = client.describe_groups(ours) if ours else {}
        committed = client.list_group_offsets(ours) if ours else {}
    except KafkaError as error:
        reason = reason_of(error)
        raise OnibusError(f"the cluster does not list its groups ({reason}); check its ACLs") from error
    found = []
    for group in ours:
        at = {tp: offset.offset for tp, offset in committed.get(group, {}).items() if tp.topic == captions}
        lag = {tp.partition: lag_of(at.get(tp), starts[tp], ends[tp]) for tp in partitions}
        state = described[group]
        found.append(GroupStatus(group, str(state["group_state"]), len(state["members"]), lag))
    return found


def _cost(
    specs: Mapping[bytes, AnnotationSpec], asked: Asked, cost: Cost, prices: Prices | None
) -> CostStatus:
    return CostStatus(
        spec=_name(specs, asked.spec_id),
        annotator=asked.annotator,
        model=asked.model,
        model_revision=asked.model_revision,
        answers=cost.answers,
        unreadable=cost.unreadable,
        tokens_in=cost.tokens_in,
        tokens_out=cost.tokens_out,
        model_seconds=round(cost.seconds, 3),
        usd=(prices or Prices()).usd(cost),
        unpriced_tokens=cost.unpriced_tokens,
    )


def _name(specs: Mapping[bytes, AnnotationSpec], spec_id: bytes) -> str:
    return specs[spec_id].name if spec_id in specs else spec_id.hex()
