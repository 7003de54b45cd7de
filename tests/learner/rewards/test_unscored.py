"""Nothing of a run's own is left without a score, whoever else is on the bus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from onibus.consumers.specs.spec_file import publish_specs
from onibus.infra.settings import Settings
from onibus.learner.options import make_options
from onibus.learner.rewards.source import RewardSource
from onibus.producers.publishing.caption import Caption
from onibus.producers.publishing.caption_notes import NOTES_FOLDER
from onibus.producers.publishing.caption_publisher import RolloutBus
from onibus.schemas.ids import caption_id, lookup_id
from tests.consumers.reward_models.annotation_logs import SPEC
from tests.consumers.reward_models.test_follower import chunks_of, write
from tests.waiting import wait_until

RUNS = 8
CAPTIONS = 5_000
"""Of each run; together twice as many as a learner once kept of all runs."""
BATCH = 250


def seen(bus: RolloutBus, run: int, numbers: Sequence[int]) -> np.ndarray:
    """Have a worker see captions; the ids that its run's learner gets."""
    captions = [_caption(f"run {run} sees its caption {number}") for number in numbers]
    for caption in captions:
        bus.observe(caption, 0, 0, 0, 0, 0)
    return np.array([caption.lookup for caption in captions])


def _caption(text: str) -> Caption:
    return Caption(text, caption_id(text), lookup_id(caption_id(text)))


@pytest.mark.slow
def test_first_sights_are_scored_though_eight_runs_share_the_topic(
    settings: Settings, tmp_path: Path
) -> None:
    publish_specs(settings, [SPEC])
    write(settings, chunks_of(1, 9.0))
    options = make_options("keyroom-s5", run="run-0", reward="classification")
    source = RewardSource(settings, options, tmp_path)
    buses = [RolloutBus(settings, "run-0", "score", tmp_path / NOTES_FOLDER)]
    buses += [RolloutBus(settings, f"run-{run}", "score") for run in range(1, RUNS)]
    source.start()
    try:
        wait_until(lambda: source.statistics().get("model_version") == 1.0, 60, "the version")
        unscored, paid = [], 0.0
        for start in range(0, CAPTIONS, BATCH):
            for run, bus in enumerate(buses):
                ids = seen(bus, run, range(start, start + BATCH))
                if run == 0:
                    own = ids
            paid += source.intrinsic(own, np.ones(BATCH, np.int64), 0.0).sum()
            unscored.append(source.statistics()["unscored"])
        first = seen(buses[0], 0, range(BATCH))  # as new as ever, and nobody has forgotten them
        paid += source.intrinsic(first, np.ones(BATCH, np.int64), 0.0).sum()
        unscored.append(source.statistics()["unscored"])
    finally:
        source.stop()
        for bus in buses:
            bus.close(0.0)
    assert max(unscored) < 0.005
    assert paid == pytest.approx(options.specs[0].coefficient * (CAPTIONS + BATCH))
