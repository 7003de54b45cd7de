"""The short version of the chaos tests: one broker, a small load, three faults one after the other."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from onibus.infra.broker import RunningBroker
from tests.chaos.system import SESSION_SECONDS, running_system
from tests.waiting import wait_until

CAPTIONS = 2_000


@pytest.mark.slow
def test_a_kill_a_freeze_and_a_model_that_fails_lose_nothing_and_judge_nothing_twice(
    broker: RunningBroker, tmp_path: Path
) -> None:
    with running_system(broker.client_settings(), tmp_path, CAPTIONS, rate=300, copies=1) as system:
        for name in ("a1", "a2", "a3"):
            system.start(name)
        system.publish()
        wait_until(lambda: system.labels_so_far() > 300, 60, "the work to begin")
        system.kill("a1")
        system.signal("a2", signal.SIGSTOP)
        frozen_at = time.monotonic()
        system.start("a1")
        system.model.behaviour.errors = 0.2
        system.model.behaviour.garbage = 0.3  # of what is left: one in ten
        wait_until(
            lambda: time.monotonic() > frozen_at + SESSION_SECONDS + 2, 30, "the group to go on without"
        )
        system.signal("a2", signal.SIGCONT)
        system.model.behaviour.errors = system.model.behaviour.garbage = 0.0
        found = system.finish(timeout=90)
        print(found.line(), f"; answers of no use: {system.asked_twice()}")
        assert found.problems == []
        assert found.captions == CAPTIONS
