"""Captions to compare with are read from the newest end of the log, and not for long."""

from __future__ import annotations

import threading
import time

import pytest

from onibus.consumers.annotator import partners_reader
from onibus.consumers.annotator.comparison_partners import ComparisonPartners
from onibus.consumers.annotator.partners_reader import PartnersReader
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.settings import Settings
from onibus.schemas.ids import caption_id
from tests.consumers.annotating import publish
from tests.waiting import wait_until

TEXTS = [f"caption {n}" for n in range(400)]


def test_a_start_reads_only_the_newest_captions_and_follows_what_comes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partners_reader, "NEWEST", 40)
    publish(settings, TEXTS)
    pool = ComparisonPartners()
    reader = PartnersReader(settings, codec_for(settings), pool)
    try:
        reader.load(threading.Event())
        assert 0 < len(pool) <= 40
        assert all(pool.wants(caption_id(text)) for text in TEXTS[:200])
        publish(settings, ["a later one"])
        wait_until(
            lambda: reader.follow() or not pool.wants(caption_id("a later one")), 20, "the later caption"
        )
    finally:
        reader.close()


def test_what_is_not_read_in_time_is_read_later(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partners_reader, "LOAD_SECONDS", 0.0)
    publish(settings, TEXTS)
    pool = ComparisonPartners()
    reader = PartnersReader(settings, codec_for(settings), pool)
    try:
        began = time.monotonic()
        reader.load(threading.Event())
        assert time.monotonic() - began < 10
        wait_until(lambda: reader.follow() or len(pool) == len(TEXTS), 20, "every caption")
    finally:
        reader.close()
