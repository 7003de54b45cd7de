"""Captions published as rollout workers do, without a game; as a program also under another clock.

``python -m tests.producers.publishing.sending COUNT``, with settings and ``CLOCK_SECONDS`` from the
environment.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable

if seconds := int(os.environ.get("CLOCK_SECONDS", "0")):
    from tests.chaos.another_clock import shift

    shift(seconds)

from onibus.infra.settings import Settings, load_settings
from onibus.producers.nethack.messages import Caption
from onibus.producers.publishing.caption_publisher import RolloutBus
from onibus.schemas.ids import caption_id, lookup_id

PATIENCE_SECONDS = 30.0


def publish_captions(settings: Settings, texts: Iterable[str]) -> RolloutBus:
    """Publish these as seen now; the bus, closed."""
    bus = RolloutBus(settings, "run", "score")
    for step, text in enumerate(texts):
        caption = Caption(text, caption_id(text), lookup_id(caption_id(text)))
        bus.observe(caption, worker=0, environment=0, episode=0, step=step, policy_version=-1)
    bus.flush(PATIENCE_SECONDS)
    bus.close()
    return bus


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    bus = publish_captions(load_settings(), [f"You see here {n} arrows." for n in range(int(sys.argv[1]))])
    print(f"{bus.captions.published} published, {bus.captions.dropped} dropped")
