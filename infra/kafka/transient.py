"""The one rule for which errors are transient, and what happens after the others."""

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
"""Errors that a new producer would get as well; after any other, a new one can start over."""


def is_transient(error: BaseException) -> bool:
    """Whether the same operation may succeed later, without intervention.

    A failed transaction may be retried by a new producer. Errors that are not known here are not transient.
    """
    if isinstance(error, UnreachableError):
        return error.may_pass
    if isinstance(error, TransactionFailedError):
        return not isinstance(error.cause, _REFUSALS)
    if isinstance(error, KafkaError):
        return bool(error.retriable)
    return isinstance(error, RegistryError | ConnectionError | TimeoutError)


def raise_unless_transient(error: Exception, doing: str) -> None:
    """Return if the error :func:`is_transient`, so that the caller retries.

    Raises:
        OnibusError: it is not transient; ``doing`` says what failed.
    """
    if is_transient(error):
        return
    if isinstance(error, OnibusError):
        raise error
    raise OnibusError(f"{doing}: {error}; check the cluster and its ACLs") from error
