"""Grants, lists and revokes roles on a cluster, and creates users with passwords (SCRAM)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from kafka.errors import ClusterAuthorizationFailedError, KafkaError, SecurityDisabledError

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.clients import admin
from onibus.infra.kafka.roles import ROLES, Operation, Resource, Right, Role, rights_of
from onibus.infra.settings import Settings

_ANYWHERE = "*"
_USER = "User:"
_ITERATIONS = 8_192


def grant(settings: Settings, user: str, role: Role) -> list[Right]:
    """Grant a role's rights to a user; returns them all, including those that the user had before.

    Raises:
        OnibusError: the cluster cannot be reached, has no authorizer, or refuses.
    """
    rights = rights_of(role, settings)
    with _asking(settings) as client:
        failed = client.create_acls([_acl(user, right) for right in rights])["failed"]
    if failed:
        raise _refused(failed[0]())
    return rights


def revoke(settings: Settings, user: str) -> int:
    """Revoke every right of a user under the topic prefix; returns how many there were.

    Raises:
        OnibusError: as for :func:`grant`.
    """
    with _asking(settings) as client:
        ours = [acl for acl in _acls(client, user) if _is_ours(acl, settings)]
        if ours:
            for _, _, error in client.delete_acls([_exactly(acl) for acl in ours]):
                if error.errno:
                    raise _refused(error())
    return len(ours)


def granted(settings: Settings) -> dict[str, list[Right]]:
    """The rights under the topic prefix by user; rights of a kind that no role has are left out.

    Raises:
        OnibusError: as for :func:`grant`.
    """
    found: dict[str, list[Right]] = {}
    with _asking(settings) as client:
        for acl in _acls(client, None):
            if _is_ours(acl, settings) and (right := _right(acl)) is not None:
                found.setdefault(acl.principal.removeprefix(_USER), []).append(right)
    return dict(sorted(found.items()))


def roles_held(rights: Sequence[Right], settings: Settings) -> list[str]:
    """Names of the roles whose rights are all in ``rights``, without those that another of them includes."""
    held = {name: set(rights_of(role, settings)) for name, role in ROLES.items()}
    held = {name: own for name, own in held.items() if own <= set(rights)}
    return [name for name, own in held.items() if not any(own < other for other in held.values())]


def add_user(settings: Settings, user: str, password: str) -> None:
    """Create a user who logs in with SCRAM-SHA-512, or change the password of an existing one.

    Raises:
        OnibusError: the cluster cannot be reached, or refuses.
    """
    wanted = UserScramCredentialUpsertion(
        user=user, mechanism=ScramMechanism.SCRAM_SHA_512, iterations=_ITERATIONS, password=password
    )
    with _asking(settings) as client:
        problem = client.alter_user_scram_credentials([wanted])[user]
    if problem is not None:
        raise OnibusError(f"the cluster refused to create user {user}: {problem}; retry as a super user")


@contextmanager
def _asking(settings: Settings) -> Iterator[KafkaAdminClient]:
    try:
        with admin(settings) as client:
            yield client
    except KafkaError as error:
        raise _refused(error) from error


def _refused(error: KafkaError) -> OnibusError:
    if isinstance(error, SecurityDisabledError):
        return OnibusError(
            "the cluster has no authorizer, so every user may do everything; start one that has with: "
            "onibus broker start --secure, or set authorizer.class.name on its brokers"
        )
    if isinstance(error, ClusterAuthorizationFailedError):
        return OnibusError(
            "this user may not change rights; set --sasl-username to a super user of the cluster"
        )
    return OnibusError(f"the cluster refused to list or change rights: {error}; retry as a super user")


def _acls(client: KafkaAdminClient, user: str | None) -> list[ACL]:
    everything = ACLFilter(
        principal=None if user is None else f"{_USER}{user}",
        host=None,
        operation=ACLOperation.ANY,
        permission_type=ACLPermissionType.ALLOW,
        resource_pattern=ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY),
    )
    found, _ = client.describe_acls(everything)
    return list(found)


def _is_ours(acl: ACL, settings: Settings) -> bool:
    return bool(acl.resource_pattern.resource_name.startswith(settings.topic_prefix))


def _acl(user: str, right: Right) -> ACL:
    kind = ACLResourcePatternType.PREFIXED if right.prefixed else ACLResourcePatternType.LITERAL
    return ACL(
        principal=f"{_USER}{user}",
        host=_ANYWHERE,
        operation=ACLOperation[right.operation],
        permission_type=ACLPermissionType.ALLOW,
        resource_pattern=ResourcePattern(ResourceType[right.resource], right.name, kind),
    )


def _exactly(acl: ACL) -> ACLFilter:
    pattern = acl.resource_pattern
    return ACLFilter(
        principal=acl.principal,
        host=acl.host,
        operation=acl.operation,
        permission_type=acl.permission_type,
        resource_pattern=ResourcePatternFilter(
            pattern.resource_type, pattern.resource_name, pattern.pattern_type
        ),
    )


def _right(acl: ACL) -> Right | None:
    pattern = acl.resource_pattern
    try:
        resource, operation = Resource(pattern.resource_type.name), Operation(acl.operation.name)
    except ValueError:  # of a kind that no role has
        return None
    prefixed = pattern.pattern_type is ACLResourcePatternType.PREFIXED
    return Right(resource, pattern.resource_name, operation, prefixed)
