"""The recorded episodes on the bus, and what is said of one."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

from onibus.infra.kafka.codecs import read_decoded
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas.records import EpisodeFinished


def recorded_episodes(settings: Settings, name: str) -> Iterator[EpisodeFinished]:
    """Recorded episodes whose names (RUN/WORKER/ENVIRONMENT/EPISODE) begin with ``name``, oldest first.

    One that cannot be read is counted, logged and left out.

    Raises:
        OnibusError: the cluster or the topic is away.
    """
    topic, start = TopicNames(settings.topic_prefix).episodes, name.encode()
    for _, episode in read_decoded(settings, topic, EpisodeFinished, lambda key: key.startswith(start)):
        yield episode


def deaths_and_last(
    settings: Settings, run: str, most: int
) -> tuple[list[tuple[str, int]], list[EpisodeFinished]]:
    """What the recorded episodes of a run died of and how often, the most frequent first; the last ``most``.

    Raises:
        OnibusError: as :func:`recorded_episodes`.
    """
    deaths, last = Counter[str](), deque[EpisodeFinished](maxlen=most)
    for record in recorded_episodes(settings, f"{run}/"):
        last.append(record)
        if record.cause_of_death:
            deaths[record.cause_of_death] += 1
    return deaths.most_common(), list(last)


def facts_of(record: EpisodeFinished) -> list[tuple[str, str]]:
    """Name and value of what an episode came to; what was not recorded is left out."""
    if record.plugin:
        return [(name, f"{number:g}") for name, number in record.statistics.items()]
    figures = (
        ("score", record.score, ",.0f"),
        ("depth", record.depth, "d"),
        ("experience level", record.experience_level, "d"),
        ("gold", record.gold, ","),
        ("turns", record.turns, ","),
        ("scout", record.scout, ","),
        ("kills", record.kills, ","),
        ("progression", record.progression, ".1%"),
    )
    return [(name, format(number, form)) for name, number, form in figures if number is not None]


def reached(record: EpisodeFinished) -> str:
    """What an episode came to, in one line."""
    said = [f"{name} {value}" for name, value in facts_of(record)]
    if record.success is not None and not record.plugin:
        said.append("success" if record.success else "no success")
    return ", ".join(said)


def ending(record: EpisodeFinished) -> str:
    """What the game says of a death, else how the episode ended."""
    return record.cause_of_death or end_in_words(record)


def end_in_words(record: EpisodeFinished) -> str:
    """How an episode ended; NLE calls it "aborted" at the step limit."""
    return "step limit" if record.end == "aborted" else record.end.replace("_", " ")
