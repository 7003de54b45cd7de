"""Who may do what on a cluster with an authorizer: one role per kind of component, with what it needs only.

A role is granted to a user as Kafka ACLs (KIP-11, prefixed ones KIP-290). :data:`ROLES` is the only place
that lists what a component needs; a test runs every component under its role alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings


class Resource(StrEnum):
    """What a right applies to; the values are Kafka's names."""

    TOPIC = "TOPIC"
    GROUP = "GROUP"
    TRANSACTIONAL_ID = "TRANSACTIONAL_ID"


class Operation(StrEnum):
    """What a right allows; the values are Kafka's names. Reading and writing include describing."""

    READ = "READ"
    WRITE = "WRITE"
    CREATE = "CREATE"
    DESCRIBE = "DESCRIBE"
    DESCRIBE_CONFIGS = "DESCRIBE_CONFIGS"


@dataclass(frozen=True, slots=True)
class Right:
    """One operation on one resource, or with ``prefixed`` on all whose names begin with ``name``."""

    resource: Resource
    name: str
    operation: Operation
    prefixed: bool = False


@dataclass(frozen=True, slots=True)
class Role:
    """What one kind of component may do.

    Attributes:
        purpose: who has it.
        reads, writes: topics, by their names in :class:`~onibus.infra.kafka.topics.TopicNames`.
        joins: whether it joins consumer groups whose names begin with the topic prefix; all describe them.
        transacts: whether it writes in transactions.
        creates: whether it creates the topics.
    """

    purpose: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    joins: bool = False
    transacts: bool = False
    creates: bool = False


_EVERYTHING = (
    "captions", "labels", "annotations", "annotation_specs", "reward_models", "reward_updates",
    "reward_data", "dead_letters", "episodes",
)  # fmt: skip

ROLES: dict[str, Role] = {
    "operator": Role("onibus topics create: creates the topics", creates=True),
    "rollout": Role("onibus rollout: plays and publishes", writes=("captions", "episodes")),
    "annotator": Role(
        "onibus annotate",
        reads=("captions", "labels", "annotations", "annotation_specs", "reward_models"),
        writes=("labels", "annotations", "annotation_specs", "dead_letters"),
        joins=True,
        transacts=True,
    ),
    "trainer": Role(
        "onibus train-reward",
        reads=("annotations", "annotation_specs", "reward_models", "reward_updates", "reward_data"),
        writes=("reward_models", "reward_updates", "reward_data"),
        transacts=True,
    ),
    "learner": Role(
        "onibus learn, including its rollout workers",
        reads=("captions", "labels", "annotations", "annotation_specs", "reward_models", "reward_updates"),
        writes=("captions", "episodes"),
    ),
    "person": Role(
        "onibus labels and dead-letters: corrects labels, and has captions judged again",
        reads=_EVERYTHING,
        writes=("captions", "labels", "annotations", "annotation_specs", "dead_letters"),
        transacts=True,
    ),
    "reader": Role("onibus status, report, web, replay: reads everything, writes nothing", reads=_EVERYTHING),
}


def role_of(name: str) -> Role:
    """The role of this name.

    Raises:
        OnibusError: there is no such role.
    """
    if name not in ROLES:
        raise OnibusError(f"there is no role {name}; choose one of: {', '.join(ROLES)}")
    return ROLES[name]


def rights_of(role: Role, settings: Settings) -> list[Right]:
    """Everything that a role may do under these settings' topic prefix."""
    return list(_rights(role, settings.topic_prefix))


def _rights(role: Role, prefix: str) -> Iterator[Right]:
    names = TopicNames(prefix)
    # Every component checks the settings of its topics when it starts, and reports what is wrong with them.
    yield _on_all(Resource.TOPIC, prefix, Operation.DESCRIBE)
    yield _on_all(Resource.TOPIC, prefix, Operation.DESCRIBE_CONFIGS)
    yield _on_all(Resource.GROUP, prefix, Operation.DESCRIBE)
    for topic in role.reads:
        yield Right(Resource.TOPIC, getattr(names, topic), Operation.READ)
    for topic in role.writes:
        yield Right(Resource.TOPIC, getattr(names, topic), Operation.WRITE)
    if role.joins:
        yield _on_all(Resource.GROUP, prefix, Operation.READ)
    if role.transacts:
        yield _on_all(Resource.TRANSACTIONAL_ID, prefix, Operation.WRITE)
    if role.creates:
        yield _on_all(Resource.TOPIC, prefix, Operation.CREATE)


def _on_all(resource: Resource, prefix: str, operation: Operation) -> Right:
    """On all whose names begin with the prefix; without a prefix on all, which Kafka writes ``*``."""
    return Right(resource, prefix, operation, prefixed=True) if prefix else Right(resource, "*", operation)
