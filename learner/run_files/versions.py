"""The versions of the reward models that a run followed: from the log of updates, kept with the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onibus.consumers.reward_models.transfer import split_model_name
from onibus.infra.files import read_state, write_or_refuse
from onibus.infra.kafka.codecs import read_decoded
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.learner.run_files.specs import found_specs
from onibus.schemas.records import RewardUpdate

VERSIONS_FILE = "versions.json"


def keep_versions(settings: Settings, folder: Path) -> list[dict[str, float]]:
    """One row of figures a version, oldest first: ``version``, ``trained_at`` and the trainer's metrics.

    Raises:
        OnibusError: the cluster or the topic is away, or the file cannot be written.
    """
    specs = set(found_specs(folder).values())

    def is_ours(key: bytes) -> bool:
        try:
            return split_model_name(key.decode())[1] in specs
        except ValueError:
            return False

    topic = TopicNames(settings.topic_prefix).reward_updates
    rows: list[dict[str, float]] = [
        {"version": float(update.version), "trained_at": update.trained_at / 1e6} | update.metrics
        for _, update in read_decoded(settings, topic, RewardUpdate, is_ours)
    ]
    write_or_refuse(folder / VERSIONS_FILE, json.dumps(rows))
    return rows


def kept_versions(folder: Path) -> list[dict[str, float]]:
    """What :func:`keep_versions` kept of the run in ``folder``; empty if it never ran."""
    return read_state(folder / VERSIONS_FILE, _rows, [])


def _rows(kept: Any) -> list[dict[str, float]]:
    return [{str(name): float(value) for name, value in row.items()} for row in kept]
