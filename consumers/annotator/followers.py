"""What an annotator follows besides its group: captions to compare with, and the log of answers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping

from kafka.errors import KafkaError

from onibus.consumers.annotator.answers_feed import AnswersFeed
from onibus.consumers.annotator.caption_filter import CaptionFilter
from onibus.consumers.annotator.comparison_partners import ComparisonPartners
from onibus.consumers.annotator.decisions import Annotator
from onibus.consumers.annotator.partners_reader import PartnersReader
from onibus.infra.settings import Settings
from onibus.schemas.codec import Codec
from onibus.schemas.records import AnnotationSpec


class Followers:
    """The readers that the specs and options ask for; none without them.

    Args:
        specs: what is asked, by id.
        near_pairs: whether captions are compared that the specs' reward models score alike.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        specs: Mapping[bytes, AnnotationSpec],
        annotator: Annotator,
        partners: ComparisonPartners,
        caption_filter: CaptionFilter | None,
        near_pairs: bool,
    ) -> None:
        self._partners: PartnersReader | None = None
        self._answers: AnswersFeed | None = None
        if comparing := {spec_id: specs[spec_id] for spec_id in annotator.comparing}:
            scored = comparing if near_pairs else None
            self._partners = PartnersReader(settings, codec, partners, caption_filter, scored)
            if self._partners.scores is not None:
                annotator.pairs.scores = self._partners.scores.scores
        if annotator.again is not None:
            self._answers = AnswersFeed(settings, codec, specs, annotator.again)

    def load(self, stopping: threading.Event) -> None:
        """Read what must be there before the first question."""
        if self._partners is not None:
            self._partners.load(stopping)

    def follow(self) -> None:
        """Take over what has come; called every turn.

        Raises:
            KafkaError: the cluster does not answer.
        """
        for reader in (self._partners, self._answers):
            if reader is not None:
                reader.follow()

    def close(self) -> None:
        """Close the connections."""
        for reader in (self._partners, self._answers):
            if reader is not None:
                with contextlib.suppress(KafkaError):  # the broker may be away
                    reader.close()
