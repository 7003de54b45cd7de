"""Versions on the bus: each one a transaction, written by one trainer of a model at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from functools import partial

from kafka import KafkaProducer
from kafka.errors import KafkaError

from onibus.consumers.reward_models.processor import processor
from onibus.consumers.reward_models.trainer import THREADS, TrainedVersion
from onibus.consumers.reward_models.transfer import (
    CHUNK_BYTES,
    CHUNK_OVERHEAD_BYTES,
    Assembler,
    WholeFile,
    chunk_key,
    cut,
)
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import codec_for, decoded
from onibus.infra.kafka.reachability import UnreachableError
from onibus.infra.kafka.record_limits import largest_values
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.kafka.transactions import (
    OutgoingRecord,
    TransactionFailedError,
    give_up,
    send_transaction,
    within_patience,
)
from onibus.infra.kafka.transient import raise_unless_transient
from onibus.infra.settings import Settings
from onibus.infra.version import version
from onibus.schemas.codec import Codec, RegistryError
from onibus.schemas.records import RewardModelChunk, RewardUpdate

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_SMALLEST_CHUNK = 14 * 1024
"""The largest model there may be is then cut into as many chunks as readers take."""


class VersionWriter:
    """Writes chunks and update of a version in one transaction under the model's own transactional id.

    :meth:`open` fences whoever wrote for this model before: of two trainers the later goes on, the
    earlier ends at its next version.
    """

    def __init__(self, settings: Settings, codec: Codec, model: str) -> None:
        self._settings, self._codec, self._model = settings, codec, model
        self._topics = TopicNames(settings.topic_prefix)
        self._producer: KafkaProducer | None = None
        self._chunk_bytes = CHUNK_BYTES

    def open(self, stopping: threading.Event) -> None:
        """Connect, and end what an earlier trainer of this model left open.

        Raises:
            OnibusError: the cluster cannot be reached, or refuses.
        """
        try:
            self._producer = within_patience(self._opened, stopping)
        except TransactionFailedError as error:
            raise OnibusError(f"the cluster refuses transactions: {error}; check its log and ACLs") from error

    def newest(self) -> WholeFile | None:
        """The newest whole version on the bus.

        Raises:
            OnibusError: there are chunks of the model, but no whole version; or no cluster.
        """
        return newest_version(self._settings, self._model)

    def publish(
        self, version: TrainedVersion, stopping: threading.Event, learned: Sequence[OutgoingRecord] = ()
    ) -> bool:
        """Write a version; tries again while the cluster is away. False: stopped before it was written.

        Args:
            learned: the blocks that end with it (see :mod:`onibus.consumers.reward_models.learned`).

        Raises:
            OnibusError: another trainer has taken the model over.
        """
        data = version.file.to_bytes()
        while not stopping.is_set():
            chunks = cut(self._model, version.file.provenance.version, data, self._chunk_bytes)
            if self._sent([*self._records(version, chunks), *learned], "version", stopping):
                return True
            if self._reopened_and_there(chunks[0], stopping):
                return True
        return False

    def keep(self, learned: Sequence[OutgoingRecord], stopping: threading.Event) -> bool:
        """Write blocks without a version, once; whether they are known to be written.

        After a failure nothing is kept before the next version is written, with what was not.

        Raises:
            OnibusError: another trainer has taken the model over.
        """
        if self._sent(learned, "data", stopping):
            return True
        self.close()
        return False

    def close(self) -> None:
        """Give up the connection; an open transaction is left to time out."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            give_up(producer)

    def _sent(self, records: Sequence[OutgoingRecord], what: str, stopping: threading.Event) -> bool:
        """Write records; if False, no one knows whether they are."""
        if self._producer is None:
            return False
        try:
            within_patience(partial(send_transaction, self._producer, records), stopping)
        except TransactionFailedError as error:
            if error.was_fenced:
                raise self._taken_over() from error
            _log.warning("%s not written: %s; trying again", what, error)
            return False
        return True

    def _largest_chunk(self) -> int:
        """Bytes of data that a record of ``reward-models`` has room for, as its topic is set now.

        Raises:
            OnibusError: for none worth it.
        """
        topic = self._topics.reward_models
        room = largest_values(self._settings, [topic])[topic] - 2 * len(self._model) - CHUNK_OVERHEAD_BYTES
        if room < _SMALLEST_CHUNK:
            raise OnibusError(
                f"topic {topic} takes no record that a reward model fits into in pieces; set its "
                "max.message.bytes to 100000 or more"
            )
        return min(room, CHUNK_BYTES)

    def _opened(self) -> KafkaProducer:
        transactional_id = f"{self._settings.topic_prefix}reward-trainer.{self._model}"
        producer = clients.transactional_producer(self._settings, transactional_id)
        producer.init_transactions()
        self._chunk_bytes = self._largest_chunk()
        return producer

    def _reopened_and_there(self, chunk: RewardModelChunk, stopping: threading.Event) -> bool:
        """A new connection, and whether the version stands on the bus after all."""
        self.close()
        while not stopping.wait(_RETRY_SECONDS):
            try:
                self._producer = within_patience(self._opened, stopping)
                newest = self.newest()
            except (TransactionFailedError, UnreachableError, KafkaError, RegistryError) as error:
                raise_unless_transient(error, f"writing version {chunk.version} of {self._model}")
                _log.warning("%s; trying again", error)
                self.close()
                continue
            if newest is None or newest.version < chunk.version:
                return False
            if newest.sha256 != chunk.sha256:
                raise self._taken_over()
            return True
        return False

    def _taken_over(self) -> OnibusError:
        return OnibusError(
            f"another trainer of reward model {self._model} has taken over; this one stops: run one a model"
        )

    def _records(self, version: TrainedVersion, chunks: Sequence[RewardModelChunk]) -> list[OutgoingRecord]:
        models, updates = self._topics.reward_models, self._topics.reward_updates
        update = _update(version, chunks[0].sha256)
        return [
            *(OutgoingRecord(models, 0, chunk_key(c), self._codec.encode(models, c)) for c in chunks),
            OutgoingRecord(updates, 0, self._model.encode(), self._codec.encode(updates, update)),
        ]


def newest_version(settings: Settings, model: str) -> WholeFile | None:
    """The newest whole version of a model on the bus; None if there is none at all.

    Raises:
        OnibusError: there are chunks of the model, but no whole version; or no cluster.
    """
    topic, codec = TopicNames(settings.topic_prefix).reward_models, codec_for(settings)
    assembler, newest, found = Assembler(), None, 0
    for record in (record for records in clients.read_all(settings, topic) for record in records):
        if (record.key or b"").startswith(f"{model}/".encode()):
            found += 1
            if (chunk := decoded(codec, RewardModelChunk, record)) is not None:
                newest = assembler.add(chunk) or newest
    if found and newest is None:
        raise OnibusError(
            f"no version of reward model {model} on {topic} is whole ({found} chunks); delete that topic and "
            "create it again to train from the annotations anew"
        )
    return newest


def _update(trained: TrainedVersion, sha256: bytes) -> RewardUpdate:
    made = trained.file.provenance
    return RewardUpdate(
        model=made.model,
        version=made.version,
        architecture=made.architecture,
        spec_ids=(bytes.fromhex(made.spec_id),),
        seed=made.seed,
        annotation_offsets=made.annotation_offsets,
        gradient_steps=made.gradient_steps,
        threads=THREADS,
        torch_version=made.torch_version,
        metrics=trained.metrics,
        normalisation=made.normalisation,
        weights_sha256=sha256,
        trained_at=time.time_ns() // 1000,
        processor=processor(),
        onibus=version(),
        gpu=made.gpu,
        schedule=trained.schedule,
    )
