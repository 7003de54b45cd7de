"""Which errors are transient is decided in one place, whatever raised them."""

from __future__ import annotations

import pytest
from kafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NotLeaderForPartitionError,
    ProducerFencedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
)

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.reachability import UnreachableError
from onibus.infra.kafka.transactions import TransactionFailedError
from onibus.infra.kafka.transient import is_transient, raise_unless_transient
from onibus.schemas.errors import RegistryError

PASSES = [
    KafkaTimeoutError("t"),
    KafkaConnectionError("c"),
    NotLeaderForPartitionError("l"),
    UnreachableError("nothing listens", may_pass=True),
    TransactionFailedError(ProducerFencedError("f")),
    TransactionFailedError(KafkaError("aborted")),
    RegistryError("503"),
    ConnectionResetError("r"),
    TimeoutError("t"),
]
STAYS = [
    KafkaError("k"),
    TopicAuthorizationFailedError("a"),
    UnreachableError("wrong password", may_pass=False),
    TransactionFailedError(TransactionalIdAuthorizationFailedError("a")),
    OnibusError("o"),
    FileNotFoundError("f"),
    ValueError("v"),
]


@pytest.mark.parametrize("error", PASSES, ids=repr)
def test_transient_errors_are_left_to_the_caller_to_retry(error: Exception) -> None:
    assert is_transient(error)
    raise_unless_transient(error, "reading labels")


@pytest.mark.parametrize("error", STAYS, ids=repr)
def test_other_errors_are_for_the_user(error: Exception) -> None:
    assert not is_transient(error)
    with pytest.raises(OnibusError) as raised:
        raise_unless_transient(error, "reading labels")
    if not isinstance(error, OnibusError):
        assert str(raised.value) == f"reading labels: {error}; check the cluster and its ACLs"
