"""What the bus says of reward models: every version that was made, and the newest one's file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.clients import read_all
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas.codec import DecodeError
from onibus.schemas.records import RewardUpdate

OFFLINE = "trained_offline"
"""Metric of a version that was trained offline: none came before it, and it is made again in one go."""


@dataclass(frozen=True, slots=True)
class Training:
    """The versions of a model from its first to its last, each made from the one before."""

    model: str
    versions: tuple[RewardUpdate, ...]


def read_updates(settings: Settings) -> list[RewardUpdate]:
    """Everything on ``reward-updates``, oldest first.

    Raises:
        OnibusError: the cluster or the topic is away, or a record is not readable.
    """
    topic, codec, updates = TopicNames(settings.topic_prefix).reward_updates, codec_for(settings), []
    for records in read_all(settings, topic):
        for record in records:
            try:
                updates.append(codec.decode(RewardUpdate, record.value))
            except DecodeError as error:
                raise OnibusError(
                    f"{topic} has an unreadable record at offset {record.offset}: {error}; what it says is "
                    "missing, and a later program or another one wrote it: use that one"
                ) from error
    return updates


def trainings(updates: Iterable[RewardUpdate]) -> list[Training]:
    """Versions in the order of the log, cut where a model begins anew with version 1.

    Raises:
        OnibusError: versions of a model are missing.
    """
    found: list[Training] = []
    open_ones: dict[str, list[RewardUpdate]] = {}
    for update in updates:
        versions = open_ones.get(update.model)
        if update.version == 1 or versions is None:
            if versions:
                found.append(Training(update.model, tuple(versions)))
            versions = open_ones[update.model] = []
        due = versions[-1].version + 1 if versions else update.version if OFFLINE in update.metrics else 1
        if update.version < due:
            raise OnibusError(
                f"version {update.version} of reward model {update.model} stands on reward-updates again: "
                "two trainers wrote it, and what follows cannot be verified"
            )
        if update.version > due:
            raise OnibusError(
                f"versions {due} to {update.version - 1} of reward model {update.model} are missing on "
                "reward-updates, which is kept forever: was the topic cut? What follows cannot be verified"
            )
        versions.append(update)
    return found + [Training(model, tuple(versions)) for model, versions in open_ones.items()]
