"""Scores of captions under the newest reward models of specs.

With them captions are compared that score alike (``onibus annotate --near-pairs``): a comparison of two
captions whose order is clear already teaches little. Which pairs are compared then depends on the model that
was there; each is still judged once. And what a model and the answers disagree on is asked about again first
(``--ask-again``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

import numpy as np
from kafka import KafkaConsumer
from kafka.errors import KafkaError
from numpy.typing import NDArray
from torch import nn

from onibus.consumers.reward_models.character_cnn import (
    CLASSES,
    SCORE,
    caption_scores,
    helpful_probability,
    network_of,
    new_network,
    to_bytes,
    to_rows,
)
from onibus.consumers.reward_models.model_file import ModelFileError, read_model_file
from onibus.consumers.reward_models.transfer import Assembler, WholeFile, model_name
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import decoded_quietly
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.kafka.transient import raise_unless_transient
from onibus.infra.settings import Settings
from onibus.schemas.codec import Codec, RegistryError
from onibus.schemas.records import AnnotationSpec, Kind, RewardModelChunk

_log = logging.getLogger(__name__)

_MOST_KEPT = 30_000
"""Captions of which the score under the newest version is kept, for each spec."""
_POLL_MS = 500
_RECORDS_PER_POLL = 500
_RETRY_SECONDS = 1.0


class _Scored:
    """One version's network, and the scores that it has given."""

    def __init__(self, network: nn.Module, compares: bool) -> None:
        self._network = network
        self._judge = caption_scores if compares else helpful_probability
        self._scores: dict[str, float] = {}

    def of(self, texts: Sequence[str]) -> NDArray[np.float64]:
        if missing := list(dict.fromkeys(text for text in texts if text not in self._scores)):
            if len(self._scores) > _MOST_KEPT:
                self._scores.clear()
                missing = list(dict.fromkeys(texts))
            scores = self._judge(self._network, to_rows([to_bytes(text) for text in missing]))
            self._scores |= zip(missing, scores.tolist(), strict=True)
        return np.array([self._scores[text] for text in texts])


class FollowedModels:
    """Follows the reward models of specs, in a daemon thread; one other thread asks.

    While there is no model, or the bus is away, what was there stays in use.

    Args:
        specs: by id.
    """

    def __init__(self, settings: Settings, codec: Codec, specs: Mapping[bytes, AnnotationSpec]) -> None:
        self._codec, self._topic = codec, TopicNames(settings.topic_prefix).reward_models
        self._spec_ids = {model_name(spec.name, spec_id): spec_id for spec_id, spec in specs.items()}
        self._compares = {spec_id: spec.kind is Kind.COMPARE_TWO for spec_id, spec in specs.items()}
        self._scored: dict[bytes, _Scored] = {}
        self._assembler = Assembler()
        self._stopping = threading.Event()
        self._consumer: KafkaConsumer = clients.consumer(settings, max_poll_records=_RECORDS_PER_POLL)
        partitions = clients.partitions_of(self._consumer, self._topic)
        self._consumer.assign(partitions)
        self._consumer.seek_to_beginning(*partitions)
        self._thread = threading.Thread(target=self._follow, name="model-scores", daemon=True)
        self._thread.start()

    def scores(self, spec_id: bytes, texts: Sequence[str]) -> NDArray[np.float64] | None:
        """Of each caption under the newest version, float64 (n,); None where there is none yet.

        p(helpful) under a spec that judges one caption; else a score, whose differences count.
        """
        scored = self._scored.get(spec_id)
        return None if scored is None else scored.of(texts)

    def probabilities(
        self, spec_id: bytes, subjects: Sequence[tuple[str, ...]]
    ) -> NDArray[np.float64] | None:
        """p(helpful) of captions, of pairs p(first) (Bradley and Terry 1952): float64 (n,); None as above."""
        scores = self.scores(spec_id, [text for texts in subjects for text in texts])
        if scores is None or not self._compares[spec_id]:
            return scores
        first, second = scores.reshape(-1, 2).T
        return np.asarray(1 / (1 + np.exp(second - first)))

    def close(self) -> None:
        """End following and close the connection."""
        self._stopping.set()
        self._thread.join(timeout=5)
        self._consumer.close(timeout_ms=1_000)

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self._take_batch()
            except (KafkaError, RegistryError) as error:
                raise_unless_transient(error, "reading reward models")
                _log.warning("reading reward models: %s; trying again", error)
                self._stopping.wait(_RETRY_SECONDS)

    def _take_batch(self) -> None:
        batches = self._consumer.poll(timeout_ms=_POLL_MS)
        if self._consumer.take_lost():
            self._assembler = Assembler()  # versions may count from an earlier one again
        newest: dict[bytes, WholeFile] = {}
        for record in (record for records in batches.values() for record in records):
            model = (record.key or b"").decode("utf-8", "replace").rpartition("/")[0]
            if model not in self._spec_ids or record.value is None:
                continue
            chunk = decoded_quietly(self._codec, RewardModelChunk, record.value)
            if chunk is not None and (whole := self._assembler.add(chunk)) is not None:
                newest[self._spec_ids[model]] = whole
        for spec_id, whole in newest.items():
            compares = self._compares[spec_id]
            if (network := _network(whole, SCORE if compares else CLASSES)) is not None:
                self._scored[spec_id] = _Scored(network, compares)


def _network(whole: WholeFile, outputs: int) -> nn.Module | None:
    try:
        file = read_model_file(whole.data)
    except ModelFileError as error:
        _log.warning("version %d of %s: %s", whole.version, whole.model, error)
        return None
    if (kind := network_of(file.provenance.architecture, outputs)) is None:
        return None  # of another kind, or of a later onibus
    network = new_network(outputs, kind)
    network.load_state_dict(dict(file.weights))
    return network.eval()
