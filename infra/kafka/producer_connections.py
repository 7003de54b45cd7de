"""A producer's connections: a transaction survives a broker that goes away at its beginning."""

from __future__ import annotations

from typing import Any

from kafka.errors import KafkaConnectionError
from kafka.net.compat import KafkaNetClient


class ProducerConnections(KafkaNetClient):  # type: ignore[misc]  # kafka-python is not typed
    """Says that a broker is not ready, as the producer's thread expects.

    kafka-python 3.0.12 raises an error instead, and the thread then forgets the request that it was about to
    send. If that request was to add partitions to a transaction, their records were never sent: the thread
    looked for something to send all the time, on a whole core, until the transaction was given up.
    """

    def await_ready(self, node_id: Any, timeout_ms: float = 30_000) -> bool:
        """See KafkaNetClient; False if the broker cannot be connected."""
        try:
            return bool(super().await_ready(node_id, timeout_ms))
        except KafkaConnectionError:
            return False
