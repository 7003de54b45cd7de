"""Follows the versions of reward models on the bus: for learners, and for annotators that ask by them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from onibus.consumers.reward_models.transfer import Assembler, WholeFile, split_model_name
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import codec_for, decoded
from onibus.infra.kafka.follower import TopicFollower
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.observability import metrics
from onibus.infra.settings import Settings
from onibus.schemas.codec import RegistryError
from onibus.schemas.records import RewardModelChunk

log = logging.getLogger(__name__)

_POLL_MS = 100
_RECORDS_PER_POLL = 500
_PAUSE_SECONDS, _SHARE = 1.0, 0.02
"""Pause between two takings of versions: so long at least, and so long that they take this share of the time.
A trainer makes several versions per second of few labels, and each is scored on many captions."""


class ModelFollower(TopicFollower):
    """Follows ``reward-models``.

    Of versions that come within a second only the newest is taken.

    Args:
        wanted: whether models under a spec of this name and id are followed; others are passed over.
        take: called in the thread with the spec's id, a version, and when it was written, seconds since the
            epoch.
    """

    def __init__(
        self,
        settings: Settings,
        wanted: Callable[[str, bytes], bool],
        take: Callable[[bytes, WholeFile, float], object],
    ) -> None:
        super().__init__(settings, TopicNames(settings.topic_prefix).reward_models)
        self._wanted, self._take = wanted, take
        self._codec = codec_for(settings)
        self._assembler = Assembler()
        self._counted = {"torn": 0, "corrupt": 0}
        self._newest: dict[bytes, tuple[WholeFile, float]] = {}
        self._due = 0.0

    def start(self) -> None:
        """Connect, and follow the topic until :meth:`stop`.

        Raises:
            OnibusError: the cluster cannot be reached or has no such topic.
        """
        models = self._connect(_RECORDS_PER_POLL)
        assert self._consumer is not None
        self._consumer.assign(models)
        self._consumer.seek_to_beginning(*models)
        super().start()

    def _take_batch(self) -> None:
        assert self._consumer is not None
        batches: Mapping[TopicPartition, list[ConsumerRecord]] = self._consumer.poll(timeout_ms=_POLL_MS)
        if self._consumer.take_lost():
            self._assembler = Assembler()  # versions may count from an earlier one again
            self._counted = {"torn": 0, "corrupt": 0}
        try:
            for records in batches.values():
                self._take_models(records)
        except RegistryError:
            clients.seek_back(self._consumer, batches)
            raise
        if self._newest and (begun := time.monotonic()) >= self._due:
            self._take_newest()
            ended = time.monotonic()
            self._due = ended + max(_PAUSE_SECONDS, (ended - begun) / _SHARE)

    def _take_newest(self) -> None:
        newest, self._newest = self._newest, {}
        for spec_id, (whole, written_at) in newest.items():
            self._take(spec_id, whole, written_at)

    def _take_models(self, records: Sequence[ConsumerRecord]) -> None:
        """Put versions together; of each model the newest is kept, until it is taken."""
        chunks: list[tuple[bytes, RewardModelChunk, float]] = []
        for record in records:
            spec_id = self._followed(record)
            if spec_id is None:
                continue
            if (chunk := decoded(self._codec, RewardModelChunk, record)) is not None:
                chunks.append((spec_id, chunk, record.timestamp / 1000))
        for spec_id, chunk, written_at in chunks:
            if (whole := self._assembler.add(chunk)) is not None:
                self._newest[spec_id] = whole, written_at
        self._count_torn()

    def _followed(self, record: ConsumerRecord) -> bytes | None:
        """Spec id of the model that a chunk belongs to, by its key, if it is one of ours."""
        if record.key is None or record.value is None:
            return None
        try:
            name, spec_id = split_model_name(record.key.decode().rpartition("/")[0])
        except ValueError:
            return None
        return spec_id if self._wanted(name, spec_id) else None

    def _count_torn(self) -> None:
        for reason, now in (("torn", self._assembler.torn), ("corrupt", self._assembler.corrupt)):
            if now > self._counted[reason]:
                metrics.MODELS_REFUSED.labels(reason=reason).inc(now - self._counted[reason])
                log.warning(
                    "%d %s versions of reward models passed over", now - self._counted[reason], reason
                )
                self._counted[reason] = now
