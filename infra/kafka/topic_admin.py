"""Compares the topic table with a cluster: creates missing topics, reports differences, changes nothing."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    AuthorizationError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from onibus.infra.errors import OnibusError
from onibus.infra.files import reason_of
from onibus.infra.kafka.clients import admin
from onibus.infra.kafka.partitioning import partition_evidence, wide_topics
from onibus.infra.kafka.roles import Operation, Resource, Right, rights_of, role_of
from onibus.infra.kafka.topics import FOREVER_MS, Topic, TopicNames, topic_table
from onibus.infra.settings import Settings

_log = logging.getLogger(__name__)

_DIFFERS = re.compile(r"(?P<topic>\S+) has (?P<name>\S+) (?P<found>\S+), not (?P<wanted>\S+)")
_MISSING = re.compile(r"(?P<topic>\S+) is missing")
_SETTINGS = ("partitions", "replication")
"""Those of a topic that are settings of ours."""
_READY_SECONDS = 60
"""In which topics that were created can be used; a busy cluster takes more than kafka-python's 10 s."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is on the cluster.

    Attributes:
        operations: Kafka's names of what this user may do with it; empty if the cluster does not report them.
    """

    partitions: int
    replication: int
    config: Mapping[str, str]
    operations: frozenset[str] = field(default_factory=frozenset)

    def allows(self, operation: Operation) -> bool:
        return not self.operations or operation.value in self.operations


def create_topics(settings: Settings) -> list[str]:
    """Create the topics of the table that are missing; existing ones are left as they are.

    Returns:
        Full names of the topics created now, in the table's order.

    Raises:
        OnibusError: the cluster cannot be reached or refuses.
    """
    with admin(settings) as client:
        there = _existing(client, settings, [topic.name for topic in topic_table(settings)])
        missing = [topic for topic in topic_table(settings) if topic.name not in there]
        return _create(client, missing) if missing else []


def check_topics(settings: Settings) -> list[str]:
    """Each difference between the table and the cluster, one line each; empty if there is none.

    Raises:
        OnibusError: the cluster cannot be reached.
    """
    table = topic_table(settings)
    states = describe_topics(settings, table)
    found = []
    for topic in table:
        is_wide = topic.name in wide_topics(settings)
        lines = differences(topic, states.get(topic.name))
        found += [line for line in lines if not (is_wide and _is_about_partitions(topic, line))]
    harmful, harmless = _partition_lines(settings, states)
    return [*found, *harmful, *harmless]


def crowded_groups(settings: Settings) -> list[str]:
    """Groups with more members than ``captions`` has partitions, one line each: some members are idle.

    Raises:
        OnibusError: the cluster cannot be reached, or does not list its groups.
    """
    try:
        with admin(settings) as client:
            listed = [group["group_id"] for group in client.list_groups()]
            ours = sorted(group for group in listed if group.startswith(settings.topic_prefix))
            described = client.describe_groups(ours) if ours else {}
    except KafkaError as error:
        reason = reason_of(error)
        raise OnibusError(f"the cluster does not list its groups: {reason}; check its ACLs") from error
    return [
        f"group {name} has {members} members for {settings.partitions} partitions: "
        f"{members - settings.partitions} are idle; start fewer, or plan for more partitions"
        for name in ours
        if (members := len(described[name]["members"])) > settings.partitions
    ]


def require_topics(settings: Settings, role: str | None = None) -> None:
    """Refuse to continue if topics are missing or unusable, or this user lacks rights to them.

    A topic is unusable if its clean-up policy differs, or its number of partitions does not fit the setting
    ``partitions``. Every other difference is logged: an operator may have reasons for it.

    Args:
        role: one of :mod:`onibus.infra.kafka.roles`, whose topics and rights are checked; None: every topic.

    Raises:
        OnibusError: listing every unusable topic or missing right, or the cluster cannot be reached.
    """
    table = topic_table(settings)
    rights: list[Right] = []
    if role is not None:
        rights = [r for r in rights_of(role_of(role), settings) if r.resource is Resource.TOPIC]
        table = [topic for topic in table if topic.name in {right.name for right in rights}]
    states = describe_topics(settings, table)
    harmful, harmless = _partition_lines(settings, states)
    for topic in table:
        for line in differences(topic, states.get(topic.name)):
            if _stops(topic, line):
                harmful.append(line)
            elif not _is_about_partitions(topic, line):
                harmless.append(f"{line}: {_meaning(topic, line)}")
    for line in harmless:
        _log.warning("%s", line)
    _refuse(harmful)
    denied = [r for r in rights if r.name in states and not states[r.name].allows(r.operation)]
    if denied:
        raise _denied(settings, [f"{r.operation.value.lower()} {r.name}" for r in denied], role or "ROLE")


def require_partitions(settings: Settings) -> None:
    """Refuse the setting ``partitions`` if captions and labels were written for a different one.

    For commands that put labels where they belong by the setting, and need nothing else of the topics.

    Raises:
        OnibusError: they were, or the cluster cannot be reached.
    """
    wide = wide_topics(settings)
    states = describe_topics(settings, [topic for topic in topic_table(settings) if topic.name in wide])
    _refuse(_partition_lines(settings, states)[0])


def by_difference(lines: Iterable[str]) -> list[str]:
    """The differences of :func:`check_topics` in fewer lines: topics that differ alike share one."""
    topics: dict[str, list[str]] = {}
    for line in lines:
        if found := _DIFFERS.fullmatch(line):
            topics.setdefault("{name} {found}, not {wanted}".format(**found.groupdict()), []).append(
                found["topic"]
            )
        elif found := _MISSING.fullmatch(line):
            topics.setdefault("missing", []).append(found["topic"])
        else:
            topics[line] = []  # says what to do
    return [f"{what}: {', '.join(names)}" if names else what for what, names in topics.items()]


def advice(lines: Iterable[str]) -> str:
    """What to do about the differences of :func:`check_topics`; only what applies to them.

    Empty if each of the lines says it itself.
    """
    found = list(lines)
    differing = [match for line in found if (match := _DIFFERS.fullmatch(line))]
    values = {name: {one["found"] for one in differing if one["name"] == name} for name in _SETTINGS}
    flags = [f"--{name} {next(iter(of))}" for name, of in values.items() if len(of) == 1]
    by_flags = set(_SETTINGS) | ({"min.insync.replicas"} if len(values["replication"]) == 1 else set())
    advised = []
    if any(map(_MISSING.fullmatch, found)):
        advised.append("create missing ones with: onibus topics create")
    if flags:
        advised.append(f"give {' '.join(flags)} to use the topics as they are, or change the topics")
    if any(one["name"] not in by_flags for one in differing):
        advised.append("change topics with: kafka-configs --alter --entity-type topics")
    return "; ".join(advised)


def _refuse(harmful: Iterable[str]) -> None:
    if lines := list(dict.fromkeys(harmful)):
        what = "; ".join([*by_difference(lines), *filter(None, [advice(lines)])])
        raise OnibusError(f"topics are not as they should be: {what}")


def describe_topics(settings: Settings, table: Iterable[Topic]) -> dict[str, TopicState]:
    """The topics of ``table`` that exist, by full name, with the configurations that the table sets.

    Raises:
        OnibusError: the cluster cannot be reached.
    """
    table = list(table)
    with admin(settings) as client:
        there = _existing(client, settings, [topic.name for topic in table])
        configs = _configs(client, [topic for topic in table if topic.name in there])
    return {
        name: TopicState(
            partitions=len(description["partitions"]),
            replication=min(len(partition["replica_nodes"]) for partition in description["partitions"]),
            config=configs[name],
            operations=frozenset(description.get("authorized_operations") or ()),
        )
        for name, description in there.items()
    }


def differences(topic: Topic, state: TopicState | None) -> list[str]:
    """How a topic on the cluster differs from the table, one line per difference."""
    if state is None:
        return [f"{topic.name} is missing"]
    pairs = [
        ("partitions", str(topic.partitions), str(state.partitions)),
        ("replication", str(topic.replication), str(state.replication)),
        *((name, value, state.config.get(name, "unknown")) for name, value in topic.config.items()),
    ]
    return [
        f"{topic.name} has {name} {found}, not {wanted}" for name, wanted, found in pairs if wanted != found
    ]


def _stops(topic: Topic, line: str) -> bool:
    """Whether the system cannot work correctly with this difference."""
    return line == f"{topic.name} is missing" or line.startswith(f"{topic.name} has cleanup.policy ")


def _is_about_partitions(topic: Topic, line: str) -> bool:
    return line.startswith(f"{topic.name} has partitions ")


def _meaning(topic: Topic, line: str) -> str:
    """The effect of a difference that stops nothing, and what to do about it."""
    if " has message.timestamp.type " in line:
        return (
            "the producers' clocks determine retention, and records with a wrong time are rejected; "
            f"change it: kafka-configs --alter --entity-type topics --entity-name {topic.name} "
            "--add-config message.timestamp.type=LogAppendTime"
        )
    if " has retention.ms " in line:
        if topic.config["retention.ms"] == str(FOREVER_MS):
            return "what is deleted cannot be replayed; set retention.ms to -1 to keep everything"
        return "records are kept for that long"
    return "continuing with it"


def _partition_lines(settings: Settings, states: Mapping[str, TopicState]) -> tuple[list[str], list[str]]:
    """Differences in the partitions of captions, labels and annotations: those that stop us, and others."""
    counts = {name: states[name].partitions for name in wide_topics(settings) if name in states}
    if TopicNames(settings.topic_prefix).captions not in counts:
        return [], []  # a component that publishes no captions works with any number
    setting = settings.partitions
    few = [f"{name} has partitions {n}, not {setting}" for name, n in counts.items() if n < setting]
    if few:
        return few, []
    many = {name: n for name, n in counts.items() if n > setting}
    evidence = partition_evidence(settings, counts)
    if many and (evidence.used > setting or not evidence.used):
        wanted = f"change the setting: --partitions {max(many.values())}"
        return [f"{name} has partitions {n}, not {setting}; {wanted}" for name, n in many.items()], []
    if evidence.written_for is not None and evidence.written_for < setting:
        return [_other_setting(setting, evidence.written_for)], []
    return [], [
        f"{name} has {n} partitions, of which the first {setting} are used, as the setting partitions says; "
        "do not change the setting, or captions that have labels will be asked about and paid for again"
        for name, n in many.items()
    ]


def _other_setting(setting: int, used: int) -> str:
    return (
        f"captions and labels were written for {used} partitions, but the setting partitions is {setting}: "
        "captions that have labels would be asked about and paid for again; set it back (--partitions "
        f"{used} or ONIBUS_PARTITIONS={used}); partitions that were added since stay unused"
    )


def _create(client: KafkaAdminClient, missing: list[Topic]) -> list[str]:
    request = {
        topic.name: {
            "num_partitions": topic.partitions,
            "replication_factor": topic.replication,
            "configs": dict(topic.config),
        }
        for topic in missing
    }
    answer = client.create_topics(request, raise_errors=False)
    created = []
    for result in answer["topics"]:
        error = for_code(result["error_code"])
        if error is NoError:
            created.append(result["name"])
        elif error is not TopicAlreadyExistsError:  # created concurrently, which is fine
            raise _not_created(client, missing, result["name"], error, result.get("error_message"))
    client.wait_for_topics([topic.name for topic in missing], timeout_ms=_READY_SECONDS * 1000)
    return [topic.name for topic in missing if topic.name in created]


def _not_created(
    client: KafkaAdminClient, missing: list[Topic], name: str, error: type[KafkaError], message: str | None
) -> OnibusError:
    """What to do about a topic that the cluster refuses to create."""
    what = f"topic {name} cannot be created"
    if error is InvalidReplicationFactorError:
        brokers = len(client.describe_cluster()["brokers"])
        if brokers < missing[0].replication:
            return OnibusError(
                f"{what} in {missing[0].replication} copies: the cluster has {_brokers(brokers)}; give "
                f"--replication {brokers}{' or less' if brokers > 1 else ''}, or add brokers"
            )
    if issubclass(error, AuthorizationError):
        return OnibusError(f"{what}: this user may not; ask for the right to create it")
    reason = message or error.__name__
    flag = {InvalidReplicationFactorError: "--replication", InvalidPartitionsError: "--partitions"}.get(error)
    return OnibusError(f"{what}: {reason}; {f'change {flag}' if flag else 'ask the operator of the cluster'}")


def _brokers(number: int) -> str:
    return f"{number} broker{'' if number == 1 else 's'}"


def _existing(client: KafkaAdminClient, settings: Settings, names: list[str]) -> dict[str, dict[str, Any]]:
    """kafka-python's description of each topic of ``names`` that exists."""
    try:
        described = client.describe_topics(names)
    except KafkaError as error:
        raise OnibusError(f"the cluster does not describe its topics: {reason_of(error)}; retry") from error
    hidden = sorted(t["name"] for t in described if t["error_code"] == TopicAuthorizationFailedError.errno)
    if hidden:
        raise _denied(settings, [f"describe {', '.join(hidden)}"], "ROLE")
    return {topic["name"]: topic for topic in described if topic["error_code"] == 0}


def _denied(settings: Settings, what: Iterable[str], role: str) -> OnibusError:
    user = settings.sasl_username or "this client"
    return OnibusError(
        f"{user} may not {', '.join(what)}; have a super user grant a role with: "
        f"onibus access grant {role} --user {settings.sasl_username or 'NAME'}"
    )


def _configs(client: KafkaAdminClient, topics: list[Topic]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, t.name, dict.fromkeys(t.config)) for t in topics]
    if not resources:
        return {}
    answer = client.describe_configs(resources, config_filter="all")["topic"]
    return {name: {key: entry["value"] for key, entry in answer[name].items()} for name in answer}
