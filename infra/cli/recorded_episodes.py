"""The recorded episodes on the bus, for the commands that show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from onibus.infra.process.terminal import echo
from onibus.infra.settings import Settings

if TYPE_CHECKING:
    from onibus.schemas.records import EpisodeFinished


def recorded_episodes(settings: Settings, name: str) -> Iterator[EpisodeFinished]:
    """Recorded episodes whose names (RUN/WORKER/ENVIRONMENT/EPISODE) begin with ``name``, oldest first.

    One that cannot be read is reported and left out.

    Raises:
        OnibusError: the cluster or the topic is away.
    """
    from onibus.infra.kafka.clients import read_all
    from onibus.infra.kafka.codecs import codec_for
    from onibus.infra.kafka.topics import TopicNames
    from onibus.schemas.codec import DecodeError
    from onibus.schemas.records import EpisodeFinished

    codec = codec_for(settings)
    for records in read_all(settings, TopicNames(settings.topic_prefix).episodes):
        for record in records:
            if (record.key or b"").startswith(name.encode()):
                try:
                    yield codec.decode(EpisodeFinished, record.value)
                except DecodeError as error:
                    echo(f"episode at offset {record.offset} cannot be read: {error}", err=True)


def causes_of_death(settings: Settings, run: str) -> list[tuple[str, int]]:
    """What the recorded episodes of a run died of and how often, the most frequent first.

    Raises:
        OnibusError: as :func:`recorded_episodes`.
    """
    episodes = recorded_episodes(settings, f"{run}/")
    return Counter(one.cause_of_death for one in episodes if one.cause_of_death).most_common()


def reached(record: EpisodeFinished) -> str:
    """What an episode came to, in one line; what was not recorded is left out."""
    said = [
        f"score {record.score:,.0f}",
        f"depth {record.depth}",
        f"experience level {record.experience_level}",
        f"gold {record.gold:,}",
        f"turns {record.turns:,}",
    ]
    if record.scout is not None:
        said.append(f"scout {record.scout:,}")
    if record.kills is not None:
        said.append(f"kills {record.kills:,}")
    if record.progression is not None:
        said.append(f"progression {record.progression:.1%}")
    if record.success is not None:
        said.append("success" if record.success else "no success")
    return ", ".join(said)
