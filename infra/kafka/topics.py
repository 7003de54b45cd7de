"""The topic table: the only place that defines the settings of every topic."""

from __future__ import annotations

from dataclasses import dataclass

from onibus.infra.settings import Settings

DAY_MS = 24 * 60 * 60 * 1000
FOREVER_MS = -1


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as it should be on the cluster. ``name`` is the full name, prefix included."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str]
    purpose: str


class TopicNames:
    """Full names of the topics under a prefix."""

    def __init__(self, prefix: str) -> None:
        self.captions = f"{prefix}captions"
        self.labels = f"{prefix}labels"
        self.annotations = f"{prefix}annotations"
        self.annotation_specs = f"{prefix}annotation-specs"
        self.reward_models = f"{prefix}reward-models"
        self.reward_updates = f"{prefix}reward-updates"
        self.reward_data = f"{prefix}reward-data"
        self.dead_letters = f"{prefix}dead-letters"
        self.episodes = f"{prefix}episodes"


def topic_table(settings: Settings) -> list[Topic]:
    """Every topic of the system under these settings.

    ``captions``, ``labels`` and ``annotations`` have the same number of partitions because a label
    goes to its caption's partition: an annotator restores only its share and a caption belongs to
    one annotator at a time. The other topics are small or read whole; one partition keeps order.

    Records get the broker's time, so that a producer's clock affects neither retention nor whether a record
    is accepted. Our own times are in the values.
    """
    names = TopicNames(settings.topic_prefix)
    wide, copies = settings.partitions, settings.replication
    durable = {
        "min.insync.replicas": str(max(1, copies - 1)),
        "message.timestamp.type": "LogAppendTime",
    }

    def delete(retention_ms: int) -> dict[str, str]:
        return durable | {"cleanup.policy": "delete", "retention.ms": str(retention_ms)}

    compact = durable | {"cleanup.policy": "compact"}
    return [
        Topic(names.captions, wide, copies, delete(7 * DAY_MS), "captions as workers see them"),
        Topic(names.labels, wide, copies, compact, "the hash table: one verdict per spec and subject"),
        Topic(names.annotations, wide, copies, delete(FOREVER_MS), "every answer, kept forever"),
        Topic(names.annotation_specs, 1, copies, compact, "what was asked, by spec id"),
        Topic(names.reward_models, 1, copies, compact, "newest weights of each reward model"),
        Topic(names.reward_updates, 1, copies, delete(FOREVER_MS), "how each model version was made"),
        Topic(names.reward_data, 1, copies, compact, "what each reward model has learned from, in short"),
        Topic(names.dead_letters, 1, copies, delete(30 * DAY_MS), "records that were given up"),
        Topic(names.episodes, 1, copies, delete(30 * DAY_MS), "whole episodes: seeds and actions"),
    ]
