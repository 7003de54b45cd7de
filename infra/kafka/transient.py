"""The one rule for which errors pass by themselves, and what becomes of those that do not."""

from __future__ import annotations

from kafka.errors import (
    AuthorizationError,
    InvalidTransactionTimeoutError,
    KafkaError,
    SaslAuthenticationFailedError,
    UnsupportedVersionError,
)

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.reachability import UnreachableError
from onibus.infra.kafka.transactions import TransactionFailedError
from onibus.schemas.errors import RegistryError

_REFUSALS = (
    AuthorizationError,
    InvalidTransactionTimeoutError,
    SaslAuthenticationFailedError,
    UnsupportedVersionError,
)
"""What a new producer is refused as the old one was; of anything else it starts free."""


def is_transient(error: BaseException) -> bool:
    """Whether the same may work later, without anyone's doing.

    A failed transaction may be tried again by a new producer. What is not known here does not pass.
    """
    if isinstance(error, UnreachableError):
        return error.may_pass
    if isinstance(error, TransactionFailedError):
        return not isinstance(error.cause, _REFUSALS)
    if isinstance(error, KafkaError):
        return bool(error.retriable)
    return isinstance(error, RegistryError | ConnectionError | TimeoutError)


def raise_unless_transient(error: Exception, doing: str) -> None:
    """Let an error pass that :func:`is_transient`, so that the caller tries again.

    Raises:
        OnibusError: it is not; ``doing`` says what failed.
    """
    if is_transient(error):
        return
    if isinstance(error, OnibusError):
        raise error
    raise OnibusError(f"{doing}: {error}; check the cluster and its ACLs") from error
